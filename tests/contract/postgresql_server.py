"""A PostgreSQL server of a test's own, reached over a socket in its folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from polyclinic.edges.sql.engine import open_engine


@contextmanager
def postgresql() -> Iterator[Engine]:
    """An engine on an empty database; skips where Debian's PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")
    initdb, pg_ctl = str(found[-1]), str(found[-1].with_name("pg_ctl"))
    user = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a short path, since sockets have no long ones
    if user:
        shutil.chown(folder, user)

    def run(*command: str) -> None:
        subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL, timeout=60)

    data = str(folder / "d")
    try:
        run(initdb, "-D", data, "-U", "polyclinic", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        run(pg_ctl, "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        made = open_engine(f"postgresql+psycopg://polyclinic@/postgres?host={folder}")
        try:
            yield made
        finally:
            made.dispose()
            run(pg_ctl, "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)

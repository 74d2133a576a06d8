"""Who may do what with the archive's folder at the same time: locks that end with their process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polyclinic.core.errors import Conflict

OPEN = ".in-use"
"""Shared by all who store; alone for who makes the index anew."""
MOVING = ".moving"
"""Shared by all who need every segment to stay where it is; alone for compaction."""


def shared(segments_folder: Path, name: str) -> int:
    """Take a lock that others may share, as a descriptor to be closed at the end.

    Raises
    ------
    Conflict
        ``archive.in-use`` while somebody has it alone.
    """
    return _locked(segments_folder / name, fcntl.LOCK_SH)


@contextmanager
def alone(segments_folder: Path, name: str) -> Iterator[None]:
    """Have a lock for nobody else; raises `Conflict` (``archive.in-use``) when somebody shares it."""
    descriptor = _locked(segments_folder / name, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(path: Path, kind: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Conflict(
            "archive.in-use",
            "The archive is in use by a process that this cannot go beside: wait until it ends, or stop the server",
        ) from None
    return descriptor

"""What can happen to an archive, for its tests: a killed process, a lost index; and what to ask afterwards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import select

from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive import schema
from polyclinic.departments.archive.store import SqlArchive

STUDY = stable_uid("study", "1")
WHY = {"reason": "wrong patient", "by": "pacs-admin"}


class Killed(BaseException):
    """Stands for SIGKILL."""


def kill(*_: object, **__: object) -> None:
    raise Killed


def uid(number: int, series: str = "1") -> str:
    """SOP Instance UID that the fixture `part10` gives."""
    return stable_uid("instance", "1", series, number)


def crash(archive: SqlArchive) -> None:
    """Leave everything as a killed process would: locks gone, segments not sealed."""
    for lane in archive.segments._idle:
        if lane is not None:
            os.close(lane.descriptor)
    archive.segments._idle = [None]
    if archive._lock is not None:
        os.close(archive._lock)
        archive._lock = None
    archive.engine.dispose()


def lose_index(folder: Path) -> None:
    """Remove the database of a closed archive."""
    for path in folder.glob("index.db*"):
        path.unlink()


def numbers(archive: SqlArchive) -> list[int | None]:
    """Instance numbers of the fixture's study."""
    return [i.instance_number for i in archive.instances(STUDY)]


def rows(archive: SqlArchive) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of the index."""
    with archive.engine.connect() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in schema.metadata.sorted_tables
        }

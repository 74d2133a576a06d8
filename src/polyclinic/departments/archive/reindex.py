"""The index made anew from the segments alone; for a database that was lost, or that nobody trusts any more."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, delete, select, update

from polyclinic.departments.archive import schema
from polyclinic.departments.archive.commit import Committer
from polyclinic.departments.archive.counting import settled_count
from polyclinic.departments.archive.locks import OPEN, alone
from polyclinic.departments.archive.recovery import Progress, Recovered, recover
from polyclinic.departments.archive.segments import Segments

_MADE_ANEW = (schema.instance, schema.aside, schema.series, schema.study, schema.segment)


def reindex(engine: Engine, segments_folder: Path, progress: Progress) -> Recovered:
    """Empty the index, then fill it from the segments; tables of the archive must exist.

    Rows of snapshots and tombstones stay, and those that only the segments know are added. Can be begun again
    after it was interrupted.

    Parameters
    ----------
    progress
        Told ``"read"`` in bytes, then ``"index"`` in entries and ``"settle"`` in studies: what, how much, of how much.

    Raises
    ------
    Conflict
        ``archive.in-use`` while a process stores into the archive.
    """
    with alone(segments_folder, OPEN):
        segments = Segments(segments_folder)
        with engine.begin() as connection:
            for table in _MADE_ANEW:
                connection.execute(delete(table))
        committer = Committer(engine, segments)
        try:
            result = recover(engine, segments, committer, progress)
        finally:
            committer.close()
            segments.close()
        _settle(engine, progress)
    return result


def _settle(engine: Engine, progress: Progress) -> None:
    """Studies whose latest snapshot holds all that is here are not sent on their way again."""
    study, snapshot = schema.study.c, schema.snapshot.c
    with engine.connect() as connection:
        query = select(study.study_instance_uid).where(
            study.study_instance_uid.in_(select(snapshot.study_instance_uid))
        )
        uids = list(connection.execute(query).scalars())
    for number, uid in enumerate(uids, 1):
        with engine.begin() as connection:
            count = settled_count(connection, uid)
            connection.execute(update(schema.study).where(study.study_instance_uid == uid).values(settled_count=count))
        progress("settle", number, len(uids))

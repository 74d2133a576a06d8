"""A study that came as somebody's prior and is then sent to be read: it arrives, as if it had not been here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Engine, case, update

from polyclinic.departments.archive import schema
from polyclinic.departments.archive.commit import begin_writing
from polyclinic.departments.archive.contracts import PRIOR_SOURCE, QUIET_SOURCES


def is_sent_at_last(kept_source: str, source: str) -> bool:
    """Whether an instance that was only fetched to compare with now comes by itself."""
    return kept_source == PRIOR_SOURCE and source not in QUIET_SOURCES


def let_arrive(engine: Engine, row: Any, source: str, at: datetime) -> None:
    """Note the sender and count the instance as one that makes its study arrive; once, however often it comes.

    Parameters
    ----------
    row
        The instance's row; its bytes are kept as they are.
    """
    instance, study = schema.instance.c, schema.study.c
    now_us = schema.to_microseconds(at)
    with engine.connect() as connection:
        begin_writing(connection)
        changed = connection.execute(
            update(schema.instance)
            .where(instance.sop_instance_uid == row.sop_instance_uid, instance.source == PRIOR_SOURCE)
            .values(source=source, derived=False, received_at_us=now_us)
        )
        if changed.rowcount:
            newest = case((study.last_received_at_us < now_us, now_us), else_=study.last_received_at_us)
            connection.execute(
                update(schema.study)
                .where(study.study_instance_uid == row.study_instance_uid)
                .values(primary_count=study.primary_count + 1, last_received_at_us=newest)
            )
        connection.commit()

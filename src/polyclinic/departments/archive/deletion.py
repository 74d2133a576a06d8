"""Deleting instances so that nothing brings them back: rows first, then the marks in the segments.

The rows go and a tombstone for each entry comes in one durable commit. Then a note about the tombstones is appended to
a segment, so that a rebuilt index knows of them, and the header of each deleted entry is made void. A process that dies
in between is made good by `finish_deletions` at the next start. The bytes themselves go with the next compaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    and_,
    delete,
    false,
    func,
    insert,
    literal,
    select,
    true,
    update,
)

from polyclinic.core.errors import Conflict, NotFound, Rejected, Unavailable
from polyclinic.departments.archive import schema
from polyclinic.departments.archive.commit import begin_writing
from polyclinic.departments.archive.contracts import Removed, StudyRecord
from polyclinic.departments.archive.counting import count_again
from polyclinic.departments.archive.notes import deletion_note
from polyclinic.departments.archive.reads import study_record
from polyclinic.departments.archive.segments import Place, Segments

log = structlog.get_logger(__name__)

_MOST_IN_A_NOTE = 10_000
_instance, _aside, _tombstone = schema.instance.c, schema.aside.c, schema.deletion.c
_TOMBSTONE_COLUMNS = [column.name for column in schema.deletion.columns]


def delete_instances(
    engine: Engine,
    segments: Segments,
    study_instance_uid: str,
    series_instance_uid: str | None,
    sop_instance_uid: str | None,
    *,
    reason: str,
    by: str,
    at: datetime,
    held: Callable[[StudyRecord], bool],
) -> Removed:
    """See `polyclinic.departments.archive.ports.Archive.delete`."""
    check_words(reason, by)
    wanted = _condition(study_instance_uid, series_instance_uid, sop_instance_uid)
    with durable_writing(engine) as connection:
        row = connection.execute(
            select(schema.study).where(schema.study.c.study_instance_uid == study_instance_uid)
        ).first()
        if row is None:
            raise NotFound("archive.no-study", "There is no such study: check its Study Instance UID")
        if held(study_record(row._mapping)):
            raise Conflict("archive.on-hold", "The study is on legal hold: take it off the list of holds first")
        removed = _bury(connection, wanted, reason=reason, by=by, at=at)
        if removed.instances == 0:
            raise _nothing(sop_instance_uid)
        count_again(connection, segments, study_instance_uid)
    finish_deletions(engine, segments)
    log.info("archive.deleted", instances=removed.instances, size_bytes=removed.size_bytes)
    return removed


def check_words(reason: str, by: str) -> None:
    """Raises `Rejected` (``archive.no-reason``) unless both say something short."""
    table = schema.deletion.c
    for text, column in ((reason, table.reason), (by, table.deleted_by)):
        if not text.strip() or len(text) > column.type.length or not text.isprintable():  # type: ignore[attr-defined]
            raise Rejected("archive.no-reason", "Say in one short line why, and who, deletes")


def _condition(study: str, series: str | None, sop: str | None) -> ColumnElement[bool]:
    parts = [_instance.study_instance_uid == study]
    if series is not None:
        parts.append(_instance.series_instance_uid == series)
    if sop is not None:
        parts.append(_instance.sop_instance_uid == sop)
    return and_(*parts)


def _nothing(sop_instance_uid: str | None) -> NotFound:
    if sop_instance_uid is None:
        return NotFound("archive.no-series", "The study has no such series: check its Series Instance UID")
    return NotFound("archive.no-instance", "There is no such instance: check its SOP Instance UID")


def _bury(connection: Connection, wanted: ColumnElement[bool], *, reason: str, by: str, at: datetime) -> Removed:
    """Put tombstones in the place of rows."""
    why = (
        literal(reason).label("reason"),
        literal(by).label("deleted_by"),
        literal(schema.to_microseconds(at)).label("deleted_at_us"),
        literal(False).label("voided"),
    )
    of_instances = select(
        _instance.segment,
        _instance.offset_bytes,
        _instance.size_bytes,
        _instance.sop_instance_uid,
        _instance.series_instance_uid,
        _instance.study_instance_uid,
        _instance.sha256,
        false().label("kept_aside"),
        _instance.received_at_us,
        *why,
    ).where(wanted)
    beside = select(
        _aside.segment,
        _aside.offset_bytes,
        _aside.size_bytes,
        _aside.sop_instance_uid,
        _instance.series_instance_uid,
        _aside.study_instance_uid,
        _aside.sha256,
        true().label("kept_aside"),
        _aside.received_at_us,
        *why,
    ).join_from(schema.aside, schema.instance, _instance.sop_instance_uid == _aside.sop_instance_uid)
    beside = beside.where(wanted)
    size_bytes = 0
    for rows in (of_instances, beside):
        total = select(func.sum(rows.subquery().c.size_bytes))
        size_bytes += int(connection.execute(total).scalar() or 0)
        connection.execute(insert(schema.deletion).from_select(_TOMBSTONE_COLUMNS, rows))
    uids = select(_instance.sop_instance_uid).where(wanted)
    connection.execute(delete(schema.aside).where(_aside.sop_instance_uid.in_(uids)))
    gone = connection.execute(delete(schema.instance).where(wanted))
    return Removed(instances=gone.rowcount, size_bytes=size_bytes)


def finish_deletions(engine: Engine, segments: Segments) -> int:
    """Make the entries of all fresh tombstones void; how many there were. Harmless to repeat at any time."""
    with engine.connect() as connection:
        rows = connection.execute(select(schema.deletion).where(~_tombstone.voided)).all()
    for start in range(0, len(rows), _MOST_IN_A_NOTE):
        _finish(engine, segments, rows[start : start + _MOST_IN_A_NOTE])
    return len(rows)


def _finish(engine: Engine, segments: Segments, rows: Sequence[Row[Any]]) -> None:
    noted = True
    try:
        segments.append(*deletion_note([dict(row._mapping) for row in rows]))
    except Unavailable as error:  # A full disk must not keep anybody from deleting; the note is written another time.
        noted = False
        log.warning("archive.deletion-not-noted", code=error.code)
    places = [place_of(row) for row in rows]
    try:
        segments.void(*places)
    except OSError as error:
        log.error("archive.deletion-not-finished", errno=error.errno)
        return
    if noted:
        with durable_writing(engine) as connection:
            for place in places:
                connection.execute(
                    update(schema.deletion)
                    .where(_tombstone.segment == place.segment, _tombstone.offset_bytes == place.offset_bytes)
                    .values(voided=True)
                )


def place_of(row: Any) -> Place:
    """Where the entry of a row lies."""
    return Place(segment=row.segment, offset_bytes=row.offset_bytes, size_bytes=row.size_bytes)


@contextmanager
def durable_writing(engine: Engine) -> Iterator[Connection]:
    """A transaction whose commit survives a power cut: what it takes away may be overwritten afterwards."""
    with engine.connect() as connection:
        if engine.dialect.name != "sqlite":
            yield connection
            connection.commit()
            return
        before = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
        connection.rollback()
        connection.exec_driver_sql("PRAGMA synchronous=FULL")
        connection.rollback()
        try:
            begin_writing(connection)
            yield connection
            connection.commit()
        finally:
            connection.rollback()
            connection.exec_driver_sql(f"PRAGMA synchronous={int(before)}")

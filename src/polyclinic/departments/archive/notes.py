"""Snapshots and deletions as entries of the segments, so that an index made anew knows of them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, delete, insert, select

from polyclinic.departments.archive import schema
from polyclinic.departments.archive.commit import begin_writing
from polyclinic.departments.archive.counting import count_again
from polyclinic.departments.archive.entries import Entry, deletion_name, snapshot_name
from polyclinic.departments.archive.segments import Place, Segments, sha256_of

log = structlog.get_logger(__name__)

Note = tuple[Entry, list[bytes]]
_TOLD_OF_DELETIONS = [column.name for column in schema.deletion.columns if column.name != "voided"]


def deletion_note(rows: Sequence[Mapping[str, Any]]) -> Note:
    """Entry and bytes of the note about tombstones."""
    content = {"columns": _TOLD_OF_DELETIONS, "rows": [[row[name] for name in _TOLD_OF_DELETIONS] for row in rows]}
    newest_us = max(row["deleted_at_us"] for row in rows)
    return _note(deletion_name(f"{newest_us}-{secrets.token_hex(4)}"), content, newest_us)


def snapshot_note(row: Mapping[str, Any]) -> Note:
    """Entry and bytes of the note about a snapshot's row."""
    return _note(snapshot_name(row["study_instance_uid"], row["revision"]), dict(row), row["made_at_us"])


def _note(name: str, content: dict[str, Any], at_us: int) -> Note:
    body = [json.dumps(content).encode()]
    return Entry(
        name=name, size_bytes=len(body[0]), sha256=sha256_of(body), source="", received_at_us=max(at_us, 0)
    ), body


def learn_note(engine: Engine, segments: Segments, entry: Entry, place: Place) -> bool:
    """Write into the index what a note tells and the index does not know; whether there was anything."""
    try:
        content = json.loads(segments.read(place))
        with engine.connect() as connection:
            begin_writing(connection)
            if entry.is_snapshot:
                news = _learn_snapshot(connection, content)
            else:
                rows = [dict(zip(content["columns"], row, strict=True)) for row in content["rows"]]
                news = _learn_deletions(connection, segments, rows)
            connection.commit()
            return news
    except (ValueError, KeyError, TypeError):
        log.error("archive.unreadable-note", segment=place.segment, offset_bytes=place.offset_bytes)
        return False


def _learn_snapshot(connection: Connection, row: dict[str, Any]) -> bool:
    table = schema.snapshot.c
    known = select(table.revision).where(
        table.study_instance_uid == row["study_instance_uid"], table.revision == row["revision"]
    )
    if connection.execute(known).first() is not None:
        return False
    connection.execute(insert(schema.snapshot), row)
    return True


def _learn_deletions(connection: Connection, segments: Segments, rows: Sequence[dict[str, Any]]) -> bool:
    """Add unknown tombstones; an index from an older backup may still hold rows of what they bury."""
    table, shrunk, news = schema.deletion.c, set(), False
    for row in rows:
        at = (row["segment"], row["offset_bytes"])
        known = select(table.segment).where(table.segment == at[0], table.offset_bytes == at[1])
        if connection.execute(known).first() is not None:
            continue
        news = True
        connection.execute(insert(schema.deletion), row | {"voided": True})
        for buried in (schema.instance, schema.aside):
            here = (buried.c.segment == at[0]) & (buried.c.offset_bytes == at[1])
            if connection.execute(delete(buried).where(here)).rowcount:
                shrunk.add(row["study_instance_uid"])
    for study_instance_uid in shrunk:
        count_again(connection, segments, study_instance_uid)
    return news

"""Giving back the space of deleted instances: what is left of a segment moves into new ones, then the old one goes.

Nobody waits and nobody misses anything: readers find an instance by its row, which moves in one durable commit after
the copy is on the disk. A process that dies on the way leaves an entry twice; the next start makes void the one
without a row.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine, delete, func, insert, select, update

from polyclinic.departments.archive import schema
from polyclinic.departments.archive.deletion import durable_writing
from polyclinic.departments.archive.entries import BLOCK, END_OF_ARCHIVE, VOID, Entry, padded
from polyclinic.departments.archive.locks import MOVING, alone
from polyclinic.departments.archive.segments import Place, Segments, digest, exclusively, scan

log = structlog.get_logger(__name__)

DEAD_SHARE = 0.25
GRACE_S = 1.0
"""By then whoever has asked for a row has opened the segment; later ones look the row up again."""
_GROUP = 64
_TABLES = (schema.instance, schema.aside)


@dataclass(slots=True)
class Compacted:
    """What a compaction did."""

    segments: int = 0
    moved: int = 0
    freed_bytes: int = 0
    damaged: tuple[str, ...] = ()
    """Segments that were left alone, because something in them is not what its hash says."""


@dataclass(frozen=True, slots=True)
class _Live:
    entry: Entry
    place: Place
    table: Any
    """Where its row is; None for a note, and for an entry that nobody could index."""


def compact(
    engine: Engine,
    segments: Segments,
    *,
    dead_share: float = DEAD_SHARE,
    grace_s: float = GRACE_S,
    stopping: threading.Event | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Compacted:
    """Rewrite sealed segments of which more than `dead_share` (0 to 1) is dead; may run beside everything else.

    Raises
    ------
    Unavailable
        ``archive.out-of-space`` when there is no room for the copies; nothing is lost, try again.
    Conflict
        ``archive.in-use`` while a backup is being made, or another compaction is at work.
    """
    with alone(segments.folder, MOVING):
        return _compact(
            engine,
            segments,
            dead_share=dead_share,
            grace_s=grace_s,
            stopping=stopping or threading.Event(),
            progress=progress,
        )


def _compact(
    engine: Engine,
    segments: Segments,
    *,
    dead_share: float,
    grace_s: float,
    stopping: threading.Event,
    progress: Callable[[int, int], None],
) -> Compacted:
    result, retired = Compacted(), []
    names = [name for name, share in shares_of_dead_space(engine) if share > dead_share]
    for number, name in enumerate(names):
        progress(number, len(names))
        if stopping.is_set():
            break
        path = segments.folder / name
        if path.exists() and _empty(engine, segments, path, dead_share, result):
            retired.append(path)
    if retired:
        stopping.wait(grace_s)
    for path in retired:
        _remove(engine, path, result)
    progress(len(names), len(names))
    log.info("archive.compacted", segments=result.segments, moved=result.moved, freed_bytes=result.freed_bytes)
    return result


def shares_of_dead_space(engine: Engine) -> list[tuple[str, float]]:
    """Sealed segments and which share of each (0 to 1) no row points to, most first."""
    live: dict[str, int] = {}
    with engine.connect() as connection:
        for table in _TABLES:
            blocks = (table.c.size_bytes + (BLOCK - 1)) // BLOCK
            sizes = select(table.c.segment, func.sum(blocks), func.count()).group_by(table.c.segment)
            for name, full_blocks, count in connection.execute(sizes):
                live[name] = live.get(name, 0) + (int(full_blocks) + int(count)) * BLOCK
        sealed = connection.execute(select(schema.segment.c.name, schema.segment.c.size_bytes)).all()
    shares = [
        (name, 1 - live.get(name, 0) / max(size_bytes - len(END_OF_ARCHIVE), 1))
        for name, size_bytes in sealed
        if size_bytes > len(END_OF_ARCHIVE)
    ]
    return sorted(shares, key=lambda item: -item[1])


def _empty(engine: Engine, segments: Segments, path: Path, dead_share: float, result: Compacted) -> bool:
    """Move what is alive out of a segment; whether the segment can go."""
    with exclusively(path) as descriptor:
        if descriptor is None:
            return False
        entries = list(_entries(descriptor, path.name))
        live = _alive(engine, path.name, entries)
        if live is None or any(
            digest(descriptor, e.place.offset_bytes, e.entry.size_bytes) != e.entry.sha256 for e in live
        ):
            log.error("archive.compaction-found-damage", segment=path.name)
            result.damaged += (path.name,)
            return False
        size_bytes = path.stat().st_size
        kept_bytes = sum(BLOCK + padded(e.entry.size_bytes) for e in live)
        if 1 - kept_bytes / max(size_bytes - len(END_OF_ARCHIVE), 1) <= dead_share:
            return False  # notes have no rows: there is less to gain than it seemed
        with engine.begin() as connection:  # not known as sealed: should we die, the next start looks into it
            connection.execute(delete(schema.segment).where(schema.segment.c.name == path.name))
        if live:
            with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
                for start in range(0, len(live), _GROUP):
                    _move(engine, segments, live[start : start + _GROUP], view)
                    result.moved += len(live[start : start + _GROUP])
        result.freed_bytes -= kept_bytes
        return True


def _entries(descriptor: int, name: str) -> Iterator[tuple[Entry, Place]]:
    for position, entry in scan(descriptor):
        if entry is not None:
            yield entry, Place(segment=name, offset_bytes=position + BLOCK, size_bytes=entry.size_bytes)


def _alive(engine: Engine, name: str, entries: Sequence[tuple[Entry, Place]]) -> list[_Live] | None:
    """Entries that must stay; None when a row points to where no entry is."""
    rows: dict[int, tuple[Any, int]] = {}
    with engine.connect() as connection:
        for table in _TABLES:
            query = select(table.c.offset_bytes, table.c.received_at_us).where(table.c.segment == name)
            rows |= {offset: (table, received_at_us) for offset, received_at_us in connection.execute(query)}
        tombstone = schema.deletion.c
        buried = set(connection.execute(select(tombstone.offset_bytes).where(tombstone.segment == name)).scalars())
    if not rows.keys() <= {place.offset_bytes for entry, place in entries if entry.name != VOID}:
        return None
    live = []
    for entry, place in entries:
        table, received_at_us = rows.get(place.offset_bytes, (None, entry.received_at_us))
        if table is None and (entry.name == VOID or place.offset_bytes in buried or _is_elsewhere(engine, entry)):
            continue
        live.append(_Live(replace(entry, received_at_us=received_at_us, moved=True), place, table))
    return live


def _is_elsewhere(engine: Engine, entry: Entry) -> bool:
    """Whether a row points to another entry with the same instance and bytes."""
    if entry.is_note:
        return False
    with engine.connect() as connection:
        return any(
            connection.execute(
                select(table.c.segment)
                .where(table.c.sop_instance_uid == entry.sop_instance_uid, table.c.sha256 == entry.sha256)
                .limit(1)
            ).first()
            is not None
            for table in _TABLES
        )


def _move(engine: Engine, segments: Segments, group: Sequence[_Live], view: memoryview) -> None:
    """Copy, then move the rows, then make void what no row points to any more."""
    superfluous: list[Place] = []
    copies: list[tuple[_Live, Place]] = []
    try:
        for one in group:
            start = one.place.offset_bytes
            with view[start : start + one.entry.size_bytes] as data:
                copies.append((one, segments.append(one.entry, [data])))
    except BaseException:
        segments.void(*(place for _, place in copies))
        raise
    with durable_writing(engine) as connection:
        for one, place in copies:
            if one.table is None:
                continue
            here = (one.table.c.segment == one.place.segment) & (one.table.c.offset_bytes == one.place.offset_bytes)
            moved = connection.execute(
                update(one.table).where(here).values(segment=place.segment, offset_bytes=place.offset_bytes)
            )
            if moved.rowcount == 0:  # deleted in the meantime
                superfluous.append(place)
    segments.void(*superfluous)
    segments.void(*(one.place for one, _ in copies))


def _remove(engine: Engine, path: Path, result: Compacted) -> None:
    with engine.begin() as connection:
        for table in _TABLES:
            if connection.execute(select(table.c.segment).where(table.c.segment == path.name).limit(1)).first():
                connection.execute(insert(schema.segment), {"name": path.name, "size_bytes": path.stat().st_size})
                return
        connection.execute(delete(schema.segment).where(schema.segment.c.name == path.name))
    result.freed_bytes += path.stat().st_size
    path.unlink()
    result.segments += 1

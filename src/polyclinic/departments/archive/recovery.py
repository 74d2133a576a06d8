"""At the start: bring index and segments together again, whatever the last process was doing when it died."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from sqlalchemy import Engine, insert, select

from polyclinic.core.errors import NotFound, Rejected
from polyclinic.departments.archive import schema
from polyclinic.departments.archive.commit import AlreadyIndexed, Committer, arrival_of
from polyclinic.departments.archive.entries import BLOCK, END_OF_ARCHIVE, VOID, Entry
from polyclinic.departments.archive.intake import examine_file
from polyclinic.departments.archive.segments import Place, Segments, digest, exclusively, scan

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Recovered:
    """What the start had to repair."""

    indexed: int = 0
    cut: int = 0
    asides: list[tuple[Entry, Place]] = field(default_factory=list)
    """Entries that are indexed last, because the instance they lie beside may be in any segment."""


def recover(engine: Engine, segments: Segments, committer: Committer) -> Recovered:
    """Index whole files that have no row, cut torn tails, and note each segment that nobody writes as sealed.

    Reads only segments that the index does not know as sealed; with an empty index that is all of them, so the index
    can be rebuilt from the files alone.
    """
    result = Recovered()
    with engine.connect() as connection:
        sealed = set(connection.execute(select(schema.segment.c.name)).scalars())
    for path in sorted(segments.folder.glob("*.tar")):
        if path.name not in sealed:
            _recover_segment(engine, segments, committer, path, result)
    for entry, place in result.asides:
        result.indexed += _index(engine, segments, committer, entry, place)
    return result


def _recover_segment(engine: Engine, segments: Segments, committer: Committer, path: Path, result: Recovered) -> None:
    with exclusively(path) as descriptor:
        if descriptor is None:
            return  # another process is writing it
        known = _indexed_offsets(engine, path.name)
        torn_at: int | None = None
        end = 0
        for position, entry in scan(descriptor):
            end = position
            if entry is None:
                break
            offset = position + BLOCK
            whole = offset in known or entry.name == VOID
            if not whole and digest(descriptor, offset, entry.size_bytes) != entry.sha256:
                torn_at = position if torn_at is None else torn_at
                continue
            torn_at = None  # a lane writes one entry after the other: only the last can be torn
            if whole:
                continue
            place = Place(segment=path.name, offset_bytes=offset, size_bytes=entry.size_bytes)
            if entry.is_aside:
                result.asides.append((entry, place))
            else:
                result.indexed += _index(engine, segments, committer, entry, place)
        end = end if torn_at is None else torn_at
        if known and max(known) > end:
            log.error("archive.damaged-segment", segment=path.name, offset_bytes=end)
            return  # indexed files lie behind the damage: nothing may be cut
        size_bytes = _seal(descriptor, end, result)
        with engine.begin() as connection:
            connection.execute(insert(schema.segment), {"name": path.name, "size_bytes": size_bytes})


def _indexed_offsets(engine: Engine, name: str) -> set[int]:
    found: set[int] = set()
    with engine.connect() as connection:
        for table in (schema.instance, schema.aside, schema.deletion):
            found |= set(connection.execute(select(table.c.offset_bytes).where(table.c.segment == name)).scalars())
    return found


def _seal(descriptor: int, end: int, result: Recovered) -> int:
    sealed = end + len(END_OF_ARCHIVE)
    tail = os.pread(descriptor, 1024 * 1024, end)
    if tail == END_OF_ARCHIVE and os.fstat(descriptor).st_size == sealed:
        return sealed
    result.cut += bool(tail.strip(b"\0"))
    os.ftruncate(descriptor, end)
    os.pwrite(descriptor, END_OF_ARCHIVE, end)
    os.fsync(descriptor)
    return sealed


def _index(engine: Engine, segments: Segments, committer: Committer, entry: Entry, place: Place) -> bool:
    try:
        meta, facts = examine_file(segments.read(place))
    except (Rejected, NotFound):
        log.warning("archive.unreadable-entry", segment=place.segment, offset_bytes=place.offset_bytes)
        return False
    table = schema.instance.c
    with engine.connect() as connection:
        query = select(schema.instance).where(table.sop_instance_uid == facts.sop_instance_uid)
        here = connection.execute(query).first()
    if entry.is_aside and here is None:
        return False  # the instance it lay beside is gone
    received_at = schema.from_microseconds(entry.received_at_us)
    beside = here if entry.is_aside else None
    try:
        arrival = arrival_of(
            facts, entry, place, dataset_offset=meta.dataset_offset, received_at=received_at, beside=beside
        )
        committer.commit(arrival)
    except AlreadyIndexed:
        return False
    return True

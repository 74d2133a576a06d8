"""At the start: bring index and segments together again, whatever the last process was doing when it died."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from sqlalchemy import Engine, func, insert, select

from polyclinic.core.errors import NotFound, Rejected
from polyclinic.departments.archive import schema
from polyclinic.departments.archive.commit import (
    AlreadyIndexed,
    Arrival,
    Committer,
    InstanceGone,
    arrival_of,
    begin_writing,
)
from polyclinic.departments.archive.entries import BLOCK, END_OF_ARCHIVE, VOID, Entry, unpack
from polyclinic.departments.archive.intake import examine_file
from polyclinic.departments.archive.notes import learn_note
from polyclinic.departments.archive.segments import Place, Segments, digest, exclusively, scan
from polyclinic.departments.archive.taking_back import take_back_row

log = structlog.get_logger(__name__)

_GROUP = 256
Progress = Callable[[str, int, int], None]
"""Told what is done (``"read"`` in bytes, ``"index"`` in entries), how much of it, and of how much."""


def _silent(_what: str, _done: int, _total: int) -> None:
    return


@dataclass(slots=True)
class Recovered:
    """What the start had to repair."""

    indexed: int = 0
    cut: int = 0
    voided: int = 0
    """Entries that repeat an indexed or deleted one."""
    notes: int = 0
    unreadable: int = 0


@dataclass(slots=True)
class _Found:
    """Whole entries without a row: hundreds of thousands when an index is made anew, so no objects."""

    segments: list[str] = field(default_factory=list)
    received_at_us: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[int] = field(default_factory=lambda: array("q"))
    offsets: array[int] = field(default_factory=lambda: array("q"))
    notes: list[tuple[Entry, Place]] = field(default_factory=list)
    sealed: list[tuple[str, int]] = field(default_factory=list)

    def add(self, entry: Entry, place: Place) -> None:
        if entry.is_note:
            self.notes.append((entry, place))
            return
        self.received_at_us.append(entry.received_at_us)
        self.numbers.append(len(self.segments) - 1)
        self.offsets.append(place.offset_bytes)

    def in_order(self) -> Iterator[tuple[str, int]]:
        """Segment and offset, first received first: rows of study and series come from the first instance."""
        order = np.lexsort((np.asarray(self.offsets), np.asarray(self.numbers), np.asarray(self.received_at_us)))
        for index in order:
            yield self.segments[self.numbers[int(index)]], self.offsets[int(index)]


def recover(engine: Engine, segments: Segments, committer: Committer, progress: Progress = _silent) -> Recovered:
    """Index whole files that have no row, cut torn tails, and note each segment that nobody writes as sealed.

    Reads only segments that the index does not know as sealed; with an empty index that is all of them, so the index
    can be rebuilt from the files alone.
    """
    result, found = Recovered(), _Found()
    with engine.connect() as connection:
        sealed = set(connection.execute(select(schema.segment.c.name)).scalars())
    paths = [path for path in sorted(segments.folder.glob("*.tar")) if path.name not in sealed]
    total, done = sum(path.stat().st_size for path in paths), 0
    for path in paths:
        size_bytes = path.stat().st_size
        _check_segment(engine, segments, path, found, result)
        done += size_bytes
        progress("read", done, total)
    for entry, place in found.notes:
        result.notes += learn_note(engine, segments, entry, place)
    _Indexing(engine, segments, committer, result).run(found, progress)
    with engine.begin() as connection:
        known = set(connection.execute(select(schema.segment.c.name)).scalars())  # another process may have been here
        rows = [{"name": name, "size_bytes": size} for name, size in found.sealed if name not in known]
        if rows:
            connection.execute(insert(schema.segment), rows)
    return result


def _check_segment(engine: Engine, segments: Segments, path: Path, found: _Found, result: Recovered) -> None:
    """Find the whole entries without a row, cut what is torn, and seal."""
    with exclusively(path) as descriptor:
        if descriptor is None:
            return  # another process is writing it
        found.segments.append(path.name)
        known = _indexed_offsets(engine, path.name)
        known -= _not_whole(engine, segments, path.name, descriptor)
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
            if not whole:
                found.add(entry, Place(segment=path.name, offset_bytes=offset, size_bytes=entry.size_bytes))
        end = end if torn_at is None else torn_at
        if known and max(known) > end:
            log.error("archive.damaged-segment", segment=path.name, offset_bytes=end)
            return  # indexed files lie behind the damage: nothing may be cut
        found.sealed.append((path.name, _seal(descriptor, end, result)))


def _indexed_offsets(engine: Engine, name: str) -> set[int]:
    found: set[int] = set()
    with engine.connect() as connection:
        for table in (schema.instance, schema.aside, schema.deletion):  # what was deleted stays so
            found |= set(connection.execute(select(table.c.offset_bytes).where(table.c.segment == name)).scalars())
    return found


def _not_whole(engine: Engine, segments: Segments, name: str, descriptor: int) -> set[int]:
    """Take back the row of the last entry when its bytes are not on the disk; its offset, if so.

    A row is committed while the disk still writes, and a lane writes one entry after the other: the power can have
    taken the bytes of the last one only.
    """
    with engine.connect() as connection:
        begin_writing(connection)
        last = 0
        for table in (schema.instance, schema.aside):
            greatest = select(func.max(table.c.offset_bytes)).where(table.c.segment == name)
            last = max(last, connection.execute(greatest).scalar() or 0)
        entry = unpack(os.pread(descriptor, BLOCK, last - BLOCK)) if last else None
        if not last or (entry is not None and digest(descriptor, last, entry.size_bytes) == entry.sha256):
            return set()
        log.error("archive.bytes-not-on-disk", segment=name, offset_bytes=last)
        take_back_row(connection, segments, name, last)
        connection.commit()
        return {last}


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


class _Indexing:
    """Gives entries their rows, in groups."""

    def __init__(self, engine: Engine, segments: Segments, committer: Committer, result: Recovered) -> None:
        self._engine = engine
        self._segments = segments
        self._committer = committer
        self._result = result
        self._group: list[tuple[Arrival, Entry, Place]] = []
        self._uids: set[str] = set()

    def run(self, found: _Found, progress: Progress) -> None:
        total = len(found.offsets)
        for number, (segment, offset) in enumerate(found.in_order(), 1):
            header = Place(segment=segment, offset_bytes=offset - BLOCK, size_bytes=BLOCK)
            entry = unpack(self._segments.read(header))
            if entry is not None and entry.name != VOID:
                self._take(entry, Place(segment=segment, offset_bytes=offset, size_bytes=entry.size_bytes))
            if number % _GROUP == 0 or number == total:
                self._flush()
                progress("index", number, total)

    def _take(self, entry: Entry, place: Place) -> None:
        try:
            meta, facts = examine_file(self._segments.read(place))
        except (Rejected, NotFound):
            log.warning("archive.unreadable-entry", segment=place.segment, offset_bytes=place.offset_bytes)
            self._result.unreadable += 1
            return
        if facts.sop_instance_uid in self._uids:
            self._flush()
        here = self._row(facts.sop_instance_uid)
        if here is not None and here.segment == place.segment and here.offset_bytes == place.offset_bytes:
            return  # another process has indexed it meanwhile
        if here is not None and here.sha256 == entry.sha256 and not (self._segments.folder / here.segment).exists():
            self._committer.commit_place(facts.sop_instance_uid, place)  # a backup may hold the copy only
            self._result.indexed += 1
            return
        if self._is_superfluous(entry, place, facts.sop_instance_uid, here):
            self._segments.void(place)
            self._result.voided += 1
            return
        if entry.is_aside and here is None:
            return  # the instance it lay beside is gone
        received_at = schema.from_microseconds(entry.received_at_us)
        arrival = arrival_of(
            facts, entry, place, dataset_offset=meta.dataset_offset, received_at=received_at, beside=here
        )
        self._group.append((arrival, entry, place))
        self._uids.add(facts.sop_instance_uid)

    def _is_superfluous(self, entry: Entry, place: Place, sop_instance_uid: str, here: Any) -> bool:
        """Whether a row stands for another entry with the same bytes, or a tombstone for this one or its origin."""
        if here is not None and here.sha256 == entry.sha256:
            return True
        beside, tombstone = schema.aside.c, schema.deletion.c
        queries = [
            select(tombstone.segment).where(
                tombstone.segment == place.segment, tombstone.offset_bytes == place.offset_bytes
            ),
            select(beside.segment).where(beside.sop_instance_uid == sop_instance_uid, beside.sha256 == entry.sha256),
        ]
        if entry.moved:
            queries.append(
                select(tombstone.segment).where(
                    tombstone.sop_instance_uid == sop_instance_uid,
                    tombstone.sha256 == entry.sha256,
                    tombstone.received_at_us == entry.received_at_us,
                )
            )
        with self._engine.connect() as connection:
            return any(connection.execute(query.limit(1)).first() is not None for query in queries)

    def _row(self, sop_instance_uid: str) -> Any:
        with self._engine.connect() as connection:
            query = select(schema.instance).where(schema.instance.c.sop_instance_uid == sop_instance_uid)
            return connection.execute(query).first()

    def _flush(self) -> None:
        group, self._group = self._group, []
        self._uids.clear()
        if not group:
            return
        self._committer.commit_together([arrival for arrival, _, _ in group])
        for arrival, _, _ in group:
            if arrival.error is None:
                self._result.indexed += 1
            elif not isinstance(arrival.error, (AlreadyIndexed, InstanceGone)):  # these: another process was first
                raise arrival.error

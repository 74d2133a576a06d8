"""Is every instance still what it was? Reads all bytes again and compares them with their hashes; changes nothing."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row, func, literal, select

from polyclinic.departments.archive import schema
from polyclinic.departments.archive.entries import BLOCK, VOID, Entry
from polyclinic.departments.archive.segments import scan

_READ_BYTES = 1024 * 1024
_PAUSE_S = 0.02
_RESTORE = "restore the segment from a backup (docs/operations/backup.md), or have the instance sent again"


class Fault(StrEnum):
    """What can be wrong with an instance."""

    DAMAGED = "damaged"
    """Its bytes are not those that were stored."""
    LOST = "lost"
    """The index knows it, but its bytes are not on the disk."""
    VOID = "void"
    """The index knows it, but the segment says that it does not count: an index made anew would not know it."""
    UNINDEXED = "unindexed"
    """Its bytes are there, but the index does not know it."""
    UNREADABLE = "unreadable"
    """The disk does not give its bytes."""


ADVICE = {
    Fault.DAMAGED: _RESTORE,
    Fault.LOST: _RESTORE,
    Fault.VOID: "the index is older than the segments: run `polyclinic archive reindex`",
    Fault.UNINDEXED: "run `polyclinic archive reindex`; what stays cannot be parsed: extract it with tar",
    Fault.UNREADABLE: f"check the disk; then {_RESTORE}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One instance that is not as it should be."""

    fault: Fault
    sop_instance_uid: str
    series_instance_uid: str
    """Empty for what was kept aside, and for what has no row."""
    study_instance_uid: str
    segment: str
    offset_bytes: int

    @property
    def advice(self) -> str:
        """What to do about it."""
        return ADVICE[self.fault]


@dataclass(slots=True)
class Scrubbed:
    """How far a scrub has come."""

    instances: int = 0
    size_bytes: int = 0
    problems: list[Problem] = field(default_factory=list)


class Scrub:
    """One pass over the archive, segment by segment in order of their names.

    Parameters
    ----------
    sample
        Share of the instances (0 to 1) whose bytes are read; headers and rows are compared for all.
    bytes_per_s
        Most to read in a second; None for as fast as it goes.
    seed
        Which sample: another one on another day.
    """

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        *,
        sample: float = 1.0,
        bytes_per_s: float | None = None,
        seed: int = 0,
    ) -> None:
        self._engine = engine
        self._folder = folder
        self._sample = sample
        self._chance = random.Random(seed)  # noqa: S311 - a sample, no secret
        self._pace = _Pace(bytes_per_s)
        self.result = Scrubbed()

    def total_bytes(self, *, after: str = "") -> int:
        """Bytes of all instances in segments whose name comes after `after`."""
        with self._engine.connect() as connection:
            sums = [
                connection.execute(select(func.sum(table.c.size_bytes)).where(table.c.segment > after)).scalar()
                for table in (schema.instance, schema.aside)
            ]
        return sum(int(one or 0) for one in sums)

    def run(self, *, after: str = "", told: Callable[[int], None] = lambda _: None) -> Iterator[str]:
        """Check one segment after the other; yields the name of each that is done, to go on `after` another time.

        Parameters
        ----------
        told
            Called with the sizes in bytes of what has been checked.
        """
        for name in self._names(after):
            self._check(name, told)
            yield name

    def _names(self, after: str) -> list[str]:
        names = {path.name for path in self._folder.glob("*.tar")}
        with self._engine.connect() as connection:
            for table in (schema.instance, schema.aside, schema.segment):
                column = table.c.name if table is schema.segment else table.c.segment
                names |= set(connection.execute(select(column).distinct()).scalars())
        return sorted(name for name in names if name > after)

    def _check(self, name: str, told: Callable[[int], None]) -> None:
        rows = {row.offset_bytes: row for row in self._rows(name)}
        with _opened(self._folder / name) as descriptor:
            entries = {} if descriptor is None else _entries(descriptor)
            for offset, row in rows.items():
                fault = self._fault(descriptor, entries.get(offset), row)
                if fault is not None and self._is_still_there(row):
                    self._note(fault, row)
                self.result.instances += 1
                told(row.size_bytes)
        for offset, entry in entries.items():
            if offset not in rows and not entry.is_note and entry.name != VOID:
                self._unindexed(name, offset, entry)

    def _fault(self, descriptor: int | None, entry: Entry | None, row: Row[Any]) -> Fault | None:
        if descriptor is None:
            return Fault.LOST
        if self._sample >= 1 or self._chance.random() < self._sample:
            try:
                digest = self._digest(descriptor, row.offset_bytes, row.size_bytes)
            except OSError:
                return Fault.UNREADABLE
            if digest != row.sha256:
                return Fault.DAMAGED
            self.result.size_bytes += int(row.size_bytes)
        if entry is None or (entry.name != VOID and entry.sha256 != row.sha256):
            return Fault.DAMAGED  # its header: an index made anew would miss it
        return Fault.VOID if entry.name == VOID else None

    def _digest(self, descriptor: int, offset: int, size_bytes: int) -> str:
        sha256 = hashlib.sha256()
        for position in range(offset, offset + size_bytes, _READ_BYTES):
            data = os.pread(descriptor, min(_READ_BYTES, offset + size_bytes - position), position)
            sha256.update(data)
            self._pace.spent(len(data))
        return sha256.hexdigest()

    def _note(self, fault: Fault, row: Row[Any]) -> None:
        self.result.problems.append(
            Problem(
                fault=fault,
                sop_instance_uid=row.sop_instance_uid,
                series_instance_uid=row.series_instance_uid,
                study_instance_uid=row.study_instance_uid,
                segment=row.segment,
                offset_bytes=row.offset_bytes,
            )
        )

    def _unindexed(self, name: str, offset: int, entry: Entry) -> None:
        """Note it, unless it is on its way into the index or has just been deleted."""
        with self._engine.connect() as connection:
            sealed = connection.execute(select(schema.segment.c.name).where(schema.segment.c.name == name)).first()
            known = [
                connection.execute(
                    select(table.c.segment).where(table.c.segment == name, table.c.offset_bytes == offset)
                ).first()
                for table in (schema.instance, schema.aside, schema.deletion)
            ]
        if sealed is None or any(row is not None for row in known):
            return
        parts = entry.name.removeprefix("aside/").split("/")
        study, series = parts[:2] if len(parts) == 3 else ("", "")
        self.result.problems.append(
            Problem(
                fault=Fault.UNINDEXED,
                sop_instance_uid=entry.sop_instance_uid,
                series_instance_uid=series,
                study_instance_uid=study,
                segment=name,
                offset_bytes=offset,
            )
        )

    def _is_still_there(self, row: Row[Any]) -> bool:
        """Whether the row has not been deleted or moved since it was read."""
        table = schema.aside if row.kept_aside else schema.instance
        query = select(table.c.segment).where(
            table.c.sop_instance_uid == row.sop_instance_uid,
            table.c.segment == row.segment,
            table.c.offset_bytes == row.offset_bytes,
        )
        with self._engine.connect() as connection:
            return connection.execute(query).first() is not None

    def _rows(self, name: str) -> list[Row[Any]]:
        found: list[Row[Any]] = []
        with self._engine.connect() as connection:
            for table in (schema.instance, schema.aside):
                series = table.c.get("series_instance_uid")
                query = select(
                    table.c.sop_instance_uid,
                    (literal("") if series is None else series).label("series_instance_uid"),
                    table.c.study_instance_uid,
                    table.c.sha256,
                    table.c.segment,
                    table.c.offset_bytes,
                    table.c.size_bytes,
                    literal(table is schema.aside).label("kept_aside"),
                )
                found += connection.execute(query.where(table.c.segment == name)).all()
        return sorted(found, key=lambda row: int(row.offset_bytes))


class _Pace:
    """Sleeps so that not more than so many bytes are read in a second."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._begun = time.monotonic()
        self._bytes = 0

    def spent(self, size_bytes: int) -> None:
        if self._bytes_per_s is None:
            return
        self._bytes += size_bytes
        early_s = self._bytes / self._bytes_per_s - (time.monotonic() - self._begun)
        if early_s > _PAUSE_S:
            time.sleep(early_s)


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _entries(descriptor: int) -> dict[int, Entry]:
    try:
        return {position + BLOCK: entry for position, entry in scan(descriptor) if entry is not None}
    except OSError:
        return {}  # each row then finds its bytes unreadable, or its header missing

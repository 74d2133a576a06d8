"""Index rows written in groups: whoever comes first writes for all who wait, so one commit serves many instances."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, case, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, OperationalError

from polyclinic.core.errors import PolyclinicError, Unavailable
from polyclinic.departments.archive import schema
from polyclinic.departments.archive.contracts import DERIVED_SOURCE, QUIET_SOURCES
from polyclinic.departments.archive.corrections import file_under_known
from polyclinic.departments.archive.entries import Entry
from polyclinic.departments.archive.intake import Facts, series_values, study_values
from polyclinic.departments.archive.prepared import Pinned, Prepared
from polyclinic.departments.archive.segments import Place, Segments

_KNOWN_SERIES = 100_000
_SEALED_FOR_SURE_S = 60.0
"""By then the row of the last entry of a sealed segment is committed, or its sender was told of a failure."""


class AlreadyIndexed(Exception):
    """Another process stored the same SOP Instance UID in the same moment."""


class InstanceGone(Exception):
    """The instance that another was to be kept aside of has been deleted in the same moment."""


@dataclass(slots=True)
class Arrival:
    """One instance on its way into the index. `row` holds the columns of its table."""

    row: dict[str, Any]
    facts: Facts | None
    """None for one that is kept aside."""
    done: bool = False
    error: Exception | None = field(default=None)


def arrival_of(
    facts: Facts, entry: Entry, place: Place, *, dataset_offset: int, received_at: datetime, beside: Any
) -> Arrival:
    """The row of a kept file; of table ``archive_kept_aside`` when it lies beside the row `beside`."""
    row: dict[str, Any] = {
        "sop_instance_uid": facts.sop_instance_uid,
        "study_instance_uid": facts.study_instance_uid,
        "sha256": entry.sha256,
        "source": entry.source,
        "received_at_us": schema.to_microseconds(received_at),
        "segment": place.segment,
        "offset_bytes": place.offset_bytes,
        "size_bytes": place.size_bytes,
        "dataset_offset": dataset_offset,
    }
    if beside is not None:
        return Arrival(row | {"study_instance_uid": beside.study_instance_uid}, None)
    row |= {
        "sop_class_uid": facts.sop_class_uid,
        "series_instance_uid": facts.series_instance_uid,
        "transfer_syntax_uid": facts.transfer_syntax_uid,
        "instance_number": facts.instance_number,
        "rows": facts.rows,
        "columns": facts.columns,
        "number_of_frames": facts.number_of_frames,
        "derived": entry.source in QUIET_SOURCES,
        "pixel_offset": None if facts.pixel_offset is None else dataset_offset + facts.pixel_offset,
    }
    return Arrival(row, facts)


class Committer:
    """Writes arrivals to the index; `commit` returns once the row is committed."""

    def __init__(self, engine: Engine, segments: Segments) -> None:
        self._segments = segments
        self._pinned = Pinned(engine)
        driver: Any = engine.dialect.loaded_dbapi
        self._integrity_errors = (IntegrityError, driver.IntegrityError)
        self._operational_errors = (OperationalError, driver.OperationalError)
        self._turn = threading.Condition()
        self._waiting: list[Arrival] = []
        self._leading = False
        self._known: set[tuple[str, str]] = set()
        self._insert = Prepared(engine, insert(schema.instance), *schema.instance.c.keys())
        self._count_series = Prepared(engine, _COUNT_SERIES, "instance_count")
        self._count_study = Prepared(
            engine, _COUNT_STUDY, "instance_count", "primary_count", "first_received_at_us", "last_received_at_us"
        )

    def commit(self, arrival: Arrival) -> None:
        """Block until the row of `arrival` is committed.

        Raises
        ------
        AlreadyIndexed
            The UID is in the index by now.
        Unavailable
            ``archive.out-of-space``, ``archive.index-busy`` or ``archive.index-failed``; no row was written.
        """
        with self._turn:
            self._waiting.append(arrival)
            while self._leading and not arrival.done:
                self._turn.wait()
            if not arrival.done:
                self._leading = True
                group, self._waiting = self._waiting, []
        if not arrival.done:
            self._lead(group)
        if arrival.error is not None:
            raise arrival.error

    def commit_together(self, arrivals: list[Arrival]) -> None:
        """Write all in one transaction if possible; the `error` of each says what became of it."""
        self._write_or_blame(arrivals)

    def commit_place(self, sop_instance_uid: str, place: Place) -> None:
        """Let the row of an instance point to another entry with the same bytes."""
        with self._pinned.transaction() as (connection, _):
            connection.execute(
                update(schema.instance)
                .where(schema.instance.c.sop_instance_uid == sop_instance_uid)
                .values(segment=place.segment, offset_bytes=place.offset_bytes)
            )

    def _lead(self, group: list[Arrival]) -> None:
        try:
            self._write_or_blame(group)
        finally:
            with self._turn:
                self._leading = False
                for arrival in group:
                    arrival.done = True
                self._turn.notify_all()

    def _write_or_blame(self, group: list[Arrival]) -> None:
        try:
            self._write(group)
        except self._integrity_errors:
            if len(group) == 1:
                group[0].error = AlreadyIndexed()
                return
            for arrival in group:
                self._write_or_blame([arrival])
        except self._operational_errors as error:
            failure = index_failure(error)
            for arrival in group:
                arrival.error = failure
        except BaseException:
            stopped = Unavailable("archive.index-failed", "The archive's index could not be written: see the log")
            for arrival in group:
                arrival.error = stopped
            raise

    def _write(self, group: list[Arrival]) -> None:
        new = [arrival for arrival in group if arrival.facts is not None]
        asides = [arrival for arrival in group if arrival.facts is None]
        learned: set[tuple[str, str]] = set()
        with self._pinned.transaction() as (connection, cursor):
            if new:
                self._insert.run(cursor, *(arrival.row for arrival in new))
                self._count(connection, cursor, new, learned)
            for arrival in asides:
                _put_aside(connection, arrival)
            note_sealed(connection, self._segments, older_than_s=_SEALED_FOR_SURE_S)
        if len(self._known) > _KNOWN_SERIES:
            self._known.clear()
        self._known |= learned

    def close(self) -> None:
        """Give the database connection back; nothing may be committed afterwards."""
        self._pinned.close()

    def _count(self, connection: Connection, cursor: Any, new: list[Arrival], learned: set[tuple[str, str]]) -> None:
        by_series: dict[tuple[str, str], list[Arrival]] = defaultdict(list)
        for arrival in new:
            by_series[arrival.row["study_instance_uid"], arrival.row["series_instance_uid"]].append(arrival)
        for key, arrivals in by_series.items():
            if key not in self._known:
                _introduce(connection, arrivals[0])
                learned.add(key)
            counted = {"study": key[0], "series": key[1], "n": len(arrivals)}
            self._count_series.run(cursor, counted)
            if cursor.rowcount == 0:  # it was known, and has been deleted since, maybe by another process
                _introduce(connection, arrivals[0])
                self._count_series.run(cursor, counted)
            times = [a.row["received_at_us"] for a in arrivals]
            primary = [a.row["received_at_us"] for a in arrivals if not a.row["derived"]]
            numbers = {"study": key[0], "n": len(arrivals), "primary": len(primary), "last": max(primary, default=0)}
            self._count_study.run(cursor, numbers | {"first": min(times)})


_SERIES, _STUDY = schema.series.c, schema.study.c
_COUNT_SERIES = (
    update(schema.series)
    .where(_SERIES.study_instance_uid == bindparam("study"), _SERIES.series_instance_uid == bindparam("series"))
    .values(instance_count=_SERIES.instance_count + bindparam("n"))
)
_COUNT_STUDY = (
    update(schema.study)
    .where(_STUDY.study_instance_uid == bindparam("study"))
    .values(
        instance_count=_STUDY.instance_count + bindparam("n"),
        primary_count=_STUDY.primary_count + bindparam("primary"),
        first_received_at_us=case(
            (_STUDY.first_received_at_us > bindparam("first"), bindparam("first")), else_=_STUDY.first_received_at_us
        ),
        last_received_at_us=case(
            (_STUDY.last_received_at_us < bindparam("last"), bindparam("last")), else_=_STUDY.last_received_at_us
        ),
    )
)


def _put_aside(connection: Connection, arrival: Arrival) -> None:
    """Write the row of what lies beside an instance, unless that one has been deleted."""
    row = arrival.row
    here = select(schema.instance.c.sop_instance_uid).where(
        schema.instance.c.sop_instance_uid == row["sop_instance_uid"]
    )
    if connection.execute(here).first() is None:
        arrival.error = InstanceGone()
        return
    connection.execute(insert(schema.aside), row)
    connection.execute(
        update(schema.study)
        .where(schema.study.c.study_instance_uid == row["study_instance_uid"])
        .values(kept_aside_count=schema.study.c.kept_aside_count + 1)
    )


def _introduce(connection: Connection, arrival: Arrival) -> None:
    """Make the rows of study and series unless they are there."""
    row, facts = arrival.row, arrival.facts
    assert facts is not None  # kept-aside arrivals introduce nothing
    put = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    of_series = series_values(facts.header)
    keys = {"study_instance_uid": row["study_instance_uid"], "series_instance_uid": row["series_instance_uid"]}
    counts = {"instance_count": 0, "derived": row["source"] == DERIVED_SOURCE}
    # Without being told to, SQLAlchemy forgets how many rows PostgreSQL has inserted
    counted = {"preserve_rowcount": True}
    new_series = put(schema.series).values(keys | of_series | counts).on_conflict_do_nothing()
    made = connection.execute(new_series, execution_options=counted)
    first_of_study = put(schema.study).values(
        study_values(facts.header)
        | {
            "study_instance_uid": row["study_instance_uid"],
            "modalities": "",
            "series_count": 0,
            "instance_count": 0,
            "primary_count": 0,
            "settled_count": 0,
            "kept_aside_count": 0,
            "first_received_at_us": row["received_at_us"],
            "last_received_at_us": row["received_at_us"],
        }
    )
    if connection.execute(first_of_study.on_conflict_do_nothing(), execution_options=counted).rowcount == 1:
        file_under_known(connection, row["study_instance_uid"], study_values(facts.header))
    if made.rowcount == 1:
        _add_series(connection, row["study_instance_uid"], of_series["modality"])


def _add_series(connection: Connection, study_instance_uid: str, modality: str) -> None:
    this = schema.study.c.study_instance_uid == study_instance_uid
    known = connection.execute(select(schema.study.c.modalities).where(this)).scalar_one()
    modalities = sorted({*filter(None, known.split("\\")), *filter(None, [modality])})
    connection.execute(
        update(schema.study)
        .where(this)
        .values(series_count=schema.study.c.series_count + 1, modalities="".join(f"{m}\\" for m in modalities))
    )


def begin_writing(connection: Connection) -> None:
    """Take SQLite's write lock now, so that what is read before writing stays true."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def note_sealed(connection: Connection, segments: Segments, *, older_than_s: float = 0.0) -> None:
    """Record the segments that will not grow, so that the next start need not read them."""
    put = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    for name, size_bytes in segments.take_sealed(older_than_s=older_than_s):
        row = put(schema.segment).values(name=name, size_bytes=size_bytes)
        connection.execute(row.on_conflict_do_nothing())  # another process that has just started may know it


def index_failure(error: Exception) -> PolyclinicError:
    """What a failed transaction means to the sender."""
    reason = str(error)
    if "full" in reason or "No space" in reason:
        return Unavailable(
            "archive.out-of-space", "The disk of the archive's index is full: make room, then send again"
        )
    if "locked" in reason or "busy" in reason:
        return Unavailable("archive.index-busy", "The archive's index is busy: send again")
    return Unavailable("archive.index-failed", "The archive's index could not be written: see the log")

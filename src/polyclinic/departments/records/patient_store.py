"""Identities in SQL tables, with every change they went through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, func, insert, or_, select, update

from polyclinic.core.errors import Conflict, NotFound
from polyclinic.core.names import name_words, search_words
from polyclinic.departments.records.order_store import move_orders, surviving
from polyclinic.departments.records.patients import PatientChange, PatientChangeKind, PatientKey, PatientRecord
from polyclinic.departments.records.ports import PatientQuery
from polyclinic.departments.records.rules import check_patient, same_patient
from polyclinic.departments.records.tables import patient as table
from polyclinic.departments.records.tables import patient_change, patient_word
from polyclinic.departments.records.writing import dump, load, writing

_HIGHEST = "\U0010ffff"


class SqlPatients:
    """Port `polyclinic.departments.records.ports.Patients`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def patient(self, key: PatientKey) -> PatientRecord:
        """See `Patients.patient`."""
        with self._engine.connect() as connection:
            found = _kept(connection, key)
        if found is None:
            raise no_patient()
        return found

    def surviving(self, key: PatientKey) -> PatientKey:
        """See `Patients.surviving`."""
        with self._engine.connect() as connection:
            return surviving(connection, key)

    def find_patients(self, query: PatientQuery) -> Sequence[PatientRecord]:
        """See `Patients.find_patients`."""
        wanted = (
            select(table.c.record)
            .where(*_conditions(query))
            .order_by(table.c.patient_id, table.c.issuer)
            .limit(query.limit)
        )
        with self._engine.connect() as connection:
            return tuple(load(PatientRecord, text) for text in connection.execute(wanted).scalars())

    def patient_history(self, key: PatientKey) -> Sequence[PatientChange]:
        """See `Patients.patient_history`."""
        query = (
            select(patient_change.c.change)
            .where(patient_change.c.patient_id == key.patient_id, patient_change.c.issuer == key.issuer)
            .order_by(patient_change.c.number)
        )
        with self._engine.connect() as connection:
            return tuple(load(PatientChange, text) for text in connection.execute(query).scalars())

    def put_patient(
        self, patient: PatientRecord, *, source: str, at: datetime, expected_version: int | None = None
    ) -> PatientRecord:
        """See `Patients.put_patient`."""
        check_patient(patient)
        with writing(self._engine) as connection:
            kept = _kept(connection, patient.key)
            if kept is not None and kept.merged_into is not None:
                raise merged_patient()
            version = 0 if kept is None else kept.version
            if expected_version is not None and expected_version != version:
                raise stale_patient()
            wanted = replace(patient, merged_into=None)
            if kept is not None and same_patient(kept, wanted):
                return kept
            kind = PatientChangeKind.CREATED if kept is None else PatientChangeKind.UPDATED
            return _write(connection, wanted, before=kept, kind=kind, source=source, at=at)

    def merge_patients(self, prior: PatientKey, into: PatientKey, *, source: str, at: datetime) -> PatientRecord:
        """See `Patients.merge_patients`."""
        with writing(self._engine) as connection:
            target = surviving(connection, into)
            if target == prior:
                raise merge_cycle()
            survivor = _kept(connection, target)
            if survivor is None:
                raise no_patient()
            before = _kept(connection, prior)
            if before is not None and before.merged_into is not None:
                if surviving(connection, prior) != target:
                    raise merged_patient()
                return survivor
            after = replace(before or survivor, key=prior, merged_into=target, version=before.version if before else 0)
            check_patient(after)
            _write(connection, after, before=before, kind=PatientChangeKind.MERGED, source=source, at=at)
            move_orders(connection, prior, target, source=source, at=at)
            return survivor

    def pending_changes(self, *, limit: int = 100) -> Sequence[PatientChange]:
        """See `Patients.pending_changes`."""
        query = (
            select(patient_change.c.change)
            .where(patient_change.c.applied.is_(False))
            .order_by(patient_change.c.number)
            .limit(limit)
        )
        with self._engine.connect() as connection:
            return tuple(load(PatientChange, text) for text in connection.execute(query).scalars())

    def change_applied(self, change: PatientChange) -> None:
        """See `Patients.change_applied`."""
        column = patient_change.c
        this = (
            column.patient_id == change.key.patient_id,
            column.issuer == change.key.issuer,
            column.version == change.version,
        )
        with writing(self._engine) as connection:
            connection.execute(update(patient_change).where(*this).values(applied=True))


def no_patient() -> NotFound:
    """Nobody has that identity."""
    return NotFound("records.no-patient", "There is no such patient; check identifier and issuer")


def merged_patient() -> Conflict:
    """The identity was given up."""
    return Conflict("records.merged-patient", "This identity was merged into another one; use the surviving identity")


def merge_cycle() -> Conflict:
    """Both would be merged into each other."""
    return Conflict(
        "records.merge-cycle", "The surviving identity was itself merged into the other one; check the merge"
    )


def stale_patient() -> Conflict:
    """Somebody else was faster."""
    return Conflict("records.stale-patient", "The patient was changed meanwhile; read the record again")


def _is(key: PatientKey) -> ColumnElement[bool]:
    return and_(table.c.patient_id == key.patient_id, table.c.issuer == key.issuer)


def _kept(connection: Connection, key: PatientKey) -> PatientRecord | None:
    text = connection.execute(select(table.c.record).where(_is(key))).scalar_one_or_none()
    return None if text is None else load(PatientRecord, text)


def _conditions(query: PatientQuery) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if query.patient_id:
        where.append(table.c.patient_id == query.patient_id)
    if query.issuer:
        where.append(table.c.issuer == query.issuer)
    if query.birth_from is not None:
        where.append(table.c.birth_date >= query.birth_from.isoformat())
    if query.birth_to is not None:
        where.append(and_(table.c.birth_date != "", table.c.birth_date <= query.birth_to.isoformat()))
    if query.sex:
        where.append(table.c.sex == query.sex)
    if query.merged_into is not None:
        where.append(table.c.into_patient_id == query.merged_into.patient_id)
        where.append(table.c.into_issuer == query.merged_into.issuer)
    elif not query.include_merged:
        where.append(table.c.into_patient_id == "")
    if query.after is not None:
        behind = and_(table.c.patient_id == query.after.patient_id, table.c.issuer > query.after.issuer)
        where.append(or_(table.c.patient_id > query.after.patient_id, behind))
    return where + [_has_word(word) for word in search_words(query.name)]


def _has_word(beginning: str) -> ColumnElement[bool]:
    word = patient_word.alias()
    return (
        select(word.c.word)
        .where(
            word.c.word >= beginning,
            word.c.word < beginning + _HIGHEST,
            word.c.patient_id == table.c.patient_id,
            word.c.issuer == table.c.issuer,
        )
        .exists()
    )


def _write(
    connection: Connection,
    patient: PatientRecord,
    *,
    before: PatientRecord | None,
    kind: PatientChangeKind,
    source: str,
    at: datetime,
) -> PatientRecord:
    after = replace(patient, version=(before.version if before else 0) + 1, changed_at=at)
    key, into = after.key, after.merged_into
    row: dict[str, Any] = {
        "birth_date": after.birth_date.isoformat() if after.birth_date else "",
        "sex": after.sex,
        "into_patient_id": into.patient_id if into else "",
        "into_issuer": into.issuer if into else "",
        "version": after.version,
        "record": dump(after),
    }
    identity = {"patient_id": key.patient_id, "issuer": key.issuer}
    if before is None:
        connection.execute(insert(table), identity | row)
    else:
        connection.execute(update(table).where(_is(key)).values(**row))
    if before is None or before.name != after.name:
        column = patient_word.c
        connection.execute(delete(patient_word).where(column.patient_id == key.patient_id, column.issuer == key.issuer))
        if words := sorted(name_words(after.name)):
            connection.execute(insert(patient_word), [identity | {"word": word} for word in words])
    change = PatientChange(key=key, version=after.version, kind=kind, at=at, source=source, before=before, after=after)
    number = select(func.coalesce(func.max(patient_change.c.number), 0) + 1).scalar_subquery()
    values = identity | {"version": after.version, "change": dump(change), "applied": False}
    connection.execute(insert(patient_change).values(number=number, **values))
    return after

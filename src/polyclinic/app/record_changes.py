"""Changes of patients and orders in the audit ledger, in the transaction that makes them: both are there or neither."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Engine

from polyclinic.app.audit import system_entry
from polyclinic.core.audit import AgentKind, AuditEntry
from polyclinic.core.errors import NotFound
from polyclinic.core.people import Person
from polyclinic.departments.access.audit_store import Ledger
from polyclinic.departments.records.patients import Order, PatientKey, PatientRecord
from polyclinic.departments.records.store import SqlRecord
from polyclinic.departments.records.writing import writing as writing_records
from polyclinic.edges.sql.engine import writing
from polyclinic.edges.sql.joined import one_transaction


class NotedRecord(SqlRecord):
    """The record inside a transaction: what it changes is added to `notes`, what it leaves as it was is not."""

    def __init__(self, engine: Engine, *, person: Person | None = None) -> None:
        super().__init__(engine)
        self._person = person
        self.notes: list[AuditEntry] = []

    def put_patient(
        self, patient: PatientRecord, *, source: str, at: datetime, expected_version: int | None = None
    ) -> PatientRecord:
        """See `Patients.put_patient`."""
        before = self._version(patient.key)
        kept = super().put_patient(patient, source=source, at=at, expected_version=expected_version)
        if kept.version != before:
            self._note("patient.correct", kept.key, source, change="updated" if before else "created")
        return kept

    def merge_patients(self, prior: PatientKey, into: PatientKey, *, source: str, at: datetime) -> PatientRecord:
        """See `Patients.merge_patients`; noted for both identities."""
        before = self._version(prior)
        survivor = super().merge_patients(prior, into, source=source, at=at)
        if self._version(prior) != before:
            self._note("patient.merge", prior, source, into=survivor.key.patient_id)
            self._note("patient.merge", survivor.key, source, prior=prior.patient_id)
        return survivor

    def put_order(self, order: Order, *, source: str, at: datetime, expected_version: int | None = None) -> Order:
        """See `Orders.put_order`."""
        try:
            before = self.order(order.order_id).version
        except NotFound:
            before = 0
        kept = super().put_order(order, source=source, at=at, expected_version=expected_version)
        if kept.version != before:
            facts = {"order": kept.order_id, "status": kept.status.value}
            self._note("order.write", kept.patient, source, kept.study_instance_uid, **facts)
        return kept

    def _version(self, key: PatientKey) -> int:
        try:
            return self.patient(key).version
        except NotFound:
            return 0

    def _note(self, action: str, patient: PatientKey, source: str, study: str = "", **facts: str) -> None:
        self.notes.append(record_entry(action, patient, source, study, person=self._person, facts=facts))


def record_entry(
    action: str,
    patient: PatientKey,
    source: str,
    study_instance_uid: str = "",
    *,
    person: Person | None = None,
    facts: dict[str, str] | None = None,
) -> AuditEntry:
    """An entry of a change of the record; by a person, or by the platform where a message said so."""
    entry = system_entry(action, study_instance_uid=study_instance_uid, detail={"source": source, **(facts or {})})
    entry = replace(entry, patient_id=patient.patient_id, issuer=patient.issuer)
    if person is None:
        return entry
    return replace(entry, agent_kind=AgentKind.PERSON, agent_id=person.person_id, roles=tuple(sorted(person.roles)))


@contextmanager
def noted_transaction(engine: Engine, *, person: Person | None = None) -> Iterator[tuple[Engine, NotedRecord]]:
    """A transaction that has the record for itself, with what `NotedRecord` notes in the ledger at its end."""
    # A version that is read here still holds when it is replaced; the ledger, which everybody writes, comes last
    with one_transaction(engine) as joined, writing_records(joined):
        record = NotedRecord(joined, person=person)
        yield joined, record
        Ledger(joined, writing).append(record.notes)


class LedgeredRecord(SqlRecord):
    """The record for doors that change one thing at a time: each change is one `noted_transaction`."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._whole = engine

    def put_patient(
        self, patient: PatientRecord, *, source: str, at: datetime, expected_version: int | None = None
    ) -> PatientRecord:
        """See `Patients.put_patient`."""
        with noted_transaction(self._whole) as (_, record):
            return record.put_patient(patient, source=source, at=at, expected_version=expected_version)

    def merge_patients(self, prior: PatientKey, into: PatientKey, *, source: str, at: datetime) -> PatientRecord:
        """See `Patients.merge_patients`."""
        with noted_transaction(self._whole) as (_, record):
            return record.merge_patients(prior, into, source=source, at=at)

    def put_order(self, order: Order, *, source: str, at: datetime, expected_version: int | None = None) -> Order:
        """See `Orders.put_order`."""
        with noted_transaction(self._whole) as (_, record):
            return record.put_order(order, source=source, at=at, expected_version=expected_version)

"""The record's fake: the same promises without a database, for tests of other rooms."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from polyclinic.core.names import fits
from polyclinic.departments.records.order_store import check_performed, no_order, no_performed_step, stale_order
from polyclinic.departments.records.patient_store import merge_cycle, merged_patient, no_patient, stale_patient
from polyclinic.departments.records.patients import (
    Order,
    PatientChange,
    PatientChangeKind,
    PatientKey,
    PatientRecord,
    PerformedStep,
    ScheduledStep,
)
from polyclinic.departments.records.ports import InboxEntry, OrderQuery, PatientQuery
from polyclinic.departments.records.rules import (
    check_order,
    check_patient,
    first_start,
    moved_along,
    same_order,
    same_patient,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class InMemoryRecord:
    """`polyclinic.departments.records.ports.Record` in dictionaries."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._patients: dict[PatientKey, PatientRecord] = {}
        self._changes: list[PatientChange] = []
        self._applied: set[tuple[PatientKey, int]] = set()
        self._orders: dict[str, list[Order]] = {}
        self._performed: dict[str, PerformedStep] = {}

    def patient(self, key: PatientKey) -> PatientRecord:
        """See `Patients.patient`."""
        with self._lock:
            if key not in self._patients:
                raise no_patient()
            return self._patients[key]

    def surviving(self, key: PatientKey) -> PatientKey:
        """See `Patients.surviving`."""
        with self._lock:
            while key in self._patients and (into := self._patients[key].merged_into) is not None:
                key = into
            return key

    def find_patients(self, query: PatientQuery) -> Sequence[PatientRecord]:
        """See `Patients.find_patients`."""
        with self._lock:
            known = sorted(self._patients.values(), key=lambda p: p.key)
        return tuple(p for p in known if _fits_patient(p, query))[: query.limit]

    def patient_history(self, key: PatientKey) -> Sequence[PatientChange]:
        """See `Patients.patient_history`."""
        with self._lock:
            return tuple(change for change in self._changes if change.key == key)

    def put_patient(
        self, patient: PatientRecord, *, source: str, at: datetime, expected_version: int | None = None
    ) -> PatientRecord:
        """See `Patients.put_patient`."""
        check_patient(patient)
        with self._lock:
            kept = self._patients.get(patient.key)
            if kept is not None and kept.merged_into is not None:
                raise merged_patient()
            if expected_version is not None and expected_version != (kept.version if kept else 0):
                raise stale_patient()
            wanted = replace(patient, merged_into=None)
            if kept is not None and same_patient(kept, wanted):
                return kept
            kind = PatientChangeKind.UPDATED if kept else PatientChangeKind.CREATED
            return self._write(wanted, before=kept, kind=kind, source=source, at=at)

    def merge_patients(self, prior: PatientKey, into: PatientKey, *, source: str, at: datetime) -> PatientRecord:
        """See `Patients.merge_patients`."""
        with self._lock:
            target = self.surviving(into)
            if target == prior:
                raise merge_cycle()
            survivor = self.patient(target)
            before = self._patients.get(prior)
            if before is not None and before.merged_into is not None:
                if self.surviving(prior) != target:
                    raise merged_patient()
                return survivor
            after = replace(before or survivor, key=prior, merged_into=target)
            check_patient(after)
            self._write(after, before=before, kind=PatientChangeKind.MERGED, source=source, at=at)
            for versions in self._orders.values():
                if versions[-1].patient == prior:
                    self._write_order(replace(versions[-1], patient=target), at=at)
            return survivor

    def pending_changes(self, *, limit: int = 100) -> Sequence[PatientChange]:
        """See `Patients.pending_changes`."""
        with self._lock:
            pending = [c for c in self._changes if (c.key, c.version) not in self._applied]
        return tuple(pending[:limit])

    def change_applied(self, change: PatientChange) -> None:
        """See `Patients.change_applied`."""
        with self._lock:
            self._applied.add((change.key, change.version))

    def order(self, order_id: str) -> Order:
        """See `Orders.order`."""
        with self._lock:
            if order_id not in self._orders:
                raise no_order()
            return self._orders[order_id][-1]

    def find_orders(self, query: OrderQuery) -> Sequence[Order]:
        """See `Orders.find_orders`."""
        with self._lock:
            known = [versions[-1] for versions in self._orders.values()]
            patient = None if query.patient is None else self.surviving(query.patient)
        found = [o for o in known if _fits_order(o, replace(query, patient=patient))]
        found.sort(key=lambda o: (first_start(o) or _EPOCH, o.order_id))
        return tuple(found[query.offset : query.offset + query.limit])

    def put_order(self, order: Order, *, source: str, at: datetime, expected_version: int | None = None) -> Order:
        """See `Orders.put_order`; nobody asks the fake who wrote a version."""
        check_order(order)
        with self._lock:
            versions = self._orders.get(order.order_id, [])
            if expected_version is not None and expected_version != len(versions):
                raise stale_order()
            wanted = replace(order, patient=self.surviving(order.patient))
            if versions and same_order(versions[-1], wanted):
                return versions[-1]
            return self._write_order(wanted, at=at)

    def order_history(self, order_id: str) -> Sequence[Order]:
        """See `Orders.order_history`."""
        with self._lock:
            return tuple(self._orders.get(order_id, ()))

    def performed_step(self, sop_instance_uid: str) -> PerformedStep:
        """See `Orders.performed_step`."""
        with self._lock:
            if sop_instance_uid not in self._performed:
                raise no_performed_step()
            return self._performed[sop_instance_uid]

    def performed_steps(self, study_instance_uid: str) -> Sequence[PerformedStep]:
        """See `Orders.performed_steps`."""
        with self._lock:
            found = [s for s in self._performed.values() if s.study_instance_uid == study_instance_uid]
        return tuple(sorted(found, key=lambda s: (s.started_at, s.sop_instance_uid)))

    def put_performed_step(self, step: PerformedStep, *, expected_version: int) -> PerformedStep:
        """See `Orders.put_performed_step`."""
        with self._lock:
            check_performed(self._performed.get(step.sop_instance_uid), expected_version)
            after = replace(step, version=expected_version + 1)
            self._performed[step.sop_instance_uid] = after
            for versions in list(self._orders.values()):
                moved = moved_along(versions[-1], after)
                if not same_order(versions[-1], moved):
                    self._write_order(moved, at=after.ended_at or after.started_at)
            return after

    def _write(
        self,
        patient: PatientRecord,
        *,
        before: PatientRecord | None,
        kind: PatientChangeKind,
        source: str,
        at: datetime,
    ) -> PatientRecord:
        version = (before.version if before else 0) + 1
        after = replace(patient, version=version, changed_at=at)
        self._patients[after.key] = after
        self._changes.append(
            PatientChange(key=after.key, version=version, kind=kind, at=at, source=source, before=before, after=after)
        )
        return after

    def _write_order(self, order: Order, *, at: datetime) -> Order:
        versions = self._orders.setdefault(order.order_id, [])
        after = replace(order, version=len(versions) + 1, changed_at=at)
        versions.append(after)
        return after


class InMemoryInbox:
    """`polyclinic.departments.records.ports.Inbox` in a set."""

    def __init__(self) -> None:
        self._noted: set[tuple[str, str, str]] = set()

    def accepted(self, entry: InboxEntry) -> bool:
        """See `Inbox.accepted`."""
        return _name_of(entry) in self._noted

    def note(self, entry: InboxEntry) -> None:
        """See `Inbox.note`."""
        self._noted.add(_name_of(entry))


def _name_of(entry: InboxEntry) -> tuple[str, str, str]:
    return entry.sender_sha256, entry.control_id_sha256, entry.body_sha256


def _fits_patient(patient: PatientRecord, query: PatientQuery) -> bool:
    born = patient.birth_date
    if query.merged_into is not None:
        standing = patient.merged_into == query.merged_into
    else:
        standing = query.include_merged or patient.merged_into is None
    return (
        standing
        and query.patient_id in ("", patient.key.patient_id)
        and query.issuer in ("", patient.key.issuer)
        and query.sex in ("", patient.sex)
        and (query.birth_from is None or (born is not None and born >= query.birth_from))
        and (query.birth_to is None or (born is not None and born <= query.birth_to))
        and (query.after is None or patient.key > query.after)
        and fits(patient.name, query.name)
    )


def _fits_order(order: Order, query: OrderQuery) -> bool:
    names = ("order_id", "accession_number", "placer_number", "filler_number", "study_instance_uid")
    by_step = query.modality or query.station_ae_title or query.starts_from or query.starts_to
    return (
        all(getattr(query, name) in ("", getattr(order, name)) for name in names)
        and query.patient in (None, order.patient)
        and (not query.statuses or order.status in query.statuses)
        and (not by_step or any(_fits_step(step, query) for step in order.steps))
    )


def _fits_step(step: ScheduledStep, query: OrderQuery) -> bool:
    return (
        query.modality in ("", step.modality)
        and query.station_ae_title in ("", step.station_ae_title)
        and (query.starts_from is None or step.starts_at >= query.starts_from)
        and (query.starts_to is None or step.starts_at <= query.starts_to)
    )

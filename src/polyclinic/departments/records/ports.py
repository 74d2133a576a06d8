"""What the record offers to journeys, screens and edges. Every method may be called from any thread and any process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from polyclinic.departments.records.patients import (
    Order,
    OrderStatus,
    PatientChange,
    PatientKey,
    PatientRecord,
    PerformedStep,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientQuery:
    """Empty fields match everything. Results come by patient id and issuer."""

    patient_id: str = ""
    issuer: str = ""
    name: str = ""
    """Each word of it is the beginning of any word of any component group, case and width folded."""
    birth_from: date | None = None
    birth_to: date | None = None
    sex: str = ""
    include_merged: bool = False
    merged_into: PatientKey | None = None
    """Only identities that this one has taken over itself; they come whatever `include_merged` says."""
    limit: int = 100
    after: PatientKey | None = None
    """Only those behind this one: the last of the previous page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderQuery:
    """Empty fields match everything. Results come by start of the first step, then order id.

    `modality`, `station_ae_title`, `starts_from` and `starts_to` must hold for one and the same step.
    """

    order_id: str = ""
    patient: PatientKey | None = None
    accession_number: str = ""
    placer_number: str = ""
    filler_number: str = ""
    study_instance_uid: str = ""
    statuses: frozenset[OrderStatus] = frozenset()
    modality: str = ""
    station_ae_title: str = ""
    starts_from: datetime | None = None
    starts_to: datetime | None = None
    limit: int = 1000
    offset: int = 0


class Patients(Protocol):
    """Identities and their history."""

    def patient(self, key: PatientKey) -> PatientRecord:
        """As it stands, merged or not. Raises `NotFound` (``records.no-patient``)."""

    def surviving(self, key: PatientKey) -> PatientKey:
        """The identity that holds now: follows merges; the key itself when it is unknown or not merged."""

    def find_patients(self, query: PatientQuery) -> Sequence[PatientRecord]: ...

    def patient_history(self, key: PatientKey) -> Sequence[PatientChange]:
        """Oldest first."""

    def put_patient(
        self, patient: PatientRecord, *, source: str, at: datetime, expected_version: int | None = None
    ) -> PatientRecord:
        """Keep; equal content changes nothing.

        Raises
        ------
        Conflict
            ``records.stale-patient`` when `expected_version` is not the kept one; ``records.merged-patient`` when the
            identity has been merged away.
        Rejected
            ``records.bad-patient``, see `polyclinic.departments.records.rules.check_patient`.
        """

    def merge_patients(self, prior: PatientKey, into: PatientKey, *, source: str, at: datetime) -> PatientRecord:
        """HL7 ADT^A40: `prior` lives on in `into`, with its orders; idempotent. Returns the surviving record.

        An unknown `prior` is noted as merged, so that images which still carry it are filed rightly.

        Raises
        ------
        NotFound
            ``records.no-patient`` when `into` is unknown.
        Conflict
            ``records.merge-cycle`` when `into` was itself merged into `prior`; ``records.merged-patient`` when `prior`
            was merged into somebody else before.
        """

    def pending_changes(self, *, limit: int = 100) -> Sequence[PatientChange]:
        """Changes that the archive has not followed yet, oldest first: a queue that survives a crash."""

    def change_applied(self, change: PatientChange) -> None:
        """The archive has followed; idempotent."""


class Orders(Protocol):
    """Orders, the modality worklist behind them, and what modalities report back."""

    def order(self, order_id: str) -> Order:
        """Raises `NotFound` (``records.no-order``)."""

    def find_orders(self, query: OrderQuery) -> Sequence[Order]: ...

    def put_order(self, order: Order, *, source: str, at: datetime, expected_version: int | None = None) -> Order:
        """Keep; equal content changes nothing. An order for a merged identity goes to the surviving one.

        Raises
        ------
        Conflict
            ``records.stale-order``.
        Rejected
            ``records.bad-order``, see `polyclinic.departments.records.rules.check_order`.
        """

    def order_history(self, order_id: str) -> Sequence[Order]:
        """All versions, oldest first."""

    def performed_step(self, sop_instance_uid: str) -> PerformedStep:
        """Raises `NotFound` (``records.no-performed-step``)."""

    def performed_steps(self, study_instance_uid: str) -> Sequence[PerformedStep]:
        """Of a study, by start."""

    def put_performed_step(self, step: PerformedStep, *, expected_version: int) -> PerformedStep:
        """Create (`expected_version` 0) or replace; moves the scheduled steps it names along.

        Raises
        ------
        Conflict
            ``records.performed-step-exists``, ``records.stale-performed-step``, or ``records.performed-step-final``
            once it is completed or discontinued (PS3.4 F.7.2.2.2).
        """


class Record(Patients, Orders, Protocol):
    """Both: the clinical record as one thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxEntry:
    """A message that came in, as hashes: what it says is in the record, not here."""

    sender_sha256: str
    control_id_sha256: str
    body_sha256: str
    """Of everything behind its header, so that a repeated message with a new date is known again."""
    kind: str
    """Message code and event, e.g. ``ADT^A08``."""
    received_at: datetime


class Inbox(Protocol):
    """Messages whose effect is durable, so that a repeated one is answered alike and done once."""

    def accepted(self, entry: InboxEntry) -> bool:
        """Whether a message of that sender, control id and body was noted."""

    def note(self, entry: InboxEntry) -> None:
        """Its effect is durable; idempotent."""

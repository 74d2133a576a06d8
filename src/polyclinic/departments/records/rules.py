"""What follows from the record, pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime

from polyclinic.core.errors import Rejected
from polyclinic.core.ids import is_uid_lenient
from polyclinic.core.people import Patient
from polyclinic.departments.records.contracts import ClinicalContext
from polyclinic.departments.records.patients import (
    Order,
    PatientRecord,
    PerformedStatus,
    PerformedStep,
    StepStatus,
)

KEY_CHARACTERS = 128
NAME_CHARACTERS = 400


def parse_da(value: str) -> date | None:
    """A DICOM DA value (PS3.5 6.2) as a date; None when it is empty or is none."""
    try:
        return date.fromisoformat(f"{value[0:4]}-{value[4:6]}-{value[6:8]}") if len(value) == 8 else None
    except ValueError:
        return None


def age_years(birth_date: date | None, at: date | None) -> int | None:
    """Completed years of age; None when a date is missing or the birth lies after it."""
    if birth_date is None or at is None or birth_date > at:
        return None
    return at.year - birth_date.year - ((at.month, at.day) < (birth_date.month, birth_date.day))


def context_of(patient: Patient, study_date: str, priors: Sequence[str]) -> ClinicalContext:
    """The context of a study from its patient, its date (DICOM DA) and its priors, newest first."""
    return ClinicalContext(
        sex=patient.sex,
        age_years=age_years(patient.birth_date, parse_da(study_date)),
        prior_study_instance_uids=tuple(priors),
    )


def patient_of(record: PatientRecord) -> Patient:
    """The identity of a record, in the words of the archive."""
    return Patient(
        patient_id=record.key.patient_id,
        issuer=record.key.issuer,
        name=record.name,
        birth_date=record.birth_date,
        sex=record.sex,
    )


def check_patient(patient: PatientRecord) -> None:
    """Raises `Rejected` (``records.bad-patient``) when the identity cannot be kept or found again."""
    key = patient.key
    if not key.patient_id.strip() or not all(map(_is_plain, (key.patient_id, key.issuer))):
        raise Rejected(
            "records.bad-patient",
            f"A patient needs an identifier of at most {KEY_CHARACTERS} printable characters; check the sender",
        )
    if patient.sex not in ("", "M", "F", "O"):
        raise Rejected("records.bad-patient", "The patient's sex must be M, F, O or empty; check the sender")
    if "\0" in patient.name or len(patient.name) > NAME_CHARACTERS:
        raise Rejected("records.bad-patient", "The patient's name is no person name; check the sender")


def check_order(order: Order) -> None:
    """Raises `Rejected` (``records.bad-order``) when the order cannot be kept or found again."""
    numbers = (order.placer_number, order.filler_number, order.accession_number, order.requested_procedure_id)
    if not order.order_id.strip() or not all(map(_is_plain, (order.order_id, *numbers))):
        raise Rejected(
            "records.bad-order",
            f"An order's numbers are at most {KEY_CHARACTERS} printable characters; check the sender",
        )
    if order.study_instance_uid and not is_uid_lenient(order.study_instance_uid):
        raise Rejected("records.bad-order", "The order's Study Instance UID is no UID; check the sender")
    if any(len(value) > 16 for step in order.steps for value in (step.modality, step.station_ae_title)):
        raise Rejected("records.bad-order", "Modality and AE title have at most 16 characters; check the sender")


def _is_plain(value: str) -> bool:
    return len(value) <= KEY_CHARACTERS and (value.isprintable() or not value)


def same_patient(one: PatientRecord, other: PatientRecord) -> bool:
    """Whether two records say the same, whenever they said it."""
    return replace(one, version=0, changed_at=None) == replace(other, version=0, changed_at=None)


def same_order(one: Order, other: Order) -> bool:
    """Whether two orders say the same, whenever they said it."""
    return replace(one, version=0, changed_at=None) == replace(other, version=0, changed_at=None)


def first_start(order: Order) -> datetime | None:
    """When the first of its steps begins; None without steps."""
    return min((step.starts_at for step in order.steps), default=None)


_FOLLOWS = {
    PerformedStatus.IN_PROGRESS: StepStatus.STARTED,
    PerformedStatus.COMPLETED: StepStatus.COMPLETED,
    PerformedStatus.DISCONTINUED: StepStatus.DISCONTINUED,
}


def moved_along(order: Order, performed: PerformedStep) -> Order:
    """The order with the scheduled steps that `performed` names where it has brought them (PS3.4 F.7.2.2.2)."""
    if order.study_instance_uid != performed.study_instance_uid and not (
        order.accession_number and order.accession_number == performed.accession_number
    ):
        return order
    status = _FOLLOWS[performed.status]
    steps = tuple(replace(s, status=status) if s.step_id in performed.scheduled_step_ids else s for s in order.steps)
    return replace(order, steps=steps)

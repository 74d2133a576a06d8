"""What follows from the record, pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from polyclinic.core.people import Patient
from polyclinic.departments.records.contracts import ClinicalContext


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

"""Who a study is about and who acts on it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """Identity as the study's instances carry it; `issuer` separates equal ids of different sites."""

    patient_id: str
    name: str
    """DICOM PN, component groups separated by ``=``, e.g. ``"Wang^XiaoDong=王^小东"``."""
    birth_date: date | None = None
    sex: str = ""
    issuer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A signed-in human or service; `roles` are names from `polyclinic.departments.access.contracts`."""

    person_id: str
    name: str
    roles: frozenset[str]

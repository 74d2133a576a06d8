"""PatientRecord <-> FHIR R4 Patient."""

from __future__ import annotations

from datetime import date

from polyclinic.core.errors import Rejected
from polyclinic.departments.records.patients import PatientKey, PatientRecord
from polyclinic.fhir.human_names import human_names, person_name
from polyclinic.fhir.json_text import Json
from polyclinic.fhir.moments import to_instant
from polyclinic.fhir.terms import identifier, issuer_of_system, reference, system_of_issuer, type_codes

_GENDER = {"M": "male", "F": "female", "O": "other"}
_SEX = {fhir: dicom for dicom, fhir in _GENDER.items()} | {"unknown": ""}
_USES = ("usual", "official", "")
KEPT = frozenset(
    {"resourceType", "id", "meta", "identifier", "active", "name", "gender", "birthDate", "link", "text", "language"}
)
"""Elements that are kept, or made anew; others are not, and the answer shows it."""


def patient_json(record: PatientRecord, resource_id: str, *, into_id: str = "") -> Json:
    """The Patient of a record; `into_id` is the id of the record that has taken it over."""
    key = record.key
    out: Json = {
        "resourceType": "Patient",
        "id": resource_id,
        "meta": {"versionId": str(record.version)},
        "identifier": [identifier(system_of_issuer(key.issuer), key.patient_id, "MR", use="usual")],
        "active": record.merged_into is None,
    }
    if record.changed_at:
        out["meta"]["lastUpdated"] = to_instant(record.changed_at)
    if names := human_names(record.name):
        out["name"] = names
    if record.sex in _GENDER:
        out["gender"] = _GENDER[record.sex]
    if record.birth_date:
        out["birthDate"] = record.birth_date.isoformat()
    if record.merged_into is not None and into_id:
        out["link"] = [{"other": reference("Patient", into_id), "type": "replaced-by"}]
    return out


def key_of_patient(resource: Json) -> PatientKey:
    """The identity of a Patient: its medical record number, else its usual, official or first identifier.

    Raises
    ------
    Rejected
        ``fhir.no-identifier``.
    """
    there = [one for one in resource.get("identifier", []) if str(one.get("value", "")).strip()]
    if not there:
        raise Rejected("fhir.no-identifier", "A Patient needs an identifier with a value; add its record number")
    there.sort(key=lambda one: _USES.index(one.get("use", "")) if one.get("use", "") in _USES else len(_USES))
    chosen = next((one for one in there if "MR" in type_codes(one)), there[0])
    return PatientKey(patient_id=str(chosen["value"]).strip(), issuer=issuer_of_system(str(chosen.get("system", ""))))


def record_of_patient(resource: Json, key: PatientKey, kept: PatientRecord | None) -> PatientRecord:
    """The record that a Patient says; what FHIR has no place for stays as it was kept.

    Raises
    ------
    Rejected
        ``fhir.birth-date`` for a date without month or day, ``fhir.name``.
    """
    born = str(resource.get("birthDate", ""))
    if born and len(born) != 10:
        raise Rejected("fhir.birth-date", "birthDate needs year, month and day; leave it out where they are not known")
    return PatientRecord(
        key=key,
        name=person_name(resource.get("name", [])),
        birth_date=date.fromisoformat(born) if born else None,
        sex=_SEX[resource.get("gender", "unknown")],
        patient_class=kept.patient_class if kept else "",
        location=kept.location if kept else "",
    )

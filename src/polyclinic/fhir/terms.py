"""Coded concepts, identifiers and references in FHIR JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote, unquote

from polyclinic.core.codes import Code
from polyclinic.fhir.json_text import Json

DICOM_UID = "urn:dicom:uid"
IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
_ISSUER = "urn:polyclinic:issuer:"
_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:\S+")


def codeable_concept(code: Code) -> Json:
    """CodeableConcept with one coding."""
    return {"coding": [coding(code)], **({"text": code.display} if code.display else {})}


def coding(code: Code) -> Json:
    """Coding."""
    said = {"system": code.system, "code": code.code, "display": code.display}
    return {name: value for name, value in said.items() if value}


def code_of(concept: object) -> Code | None:
    """The first coding of a CodeableConcept; its text as display where there is no coding; None for neither."""
    if not isinstance(concept, dict):
        return None
    text = str(concept.get("text", ""))
    for one in concept.get("coding", []):
        if one.get("code"):
            return Code(
                system=str(one.get("system", "")), code=str(one["code"]), display=str(one.get("display", "") or text)
            )
    return Code(system="", code="", display=text) if text else None


def system_of_issuer(issuer: str) -> str:
    """Identifier.system of an Issuer of Patient ID (or PID-3 CX.4); empty for none. See `issuer_of_system`."""
    if not issuer or (_URI.fullmatch(issuer) and not issuer.startswith((_ISSUER, "urn:oid:"))):
        return issuer
    if _OID.fullmatch(issuer):
        return f"urn:oid:{issuer}"
    return _ISSUER + quote(issuer, safe="")


def issuer_of_system(system: str) -> str:
    """The issuer that `system_of_issuer` gave that system; every other URI is itself an issuer."""
    if system.startswith(_ISSUER):
        return unquote(system.removeprefix(_ISSUER))
    oid = system.removeprefix("urn:oid:")
    return oid if oid != system and _OID.fullmatch(oid) else system


def identifier(system: str, value: str, type_code: str = "", *, use: str = "") -> Json:
    """Identifier; `type_code` is of HL7 table 0203, e.g. ``MR``, ``ACSN``."""
    out: Json = {}
    if use:
        out["use"] = use
    if type_code:
        out["type"] = {"coding": [{"system": IDENTIFIER_TYPE, "code": type_code}]}
    if system:
        out["system"] = system
    return {**out, "value": value}


def type_codes(one: Json) -> frozenset[str]:
    """The codes of an Identifier's type."""
    return frozenset(str(c.get("code", "")) for c in one.get("type", {}).get("coding", []))


def identified(identifiers: Sequence[Json], type_code: str) -> Json | None:
    """The first identifier of that type."""
    return next((one for one in identifiers if type_code in type_codes(one)), None)


def reference(resource_type: str, resource_id: str, display: str = "") -> Json:
    """Reference to a resource of ours."""
    out = {"reference": f"{resource_type}/{resource_id}", "type": resource_type}
    return out | ({"display": display} if display else {})


def study_identifier(study_instance_uid: str) -> Json:
    """A Study Instance UID as Identifier (FHIR R4 ImagingStudy)."""
    return {"system": DICOM_UID, "value": f"urn:oid:{study_instance_uid}"}


def subject(patient_id: str) -> Json:
    """Reference to a Patient; says so where the images name nobody."""
    return reference("Patient", patient_id) if patient_id else {"display": "Patient without identifier"}

"""A report of the reading room as FHIR R4 DiagnosticReport, and an agent as Device."""

from __future__ import annotations

from collections.abc import Sequence

from polyclinic.agentkit.manifest import Manifest
from polyclinic.core.codes import LOCAL, LOINC
from polyclinic.departments.reading.contracts import Language, Report
from polyclinic.fhir.json_text import Json
from polyclinic.fhir.moments import to_instant
from polyclinic.fhir.observations import device_id, practitioner
from polyclinic.fhir.terms import reference, subject

_RADIOLOGY = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"}]}
_IMAGING_REPORT = {
    "coding": [{"system": LOINC, "code": "18748-4", "display": "Diagnostic imaging study"}],
    "text": "Diagnostic imaging study",
}
_LANGUAGE = {Language.ENGLISH: "en", Language.CHINESE: "zh"}
STAGE = "safety-stage"
_STAGES = f"{LOCAL}:{STAGE}"


def report_json(
    report: Report,
    *,
    patient_id: str,
    effective: str,
    earlier_signatures: int,
    result_ids: Sequence[str],
    order_ids: Sequence[str],
    version: str,
) -> Json:
    """The DiagnosticReport of a report.

    Parameters
    ----------
    earlier_signatures
        Signed revisions of the same study before this one: a later one amends them.
    result_ids
        Ids of the findings that stand in it.
    version
        Changes with the content.
    """
    uid, signed = report.study_instance_uid, report.signature
    status = "preliminary" if signed is None else ("amended" if earlier_signatures else "final")
    out: Json = {
        "resourceType": "DiagnosticReport",
        "id": uid,
        "meta": {"versionId": version},
        "status": status,
        "category": [_RADIOLOGY],
        "code": _IMAGING_REPORT,
        "subject": subject(patient_id),
        "imagingStudy": [reference("ImagingStudy", uid)],
        "result": [reference("Observation", one) for one in result_ids],
        "basedOn": [reference("ServiceRequest", one) for one in order_ids],
    }
    if effective:
        out["effectiveDateTime"] = effective
    if signed is not None:
        out["meta"]["lastUpdated"] = out["issued"] = to_instant(signed.at)
        out["contained"] = [practitioner("interpreter", signed.person_name)]
        out["resultsInterpreter"] = [{"reference": "#interpreter"}]
    if conclusion := _conclusion(report):
        out["conclusion"] = conclusion
    out["presentedForm"] = [
        {
            "contentType": "application/pdf",
            "language": _LANGUAGE[report.language],
            "url": f"/api/v1/studies/{uid}/report.pdf?lang={report.language.value}"
            + (f"&revision={report.revision}" if signed else ""),
            "title": "Report" if signed else "Draft report",
        }
    ]
    return {name: value for name, value in out.items() if value != []}


def _conclusion(report: Report) -> str:
    sections = {section.id: section for section in report.sections}
    chosen = sections.get("impression") or sections.get("findings")
    return "\n".join(sentence.text for sentence in chosen.sentences if sentence.text.strip()) if chosen else ""


def device_json(manifest: Manifest) -> Json:
    """The Device of an installed agent."""
    return {
        **bare_device_json(manifest.id, manifest.version, manifest.title),
        "status": "inactive" if manifest.stage == "retired" else "active",
        "property": [
            {
                "type": {"coding": [{"system": LOCAL, "code": STAGE, "display": "Safety stage"}]},
                "valueCode": [{"coding": [{"system": _STAGES, "code": str(manifest.stage)}]}],
            }
        ],
        "note": [{"text": manifest.intended_use}, {"text": manifest.population}],
    }


def bare_device_json(agent_id: str, version: str, title: str) -> Json:
    """The Device of an agent version of which only its name is left."""
    made = device_id(agent_id, version)
    return {
        "resourceType": "Device",
        "id": made,
        "meta": {"versionId": "1"},
        "identifier": [{"system": "urn:polyclinic:agent", "value": f"{agent_id}:{version}"}],
        "udiCarrier": [
            {
                "deviceIdentifier": agent_id,
                "issuer": "urn:polyclinic:agent",
                "carrierHRF": f"{agent_id}:{version}",
                "entryType": "self-reported",
            }
        ],
        "status": "inactive",
        "manufacturer": "Polyclinic",
        "modelNumber": agent_id,
        "deviceName": [{"name": title, "type": "user-friendly-name"}],
        "version": [{"value": version}],
        "type": {"text": "Software that proposes findings on images"},
    }

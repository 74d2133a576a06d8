"""A Finding as FHIR R4 Observation (category imaging, measurements as components, UCUM)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from polyclinic.core.codes import LOCAL, UCUM, Code
from polyclinic.core.findings import Finding, FindingState, Measurement, SourceKind
from polyclinic.core.units import PRINTED
from polyclinic.fhir.json_text import Json
from polyclinic.fhir.moments import to_instant
from polyclinic.fhir.terms import codeable_concept, reference, subject

METHOD = "urn:polyclinic:fhir:measurement-method"
LATERALITY = Code(system="http://snomed.info/sct", code="272741003", display="Laterality")
CONFIDENCE = Code(system=LOCAL, code="confidence", display="Probability that a reader would agree")
_CATEGORY = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "imaging"}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingFacts:
    """What an Observation says besides its finding."""

    version: int
    """Decisions about the finding, plus one."""
    patient_id: str
    """FHIR id of the Patient."""
    effective: str
    """Study date as FHIR dateTime, or empty."""
    changed_at: datetime | None
    """When it was last decided on."""
    signed: bool
    """Whether it stands in a signed report."""
    decided_by: str = ""
    """Name of the person who decided last."""
    reason: str = ""
    """Why it was rejected."""


def observation_status(state: FindingState, *, signed: bool) -> str:
    """``preliminary`` until the report is signed, ``final`` afterwards, ``cancelled`` when a reader rejected it."""
    if state is FindingState.REJECTED:
        return "cancelled"
    return "final" if signed and state.counts else "preliminary"


def device_id(agent_id: str, version: str) -> str:
    """FHIR id of the Device that an agent in a version is."""
    return f"{agent_id.replace('_', '-')}-{version}"[:64]


def observation(finding: Finding, facts: FindingFacts) -> Json:
    """The Observation of a finding."""
    out: Json = {
        "resourceType": "Observation",
        "id": finding.id,
        "meta": {"versionId": str(facts.version)},
        "status": observation_status(finding.state, signed=facts.signed),
        "category": [_CATEGORY],
        "code": codeable_concept(finding.code),
        "subject": subject(facts.patient_id),
        "derivedFrom": [reference("ImagingStudy", finding.study_instance_uid)],
    }
    if facts.changed_at:
        out["meta"]["lastUpdated"] = out["issued"] = to_instant(facts.changed_at)
    if facts.effective:
        out["effectiveDateTime"] = facts.effective
    if finding.body_site:
        out["bodySite"] = codeable_concept(finding.body_site)
    if finding.source.kind is SourceKind.AGENT:
        out["device"] = reference("Device", device_id(finding.source.id, finding.source.version))
    people = facts.decided_by or (finding.source.kind is SourceKind.PERSON and "a reader")
    if people:
        out["contained"] = [practitioner("decider", str(people))]
        out["performer"] = [{"reference": "#decider"}]
    if results := [rule for rule in finding.evidence.rules if rule.result]:
        out["interpretation"] = [{"text": f"{rule.id}: {rule.result}"} for rule in results]
    notes = [text for text in (finding.note, facts.reason, *finding.limits) if text.strip()]
    if notes:
        out["note"] = [{"text": text} for text in notes]
    if components := _components(finding):
        out["component"] = components
    return out


def practitioner(fragment: str, name: str) -> Json:
    """A person of ours as contained Practitioner: they have no resource of their own."""
    return {"resourceType": "Practitioner", "id": fragment, "name": [{"text": name}]}


def quantity(value: float, ucum: str) -> Json:
    """Quantity with a UCUM unit."""
    return {"value": value, "unit": PRINTED.get(ucum) or ucum, "system": UCUM, "code": ucum}


def _components(finding: Finding) -> list[Json]:
    found = [_measured(one) for one in finding.measurements]
    if finding.laterality:
        found.append(
            {"code": codeable_concept(LATERALITY), "valueCodeableConcept": codeable_concept(finding.laterality)}
        )
    found += [
        {"code": codeable_concept(one.code), "valueCodeableConcept": codeable_concept(one.value)}
        for one in finding.attributes
    ]
    if finding.confidence is not None:
        found.append({"code": codeable_concept(CONFIDENCE), "valueQuantity": quantity(finding.confidence, "1")})
    return found


def _measured(one: Measurement) -> Json:
    out: Json = {"code": codeable_concept(one.code), "valueQuantity": quantity(one.value, one.unit)}
    if one.method:
        out = {"extension": [{"url": METHOD, "valueString": one.method}], **out}
    return out

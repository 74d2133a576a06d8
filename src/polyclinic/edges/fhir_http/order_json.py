"""Order <-> FHIR R4 ServiceRequest."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from polyclinic.core.codes import SNOMED_CT, Code
from polyclinic.core.errors import Rejected
from polyclinic.core.ids import stable_id, stable_uid
from polyclinic.departments.records.patients import (
    Order,
    OrderPriority,
    OrderStatus,
    PatientKey,
    ScheduledStep,
)
from polyclinic.departments.records.rules import first_start
from polyclinic.fhir.human_names import human_names, person_name
from polyclinic.fhir.json_text import Json
from polyclinic.fhir.moments import parse_moment, site_time, to_instant
from polyclinic.fhir.terms import (
    DICOM_UID,
    code_of,
    codeable_concept,
    identified,
    identifier,
    study_identifier,
    subject,
)

_NUMBERS = (("PLAC", "placer_number"), ("FILL", "filler_number"), ("ACSN", "accession_number"))
_IMAGING = {"coding": [{"system": SNOMED_CT, "code": "363679005", "display": "Imaging"}]}
MODALITY = Code(system="http://dicom.nema.org/resources/ontology/DCM", code="121139", display="Modality")
KEPT = frozenset(
    {
        "resourceType",
        "id",
        "meta",
        "identifier",
        "status",
        "intent",
        "category",
        "priority",
        "code",
        "subject",
        "occurrenceDateTime",
        "authoredOn",
        "requester",
        "contained",
        "reasonCode",
        "orderDetail",
        "text",
        "language",
    }
)
"""Elements that are kept, or made anew; others are not, and the answer shows it."""


def order_json(order: Order, patient_id: str) -> Json:
    """The ServiceRequest of an order; `patient_id` is the FHIR id of its patient."""
    identifiers = [identifier("", getattr(order, name), kind) for kind, name in _NUMBERS if getattr(order, name)]
    if order.study_instance_uid:
        identifiers.append(study_identifier(order.study_instance_uid))
    out: Json = {
        "resourceType": "ServiceRequest",
        "id": order.order_id,
        "meta": {"versionId": str(order.version)},
        "identifier": identifiers,
        "status": order.status.value,
        "intent": "order",
        "category": [_IMAGING],
        "priority": order.priority.value,
        "subject": subject(patient_id),
    }
    if order.changed_at:
        out["meta"]["lastUpdated"] = to_instant(order.changed_at)
    if order.procedure or order.description:
        out["code"] = codeable_concept(order.procedure) if order.procedure else {}
        if order.description:
            out["code"]["text"] = order.description
    if (start := first_start(order)) is not None:
        out["occurrenceDateTime"] = to_instant(start)
    if modalities := sorted({step.modality for step in order.steps if step.modality}):
        out["orderDetail"] = [{"coding": [{"system": MODALITY.system, "code": modality}]} for modality in modalities]
    if order.ordered_at:
        out["authoredOn"] = to_instant(order.ordered_at)
    if names := human_names(order.requester):
        out["contained"] = [{"resourceType": "Practitioner", "id": "requester", "name": names}]
        out["requester"] = {"reference": "#requester"}
    if order.indication:
        out["reasonCode"] = [{"text": order.indication}]
    if not identifiers:
        del out["identifier"]
    return out


def numbers_of(resource: Json) -> dict[str, str]:
    """Placer, filler and accession number of a ServiceRequest, and its Study Instance UID."""
    identifiers = resource.get("identifier", [])
    found = {name: _value(identified(identifiers, kind)) for kind, name in _NUMBERS}
    uids = [_value(one) for one in identifiers if one.get("system") == DICOM_UID]
    found["study_instance_uid"] = uids[0].removeprefix("urn:oid:") if uids else ""
    if not any(found.values()):
        untyped = [_value(one) for one in identifiers if not one.get("type")]
        found["placer_number"] = untyped[0] if untyped else ""
    return found


def order_of(resource: Json, order_id: str, patient: PatientKey, kept: Order | None) -> Order:
    """The order that a ServiceRequest says; steps that were planned before stay, moved where the start has moved.

    Raises
    ------
    Rejected
        ``fhir.order`` for a status or intent that an imaging order cannot have.
    """
    if resource["status"] not in {status.value for status in OrderStatus} or resource["intent"] != "order":
        raise Rejected(
            "fhir.order", "An imaging order has the intent order and the status active, on-hold, completed or revoked"
        )
    numbers = numbers_of(resource)
    concept = resource.get("code")
    procedure = code_of(concept)
    before = kept or Order(order_id=order_id, patient=patient)
    order = replace(
        before,
        patient=patient,
        procedure=procedure if procedure and procedure.code else None,
        description=str(concept.get("text", "")) if isinstance(concept, dict) else "",
        indication="; ".join(c.display for one in resource.get("reasonCode", []) if (c := code_of(one))),
        requester=_requester(resource),
        priority=OrderPriority(resource.get("priority", "routine")),
        status=OrderStatus(resource["status"]),
        ordered_at=_moment(resource.get("authoredOn")),
        placer_number=numbers["placer_number"] or before.placer_number,
        filler_number=numbers["filler_number"] or before.filler_number,
        accession_number=numbers["accession_number"] or before.accession_number,
        study_instance_uid=numbers["study_instance_uid"] or before.study_instance_uid,
    )
    if not order.study_instance_uid:
        order = replace(order, study_instance_uid=stable_uid("order-study", order_id))
    return replace(order, steps=_steps(resource, order))


def _steps(resource: Json, order: Order) -> tuple[ScheduledStep, ...]:
    start = _moment(resource.get("occurrenceDateTime"))
    if start is None:
        return order.steps
    if order.steps:
        shift = start - (first_start(order) or start)
        return tuple(replace(step, starts_at=step.starts_at + shift) for step in order.steps)
    codings = [c for one in resource.get("orderDetail", []) for c in one.get("coding", [])]
    modalities = [str(c["code"]) for c in codings if c.get("system") == MODALITY.system and c.get("code")]
    return tuple(
        ScheduledStep(
            step_id=stable_id("fhir-step", order.order_id, modality)[:16],
            modality=modality,
            starts_at=start,
            description=order.description,
            protocol=order.procedure,
        )
        for modality in dict.fromkeys(modalities)
    )


def _requester(resource: Json) -> str:
    said = resource.get("requester", {})
    target = str(said.get("reference", ""))
    for one in resource.get("contained", []):
        if target == f"#{one.get('id')}" and isinstance(one.get("name"), list):
            return person_name([name for name in one["name"] if isinstance(name, dict)])
    return person_name([{"text": said["display"]}]) if said.get("display") else ""


def _moment(value: object) -> datetime | None:
    stretch = parse_moment(value) if isinstance(value, str) else None
    if stretch is None or not isinstance(value, str):
        return None
    if len(value) < 10:
        value = f"{value}-01-01"[:10] if len(value) == 4 else f"{value}-01"
    found = datetime.fromisoformat(value)
    return found if found.tzinfo else site_time(found)


def _value(one: Json | None) -> str:
    return str(one.get("value", "")).strip() if one else ""

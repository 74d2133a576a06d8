"""Audit entries as FHIR R4 AuditEvent, with the event codes of DICOM PS3.15 A.5.

The shape follows the DICOM audit message: active participants become agents, participant objects become entities. No
profile of IHE BALP is claimed in `meta.profile`; the entities that BALP's patient patterns ask for are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from polyclinic.core.audit import AgentKind, AuditEntry, AuditOutcome, KeptEntry

DCM = "http://dicom.nema.org/resources/ontology/DCM"
_ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_OBJECT_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"

_DISPLAYS = {
    "110100": "Application Activity",
    "110101": "Audit Log Used",
    "110103": "DICOM Instances Accessed",
    "110104": "DICOM Instances Transferred",
    "110105": "DICOM Study Deleted",
    "110106": "Export",
    "110107": "Import",
    "110109": "Order Record",
    "110110": "Patient Record",
    "110111": "Procedure Record",
    "110112": "Query",
    "110113": "Security Alert",
    "110114": "User Authentication",
    "110122": "Login",
    "110123": "Logout",
    "110150": "Application",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What kind of event an action is."""

    code: str
    """Event ID of DICOM PS3.16 CID 400."""
    act: str
    """AuditEvent.action: C, R, U, D or E."""
    subtype: str = ""
    """Event type of CID 401, where there is one."""


_LOGIN, _LOGOUT = (Event(code="110114", act="E", subtype=code) for code in ("110122", "110123"))

EVENTS: Mapping[str, Event] = {
    "session.sign-in": _LOGIN,
    "session.sign-out": _LOGOUT,
    "worklist.read": Event(code="110112", act="E"),
    "study.read": Event(code="110103", act="R"),
    "finding.decide": Event(code="110103", act="U"),
    "report.sign": Event(code="110103", act="U"),
    "run.retry": Event(code="110111", act="U"),
    "dicom.search": Event(code="110112", act="E"),
    "dicom.read": Event(code="110104", act="R"),
    "dicom.store": Event(code="110104", act="C"),
    "dicom.delete": Event(code="110105", act="D"),
    "workitem.read": Event(code="110111", act="R"),
    "workitem.work": Event(code="110111", act="U"),
    "fhir.read": Event(code="110110", act="R"),
    "fhir.write": Event(code="110110", act="U"),
    "audit.read": Event(code="110101", act="R"),
    "study.export": Event(code="110106", act="R"),
    "study.deliver": Event(code="110104", act="R"),
    "study.forward": Event(code="110104", act="R"),
    "study.fetch-prior": Event(code="110107", act="C"),
    "dimse.store": Event(code="110104", act="C"),
    "dimse.find": Event(code="110112", act="E"),
    "dimse.get": Event(code="110104", act="R"),
    "dimse.move": Event(code="110104", act="R"),
    "dimse.refused": Event(code="110113", act="E"),
    "patient.merge": Event(code="110110", act="U"),
    "patient.correct": Event(code="110110", act="U"),
    "order.write": Event(code="110109", act="U"),
}
"""Event of each action; an action that stands not here is an application activity (110100)."""

_OTHER = Event(code="110100", act="E")


def event_of(action: str) -> Event:
    """The event that an action is recorded as."""
    return EVENTS.get(action, _OTHER)


def audit_event(kept: KeptEntry, *, observer: str) -> dict[str, Any]:
    """FHIR R4 AuditEvent of a kept entry.

    Parameters
    ----------
    observer
        What names this installation, e.g. its AE title.
    """
    entry, event = kept.entry, event_of(kept.entry.action)
    subtypes: list[dict[str, str]] = [{"code": entry.action}]
    if event.subtype:
        subtypes.insert(0, _dcm(event.subtype))
    denied = entry.outcome is AuditOutcome.DENIED
    return {
        "resourceType": "AuditEvent",
        "id": f"audit-{kept.sequence}",
        "type": _dcm(event.code),
        "subtype": subtypes,
        "action": event.act,
        "recorded": entry.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "outcome": "4" if denied else "0",
        "outcomeDesc": "Denied" if denied else "Allowed",
        "agent": [_agent(entry), _platform(observer)],
        "source": {
            "observer": {"identifier": {"value": observer}},
            "type": [{"system": _SOURCE_TYPE, "code": "4", "display": "Application Server"}],
        },
        "entity": [*_patient(entry), *_study(entry), _ledger_row(kept)],
    }


def _dcm(code: str) -> dict[str, str]:
    return {"system": DCM, "code": code, "display": _DISPLAYS[code]}


def _agent(entry: AuditEntry) -> dict[str, Any]:
    agent: dict[str, Any] = {
        "type": {"coding": [{"system": _PARTICIPATION, "code": "IRCP", "display": "information recipient"}]},
        "who": {"identifier": {"value": entry.agent_id}} if entry.agent_id else {"display": entry.agent_kind.value},
        "requestor": True,
    }
    if entry.agent_kind in (AgentKind.PEER, AgentKind.SYSTEM):
        agent["type"] = {"coding": [_dcm("110150")]}
    if entry.roles:
        agent["role"] = [{"text": role} for role in entry.roles]
    if entry.address:
        agent["network"] = {"address": entry.address, "type": "2"}
    return agent


def _platform(observer: str) -> dict[str, Any]:
    return {
        "type": {"coding": [_dcm("110150")]},
        "who": {"identifier": {"value": observer}},
        "requestor": False,
    }


def _patient(entry: AuditEntry) -> list[dict[str, Any]]:
    if not entry.patient_id:
        return []
    identifier: dict[str, Any] = {"value": entry.patient_id}
    if entry.issuer:
        identifier["assigner"] = {"display": entry.issuer}
    what = {"type": "Patient", "identifier": identifier}
    return [{"what": what, "type": _code(_ENTITY_TYPE, "1", "Person"), "role": _code(_OBJECT_ROLE, "1", "Patient")}]


def _study(entry: AuditEntry) -> list[dict[str, Any]]:
    if not entry.study_instance_uid:
        return []
    identifier = {"system": "urn:dicom:uid", "value": f"urn:oid:{entry.study_instance_uid}"}
    what = {"type": "ImagingStudy", "identifier": identifier}
    return [
        {"what": what, "type": _code(_ENTITY_TYPE, "2", "System Object"), "role": _code(_OBJECT_ROLE, "3", "Report")}
    ]


def _ledger_row(kept: KeptEntry) -> dict[str, Any]:
    """The row of the ledger itself, so that an exported event can be found and checked there."""
    facts = {"sequence": str(kept.sequence), "sha256": kept.sha256, **kept.entry.detail}
    return {
        "what": {"identifier": {"value": str(kept.sequence)}},
        "type": _code(_ENTITY_TYPE, "2", "System Object"),
        "role": _code(_OBJECT_ROLE, "13", "Security Resource"),
        "detail": [{"type": name, "valueString": value} for name, value in facts.items() if value],
    }


def _code(system: str, code: str, display: str) -> dict[str, str]:
    return {"system": system, "code": code, "display": display}

"""What the audit ledger records of one access or change (DICOM PS3.15 A.5, FHIR R4 AuditEvent)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class AuditOutcome(StrEnum):
    """What the gate said."""

    ALLOWED = "allowed"
    DENIED = "denied"


class AgentKind(StrEnum):
    """What kind of somebody asked."""

    PERSON = "person"
    """A signed-in account; `AuditEntry.agent_id` is its person id."""
    PEER = "peer"
    """A DICOM application entity; `AuditEntry.agent_id` is its AE title."""
    SYSTEM = "system"
    """The platform itself, e.g. a delivery from the outbox."""
    NOBODY = "nobody"
    """Not signed in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who did what to which study, when, and whether they were let. Holds identifiers, never names.

    `detail` holds short facts by name, e.g. ``{"count": "300"}``; it must not hold search terms, names or other text
    about a patient.
    """

    at: datetime
    action: str
    """A name of `polyclinic.departments.access.contracts.Action`, or one of `polyclinic.fhir.audit_event.EVENTS`."""
    outcome: AuditOutcome
    agent_kind: AgentKind
    agent_id: str = ""
    roles: tuple[str, ...] = ()
    address: str = ""
    """Network address that the request came from; empty where there is none."""
    study_instance_uid: str = ""
    patient_id: str = ""
    issuer: str = ""
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEntry:
    """An entry as it stands in the ledger."""

    sequence: int
    """From 1, without gaps."""
    entry: AuditEntry
    sha256: str
    """Over the entry and the hash of the one before it."""

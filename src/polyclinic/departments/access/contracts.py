"""Nouns of access: roles, actions, resources, decisions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from polyclinic.core.people import Person

EVERY_SITE = "*"


class Role(StrEnum):
    """What a person or a program is here for."""

    RADIOLOGIST = "radiologist"
    TECHNICIAN = "technician"
    ADMINISTRATOR = "administrator"
    DEVICE = "device"
    """A machine that sends or fetches images over DICOMweb with a token."""
    AGENT = "agent"
    """A program that proposes; it has no way in over the web."""


class Action(StrEnum):
    """Everything that can be asked of the platform. A route declares exactly one."""

    SESSION_USE = "session.use"
    """Ask who is signed in, sign in, sign out: open to everybody."""
    HEALTH_READ = "health.read"
    """Whether the server runs: open to everybody, tells nothing about patients."""
    PAGE_READ = "page.read"
    """The files of the page itself: open to everybody, hold no data."""
    METRICS_READ = "metrics.read"
    """Counters without patient data: open to this machine and to administrators."""
    WORKLIST_READ = "worklist.read"
    STUDY_READ = "study.read"
    FINDING_DECIDE = "finding.decide"
    REPORT_SIGN = "report.sign"
    RUN_RETRY = "run.retry"
    DICOM_SEARCH = "dicom.search"
    DICOM_READ = "dicom.read"
    DICOM_STORE = "dicom.store"
    DICOM_DELETE = "dicom.delete"
    WORKITEM_READ = "workitem.read"
    """See UPS workitems, subscribe to them."""
    WORKITEM_WORK = "workitem.work"
    """Create, claim, update, finish and cancel UPS workitems."""
    AUDIT_READ = "audit.read"
    FHIR_METADATA = "fhir.metadata"
    """What the FHIR interface offers: open to everybody, holds no data."""
    FHIR_READ = "fhir.read"
    FHIR_WRITE = "fhir.write"
    """Create and update FHIR resources: patients, orders, results of other systems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A signed-in person with the sites whose studies they may see."""

    person: Person
    sites: frozenset[str] = frozenset({EVERY_SITE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What an action is about; `site` is empty for a study that belongs to the only site."""

    study_instance_uid: str = ""
    site: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessDecision:
    """Yes or no, and why; the reason names the rule and never the resource's content."""

    allowed: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A signed-in browser: the token that its cookie holds, and who it is."""

    token: str
    actor: Actor

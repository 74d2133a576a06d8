"""Nouns of the reading room."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from polyclinic.core.codes import Code
from polyclinic.core.findings import Rule


class Language(StrEnum):
    ENGLISH = "en"
    CHINESE = "zh"


class StudyState(StrEnum):
    """Where a study stands on the one path, as the worklist shows it."""

    ARRIVING = "arriving"
    SETTLING = "settling"
    RUNNING = "running"
    READY = "ready"
    SIGNED = "signed"
    DELIVERED = "delivered"
    FAILED = "failed"


class RunState(StrEnum):
    """State of one agent run."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    ABSTAINED = "abstained"
    FAILED = "failed"


class Urgency(StrEnum):
    ROUTINE = "routine"
    PRIORITY = "priority"
    STAT = "stat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """One sentence of a report and what it stands on."""

    text: str
    finding_ids: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    basis: str = ""
    """For a sentence without findings: ``acquisition``, ``normal``, ``not-assessed``, ``abstained``, ``comparison``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """`id` is ``technique``, ``comparison``, ``findings`` or ``impression``."""

    id: str
    title: str
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    person_id: str
    person_name: str
    at: datetime
    sha256: str
    """Of the signed content in canonical JSON: sections, findings and their decisions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The report of one study revision, composed from findings that count; pure function of them until signed."""

    study_instance_uid: str
    revision: int
    language: Language
    sections: tuple[Section, ...]
    undecided: int
    """Findings still proposed; signing is refused while there are any."""
    signature: Signature | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingEdit:
    """What a physician changes; None leaves a thing as it is. The volume is dropped when a diameter changes."""

    long_axis_mm: float | None = None
    short_axis_mm: float | None = None
    attenuation: Code | None = None
    note: str | None = None

"""Nouns of the reading room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from polyclinic.agentkit.outcome import Fact
from polyclinic.core.codes import Code
from polyclinic.core.findings import Finding, ImageReference, Point, Rule


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
    """For a sentence without findings: ``acquisition``, ``normal``, ``not-assessed``, ``abstained``, ``comparison``,
    ``undecided``."""


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


class DecisionKind(StrEnum):
    """What a physician may say to a finding; ``reopen`` takes every earlier word back."""

    ACCEPT = "accept"
    REJECT = "reject"
    EDIT = "edit"
    REOPEN = "reopen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One word of one person about one finding; appended, never changed."""

    kind: DecisionKind
    version: int
    """Its number among the decisions of the finding, from 1."""
    person_id: str
    person_name: str
    at: datetime
    reason: str = ""
    edit: FindingEdit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedFinding:
    """A finding as it stands after its decisions; `version` counts them."""

    finding: Finding
    version: int = 0
    decided_by: str | None = None
    decided_at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """A finding that did not pass the checks: kept from the list, shown with its reason."""

    finding_id: str
    code: Code
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSeries:
    """What planning and checking need to know of a series of the snapshot."""

    series_instance_uid: str
    modality: str
    body_part: str
    instance_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesExtent:
    """Where the images of a series are: the box of all pixels in LPS mm, and which images there are."""

    series_instance_uid: str
    frame_of_reference_uid: str
    low_mm: Point
    high_mm: Point
    sop_instance_uids: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlane:
    """The image that a reader measured on: where it belongs and how it lies in patient space."""

    image: ImageReference
    frame_of_reference_uid: str
    row_direction: Point
    """Unit vector along which the column index grows (first half of Image Orientation (Patient))."""
    column_direction: Point
    origin_mm: Point | None = None
    """Middle of the first pixel (Image Position (Patient)), where known."""
    size_mm: tuple[float, float] | None = None
    """How far the image reaches from there along (row direction, column direction), where known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """What the draft says about a study beside its findings."""

    prior_dates: tuple[date, ...]
    instance_numbers: Mapping[str, int]
    """Instance Number by SOP Instance UID, where known."""
    age_years: int | None = None
    """The patient's age at the study date, where known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A clinical scenario: which studies it is for, which agents look at them, which objects come out."""

    id: str
    title: str
    modality: tuple[str, ...]
    body_part: tuple[str, ...]
    """Empty means any. A series without Body Part Examined is never excluded by it."""
    minimum_instances: int
    agents: tuple[str, ...]
    outputs: tuple[str, ...]
    """Of ``SEG``, ``SR``, ``KO``, ``PDF``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One agent to run on some series of a study."""

    agent_id: str
    agent_version: str
    agent_title: str
    queue: str
    time_limit_s: float
    memory_limit_mb: int
    series_instance_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRun:
    """One run of one agent. The id depends on study, agent, version and inputs, so equal work is done once."""

    run_id: str
    study_instance_uid: str
    revision: int
    """The first revision that asked for it; a later one with the same inputs shares it."""
    task: Task
    state: RunState = RunState.QUEUED
    step: str = ""
    fraction: float = 0.0
    attempt: int = 0
    reason: str = ""
    series_instance_uid: str = ""
    """The series that the agent judged."""
    facts: tuple[Fact, ...] = ()
    not_assessed: tuple[str, ...] = ()
    normal: tuple[Code, ...] = ()
    seconds: tuple[tuple[str, float], ...] = ()
    withheld: tuple[Withheld, ...] = ()

    @property
    def ended(self) -> bool:
        return self.state in (RunState.DONE, RunState.ABSTAINED, RunState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyStatus:
    """Where a study stands; one row a study, of its newest revision."""

    study_instance_uid: str
    revision: int
    state: StudyState
    step: str = ""
    fraction: float = 0.0
    urgency: Urgency = Urgency.ROUTINE
    urgency_reason: str = ""
    reason: str = ""
    evidence: str = ""
    finding_count: int = 0
    undecided: int = 0
    changed_at: float = 0.0
    """Seconds since 1970-01-01 UTC."""


class ObjectKind(StrEnum):
    """What a signed study is delivered as."""

    SEGMENTATION = "SEG"
    STRUCTURED_REPORT = "SR"
    KEY_OBJECT = "KO"
    PDF = "PDF"


class MessageKind(StrEnum):
    """What is told of a signed study to those who take no DICOM."""

    RESULT = "ORU"


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedObject:
    """A DICOM instance that was made from a signed report and stored with its study."""

    kind: ObjectKind
    series_instance_uid: str
    sop_instance_uid: str
    description: str
    size_bytes: int
    created_at: datetime


class DeliveryState(StrEnum):
    QUEUED = "queued"
    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One object or message for one destination; `key` makes the sending idempotent."""

    key: str
    study_instance_uid: str
    revision: int
    destination: str
    kind: ObjectKind | MessageKind
    sop_instance_uid: str
    """Of the object; empty for a message."""
    state: DeliveryState = DeliveryState.QUEUED
    attempts: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What the signing reader made of an agent's proposals; counted once, at signing."""

    study_instance_uid: str
    revision: int
    agent_id: str
    agent_version: str
    accepted: int
    edited: int
    rejected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What the draft needs to know of one agent run besides its findings."""

    agent_id: str
    agent_version: str
    agent_title: str
    facts: tuple[Fact, ...] = ()
    normal: tuple[Code, ...] = ()
    """What the agent looked for and did not find."""
    not_assessed: tuple[str, ...] = ()
    abstained: str = ""
    """The agent's reason, one sentence; empty when it judged the study."""
    failed: str = ""
    """Why the run failed for good; empty when it did not."""

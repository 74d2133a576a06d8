"""Nouns of routing: where things can go, what sends them there, and how far each has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from enum import StrEnum


class DestinationKind(StrEnum):
    """How a destination is spoken to."""

    DICOM = "dicom"
    """C-STORE (PS3.4 B); C-FIND with C-GET or C-MOVE where priors come from it."""
    DICOMWEB = "dicomweb"
    """STOW-RS (PS3.18 10.5)."""


class Trigger(StrEnum):
    """What has happened to a study when its rules are looked at."""

    SETTLED = "arrival-settled"
    """Every image is here."""
    ASSESSED = "agent-result"
    """The agents have looked; their findings are proposals."""
    SIGNED = "report-signed"


class Content(StrEnum):
    """What of a study is sent."""

    ORIGINALS = "originals"
    """The images as they came."""
    DERIVED = "derived"
    """SEG, SR and key object of the signed report."""
    REPORT = "report"
    """The signed report as encapsulated PDF."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Hours of the week in which something may begin. One that ends before it starts goes past midnight."""

    start: time
    end: time
    """Not included; equal to `start` it means the whole day."""
    days: frozenset[int] = frozenset(range(7))
    """Monday is 0. Hours past midnight belong to the day on which they began."""
    timezone: str = "UTC"
    """Name in the IANA database, e.g. ``Asia/Shanghai``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Certificates of a connection (DICOM PS3.15 B); paths of PEM files."""

    ca_file: str = ""
    """Who may have signed the peer's certificate; empty means the authorities of the machine."""
    certificate_file: str = ""
    """Our own, where the peer asks for one."""
    key_file: str = ""
    verify_hostname: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Another archive, workstation or service."""

    name: str
    kind: DestinationKind = DestinationKind.DICOM
    ae_title: str = ""
    host: str = ""
    port: int = 0
    url: str = ""
    """Of the DICOMweb service, without ``/studies``."""
    token_file: str = ""
    """File with the bearer token of a DICOMweb service."""
    tls: TlsFiles | None = None
    transfer_syntaxes: tuple[str, ...] = ()
    """UIDs, best first. Instances in another one are decompressed if one of these is uncompressed; empty sends them
    as they are kept wherever the destination takes that."""
    hours: Window | None = None
    """When it may be sent to at all."""
    connections: int = 1
    """How many studies are sent to it at once."""
    issuer: str = ""
    """Issuer of Patient ID that its patient ids belong to where it does not say so."""
    commitment: bool = False
    """Whether a forward is done only when the destination has committed to keep it (DICOM PS3.4 J)."""
    commitment_wait_s: float = 3600.0
    """So long it may take to commit before it is asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """What rules may ask of one series."""

    series_instance_uid: str
    modality: str = ""
    station_name: str = ""
    description: str = ""
    body_part: str = ""
    calling_ae_titles: frozenset[str] = frozenset()
    """Who sent its images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingFacts:
    """What rules may ask of one finding."""

    code: str
    system: str
    decision: str
    """``proposed``, ``accepted``, ``edited`` or ``rejected``."""
    agent: str = ""
    """Id of the agent that proposed it; empty for a reader's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What rules may ask of a study."""

    study_instance_uid: str
    revision: int
    trigger: Trigger
    study_description: str = ""
    patient_class: str = ""
    """HL7 table 0004, e.g. ``I`` inpatient, ``O`` outpatient, ``E`` emergency; empty where nobody told."""
    urgency: str = ""
    """Of the agents' result: ``routine``, ``priority`` or ``stat``."""
    series: tuple[SeriesFacts, ...] = ()
    """Of the images as they came, not of derived objects."""
    findings: tuple[FindingFacts, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Conditions; all that are given must hold. Several values of one mean any of them, texts are globs (``*?[]``).

    `modality` to `calling_ae_title` must hold for one and the same series, `finding` and `decision` for one finding.
    """

    modality: tuple[str, ...] = ()
    station_name: tuple[str, ...] = ()
    series_description: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    calling_ae_title: tuple[str, ...] = ()
    study_description: tuple[str, ...] = ()
    patient_class: tuple[str, ...] = ()
    finding: tuple[str, ...] = ()
    """Codes, or ``system|code``."""
    decision: tuple[str, ...] = ()
    agent: tuple[str, ...] = ()
    urgency: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One reason to send something somewhere."""

    name: str
    when: Trigger
    to: tuple[str, ...]
    """Names of destinations."""
    match: Match = field(default_factory=Match)
    send: tuple[Content, ...] = (Content.ORIGINALS,)
    matching_series_only: bool = False
    """Send only the series that fulfil the conditions, not the whole study."""
    window: Window | None = None
    priority: int = 0
    """Higher goes first among what waits for a destination."""
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorRules:
    """Which earlier studies are worth fetching, and how."""

    most_recent: int = 3
    """At most so many of each archive; 0 fetches none."""
    within_years: float = 5.0
    wait_s: float = 60.0
    """How long a new study waits for them at most; what is not there by then still comes."""
    retrieve: str = "c-get"
    """``c-get`` or ``c-move``."""
    relevant: tuple[Relevance, ...] = ()
    """A prior is relevant when one of them says so; none means: same modality or same body part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relevance:
    """For studies of these kinds, priors of those kinds; empty means any."""

    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    prior_modality: tuple[str, ...] = ()
    prior_body_part: tuple[str, ...] = ()
    prior_description: tuple[str, ...] = ()
    """Globs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingTable:
    """Everything that ``routing.toml`` says."""

    destinations: tuple[Destination, ...] = ()
    rules: tuple[Rule, ...] = ()
    priors: PriorRules = field(default_factory=PriorRules)

    def destination(self, name: str) -> Destination | None:
        """The destination of that name."""
        return next((d for d in self.destinations if d.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One thing to be sent to one destination, and why."""

    destination: str
    content: Content
    series_instance_uids: tuple[str, ...] = ()
    """Sorted; empty means all of the study."""
    due_at: datetime
    """Aware; later than asked where a window is closed."""
    priority: int = 0
    rules: tuple[str, ...] = ()
    """Names of the rules that ask for it, sorted."""
    because: tuple[str, ...] = ()
    """One sentence for each of them; says conditions, nothing about the patient."""


class JobState(StrEnum):
    QUEUED = "queued"
    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A delivery on its way."""

    key: str
    """Equal for equal work, so that nothing is queued twice."""
    study_instance_uid: str
    revision: int
    since_revision: int
    """Images of that revision were sent by an earlier job; 0 where there was none."""
    destination: str
    content: Content
    series_instance_uids: tuple[str, ...]
    priority: int
    because: tuple[str, ...]
    due_at: float
    """Seconds since 1970 UTC."""
    queued_at: float
    state: JobState = JobState.QUEUED
    attempts: int = 0
    """Since something arrived for the last time."""
    reason: str = ""
    sent: int = 0
    refused: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a destination has taken responsibility for what a job sent."""

    round: int = 0
    """How often it was asked, or was to be; 0 for never."""
    asked_at: float | None = None
    """When it took the last request, in seconds since 1970 UTC; None while it has not."""
    answered: bool = False
    """Whether the last request was answered."""
    committed: frozenset[str] = frozenset()
    """SOP Instance UIDs that it has committed to keep."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why not, by SOP Instance UID, as the last answer says."""
    failed_before: frozenset[str] = frozenset()
    """SOP Instance UIDs that an earlier answer refused, since the job was queued."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientIdentity:
    """What is compared before a fetched image is kept."""

    patient_id: str
    issuer: str = ""
    birth_date: str = ""
    """DICOM DA or empty."""
    sex: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteStudy:
    """A study that another archive has, as C-FIND tells it (PS3.4 C.6.2.1)."""

    study_instance_uid: str
    identity: PatientIdentity
    study_date: str = ""
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] | None = None
    """Of its series; None where they were not asked for."""
    description: str = ""
    instance_count: int | None = None
    sop_class_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorQuestion:
    """The new study for which priors are looked for."""

    study_instance_uid: str
    identity: PatientIdentity
    study_date: str
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    here: frozenset[str] = frozenset()
    """Studies that need not be fetched."""
    today: date


class PriorState(StrEnum):
    KEPT = "kept"
    """Everything the archive said it has is here."""
    PARTIAL = "partial"
    REFUSED = "refused"
    """It is about somebody else."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedPrior:
    """How the fetching of one prior went."""

    study_instance_uid: str
    """Of the prior."""
    destination: str
    state: PriorState
    kept: int = 0
    refused: int = 0
    expected: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorSearch:
    """One archive to be asked for priors of one study."""

    study_instance_uid: str
    destination: str
    state: JobState = JobState.QUEUED
    attempts: int = 0
    reason: str = ""

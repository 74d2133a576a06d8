"""Nouns of the archive that journeys, screens and edges use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from polyclinic.core.people import Patient

DERIVED_SOURCE = "made-by-polyclinic"
"""`InstanceRecord.source` of instances that this platform made; they never start a new study revision.

Longer than the 16 characters of an AE title, so that no sender can pass for it."""

PRIOR_SOURCE = "fetched-as-a-prior"
"""`InstanceRecord.source` of instances that were fetched from another archive to compare with; as long, as quiet."""

QUIET_SOURCES = frozenset({DERIVED_SOURCE, PRIOR_SOURCE})
"""Instances that never make a study arrive: they are in no snapshot and start no journey."""


class Receipt(StrEnum):
    """What became of an instance that arrived."""

    NEW = "new"
    SAME = "same"
    """The same SOP Instance UID with the same bytes is already here."""
    KEPT_ASIDE = "kept-aside"
    """The same SOP Instance UID is here with other bytes; the newcomer is kept in quarantine and reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRecord:
    """Index row of one instance. `sha256` and `size_bytes` are of the kept DICOM file (PS3.10)."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    instance_number: int | None
    rows: int | None
    columns: int | None
    number_of_frames: int
    sha256: str
    size_bytes: int
    received_at: datetime
    source: str
    """Calling AE title, ``STOW-RS``, `DERIVED_SOURCE` or `PRIOR_SOURCE`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRecord:
    series_instance_uid: str
    study_instance_uid: str
    modality: str
    series_number: int | None
    description: str
    body_part: str
    instance_count: int
    derived: bool
    station_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecord:
    """Counts include derived series; `last_received_at` does not."""

    study_instance_uid: str
    patient: Patient
    study_date: str
    """DICOM DA, ``YYYYMMDD`` or empty."""
    study_time: str
    accession_number: str
    description: str
    modalities: tuple[str, ...]
    series_count: int
    instance_count: int
    first_received_at: datetime
    last_received_at: datetime
    kept_aside_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySnapshot:
    """What the study consisted of when it settled; never changed afterwards."""

    study_instance_uid: str
    revision: int
    sop_instance_uids: tuple[str, ...]
    """Sorted; derived instances are left out."""
    made_at: datetime
    evidence: str
    """Why the study was held complete, e.g. ``"association ended, quiet for 2.0 s"``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What a deletion took away; bytes include what was kept aside beside the instances."""

    instances: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityCorrection:
    """What the clinical record now says of an identity, for the studies that carry it."""

    patient_id: str
    issuer: str
    """Of the identity that the studies carry."""
    before: Patient | None
    """What was known until now; None when nothing was."""
    patient: Patient
    """Who it is now: the same with other data, or the one that it was merged into."""
    merged: bool
    site_issuer: str
    """The site's own issuer, which images may leave out."""
    source: str
    """Who said so, e.g. ``HL7 ADT^A40``."""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityStep:
    """One correction of a study; never changed afterwards."""

    number: int
    """From 1."""
    before: Patient
    after: Patient
    source: str
    at: datetime

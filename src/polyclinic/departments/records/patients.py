"""Nouns of identity and orders: who the patient is, what was asked for, what is scheduled and what was done.

Filled by HL7 v2 and FHIR messages and by modalities (MPPS); read by the modality worklist, the FHIR server, the path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from polyclinic.core.codes import Code


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PatientKey:
    """Identifier within its issuer, as Patient ID and Issuer of Patient ID, or PID-3 CX.1 and CX.4."""

    patient_id: str
    issuer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientRecord:
    """What the hospital says of a patient; the images may still say something else."""

    key: PatientKey
    name: str
    """DICOM PN, component groups separated by ``=``."""
    birth_date: date | None = None
    sex: str = ""
    """``M``, ``F``, ``O`` or empty."""
    patient_class: str = ""
    """PV1-2: ``I`` inpatient, ``O`` outpatient, ``E`` emergency, or empty."""
    location: str = ""
    """PV1-3 in one line, or empty."""
    merged_into: PatientKey | None = None
    """The identity that has taken this one over; a merged record keeps its history and gets no further orders."""
    version: int = 0
    """Counts changes from 1; 0 before it is kept."""
    changed_at: datetime | None = None


class PatientChangeKind(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    MERGED = "merged"


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientChange:
    """One step of a patient's history; never changed afterwards."""

    key: PatientKey
    version: int
    kind: PatientChangeKind
    at: datetime
    source: str
    """Who said so: ``HL7 ADT^A08``, ``FHIR``, ``person:<id>``; no patient data."""
    before: PatientRecord | None
    after: PatientRecord


class OrderStatus(StrEnum):
    """FHIR R4 request-status, as far as imaging orders use it."""

    ACTIVE = "active"
    ON_HOLD = "on-hold"
    COMPLETED = "completed"
    REVOKED = "revoked"


class OrderPriority(StrEnum):
    """FHIR R4 request-priority."""

    ROUTINE = "routine"
    URGENT = "urgent"
    ASAP = "asap"
    STAT = "stat"


class StepStatus(StrEnum):
    """DICOM Scheduled Procedure Step Status (0040,0020)."""

    SCHEDULED = "SCHEDULED"
    ARRIVED = "ARRIVED"
    READY = "READY"
    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledStep:
    """One line of a modality's worklist (DICOM PS3.3 C.4.10)."""

    step_id: str
    """Scheduled Procedure Step ID, at most 16 characters."""
    modality: str
    starts_at: datetime
    """With the time zone the order gave, or the site's."""
    station_ae_title: str = ""
    station_name: str = ""
    location: str = ""
    performing_physician: str = ""
    """DICOM PN."""
    description: str = ""
    protocol: Code | None = None
    status: StepStatus = StepStatus.SCHEDULED


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An imaging order: FHIR ServiceRequest, HL7 ORC and OBR, DICOM Requested Procedure in one."""

    order_id: str
    """Ours, stable: made from issuer and filler or placer number."""
    patient: PatientKey
    placer_number: str = ""
    filler_number: str = ""
    accession_number: str = ""
    requested_procedure_id: str = ""
    procedure: Code | None = None
    description: str = ""
    indication: str = ""
    """Why the examination is asked for, free text."""
    requester: str = ""
    """DICOM PN of the ordering physician."""
    priority: OrderPriority = OrderPriority.ROUTINE
    status: OrderStatus = OrderStatus.ACTIVE
    ordered_at: datetime | None = None
    study_instance_uid: str = ""
    """Given to modalities through the worklist; made by us when the order brings none."""
    steps: tuple[ScheduledStep, ...] = ()
    version: int = 0
    changed_at: datetime | None = None


class PerformedStatus(StrEnum):
    """DICOM Performed Procedure Step Status (0040,0252)."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformedSeries:
    """A series as the modality says it made it."""

    series_instance_uid: str
    description: str = ""
    protocol_name: str = ""
    sop_instance_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformedStep:
    """A Modality Performed Procedure Step (DICOM PS3.4 F.7) as it stands now."""

    sop_instance_uid: str
    status: PerformedStatus
    modality: str
    station_ae_title: str
    started_at: datetime
    ended_at: datetime | None = None
    patient: PatientKey
    study_instance_uid: str
    accession_number: str = ""
    scheduled_step_ids: tuple[str, ...] = ()
    series: tuple[PerformedSeries, ...] = ()
    discontinuation: Code | None = None
    attributes: Mapping[str, object] | None = None
    """The whole data set in the DICOM JSON model, for what the fields above leave out."""
    version: int = 0

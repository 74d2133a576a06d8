"""The attributes of a worklist entry (PS3.4 table K.6-1), and which of them a request gets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from polyclinic.core.codes import Code
from polyclinic.departments.records.patients import Order, OrderPriority, PatientRecord, ScheduledStep
from polyclinic.dicom.codes import DESIGNATORS
from polyclinic.edges.dimse.identifier import Keys

STEPS = "ScheduledProcedureStepSequence"
_PRIORITIES = {
    OrderPriority.ROUTINE: "ROUTINE",
    OrderPriority.URGENT: "HIGH",
    OrderPriority.ASAP: "HIGH",
    OrderPriority.STAT: "STAT",
}
_LONGEST_SH, _LONGEST_LO = 16, 64

_CODE = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
_REFERENCE = ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID")
STEP_ATTRIBUTES = (
    "ScheduledStationAETitle",
    "ScheduledProcedureStepStartDate",
    "ScheduledProcedureStepStartTime",
    "Modality",
    "ScheduledPerformingPhysicianName",
    "ScheduledProcedureStepDescription",
    "ScheduledStationName",
    "ScheduledProcedureStepLocation",
    "PreMedication",
    "ScheduledProcedureStepID",
    "RequestedContrastAgent",
    "ScheduledProcedureStepStatus",
    "ScheduledProtocolCodeSequence",
)
ATTRIBUTES = (
    "AccessionNumber",
    "ReferringPhysicianName",
    "RequestingPhysician",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    "IssueDateOfImagingServiceRequest",
    "IssueTimeOfImagingServiceRequest",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientWeight",
    "ConfidentialityConstraintOnPatientDataDescription",
    "PatientState",
    "PregnancyStatus",
    "MedicalAlerts",
    "Allergies",
    "SpecialNeeds",
    "AdmissionID",
    "CurrentPatientLocation",
    "ReferencedPatientSequence",
    "ReferencedStudySequence",
    "StudyInstanceUID",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
    "RequestedProcedureCodeSequence",
    "RequestedProcedurePriority",
    "PatientTransportArrangements",
    "ReasonForTheRequestedProcedure",
    STEPS,
)
ITEMS = {
    STEPS: STEP_ATTRIBUTES,
    "ScheduledProtocolCodeSequence": _CODE,
    "RequestedProcedureCodeSequence": _CODE,
    "ReferencedPatientSequence": _REFERENCE,
    "ReferencedStudySequence": _REFERENCE,
}
"""Attributes of the items of each sequence."""


def has_unknown(
    keys: Collection[str], sequences: Mapping[str, Sequence[Keys]], known: Collection[str] = ATTRIBUTES
) -> bool:
    """Whether a request has keys that no entry has."""
    if (set(keys) | set(sequences)) - set(known):
        return True
    return any(
        item.others or has_unknown(item.values, item.sequences, ITEMS[keyword])
        for keyword, items in sequences.items()
        for item in items
    )


def returned(
    whole: Mapping[str, Any], keys: Collection[str], sequences: Mapping[str, Sequence[Keys]]
) -> dict[str, Any]:
    """What a request asks for of an entry; of a sequence without keys everything (PS3.4 C.2.2.2.6)."""
    found = {keyword: whole[keyword] for keyword in whole if keyword in keys}
    for keyword, items in sequences.items():
        if keyword not in whole:
            continue
        asked = items[0] if items and (items[0].values or items[0].sequences) else None
        found[keyword] = [
            _pairs(item if asked is None else returned(item, asked.values, asked.sequences)) for item in whole[keyword]
        ]
    return found


def _pairs(item: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """An item for the encoder; sequences within it have been made into lists of pairs, or are still mappings."""
    return [
        (keyword, [_pairs(i) if isinstance(i, Mapping) else i for i in value] if isinstance(value, list) else value)
        for keyword, value in item.items()
    ]


def entry(order: Order, step: ScheduledStep, patient: PatientRecord, zone: tzinfo | None) -> dict[str, Any]:
    """All attributes of one scheduled procedure step; what nobody has told us is empty (type 2)."""
    starts_at = step.starts_at.astimezone(zone)
    ordered_at = None if order.ordered_at is None else order.ordered_at.astimezone(zone)
    values: dict[str, Any] = dict.fromkeys(ATTRIBUTES, "")
    values |= {
        "AccessionNumber": order.accession_number,
        "ReferringPhysicianName": order.requester,
        "RequestingPhysician": order.requester,
        "PlacerOrderNumberImagingServiceRequest": order.placer_number,
        "FillerOrderNumberImagingServiceRequest": order.filler_number,
        "IssueDateOfImagingServiceRequest": _date(ordered_at),
        "IssueTimeOfImagingServiceRequest": _time(ordered_at),
        "PatientName": patient.name,
        "PatientID": patient.key.patient_id,
        "IssuerOfPatientID": patient.key.issuer,
        "PatientBirthDate": "" if patient.birth_date is None else f"{patient.birth_date:%Y%m%d}",
        "PatientSex": patient.sex,
        "CurrentPatientLocation": patient.location[:_LONGEST_LO],
        "ReferencedPatientSequence": [],
        "ReferencedStudySequence": [],
        "StudyInstanceUID": order.study_instance_uid,
        "RequestedProcedureID": order.requested_procedure_id or order.accession_number or step.step_id,
        "RequestedProcedureDescription": (order.description or _display(order.procedure))[:_LONGEST_LO],
        "RequestedProcedureCodeSequence": _codes(order.procedure),
        "RequestedProcedurePriority": _PRIORITIES[order.priority],
        "ReasonForTheRequestedProcedure": order.indication[:_LONGEST_LO],
    }
    description = step.description or _display(step.protocol) or order.description or _display(order.procedure)
    of_step: dict[str, Any] = dict.fromkeys(STEP_ATTRIBUTES, "")
    of_step |= {
        "ScheduledStationAETitle": step.station_ae_title,
        "ScheduledProcedureStepStartDate": _date(starts_at),
        "ScheduledProcedureStepStartTime": _time(starts_at),
        "Modality": step.modality,
        "ScheduledPerformingPhysicianName": step.performing_physician,
        "ScheduledProcedureStepDescription": description[:_LONGEST_LO],
        "ScheduledStationName": step.station_name[:_LONGEST_SH],
        "ScheduledProcedureStepLocation": step.location[:_LONGEST_SH],
        "ScheduledProcedureStepID": step.step_id,
        "ScheduledProcedureStepStatus": str(step.status),
        "ScheduledProtocolCodeSequence": _codes(step.protocol),
    }
    values[STEPS] = [of_step]
    return values


def _date(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y%m%d}"


def _time(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%H%M%S}"


def _display(code: Code | None) -> str:
    return "" if code is None else code.display


def _codes(code: Code | None) -> list[dict[str, str]]:
    """A code sequence; a scheme without a DICOM designator goes by its own short name, else as local."""
    if code is None or not code.code:
        return []
    own = code.system if 0 < len(code.system) <= _LONGEST_SH and ":" not in code.system else "L"
    return [
        {
            "CodeValue" if len(code.code) <= _LONGEST_SH else "LongCodeValue": code.code,
            "CodingSchemeDesignator": DESIGNATORS.get(code.system, own),
            "CodeMeaning": (code.display or code.code)[:_LONGEST_LO],
        }
    ]

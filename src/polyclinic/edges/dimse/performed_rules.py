"""What a performed procedure step must say when it begins, goes on and ends (PS3.4 table F.7.2-1), as data."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any

from pydicom.dataset import Dataset

from polyclinic.core.ids import is_uid_lenient
from polyclinic.departments.records.patients import PatientKey, PerformedSeries, PerformedStatus, PerformedStep
from polyclinic.dicom.codes import from_concept
from polyclinic.edges.dimse.sources import zone_of
from polyclinic.edges.dimse.statuses import Refused, invalid_value, missing, missing_value

NEEDED_AT_CREATION = (
    "ScheduledStepAttributesSequence",
    "PerformedProcedureStepID",
    "PerformedStationAETitle",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "PerformedProcedureStepStatus",
    "Modality",
)
"""Attributes of type 1 at N-CREATE. Those of type 2 count as empty when a modality leaves them out."""
NEEDED_OF_SCHEDULED_STEPS = ("StudyInstanceUID",)
NEEDED_AT_END = ("PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime", "PerformedSeriesSequence")
"""Attributes of type 1 when a step is completed; a discontinued one may be without series."""
NEEDED_OF_SERIES = ("SeriesInstanceUID", "ProtocolName")
FIXED_AT_CREATION = (
    "ScheduledStepAttributesSequence",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "ReferencedPatientSequence",
    "PerformedProcedureStepID",
    "PerformedStationAETitle",
    "PerformedStationName",
    "PerformedLocation",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "Modality",
    "StudyID",
)
"""Attributes that N-SET must not change; saying them again as they are does no harm."""


def created(attributes: Dataset) -> Dataset:
    """Attributes of a step that begins, checked; raises `Refused`."""
    _need(attributes, *NEEDED_AT_CREATION)
    for item in attributes.ScheduledStepAttributesSequence:
        _need(item, *NEEDED_OF_SCHEDULED_STEPS)
    if attributes.PerformedProcedureStepStatus != PerformedStatus.IN_PROGRESS:
        raise Refused(invalid_value("PerformedProcedureStepStatus"))
    return attributes


def changed(before: Dataset, changes: Dataset) -> Dataset:
    """Attributes of a step after N-SET, checked; raises `Refused`."""
    for keyword in FIXED_AT_CREATION:
        if keyword in changes and changes.get(keyword) != before.get(keyword):
            raise Refused(invalid_value(keyword))
    before.update(changes)
    if before.PerformedProcedureStepStatus not in set(PerformedStatus):
        raise Refused(invalid_value("PerformedProcedureStepStatus"))
    status = PerformedStatus(before.PerformedProcedureStepStatus)
    if status is not PerformedStatus.IN_PROGRESS:
        needed = NEEDED_AT_END if status is PerformedStatus.COMPLETED else NEEDED_AT_END[:2]
        _need(before, *needed)
        for item in before.get("PerformedSeriesSequence") or ():
            _need(item, *NEEDED_OF_SERIES)
    return before


def step_of(sop_instance_uid: str, attributes: Dataset, *, version: int, zone: tzinfo | None) -> PerformedStep:
    """The noun of a checked step; raises `Refused` for values that are not of their kind."""
    scheduled = list(attributes.ScheduledStepAttributesSequence)
    studies = {str(item.StudyInstanceUID) for item in scheduled}
    if not all(map(is_uid_lenient, studies)):
        raise Refused(invalid_value("StudyInstanceUID"))
    zone = zone_of(_text(attributes, "TimezoneOffsetFromUTC")) or zone
    reasons = attributes.get("PerformedProcedureStepDiscontinuationReasonCodeSequence") or ()
    return PerformedStep(
        sop_instance_uid=sop_instance_uid,
        status=PerformedStatus(attributes.PerformedProcedureStepStatus),
        modality=str(attributes.Modality),
        station_ae_title=str(attributes.PerformedStationAETitle).strip(),
        started_at=_moment(attributes, "PerformedProcedureStepStart", zone),
        ended_at=_moment(attributes, "PerformedProcedureStepEnd", zone)
        if attributes.get("PerformedProcedureStepEndDate")
        else None,
        patient=PatientKey(patient_id=_text(attributes, "PatientID"), issuer=_text(attributes, "IssuerOfPatientID")),
        study_instance_uid=str(scheduled[0].StudyInstanceUID),
        accession_number=_text(scheduled[0], "AccessionNumber"),
        scheduled_step_ids=tuple(filter(None, (_text(item, "ScheduledProcedureStepID") for item in scheduled))),
        series=tuple(_series(item) for item in attributes.get("PerformedSeriesSequence") or ()),
        discontinuation=next((from_concept(item) for item in reasons), None),
        attributes=attributes.to_json_dict(suppress_invalid_tags=True),
        version=version,
    )


def _series(item: Dataset) -> PerformedSeries:
    images = [
        *(item.get("ReferencedImageSequence") or ()),
        *(item.get("ReferencedNonImageCompositeSOPInstanceSequence") or ()),
    ]
    return PerformedSeries(
        series_instance_uid=_text(item, "SeriesInstanceUID"),
        description=_text(item, "SeriesDescription"),
        protocol_name=_text(item, "ProtocolName"),
        sop_instance_uids=tuple(filter(None, (_text(image, "ReferencedSOPInstanceUID") for image in images))),
    )


def _need(attributes: Dataset, *keywords: str) -> None:
    for keyword in keywords:
        if keyword not in attributes:
            raise Refused(missing(keyword))
        value: Any = attributes.get(keyword)
        if value is None or (not isinstance(value, int | float) and not len(value)):
            raise Refused(missing_value(keyword))


def _text(attributes: Dataset, keyword: str) -> str:
    value = attributes.get(keyword)
    return "" if value is None else str(value).strip()


def _moment(attributes: Dataset, stem: str, zone: tzinfo | None) -> datetime:
    day, time = _text(attributes, f"{stem}Date"), _text(attributes, f"{stem}Time") or "000000"
    whole, _, fraction = time.partition(".")
    try:
        moment = datetime.strptime(day + whole.ljust(6, "0"), "%Y%m%d%H%M%S")  # noqa: DTZ007 - the zone comes next
        moment = moment.replace(microsecond=int(fraction.ljust(6, "0")[:6] or 0))
    except ValueError as error:
        raise Refused(invalid_value(f"{stem}Date")) from error
    return moment.replace(tzinfo=zone) if zone is not None else moment.astimezone()

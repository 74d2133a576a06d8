"""A study of the archive as FHIR R4 ImagingStudy, and the Endpoint its images can be fetched from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from polyclinic.core.codes import DCM
from polyclinic.departments.archive.contracts import SeriesRecord, StudyRecord
from polyclinic.departments.records.rules import parse_da
from polyclinic.fhir.json_text import Json
from polyclinic.fhir.moments import site_time, to_instant
from polyclinic.fhir.terms import identifier, reference, study_identifier, subject

ENDPOINT_ID = "dicomweb"


def study_json(study: StudyRecord, series: Sequence[SeriesRecord], patient_id: str, order_ids: Sequence[str]) -> Json:
    """The ImagingStudy of a study. Instances are not listed: WADO-RS at the endpoint lists them."""
    uid = study.study_instance_uid
    identifiers = [study_identifier(uid)]
    if study.accession_number:
        identifiers.append(identifier("", study.accession_number, "ACSN"))
    out: Json = {
        "resourceType": "ImagingStudy",
        "id": uid,
        "meta": {"versionId": _version(study), "lastUpdated": to_instant(study.last_received_at)},
        "identifier": identifiers,
        "status": "available",
        "modality": [{"system": DCM, "code": modality} for modality in study.modalities],
        "subject": subject(patient_id),
        "endpoint": [reference("Endpoint", ENDPOINT_ID)],
        "numberOfSeries": study.series_count,
        "numberOfInstances": study.instance_count,
        "series": [_series(one) for one in series],
    }
    if started := started_of(study.study_date, study.study_time):
        out["started"] = started
    if order_ids:
        out["basedOn"] = [reference("ServiceRequest", one) for one in order_ids]
    if study.description.strip():
        out["description"] = study.description
    return {name: value for name, value in out.items() if value != []}


def started_of(study_date: str, study_time: str) -> str:
    """Study Date and Study Time as dateTime; DICOM gives the site's time. Empty when there is no date."""
    day = parse_da(study_date)
    if day is None:
        return ""
    digits = study_time.partition(".")[0]
    try:
        clock = datetime.strptime(f"{digits:0<6}", "%H%M%S").time() if len(digits) >= 4 else None  # noqa: DTZ007
    except ValueError:
        clock = None
    if clock is None:
        return day.isoformat()
    return site_time(datetime.combine(day, clock)).isoformat(timespec="seconds")


def endpoint_json() -> Json:
    """The one Endpoint; its address is relative to this server until it is sent."""
    return {
        "resourceType": "Endpoint",
        "id": ENDPOINT_ID,
        "meta": {"versionId": "1"},
        "status": "active",
        "connectionType": {
            "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            "code": "dicom-wado-rs",
        },
        "name": "DICOMweb: QIDO-RS, WADO-RS and STOW-RS",
        "payloadType": [{"text": "DICOM"}],
        "payloadMimeType": ["application/dicom"],
        "address": "/dicom-web",
    }


def _version(study: StudyRecord) -> str:
    """Changes whenever an instance comes or goes."""
    received = int(study.last_received_at.timestamp() * 1000)
    return f"{received}-{study.instance_count}-{study.series_count}"


def _series(one: SeriesRecord) -> Json:
    out: Json = {
        "uid": one.series_instance_uid,
        "modality": {"system": DCM, "code": one.modality or "OT"},
        "numberOfInstances": one.instance_count,
    }
    if one.series_number is not None and 0 <= one.series_number < 2**31:
        out["number"] = one.series_number
    if one.description.strip():
        out["description"] = one.description
    if one.body_part.strip():
        out["bodySite"] = {"display": one.body_part}
    return out

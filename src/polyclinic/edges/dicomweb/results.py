"""QIDO-RS results: index rows as DICOM JSON (PS3.18 10.6.3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import RowMapping

from polyclinic.edges.dicomweb.model import Json, person_name_json

_STUDY = (
    ("00080020", "DA", "study_date"),
    ("00080030", "TM", "study_time"),
    ("00080050", "SH", "accession_number"),
    ("00080090", "PN", "referring_physician_name"),
    ("00081030", "LO", "description"),
    ("00100010", "PN", "patient_name"),
    ("00100020", "LO", "patient_id"),
    ("00100021", "LO", "issuer"),
    ("00100030", "DA", "birth_date"),
    ("00100040", "CS", "sex"),
    ("0020000D", "UI", "study_instance_uid"),
    ("00200010", "SH", "study_id"),
    ("00201206", "IS", "series_count"),
    ("00201208", "IS", "instance_count"),
)
_SERIES = (
    ("00080021", "DA", "series_date"),
    ("00080031", "TM", "series_time"),
    ("00080060", "CS", "modality"),
    ("0008103E", "LO", "description"),
    ("00081010", "SH", "station_name"),
    ("00180015", "CS", "body_part"),
    ("0020000D", "UI", "study_instance_uid"),
    ("0020000E", "UI", "series_instance_uid"),
    ("00200011", "IS", "series_number"),
    ("00201209", "IS", "instance_count"),
)
_INSTANCE = (
    ("00080016", "UI", "sop_class_uid"),
    ("00080018", "UI", "sop_instance_uid"),
    ("00083002", "UI", "transfer_syntax_uid"),
    ("0020000D", "UI", "study_instance_uid"),
    ("0020000E", "UI", "series_instance_uid"),
    ("00200013", "IS", "instance_number"),
    ("00280008", "IS", "number_of_frames"),
    ("00280010", "US", "rows"),
    ("00280011", "US", "columns"),
)
_OPTIONAL = frozenset({"00100021", "0008103E", "00081010", "00180015", "00080021", "00080031"})


def study_json(row: RowMapping | Mapping[str, Any], url: str) -> Json:
    """One study, with the attributes of PS3.18 table 10.6.3-3."""
    out = _attributes(row, _STUDY, url)
    out["00080061"] = {"vr": "CS", "Value": [m for m in row["modalities"].split("\\") if m]}
    return out


def series_json(row: RowMapping | Mapping[str, Any], url: str) -> Json:
    """One series, with the attributes of PS3.18 table 10.6.3-4."""
    return _attributes(row, _SERIES, url)


def instance_json(row: RowMapping | Mapping[str, Any], url: str) -> Json:
    """One instance, with the attributes of PS3.18 table 10.6.3-5."""
    return _attributes(row, _INSTANCE, url)


def _attributes(row: RowMapping | Mapping[str, Any], attributes: Iterable[tuple[str, str, str]], url: str) -> Json:
    out: Json = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "00081190": {"vr": "UR", "Value": [url]},
    }
    for tag, vr, column in attributes:
        value = row[column]
        if value in ("", None):
            if tag not in _OPTIONAL:
                out[tag] = {"vr": vr}
        elif vr == "PN":
            name = person_name_json(value)
            out[tag] = {"vr": vr, "Value": [name]} if name else {"vr": vr}
        else:
            out[tag] = {"vr": vr, "Value": [value]}
    return out

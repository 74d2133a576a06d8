"""Searching the index with DICOM matching rules (PS3.4 C.2.2.2): single value, list, wildcard and range."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Engine, RowMapping, Select, and_, or_, select

from polyclinic.departments.archive import schema

HIGHEST = "\U0010ffff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Keys to match by attribute keyword, e.g. ``{"PatientName": "WANG*"}``; an empty value matches everything."""

    matches: dict[str, str] = field(default_factory=dict)
    limit: int = 100
    offset: int = 0


_STUDY = {
    "StudyInstanceUID": schema.study.c.study_instance_uid,
    "PatientID": schema.study.c.patient_id,
    "IssuerOfPatientID": schema.study.c.issuer,
    "PatientBirthDate": schema.study.c.birth_date,
    "PatientSex": schema.study.c.sex,
    "StudyDate": schema.study.c.study_date,
    "StudyTime": schema.study.c.study_time,
    "AccessionNumber": schema.study.c.accession_number,
    "StudyID": schema.study.c.study_id,
    "StudyDescription": schema.study.c.description,
    "ReferringPhysicianName": schema.study.c.referring_physician_name,
}
_SERIES = {
    "StudyInstanceUID": schema.series.c.study_instance_uid,
    "SeriesInstanceUID": schema.series.c.series_instance_uid,
    "Modality": schema.series.c.modality,
    "SeriesNumber": schema.series.c.series_number,
    "SeriesDescription": schema.series.c.description,
    "BodyPartExamined": schema.series.c.body_part,
    "StationName": schema.series.c.station_name,
}
_INSTANCE = {
    "StudyInstanceUID": schema.instance.c.study_instance_uid,
    "SeriesInstanceUID": schema.instance.c.series_instance_uid,
    "SOPInstanceUID": schema.instance.c.sop_instance_uid,
    "SOPClassUID": schema.instance.c.sop_class_uid,
    "InstanceNumber": schema.instance.c.instance_number,
}
_DATES = frozenset({"StudyDate", "StudyTime", "PatientBirthDate"})
_UIDS = frozenset({"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"})
_INTEGERS = frozenset({"SeriesNumber", "InstanceNumber"})
STUDY_KEYS = frozenset(_STUDY) | {"PatientName", "ModalitiesInStudy"}
SERIES_KEYS = frozenset(_SERIES)
INSTANCE_KEYS = frozenset(_INSTANCE)


def find_studies(engine: Engine, query: Query) -> list[RowMapping]:
    """Study rows, newest arrival first."""
    study = schema.study.c
    conditions = [
        _match_study(keyword, value) for keyword, value in query.matches.items() if keyword in STUDY_KEYS and value
    ]
    statement = select(schema.study).where(*conditions)
    order = (study.last_received_at_us.desc(), study.study_instance_uid.desc())
    return _page(engine, statement.order_by(*order), query)


def find_series(engine: Engine, query: Query) -> list[RowMapping]:
    """Series rows; study-level keys restrict them too."""
    conditions = _conditions(query, _SERIES)
    statement = select(schema.series).where(*conditions, *_of_studies(query, schema.series.c.study_instance_uid))
    series = schema.series.c
    order = (series.study_instance_uid, series.series_number, series.series_instance_uid)
    return _page(engine, statement.order_by(*order), query)


def find_instances(engine: Engine, query: Query) -> list[RowMapping]:
    """Instance rows; keys of study and series restrict them too."""
    instance, series = schema.instance.c, schema.series.c
    conditions = _conditions(query, _INSTANCE)
    of_series = _conditions(query, {k: v for k, v in _SERIES.items() if k not in _INSTANCE})
    if of_series:
        same = and_(
            series.study_instance_uid == instance.study_instance_uid,
            series.series_instance_uid == instance.series_instance_uid,
        )
        conditions.append(select(1).where(same, *of_series).exists())
    conditions += _of_studies(query, instance.study_instance_uid)
    order = (instance.study_instance_uid, instance.series_instance_uid, instance.instance_number)
    statement = select(schema.instance).where(*conditions).order_by(*order, instance.sop_instance_uid)
    return _page(engine, statement, query)


def _of_studies(query: Query, study_instance_uid: Any) -> list[ColumnElement[bool]]:
    keys = {k: v for k, v in query.matches.items() if k in STUDY_KEYS and k != "StudyInstanceUID" and v}
    if not keys:
        return []
    conditions = [_match_study(keyword, value) for keyword, value in keys.items()]
    return [select(1).where(schema.study.c.study_instance_uid == study_instance_uid, *conditions).exists()]


def _conditions(query: Query, columns: dict[str, Any]) -> list[ColumnElement[bool]]:
    return [match(columns[k], k, v) for k, v in query.matches.items() if k in columns and v]


def _match_study(keyword: str, value: str) -> ColumnElement[bool]:
    if keyword == "PatientName":
        return match_name(schema.study.c.patient_name_folded, value)
    if keyword == "ModalitiesInStudy":
        modalities = schema.study.c.modalities
        wanted = [v.strip() for v in value.replace(",", "\\").split("\\") if v.strip()]
        patterns = [p for v in wanted for p in (f"{like(v)}\\\\%", f"%\\\\{like(v)}\\\\%")]
        return or_(*(modalities.like(pattern, escape="\\") for pattern in patterns))
    return match(_STUDY[keyword], keyword, value)


def match(column: Any, keyword: str, value: str) -> ColumnElement[bool]:
    """Condition for one key."""
    if keyword in _UIDS:
        uids = [uid for uid in value.replace(",", "\\").split("\\") if uid]
        return column == uids[0] if len(uids) == 1 else column.in_(uids)  # type: ignore[no-any-return]
    if keyword in _INTEGERS:
        return column == int(value) if value.lstrip("+-").isdigit() else column.is_(None)  # type: ignore[no-any-return]
    if keyword in _DATES and "-" in value:
        first, _, last = value.partition("-")
        bounds = [column != ""]
        if first:
            bounds.append(column >= first)
        if last:
            bounds.append(column <= last + HIGHEST)  # a time given to the minute includes its seconds
        return and_(*bounds)
    if "*" in value or "?" in value:
        return column.like(like(value), escape="\\")  # type: ignore[no-any-return]
    return column == value  # type: ignore[no-any-return]


def match_name(column: Any, value: str) -> ColumnElement[bool]:
    """Condition for a person name: case does not count, and any component group may match (PS3.5 6.2.1)."""
    folded = value.casefold()
    pattern = like(folded)
    stem = folded.split("*", 1)[0]
    if stem and folded == f"{stem}*" and "?" not in stem:
        # A prefix is answered from the index; other groups are tried only where the name has some
        prefix = and_(column >= stem, column < stem + HIGHEST)
        return or_(prefix, column.like(f"%={pattern}", escape="\\"))
    around = (pattern, f"{pattern}=%", f"%={pattern}", f"%={pattern}=%")
    return or_(*(column.like(p, escape="\\") for p in around))


def like(value: str) -> str:
    """A DICOM wildcard pattern as SQL LIKE with backslash as escape."""
    escaped = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")


def _page(engine: Engine, statement: Select[Any], query: Query) -> list[RowMapping]:
    with engine.connect() as connection:
        return list(connection.execute(statement.limit(query.limit).offset(query.offset)).mappings())

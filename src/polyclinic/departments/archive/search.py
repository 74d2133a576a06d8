"""Searching the index by study, series and instance attributes; what each key means is in `matching`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, Select, and_, func, or_, select

from polyclinic.departments.archive import pages, schema
from polyclinic.departments.archive.corrections import number_of
from polyclinic.departments.archive.entrances import entrances, fewest
from polyclinic.departments.archive.matching import (
    is_universal,
    match,
    match_modalities,
    match_moment,
    match_name,
    match_plain_name,
    unindexed,
)
from polyclinic.departments.archive.tally import skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Keys to match by attribute keyword, e.g. ``{"PatientName": "WANG*"}``; an empty value matches everything."""

    matches: dict[str, str] = field(default_factory=dict)
    limit: int = 100
    offset: int = 0
    combined_times: bool = False
    """Whether ranges of Study Date and Study Time bound one moment (PS3.4 C.2.2.2.5)."""


class Level(StrEnum):
    """What one match stands for (PS3.4 C.3)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


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
    "SeriesDate": schema.series.c.series_date,
    "SeriesTime": schema.series.c.series_time,
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
STUDY_KEYS = frozenset(_STUDY) | {"PatientName", "ModalitiesInStudy"}
PATIENT_KEYS = frozenset({"PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"})
_KEYS = {
    Level.PATIENT: PATIENT_KEYS,
    Level.STUDY: STUDY_KEYS,
    Level.SERIES: STUDY_KEYS | frozenset(_SERIES),
    Level.IMAGE: STUDY_KEYS | frozenset(_SERIES) | frozenset(_INSTANCE),
}


def find_studies(engine: Engine, query: Query) -> list[RowMapping]:
    """Study rows. What is matched decides the order, so that it is one that an index has.

    With Study Date or Modalities in Study the latest study comes first, else with a patient name the names go by the
    alphabet, else the newest arrival comes first.
    """
    with reading(engine) as connection:
        keys = _study_keys(query)
        if not keys:
            return newest(connection, limit=query.limit, offset=query.offset)
        ways = entrances(connection, keys)
        page = pages.Page(limit=query.limit, offset=query.offset, conditions=_checks(query, keys))
        return pages.read(connection, page, ways)


def newest(connection: Connection, *, limit: int, offset: int) -> list[RowMapping]:
    """Rows of all studies, newest arrival first; as fast at any depth."""
    study = schema.study.c
    statement = select(schema.study).order_by(study.last_received_at_us.desc(), study.study_instance_uid.desc())
    if offset:
        place = skip(connection, schema.tally, offset)
        if place is None:
            return []
        before_us, offset = place
        statement = statement.where(study.last_received_at_us < before_us)
    return list(connection.execute(statement.limit(limit).offset(offset)).mappings())


def find_series(engine: Engine, query: Query) -> list[RowMapping]:
    """Series rows; study-level keys restrict them too."""
    series = schema.series.c
    order = (series.study_instance_uid, series.series_number, series.series_instance_uid)
    with reading(engine) as connection:
        statement = select(schema.series).where(*_series_conditions(connection, query))
        return _page(connection, statement.order_by(*order), query)


def find_instances(engine: Engine, query: Query) -> list[RowMapping]:
    """Instance rows; keys of study and series restrict them too."""
    instance = schema.instance.c
    order = (instance.study_instance_uid, instance.series_instance_uid, instance.instance_number)
    with reading(engine) as connection:
        statement = select(schema.instance, number_of(instance.study_instance_uid)).where(
            *_instance_conditions(connection, query)
        )
        return _page(connection, statement.order_by(*order, instance.sop_instance_uid), query)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection whose statements all see the database as it is at the first of them."""
    with engine.connect() as connection:
        if engine.dialect.name != "sqlite":
            yield connection.execution_options(isolation_level="REPEATABLE READ")
            return
        connection.exec_driver_sql("BEGIN")
        yield connection


def keys_of(level: Level) -> frozenset[str]:
    """Attributes that can be matched at a level."""
    return _KEYS[level]


def returned_by(level: Level) -> frozenset[str]:
    """Attributes that a match of a level can tell: its own and those of the levels above."""
    return frozenset(_returned(level))


@contextmanager
def matches(engine: Engine, level: Level, query: Query, attributes: Sequence[str]) -> Iterator[Iterator[RowMapping]]:
    """Stream the matches of a level, each with the values of `attributes` by keyword, in no order.

    Rows come from the database in small batches, so memory does not grow with the answer. A patient is a patient ID
    and its issuer, with the demographics of the study that came last; studies without a patient ID are no patient's.
    """
    known = _returned(level)
    columns = [known[keyword].label(keyword) for keyword in attributes]
    with reading(engine) as connection:
        statement = _matching(connection, level, query, columns).limit(query.limit)
        yield iter(connection.execution_options(yield_per=_BATCH_ROWS).execute(statement).mappings())


class Match(NamedTuple):
    """An instance to be sent."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str


def find_kept(engine: Engine, query: Query) -> list[Match]:
    """The instances that match, by study, series and instance number; light enough for whole studies."""
    instance = schema.instance.c
    order = (instance.study_instance_uid, instance.series_instance_uid, instance.instance_number)
    columns = (instance.sop_instance_uid, instance.sop_class_uid, instance.transfer_syntax_uid)
    with reading(engine) as connection:
        statement = select(*columns).where(*_instance_conditions(connection, query))
        ordered = statement.order_by(*order, instance.sop_instance_uid).limit(query.limit)
        return [Match(*row) for row in connection.execute(ordered)]


_BATCH_ROWS = 200


def _returned(level: Level) -> dict[str, Any]:
    """Columns by keyword; where several tables have one, the lowest that is joined counts."""
    study, series, instance = schema.study.c, schema.series.c, schema.instance.c
    columns = {k: v for k, v in _STUDY.items() if k in PATIENT_KEYS} | {"PatientName": study.patient_name}
    if level is Level.PATIENT:
        return columns | {
            "NumberOfPatientRelatedStudies": _of_patient(func.count()),
            "NumberOfPatientRelatedSeries": _of_patient(func.sum(_OTHER.c.series_count)),
            "NumberOfPatientRelatedInstances": _of_patient(func.sum(_OTHER.c.instance_count)),
        }
    columns |= _STUDY
    columns["ModalitiesInStudy"] = study.modalities
    columns["NumberOfStudyRelatedSeries"] = study.series_count
    columns["NumberOfStudyRelatedInstances"] = study.instance_count
    if level is not Level.STUDY:
        columns |= _SERIES | {"NumberOfSeriesRelatedInstances": series.instance_count}
    if level is Level.IMAGE:
        columns |= _INSTANCE | {
            "Rows": instance.rows,
            "Columns": instance.columns,
            "NumberOfFrames": instance.number_of_frames,
            "AvailableTransferSyntaxUID": instance.transfer_syntax_uid,
        }
    return columns


_OTHER = schema.study.alias("archive_study_of_same_patient")


def _same_patient() -> ColumnElement[bool]:
    study = schema.study.c
    return and_(_OTHER.c.patient_id == study.patient_id, _OTHER.c.issuer == study.issuer)


def _of_patient(aggregate: Any) -> Any:
    return select(aggregate).select_from(_OTHER).where(_same_patient()).correlate(schema.study).scalar_subquery()


def _matching(connection: Connection, level: Level, query: Query, columns: Sequence[Any]) -> Select[Any]:
    study, series, instance = schema.study, schema.series, schema.instance
    of_study = series.c.study_instance_uid == study.c.study_instance_uid
    if level is Level.PATIENT:
        later = or_(
            _OTHER.c.last_received_at_us > study.c.last_received_at_us,
            and_(
                _OTHER.c.last_received_at_us == study.c.last_received_at_us,
                _OTHER.c.study_instance_uid > study.c.study_instance_uid,
            ),
        )
        newest = ~select(1).select_from(_OTHER).where(_same_patient(), later).correlate(study).exists()
        of_patient = Query(matches={k: v for k, v in query.matches.items() if k in PATIENT_KEYS})
        wanted = _study_conditions(connection, of_patient)
        return select(*columns).select_from(study).where(study.c.patient_id != "", newest, *wanted)
    if level is Level.STUDY:
        return select(*columns).select_from(study).where(*_study_conditions(connection, query))
    if level is Level.SERIES:
        return select(*columns).select_from(series.join(study, of_study)).where(*_series_conditions(connection, query))
    of_series = and_(
        instance.c.study_instance_uid == series.c.study_instance_uid,
        instance.c.series_instance_uid == series.c.series_instance_uid,
    )
    tables = instance.join(series, of_series).join(study, of_study)
    return select(*columns).select_from(tables).where(*_instance_conditions(connection, query))


def _study_keys(query: Query, but: frozenset[str] = frozenset()) -> dict[str, str]:
    return {k: v for k, v in query.matches.items() if k in STUDY_KEYS - but and not is_universal(v)}


def _study_conditions(
    connection: Connection, query: Query, *, but: frozenset[str] = frozenset()
) -> list[ColumnElement[bool]]:
    """The way into the index, and what every row must fit."""
    keys = _study_keys(query, but)
    ways = entrances(connection, keys)
    if len(ways) > 1:
        ways = [fewest(connection, ways)[0]]
    return [*(way.condition for way in ways), *_checks(query, keys)]


def _checks(query: Query, keys: dict[str, str]) -> list[ColumnElement[bool]]:
    """What a study row must fit, on columns that no index is used for; see `entrances`."""
    keys, conditions = dict(keys), []
    if query.combined_times and "StudyDate" in keys and "StudyTime" in keys:
        dates, times = keys.pop("StudyDate"), keys.pop("StudyTime")
        conditions.append(match_moment(unindexed(schema.study.c.study_date), schema.study.c.study_time, dates, times))
    return conditions + [_match_study(keyword, value) for keyword, value in keys.items()]


def _series_conditions(connection: Connection, query: Query) -> list[ColumnElement[bool]]:
    return _conditions(query, _SERIES) + _of_studies(connection, query, schema.series.c.study_instance_uid)


def _instance_conditions(connection: Connection, query: Query) -> list[ColumnElement[bool]]:
    instance, series = schema.instance.c, schema.series.alias("archive_series_of_instance")
    conditions = _conditions(query, _INSTANCE)
    only_series = {k: series.c[v.name] for k, v in _SERIES.items() if k not in _INSTANCE}
    of_series = _conditions(query, only_series)
    if of_series:
        same = and_(
            series.c.study_instance_uid == instance.study_instance_uid,
            series.c.series_instance_uid == instance.series_instance_uid,
        )
        conditions.append(select(1).select_from(series).where(same, *of_series).correlate(schema.instance).exists())
    return conditions + _of_studies(connection, query, instance.study_instance_uid)


def _of_studies(connection: Connection, query: Query, study_instance_uid: Any) -> list[ColumnElement[bool]]:
    conditions = _study_conditions(connection, query, but=frozenset({"StudyInstanceUID"}))
    if not conditions:
        return []
    # As a set of UIDs: the same whether or not the statement around it has joined the study already
    wanted = select(schema.study.c.study_instance_uid).where(*conditions).correlate(None)
    return [study_instance_uid.in_(wanted)]


def _conditions(query: Query, columns: dict[str, Any]) -> list[ColumnElement[bool]]:
    return [match(columns[k], k, v) for k, v in query.matches.items() if k in columns and not is_universal(v)]


def _match_study(keyword: str, value: str) -> ColumnElement[bool]:
    if keyword == "PatientName":
        return match_name(unindexed(schema.study.c.patient_name_folded), value)
    if keyword == "ReferringPhysicianName":
        return match_plain_name(schema.study.c.referring_physician_name, value)
    if keyword == "ModalitiesInStudy":
        return match_modalities(unindexed(schema.study.c.modalities), value)
    return match(unindexed(_STUDY[keyword]), keyword, value)


def _page(connection: Connection, statement: Select[Any], query: Query) -> list[RowMapping]:
    return list(connection.execute(statement.limit(query.limit).offset(query.offset)).mappings())

"""Studies of the archive in an order, as far as a search narrows them; ImagingStudy is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, false, func, or_, select

from polyclinic.core.errors import NotFound
from polyclinic.core.ids import is_uid_lenient
from polyclinic.departments.archive import schema
from polyclinic.departments.archive.contracts import SeriesRecord, StudyRecord
from polyclinic.departments.archive.matching import match_modalities
from polyclinic.departments.archive.reads import series_record, study_record
from polyclinic.departments.reading.tables import study_status
from polyclinic.departments.records.patients import PatientKey
from polyclinic.edges.fhir_http.order_source import OrderSource
from polyclinic.edges.fhir_http.query import Search, Token, reference_ids
from polyclinic.edges.fhir_http.sources import Item, PatientIds, Position, ids_asked, stretches, tokens
from polyclinic.edges.fhir_http.study_json import study_json
from polyclinic.fhir.json_text import Json
from polyclinic.fhir.terms import DICOM_UID

_BATCH = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
study_columns = _study = schema.study.c


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkedStudy:
    """A study with what its resources need besides."""

    study: StudyRecord
    position: Position
    patient_id: str
    """FHIR id of its patient."""


class Studies:
    """Every method may be called from any thread."""

    def __init__(self, engine: Engine, ids: PatientIds) -> None:
        self.engine = engine
        self.ids = ids

    def walk(
        self, where: Sequence[ColumnElement[bool]], after: Position | None, *, read_only: bool = False
    ) -> Iterator[WalkedStudy]:
        """As `batches`, one by one, newest arrival first."""
        for batch in self.batches(where, after, read_only=read_only):
            yield from batch

    def batches(
        self,
        where: Sequence[ColumnElement[bool]],
        after: Position | None,
        *,
        sort: tuple[str, bool] | None = None,
        read_only: bool = False,
        size: int = _BATCH,
    ) -> Iterator[list[WalkedStudy]]:
        """Studies behind a position: newest arrival first, or sorted by ``started`` or ``_lastUpdated``.

        Parameters
        ----------
        read_only
            Only those that are in the reading room.
        """
        columns, descending = _order(sort)
        position = after
        while True:
            query = select(schema.study).where(*where, *_behind(columns, descending, position))
            if read_only:
                query = query.join(study_status, study_status.c.study_instance_uid == _study.study_instance_uid)
                query = query.where(study_status.c.revision > 0)
            query = query.order_by(*(c.desc() if descending else c for c in columns)).limit(size)
            with self.engine.connect() as connection:
                rows = connection.execute(query).mappings().all()
            studies = [study_record(row) for row in rows]
            ids = self.ids.ids([key_of(study) for study in studies])
            batch = [
                WalkedStudy(study=study, position=tuple(row[c.name] for c in columns), patient_id=ids[key_of(study)])
                for row, study in zip(rows, studies, strict=True)
            ]
            if batch:
                position = batch[-1].position
                yield batch
            if len(rows) < size:
                return

    def one(self, study_instance_uid: str) -> WalkedStudy:
        """Raises `NotFound` (``archive.no-study``)."""
        if is_uid_lenient(study_instance_uid):
            for walked in self.walk([_study.study_instance_uid == study_instance_uid], None):
                return walked
        raise NotFound("archive.no-study", "There is no such study: check its Study Instance UID")

    def series(self, study_instance_uids: Sequence[str]) -> dict[str, list[SeriesRecord]]:
        """By Study Instance UID, each by series number, then UID."""
        series = schema.series.c
        query = (
            select(schema.series)
            .where(series.study_instance_uid.in_(list(study_instance_uids)))
            .order_by(series.series_number, series.series_instance_uid)
        )
        found: dict[str, list[SeriesRecord]] = {uid: [] for uid in study_instance_uids}
        with self.engine.connect() as connection:
            for row in connection.execute(query).mappings():
                found[row["study_instance_uid"]].append(series_record(row))
        return found

    def count(self) -> int:
        """How many studies there are."""
        with self.engine.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(schema.study)).scalar_one())

    def of_patient(self, search: Search) -> list[ColumnElement[bool]]:
        """The condition that a search by patient makes."""
        keys = self.ids.wanted(search)
        if keys is None:
            return []
        same = [and_(_study.patient_id == key.patient_id, _study.issuer == key.issuer) for key in keys]
        return [or_(*same) if same else false()]

    def of_study(self, search: Search) -> list[ColumnElement[bool]]:
        """The condition that references to an ImagingStudy make."""
        uids = reference_ids(search.criteria, "ImagingStudy")
        return [] if uids is None else [_study.study_instance_uid.in_(sorted(uids))]


class StudySource:
    """Source of ImagingStudies."""

    def __init__(self, studies: Studies, orders: OrderSource) -> None:
        self._studies = studies
        self._orders = orders

    def read(self, resource_id: str) -> Json:
        """See `Source.read`."""
        return self._json([self._studies.one(resource_id)])[0]

    def versions(self, resource_id: str) -> Sequence[Json]:
        """See `Source.versions`. The archive keeps a study as it is now."""
        return (self.read(resource_id),)

    def scan(self, search: Search, after: Position | None) -> Iterator[Item]:
        """See `Source.scan`."""
        where = [*_conditions(search), *self._studies.of_patient(search)]
        size = min(_BATCH, search.count + 1)
        for batch in self._studies.batches(where, after, sort=search.sort, size=size):
            for walked, resource in zip(batch, self._json(batch), strict=True):
                yield Item(position=walked.position, resource=resource)

    def count(self) -> int | None:
        """See `Source.count`."""
        return self._studies.count()

    def _json(self, batch: Sequence[WalkedStudy]) -> list[Json]:
        series = self._studies.series([walked.study.study_instance_uid for walked in batch])
        orders = self._orders.of_studies([walked.study for walked in batch])
        return [
            study_json(one.study, series[uid], one.patient_id, orders[uid])
            for one in batch
            for uid in [one.study.study_instance_uid]
        ]


def key_of(study: StudyRecord) -> PatientKey:
    """Whom the images name."""
    return PatientKey(patient_id=study.patient.patient_id, issuer=study.patient.issuer)


def _order(sort: tuple[str, bool] | None) -> tuple[tuple[Any, ...], bool]:
    name, descending = sort or ("_lastUpdated", True)
    if name == "started":
        return (_study.study_date, _study.study_time, _study.study_instance_uid), descending
    return (_study.last_received_at_us, _study.study_instance_uid), descending


def _behind(columns: Sequence[Any], descending: bool, position: Position | None) -> list[ColumnElement[bool]]:
    """Rows behind a position, as a condition that the index on the first column answers."""
    if position is None:
        return []
    beyond = []
    for n, column in enumerate(columns):
        step = column < position[n] if descending else column > position[n]
        beyond.append(and_(*(columns[k] == position[k] for k in range(n)), step))
    first = columns[0] <= position[0] if descending else columns[0] >= position[0]
    return [first, or_(*beyond)]


def _conditions(search: Search) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if (ids := ids_asked(search)) is not None:
        where.append(_study.study_instance_uid.in_(sorted(ids)))
    for values in tokens(search, "identifier"):
        if all(v.code for v in values):
            where.append(or_(*(_identified(v) for v in values)))
    for values in tokens(search, "series"):
        uids = [v.code for v in values if v.code]
        of_series = select(schema.series.c.study_instance_uid).where(schema.series.c.series_instance_uid.in_(uids))
        where.append(_study.study_instance_uid.in_(of_series))
    for values in tokens(search, "modality"):
        codes = [v.code for v in values if v.code and not set(v.code) & set("*?\\,")]
        if len(codes) == len(values):
            where.append(match_modalities(_study.modalities, "\\".join(codes)))
    for stretch in stretches(search, "started"):
        where.append(_study.study_date >= da_of(stretch.low_us, -1))
        where.append(_study.study_date <= da_of(stretch.high_us, 1))
    for stretch in stretches(search, "_lastUpdated"):
        where.append(_study.last_received_at_us < stretch.high_us)
        where.append(_study.last_received_at_us >= stretch.low_us - 1)
    return where


def _identified(value: Token) -> ColumnElement[bool]:
    code = value.code or ""
    by_uid = _study.study_instance_uid == code.removeprefix("urn:oid:")
    if value.system == DICOM_UID:
        return by_uid
    return or_(by_uid, _study.accession_number == code)


def da_of(moment_us: int, days: int) -> str:
    """DICOM DA of a moment, and some days more for time zones."""
    try:
        return (_EPOCH + timedelta(microseconds=moment_us, days=days)).strftime("%Y%m%d").rjust(8, "0")
    except OverflowError:
        return "00000000" if days < 0 else "99999999"

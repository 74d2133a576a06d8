"""Patients: those of the record, and those whom only images name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import ColumnElement, Engine, RowMapping, and_, func, or_, select

from polyclinic.core.errors import NotFound
from polyclinic.core.names import search_words
from polyclinic.departments.archive import schema
from polyclinic.departments.archive.reads import study_record
from polyclinic.departments.records.patients import PatientKey, PatientRecord
from polyclinic.departments.records.ports import PatientQuery
from polyclinic.edges.fhir_http.patient_json import patient_json
from polyclinic.edges.fhir_http.query import Search, Token
from polyclinic.edges.fhir_http.sources import Item, PatientIds, Position, ids_asked, stretches, tokens
from polyclinic.fhir.json_text import Json
from polyclinic.fhir.terms import issuer_of_system

_BATCH = 200
_SEX = {"male": "M", "female": "F", "other": "O"}
_KANA = re.compile("[\u3040-\u30ff]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def no_patient() -> NotFound:
    """Nobody has that id."""
    return NotFound("fhir.no-patient", "There is no such Patient; search by identifier")


class RecordedPatients:
    """Source of the record's patients, by identifier; merged ones too, as R4 keeps them readable."""

    def __init__(self, ids: PatientIds) -> None:
        self._ids = ids

    def read(self, resource_id: str) -> Json:
        """See `Source.read`."""
        return self._json([self._record(resource_id)])[0]

    def versions(self, resource_id: str) -> Sequence[Json]:
        """See `Source.versions`."""
        record = self._record(resource_id)
        return self._json([change.after for change in reversed(self._ids.patients.patient_history(record.key))])

    def scan(self, search: Search, after: Position | None) -> Iterator[Item]:
        """See `Source.scan`."""
        behind = PatientKey(patient_id=str(after[0]), issuer=str(after[1])) if after else None
        asked = keys_asked(search, self._ids)
        if asked is not None:
            yield from self._of_keys(asked, behind)
            return
        query = _narrowed(search)
        while True:
            found = self._ids.patients.find_patients(
                PatientQuery(**query, include_merged=True, limit=_BATCH, after=behind)  # type: ignore[arg-type]
            )
            for record, resource in zip(found, self._json(found), strict=True):
                yield Item(position=_position(record.key), resource=resource)
            if len(found) < _BATCH:
                return
            behind = found[-1].key

    def count(self) -> int | None:
        """See `Source.count`."""
        return None

    def _of_keys(self, asked: Sequence[PatientKey], behind: PatientKey | None) -> Iterator[Item]:
        for key in sorted(k for k in asked if behind is None or k > behind):
            try:
                record = self._ids.patients.patient(key)
            except NotFound:
                continue
            yield Item(position=_position(key), resource=self._json([record])[0])

    def _record(self, resource_id: str) -> PatientRecord:
        key = self._ids.resources.key_of(resource_id)
        if key is None:
            raise no_patient()
        return self._ids.patients.patient(key)

    def _json(self, records: Sequence[PatientRecord]) -> list[Json]:
        ids = self._ids.resources.ids_of(
            [r.key for r in records] + [r.merged_into for r in records if r.merged_into is not None]
        )
        return [patient_json(r, ids[r.key], into_id=ids[r.merged_into] if r.merged_into else "") for r in records]


class ImagedPatients:
    """Source of patients whom the archive knows and the record does not, as their newest study names them."""

    def __init__(self, engine: Engine, ids: PatientIds) -> None:
        self._engine = engine
        self._ids = ids

    def read(self, resource_id: str) -> Json:
        """See `Source.read`."""
        key = self._ids.resources.key_of(resource_id)
        row = self._newest(key) if key is not None and not self._recorded(key) else None
        if row is None:
            raise no_patient()
        return self._json(row)

    def versions(self, resource_id: str) -> Sequence[Json]:
        """See `Source.versions`."""
        return (self.read(resource_id),)

    def scan(self, search: Search, after: Position | None) -> Iterator[Item]:
        """See `Source.scan`."""
        asked = keys_asked(search, self._ids)
        behind = (str(after[0]), str(after[1])) if after else ("", "")
        if asked is not None:
            for key in sorted(k for k in set(map(self._ids.own, asked)) if (k.patient_id, k.issuer) > behind):
                row = None if self._recorded(key) else self._newest(key)
                if row is not None:
                    yield Item(position=_position(key), resource=self._json(row))
            return
        where = _imaged(search)
        while keys := self._keys(behind, where):
            for key in keys:
                own = self._ids.own(key)
                row = None if self._recorded(own) else self._newest(own)
                if row is not None and row["issuer"] == key.issuer:  # else it comes under its other spelling
                    yield Item(position=_position(key), resource=self._json(row))
            behind = (keys[-1].patient_id, keys[-1].issuer)

    def count(self) -> int | None:
        """See `Source.count`."""
        return None

    def _keys(self, behind: tuple[str, str], where: Sequence[ColumnElement[bool]]) -> list[PatientKey]:
        study = schema.study.c
        later = or_(study.patient_id > behind[0], and_(study.patient_id == behind[0], study.issuer > behind[1]))
        query = (
            select(study.patient_id, study.issuer)
            .where(later, study.patient_id != "", *where)
            .group_by(study.patient_id, study.issuer)
            .order_by(study.patient_id, study.issuer)
            .limit(_BATCH)
        )
        with self._engine.connect() as connection:
            return [PatientKey(patient_id=row.patient_id, issuer=row.issuer) for row in connection.execute(query)]

    def _newest(self, key: PatientKey) -> RowMapping | None:
        study = schema.study.c
        query = (
            select(schema.study)
            .where(study.patient_id == key.patient_id, study.issuer.in_([k.issuer for k in self._ids.spellings(key)]))
            .order_by(study.last_received_at_us.desc())
            .limit(1)
        )
        with self._engine.connect() as connection:
            return connection.execute(query).mappings().first()

    def _recorded(self, key: PatientKey) -> bool:
        try:
            self._ids.patients.patient(key)
        except NotFound:
            return False
        return True

    def _json(self, row: RowMapping) -> Json:
        study = study_record(row)
        person = study.patient
        record = PatientRecord(
            key=self._ids.own(PatientKey(patient_id=person.patient_id, issuer=person.issuer)),
            name=person.name,
            birth_date=person.birth_date,
            sex=person.sex,
            changed_at=study.last_received_at,
        )
        return patient_json(record, self._ids.resources.ids_of([record.key])[record.key])


def keys_asked(search: Search, ids: PatientIds) -> list[PatientKey] | None:
    """The identities that `_id` and `identifier` allow; None where neither names any."""
    asked: set[PatientKey] | None = None
    wanted = ids_asked(search)
    if wanted is not None:
        asked = set(ids.resources.keys_of(sorted(wanted)).values())
    for values in tokens(search, "identifier"):
        if all(v.code is not None and v.system is not None for v in values):
            keys = {_key(v) for v in values}
            asked = keys if asked is None else asked & keys
    return None if asked is None else list(asked)


def _key(value: Token) -> PatientKey:
    return PatientKey(patient_id=value.code or "", issuer=issuer_of_system(value.system or ""))


def _position(key: PatientKey) -> Position:
    return (key.patient_id, key.issuer)


def _narrowed(search: Search) -> dict[str, object]:
    """As much of the search as the record can answer from its indexes."""
    query: dict[str, object] = {}
    for values in tokens(search, "identifier"):
        codes = {v.code for v in values}
        if len(codes) == 1 and (code := next(iter(codes))):
            query["patient_id"] = code
    for name in ("name", "family", "given"):
        for one in search.criteria:
            named = one.parameter.name == name and one.modifier in ("", "exact") and len(one.values) == 1
            if named and isinstance(one.values[0], str):
                query["name"] = f"{query.get('name', '')} {one.values[0]}".strip()
    for stretch in stretches(search, "birthdate"):
        query["birth_from"], query["birth_to"] = _day(stretch.low_us, -1), _day(stretch.high_us, 1)
    for values in tokens(search, "gender"):
        if len(values) == 1 and values[0].code in _SEX:
            query["sex"] = _SEX[values[0].code or ""]
    return query


def _imaged(search: Search) -> list[ColumnElement[bool]]:
    """As much of the search as the archive's study table can answer.

    Words with kana are left to the comparison that follows: devices write them in half width too.
    """
    study = schema.study.c
    where: list[ColumnElement[bool]] = []
    for values in tokens(search, "identifier"):
        codes = {v.code for v in values}
        if None not in codes:
            where.append(study.patient_id.in_(sorted(code or "" for code in codes)))
    name = func.replace(func.replace(study.patient_name_folded, "^", ""), " ", "")
    for one in search.criteria:
        named = one.parameter.name in ("name", "family", "given") and one.modifier in ("", "exact")
        if named and len(one.values) == 1 and isinstance(one.values[0], str):
            words = [word for word in search_words(one.values[0]) if not _KANA.search(word)]
            where += [name.contains(word, autoescape=True) for word in words]
    return where


def _day(moment_us: int, days: int) -> date:
    """The day of a moment, and some more for time zones."""
    try:
        return (_EPOCH + timedelta(microseconds=moment_us, days=days)).date()
    except OverflowError:
        return date.min if days < 0 else date.max

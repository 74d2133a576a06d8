"""FHIR resources that other systems wrote, each version as it came; and what FHIR's addresses stand for."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, and_, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from polyclinic.core.errors import Conflict, NotFound
from polyclinic.core.ids import stable_id
from polyclinic.departments.records.patients import PatientKey
from polyclinic.departments.records.resource_tables import entry, page, patient_id, resource
from polyclinic.departments.records.tables import to_microseconds
from polyclinic.departments.records.writing import writing

VALUE_CHARACTERS = 300
_PAGE_LASTS_US = 3_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResource:
    """One version of one resource; `body` is FHIR JSON without ``meta.versionId`` and ``meta.lastUpdated``."""

    resource_type: str
    resource_id: str
    version: int
    changed_at_us: int
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """One value that a resource is found by; a date has a stretch of microseconds instead of a value."""

    parameter: str
    value: str = ""
    low_us: int = 0
    high_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexQuery:
    """Resources that have, for that parameter, one of the values or a date that touches the stretch."""

    parameter: str
    values: tuple[str, ...] = ()
    low_us: int = 0
    high_us: int = 0


class ResourceStore:
    """Every method may be called from any thread and any process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put(
        self,
        resource_type: str,
        resource_id: str,
        body: str,
        entries: Iterable[IndexEntry],
        *,
        source: str,
        at: datetime,
        expected_version: int | None = None,
    ) -> KeptResource:
        """Keep the next version; equal text changes nothing.

        Raises
        ------
        Conflict
            ``records.stale-resource`` when `expected_version` is not the kept one (0: not there yet).
        """
        with writing(self._engine) as connection:
            kept = _current(connection, resource_type, resource_id)
            version = kept.version if kept else 0
            if expected_version is not None and expected_version != version:
                raise Conflict("records.stale-resource", "The resource was changed meanwhile; read it again")
            if kept is not None and kept.body == body:
                return kept
            made = KeptResource(
                resource_type=resource_type,
                resource_id=resource_id,
                version=version + 1,
                changed_at_us=to_microseconds(at),
                body=body,
            )
            this = and_(resource.c.resource_type == resource_type, resource.c.resource_id == resource_id)
            connection.execute(update(resource).where(this, resource.c.current.is_(True)).values(current=False))
            connection.execute(insert(resource).values(**_row(made), current=True, source=source[:64]))
            of_this = and_(entry.c.resource_type == resource_type, entry.c.resource_id == resource_id)
            connection.execute(delete(entry).where(of_this))
            rows = [_entry_row(made, one) for one in dict.fromkeys(entries)]
            if rows:
                connection.execute(insert(entry), rows)
            return made

    def get(self, resource_type: str, resource_id: str) -> KeptResource:
        """The current version. Raises `NotFound` (``records.no-resource``)."""
        with self._engine.connect() as connection:
            kept = _current(connection, resource_type, resource_id)
        if kept is None:
            raise NotFound("records.no-resource", "There is no such resource; check its address")
        return kept

    def versions(self, resource_type: str, resource_id: str) -> tuple[KeptResource, ...]:
        """Newest first; empty when there is none."""
        query = (
            select(resource)
            .where(resource.c.resource_type == resource_type, resource.c.resource_id == resource_id)
            .order_by(resource.c.version.desc())
        )
        with self._engine.connect() as connection:
            return tuple(_kept(row) for row in connection.execute(query).mappings())

    def find(
        self, resource_type: str, queries: Sequence[IndexQuery], *, ids: Sequence[str] | None, after: str, limit: int
    ) -> tuple[KeptResource, ...]:
        """Current versions that fit every query, by id, behind `after`."""
        column = resource.c
        where = [column.resource_type == resource_type, column.current.is_(True), column.resource_id > after]
        if ids is not None:
            where.append(column.resource_id.in_(list(ids)))
        where += [column.resource_id.in_(_entries(resource_type, one)) for one in queries]
        statement = select(resource).where(*where).order_by(column.resource_id).limit(limit)
        with self._engine.connect() as connection:
            return tuple(_kept(row) for row in connection.execute(statement).mappings())

    def count(self, resource_type: str) -> int:
        """How many there are."""
        column = resource.c
        query = select(func.count()).where(column.resource_type == resource_type, column.current.is_(True))
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def ids_of(self, keys: Iterable[PatientKey]) -> Mapping[PatientKey, str]:
        """The FHIR id of each patient; given on first use and for good."""
        wanted = {key: stable_id("fhir-patient", key.issuer, key.patient_id) for key in keys}
        if not wanted:
            return wanted
        query = select(patient_id.c.resource_id).where(patient_id.c.resource_id.in_(list(wanted.values())))
        with self._engine.connect() as connection:
            known = set(connection.execute(query).scalars())
        rows = [
            {"resource_id": made, "patient_id": key.patient_id, "issuer": key.issuer}
            for key, made in wanted.items()
            if made not in known
        ]
        if rows:
            with writing(self._engine) as connection:
                dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
                connection.execute(dialect.insert(patient_id).values(rows).on_conflict_do_nothing())
        return wanted

    def key_of(self, resource_id: str) -> PatientKey | None:
        """The patient that an id stands for; None when it was never given."""
        found = self.keys_of([resource_id])
        return found.get(resource_id)

    def keys_of(self, resource_ids: Iterable[str]) -> Mapping[str, PatientKey]:
        """The patients that ids stand for; ids that were never given are left out."""
        query = select(patient_id).where(patient_id.c.resource_id.in_(list(resource_ids)))
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return {row.resource_id: PatientKey(patient_id=row.patient_id, issuer=row.issuer) for row in rows}

    def keep_page(self, search: str, *, person_id: str, at: datetime) -> str:
        """Keep where a search goes on for an hour; the token that finds it again."""
        token, now = secrets.token_urlsafe(24), to_microseconds(at)
        with writing(self._engine) as connection:
            connection.execute(delete(page).where(page.c.made_at_us < now - _PAGE_LASTS_US))
            connection.execute(insert(page).values(token=token, person_id=person_id, search=search, made_at_us=now))
        return token

    def load_page(self, token: str, *, person_id: str, at: datetime) -> str:
        """What `keep_page` kept. Raises `NotFound` (``records.no-page``), also when another person made it."""
        query = select(page.c.search).where(
            page.c.token == token,
            page.c.person_id == person_id,
            page.c.made_at_us >= to_microseconds(at) - _PAGE_LASTS_US,
        )
        with self._engine.connect() as connection:
            text = connection.execute(query).scalar_one_or_none()
        if text is None:
            raise NotFound("records.no-page", "This page has gone; start the search again")
        return str(text)


def _current(connection: Connection, resource_type: str, resource_id: str) -> KeptResource | None:
    query = select(resource).where(
        resource.c.resource_type == resource_type,
        resource.c.resource_id == resource_id,
        resource.c.current.is_(True),
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else _kept(row)


def _kept(row: Any) -> KeptResource:
    return KeptResource(
        resource_type=row["resource_type"],
        resource_id=row["resource_id"],
        version=row["version"],
        changed_at_us=row["changed_at_us"],
        body=row["body"],
    )


def _row(made: KeptResource) -> dict[str, Any]:
    return {name: getattr(made, name) for name in ("resource_type", "resource_id", "version", "changed_at_us", "body")}


def _entry_row(made: KeptResource, one: IndexEntry) -> dict[str, Any]:
    return {
        "resource_type": made.resource_type,
        "resource_id": made.resource_id,
        "parameter": one.parameter,
        "value": one.value[:VALUE_CHARACTERS],
        "low_us": one.low_us,
        "high_us": one.high_us,
    }


def _entries(resource_type: str, query: IndexQuery) -> Any:
    column = entry.c
    values = [value[:VALUE_CHARACTERS] for value in query.values]
    touches = and_(column.low_us < query.high_us, column.high_us > query.low_us)
    fitting = column.value.in_(values) if values else touches
    return select(column.resource_id).where(
        column.resource_type == resource_type, column.parameter == query.parameter, fitting
    )

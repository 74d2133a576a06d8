"""Where resources come from: each source reads one part of the house as FHIR R4 JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy import Engine

from polyclinic.departments.records.bulk_reads import merged_keys
from polyclinic.departments.records.patients import PatientKey
from polyclinic.departments.records.ports import PatientQuery, Patients
from polyclinic.departments.records.resource_store import ResourceStore
from polyclinic.edges.fhir_http.query import DateValue, Search, Token, reference_ids
from polyclinic.fhir.json_text import Json
from polyclinic.fhir.moments import Stretch, reach, to_us

Position = Sequence[str | int]
"""Where a resource stands in the order of its source; plain JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A resource on its way into a page."""

    position: Position
    resource: Json


class Source(Protocol):
    """Some resources of one type. Every method may be called from any thread."""

    def read(self, resource_id: str) -> Json:
        """The current version. Raises `NotFound`."""

    def versions(self, resource_id: str) -> Sequence[Json]:
        """All that are known, newest first. Raises `NotFound`."""

    def scan(self, search: Search, after: Position | None) -> Iterator[Item]:
        """At least everything that fits the search, behind a position, in the order that the search asks for.

        What does not fit is taken out by the caller; a source leaves out what it cheaply can.
        """

    def count(self) -> int | None:
        """How many there are; None where that is not known without reading them."""


class PatientIds:
    """Which Patient a study or an order is about: identities as FHIR ids, merges followed.

    Parameters
    ----------
    site_issuer
        Issuer of the site's own patient identifiers, which images may leave out; see `own`.
    """

    def __init__(self, engine: Engine, patients: Patients, resources: ResourceStore, *, site_issuer: str = "") -> None:
        self._engine = engine
        self._site_issuer = site_issuer
        self.patients = patients
        self.resources = resources

    def own(self, key: PatientKey) -> PatientKey:
        """The identity that is meant: without an issuer it is the site's own."""
        return key if key.issuer else replace(key, issuer=self._site_issuer)

    def spellings(self, key: PatientKey) -> tuple[PatientKey, ...]:
        """How images may write an identity."""
        return (key, replace(key, issuer="")) if key.issuer and key.issuer == self._site_issuer else (key,)

    def ids(self, keys: Sequence[PatientKey]) -> dict[PatientKey, str]:
        """The id of the surviving identity of each; empty for a key without patient id."""
        meant = {key: self.own(key) for key in keys if key.patient_id}
        named = set(meant.values())
        merged = merged_keys(self._engine, named)
        surviving = {key: self.patients.surviving(key) if key in merged else key for key in named}
        ids = self.resources.ids_of(surviving.values())
        return {key: ids[surviving[meant[key]]] if key in meant else "" for key in keys}

    def id(self, key: PatientKey) -> str:
        """As `ids` for one."""
        return self.ids([key])[key]

    def lineage(self, resource_ids: Sequence[str]) -> list[PatientKey]:
        """The identities that ids stand for, with all that were merged into them, in every spelling."""
        found: dict[PatientKey, None] = {}
        waiting = list(self.resources.keys_of(resource_ids).values())
        while waiting:
            key = waiting.pop()
            if key not in found:
                found[key] = None
                query = PatientQuery(merged_into=key, limit=1000)
                waiting += [one.key for one in self.patients.find_patients(query)]
        return [spelling for key in found for spelling in self.spellings(key)]

    def wanted(self, search: Search) -> list[PatientKey] | None:
        """The identities that a search is restricted to; None for all."""
        ids = reference_ids(search.criteria, "Patient")
        return None if ids is None else self.lineage(sorted(ids))


def tokens(search: Search, name: str) -> list[tuple[Token, ...]]:
    """For each criterion on a token parameter its values."""
    return [tuple(v for v in one.values if isinstance(v, Token)) for one in search.of(name)]


def ids_asked(search: Search) -> set[str] | None:
    """The ids that `_id` allows; None for all."""
    allowed: set[str] | None = None
    for values in tokens(search, "_id"):
        ids = {v.code for v in values if v.code}
        allowed = ids if allowed is None else allowed & ids
    return allowed


def stretches(search: Search, name: str) -> list[Stretch]:
    """For each criterion on a date parameter a stretch that everything fitting touches."""
    now_us = to_us(datetime.now(UTC))
    found = []
    for one in search.of(name):
        reaches = [reach(v.prefix, v.stretch, now_us=now_us) for v in one.values if isinstance(v, DateValue)]
        if reaches:
            found.append(Stretch(low_us=min(r.low_us for r in reaches), high_us=max(r.high_us for r in reaches)))
    return found

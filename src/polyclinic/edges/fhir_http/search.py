"""Reading and searching across the sources: pages, includes, counts (FHIR R4 http 3.1.0, search 3.1.1)."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from polyclinic.core.errors import NotFound, Rejected
from polyclinic.edges.fhir_http.foreign_source import sort_key
from polyclinic.edges.fhir_http.matching import elements_at, fits, references_of
from polyclinic.edges.fhir_http.parameters import PARAMETERS, Kind
from polyclinic.edges.fhir_http.query import Criterion, Search, Target
from polyclinic.edges.fhir_http.sources import Item, PatientIds, Position, Source
from polyclinic.fhir.json_text import Json
from polyclinic.fhir.moments import to_us

MAX_SCANNED = 5_000
"""Resources looked at for one page; a page that is not full then has a next link all the same."""
MAX_COUNTED = 50_000
_MAX_CHAINED = 1_000
_MAX_INCLUDED = 1_000
DONE = "done"
Cursor = dict[str, Any]
"""By number of the source: a position, or `DONE`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Matches with what was included beside them; `cursor` is None on the last page."""

    matches: tuple[Json, ...]
    included: tuple[Json, ...] = ()
    cursor: Cursor | None = None
    total: int | None = None


@dataclass(slots=True)
class _Stream:
    cursor: Cursor
    scanned: int = 0
    matches: list[Json] = field(default_factory=list)
    more: bool = False


class Library:
    """All resources that can be read. Every method may be called from any thread."""

    def __init__(self, sources: Mapping[str, Sequence[Source]], ids: PatientIds) -> None:
        self.sources = sources
        self.ids = ids

    def read(self, resource_type: str, resource_id: str) -> Json:
        """The current version. Raises `NotFound`."""
        return self._first(resource_type, resource_id, lambda source: source.read(resource_id))  # type: ignore[no-any-return]

    def versions(self, resource_type: str, resource_id: str) -> Sequence[Json]:
        """All that are known, newest first. Raises `NotFound`."""
        return self._first(resource_type, resource_id, lambda source: source.versions(resource_id))  # type: ignore[no-any-return]

    def version(self, resource_type: str, resource_id: str, version: str) -> Json:
        """One version. Raises `NotFound` (``fhir.no-version``)."""
        for one in self.versions(resource_type, resource_id):
            if one["meta"]["versionId"] == version:
                return one
        raise NotFound("fhir.no-version", "This version is not kept; read the history of the resource")

    def page(self, search: Search, cursor: Cursor | None = None) -> Page:
        """One page of a search.

        Raises
        ------
        Rejected
            ``fhir.too-costly`` for a chain to more patients, or a count of more resources, than is bearable.
        """
        search = self.resolved(search)
        if search.summary == "count":
            return Page(matches=(), total=self._count(search))
        stream = _Stream(cursor=dict(cursor or {}))
        self._fill(search, stream)
        matches = tuple(stream.matches)
        total = len(matches) if cursor is None and not stream.more else None
        if search.total == "accurate" and total is None and cursor is None:
            total = self._count(search)
        return Page(
            matches=matches,
            included=tuple(self._included(search, matches)),
            cursor=stream.cursor if stream.more else None,
            total=total,
        )

    def resolved(self, search: Search) -> Search:
        """The search with chains followed, and patients joined by those who were merged with them."""
        return replace(search, criteria=tuple(self._resolved(one) for one in search.criteria))

    def _resolved(self, one: Criterion) -> Criterion:
        if one.chain is not None:
            found = self.page(Search(resource_type="Patient", criteria=(one.chain,), count=_MAX_CHAINED))
            if found.cursor is not None:
                raise Rejected("fhir.too-costly", "Too many patients fit; name the patient more closely")
            values = tuple(Target(resource_type="Patient", resource_id=p["id"]) for p in found.matches)
            one = replace(one, chain=None, values=values)
        if one.parameter.kind is not Kind.REFERENCE or "Patient" not in one.parameter.targets or one.modifier:
            return one
        if one.parameter.name == "link":
            return one
        targets = [v for v in one.values if isinstance(v, Target)]
        named = [v.resource_id for v in targets]
        keys = self.ids.resources.keys_of(named).values()
        # What other systems sent before a merge still names the identity that was given up
        same = self.ids.resources.ids_of(self.ids.lineage([self.ids.id(key) for key in keys])).values()
        ids = dict.fromkeys([*named, *same])
        return replace(one, values=tuple(Target(resource_type="Patient", resource_id=i) for i in ids))

    def _first(self, resource_type: str, resource_id: str, ask: Any) -> Any:
        missing: NotFound | None = None
        for source in self.sources[resource_type]:
            try:
                return ask(source)
            except NotFound as error:
                missing = missing or error
        raise missing or NotFound("fhir.no-resource", "There is no such resource; check its address")

    def _fill(self, search: Search, stream: _Stream) -> None:
        now_us = to_us(datetime.now(UTC))
        for number, item in self._stream(search, stream.cursor):
            if stream.scanned >= MAX_SCANNED or (
                len(stream.matches) >= search.count and fits(item.resource, search.criteria, now_us=now_us)
            ):
                stream.more = True
                return
            stream.scanned += 1
            if len(stream.matches) < search.count and fits(item.resource, search.criteria, now_us=now_us):
                stream.matches.append(item.resource)
            stream.cursor[str(number)] = list(item.position)

    def _stream(self, search: Search, cursor: Cursor) -> Iterator[tuple[int, Item]]:
        numbered = [(n, s) for n, s in enumerate(self.sources[search.resource_type]) if cursor.get(str(n)) != DONE]
        if search.sort is None:
            for number, source in numbered:
                for item in source.scan(search, _position(cursor, number)):
                    yield number, item
                cursor[str(number)] = DONE
            return
        descending = search.sort[1]

        def keyed(number: int, source: Source) -> Iterator[tuple[int, int, Item]]:
            for item in source.scan(search, _position(cursor, number)):
                key = sort_key(item.resource, search)
                yield (-key if descending else key), number, item

        streams = [keyed(number, source) for number, source in numbered]
        for _, number, item in heapq.merge(*streams, key=lambda entry: (entry[0], entry[1])):
            yield number, item

    def _count(self, search: Search) -> int:
        sources = self.sources[search.resource_type]
        if not search.criteria:
            known = [source.count() for source in sources]
            if all(one is not None for one in known):
                return sum(one or 0 for one in known)
        now_us, found = to_us(datetime.now(UTC)), 0
        for scanned, (_, item) in enumerate(self._stream(replace(search, sort=None), {})):
            if scanned >= MAX_COUNTED:
                raise Rejected("fhir.too-costly", "Too many resources to count; narrow the search by patient or date")
            found += fits(item.resource, search.criteria, now_us=now_us)
        return found

    def _included(self, search: Search, matches: Sequence[Json]) -> Iterator[Json]:
        seen = {(one["resourceType"], one["id"]) for one in matches}
        for target in self._followed(search, matches):
            if len(seen) - len(matches) >= _MAX_INCLUDED:
                return
            if target not in seen:
                seen.add(target)
                try:
                    yield self.read(*target)
                except NotFound:
                    continue
        for one in search.revincludes:
            for found in self._pointing(one, matches):
                key = (found["resourceType"], found["id"])
                if key not in seen and len(seen) - len(matches) < _MAX_INCLUDED:
                    seen.add(key)
                    yield found

    def _followed(self, search: Search, matches: Sequence[Json]) -> Iterator[tuple[str, str]]:
        for one in search.includes:
            resource_type, _, name = one.partition(":")
            parameter = PARAMETERS[resource_type][name]
            for match in matches:
                for element in elements_at(match, parameter):
                    yield from (t for t in references_of(element) if t[0] in parameter.targets)

    def _pointing(self, one: str, matches: Sequence[Json]) -> Iterator[Json]:
        resource_type, _, name = one.partition(":")
        parameter = PARAMETERS[resource_type][name]
        values = tuple(Target(resource_type=m["resourceType"], resource_id=m["id"]) for m in matches)
        if values:
            criterion = Criterion(parameter=parameter, values=values)
            yield from self.page(
                Search(resource_type=resource_type, criteria=(criterion,), count=_MAX_INCLUDED)
            ).matches


def _position(cursor: Cursor, number: int) -> Position | None:
    position = cursor.get(str(number))
    return tuple(position) if isinstance(position, list) else None


def subsetted(resource: Json, elements: Sequence[str]) -> Json:
    """A resource with only those elements and what must be there, tagged as cut (``_elements``)."""
    if not elements:
        return resource
    wanted = {"resourceType", "id", "meta", "status", "code", "subject", *elements}
    cut = {name: value for name, value in resource.items() if name.lstrip("_") in wanted}
    tag = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
    cut["meta"] = {**resource.get("meta", {}), "tag": [*resource.get("meta", {}).get("tag", []), tag]}
    return cut

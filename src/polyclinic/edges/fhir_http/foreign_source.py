"""Resources that other systems wrote: kept as they came, every version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from polyclinic.core.errors import Rejected
from polyclinic.departments.records.resource_store import IndexEntry, IndexQuery, KeptResource, ResourceStore
from polyclinic.edges.fhir_http.matching import elements_at, references_of, stretch_of, tokens_of
from polyclinic.edges.fhir_http.parameters import PARAMETERS, Kind
from polyclinic.edges.fhir_http.query import Criterion, Search, Target, Token
from polyclinic.edges.fhir_http.sources import Item, Position, ids_asked, stretches
from polyclinic.fhir.json_text import Json, parse_json
from polyclinic.fhir.moments import to_instant

_BATCH = 200
MAX_SORTED = 2000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ForeignSource:
    """Source of one type's resources from elsewhere, by id."""

    def __init__(self, resource_type: str, store: ResourceStore) -> None:
        self._type = resource_type
        self._store = store

    def read(self, resource_id: str) -> Json:
        """See `Source.read`."""
        return kept_json(self._store.get(self._type, resource_id))

    def versions(self, resource_id: str) -> Sequence[Json]:
        """See `Source.versions`."""
        self._store.get(self._type, resource_id)
        return tuple(kept_json(kept) for kept in self._store.versions(self._type, resource_id))

    def scan(self, search: Search, after: Position | None) -> Iterator[Item]:
        """See `Source.scan`. Sorted lists are made whole, so there may only be so many."""
        if search.sort is None:
            yield from self._by_id(search, str(after[0]) if after else "")
            return
        found = []
        for item in self._by_id(search, ""):
            found.append(Item(position=(sort_key(item.resource, search), item.position[0]), resource=item.resource))
            if len(found) > MAX_SORTED:
                raise Rejected("fhir.too-costly", "Too many resources to sort; narrow the search by patient or date")
        found.sort(key=lambda item: tuple(item.position), reverse=search.sort[1])
        for item in found:
            here = tuple(item.position)
            if after is None or (here < tuple(after) if search.sort[1] else here > tuple(after)):
                yield item

    def count(self) -> int | None:
        """See `Source.count`."""
        return self._store.count(self._type)

    def _by_id(self, search: Search, after: str) -> Iterator[Item]:
        ids = ids_asked(search)
        queries = [q for one in search.criteria if (q := _index_query(one)) is not None]
        for one in search.criteria:
            if one.parameter.kind is Kind.DATE and one.plain and one.parameter.name != "_lastUpdated":
                queries += [
                    IndexQuery(parameter=one.parameter.name, low_us=s.low_us, high_us=s.high_us)
                    for s in stretches(search, one.parameter.name)
                ]
        asked = None if ids is None else sorted(ids)
        while True:
            found = self._store.find(self._type, queries, ids=asked, after=after, limit=_BATCH)
            for kept in found:
                yield Item(position=(kept.resource_id,), resource=kept_json(kept))
            if len(found) < _BATCH:
                return
            after = found[-1].resource_id


def kept_json(kept: KeptResource) -> Json:
    """A kept version with its version and time."""
    resource = parse_json(kept.body)
    at = _EPOCH + timedelta(microseconds=kept.changed_at_us)
    meta = {**resource.get("meta", {}), "versionId": str(kept.version), "lastUpdated": to_instant(at)}
    return {"resourceType": kept.resource_type, "id": kept.resource_id, **resource, "meta": meta}


def index_entries(resource: Json) -> list[IndexEntry]:
    """What a resource is found by."""
    entries = []
    for name, parameter in PARAMETERS[resource["resourceType"]].items():
        if name in ("_id", "_lastUpdated"):
            continue
        for element in elements_at(resource, parameter):
            if parameter.kind is Kind.TOKEN:
                entries += [IndexEntry(parameter=name, value=code) for _, code in tokens_of(element)]
            elif parameter.kind is Kind.REFERENCE:
                entries += [IndexEntry(parameter=name, value=found_id) for _, found_id in references_of(element)]
            elif parameter.kind is Kind.DATE and (said := stretch_of(element)) is not None:
                entries.append(IndexEntry(parameter=name, low_us=said.low_us, high_us=said.high_us))
    return entries


def sort_key(resource: Json, search: Search) -> int:
    """What a resource is sorted by; those without it come first."""
    name = search.sort[0] if search.sort else "_lastUpdated"
    parameter = PARAMETERS[resource["resourceType"]][name]
    said = [s.low_us for element in elements_at(resource, parameter) if (s := stretch_of(element)) is not None]
    return min(said, default=-(2**60))


def _index_query(one: Criterion) -> IndexQuery | None:
    if not one.plain or one.parameter.name == "_id" or not one.values:
        return None
    if one.parameter.kind is Kind.TOKEN and all(isinstance(v, Token) and v.code for v in one.values):
        values = tuple(v.code or "" for v in one.values if isinstance(v, Token))
    elif one.parameter.kind is Kind.REFERENCE:
        values = tuple(v.resource_id for v in one.values if isinstance(v, Target))
    else:
        return None
    return IndexQuery(parameter=one.parameter.name, values=values)

"""Orders of the record as ServiceRequests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import Engine

from polyclinic.core.errors import NotFound
from polyclinic.departments.archive.contracts import StudyRecord
from polyclinic.departments.records.bulk_reads import orders_after, orders_of_studies
from polyclinic.departments.records.patients import Order, OrderStatus
from polyclinic.departments.records.ports import OrderQuery, Orders
from polyclinic.edges.fhir_http.order_json import order_json
from polyclinic.edges.fhir_http.query import Search
from polyclinic.edges.fhir_http.sources import Item, PatientIds, Position, ids_asked, tokens
from polyclinic.fhir.json_text import Json
from polyclinic.fhir.terms import DICOM_UID

_BATCH = 200
_NUMBERS = ("placer_number", "filler_number", "accession_number")


class OrderSource:
    """Source of ServiceRequests, by id."""

    def __init__(self, engine: Engine, orders: Orders, ids: PatientIds) -> None:
        self._engine = engine
        self._orders = orders
        self._ids = ids

    def read(self, resource_id: str) -> Json:
        """See `Source.read`."""
        return self._json([self._orders.order(resource_id)])[0]

    def versions(self, resource_id: str) -> Sequence[Json]:
        """See `Source.versions`."""
        self._orders.order(resource_id)
        return self._json(list(reversed(self._orders.order_history(resource_id))))

    def scan(self, search: Search, after: Position | None) -> Iterator[Item]:
        """See `Source.scan`: by id."""
        behind = str(after[0]) if after else ""
        asked = self._asked(search)
        if asked is not None:
            yield from self._items([order for order in asked if order.order_id > behind])
            return
        statuses = {
            OrderStatus(v.code) for values in tokens(search, "status") for v in values if v.code in set(OrderStatus)
        }
        while found := orders_after(self._engine, behind, statuses=statuses, limit=_BATCH):
            yield from self._items(found)
            behind = found[-1].order_id

    def count(self) -> int | None:
        """See `Source.count`."""
        return None

    def of_studies(self, studies: Sequence[StudyRecord]) -> Mapping[str, list[str]]:
        """Ids of the orders that studies fulfil, by Study Instance UID."""
        return orders_of_studies(self._engine, [(s.study_instance_uid, s.accession_number) for s in studies])

    def _asked(self, search: Search) -> list[Order] | None:
        """The orders that `_id`, `identifier` or a patient name; None where none of them is asked for."""
        wanted = ids_asked(search)
        if wanted is not None:
            return [order for one in sorted(wanted) if (order := self._known(one)) is not None]
        queries: list[OrderQuery] | None = None
        for values in tokens(search, "identifier"):
            queries = []
            for value in values:
                if value.system == DICOM_UID:
                    uid = (value.code or "").removeprefix("urn:oid:")
                    queries.append(OrderQuery(study_instance_uid=uid))
                elif value.code:
                    queries += [OrderQuery(**{name: value.code}) for name in _NUMBERS]  # type: ignore[arg-type]
                else:
                    return None
        if queries is None and (keys := self._ids.wanted(search)) is not None:
            queries = [OrderQuery(patient=key) for key in keys]
        if queries is None:
            return None
        found = {order.order_id: order for query in queries for order in self._orders.find_orders(query)}
        return [found[one] for one in sorted(found)]

    def _known(self, order_id: str) -> Order | None:
        try:
            return self._orders.order(order_id)
        except NotFound:
            return None

    def _items(self, orders: Sequence[Order]) -> Iterator[Item]:
        for order, resource in zip(orders, self._json(orders), strict=True):
            yield Item(position=(order.order_id,), resource=resource)

    def _json(self, orders: Sequence[Order]) -> list[Json]:
        ids = self._ids.ids([order.patient for order in orders])
        return [order_json(order, ids[order.patient]) for order in orders]

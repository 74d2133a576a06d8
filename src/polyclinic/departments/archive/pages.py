"""One page of the studies that match, in an order that does not depend on how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, case, select, union_all

from polyclinic.departments.archive import schema
from polyclinic.departments.archive.entrances import Branch, Entrance, Kind, fewest
from polyclinic.departments.archive.matching import unindexed

_study = schema.study.c
_WALKED = (Kind.MODALITY, Kind.DATE, Kind.NAME)
"""Ways in whose index has the order of the page, and which of them decides it."""


_VERY_FEW = 50
"""So many rows are read sooner than the database is asked how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What is to be read; `conditions` hold for every row, whatever way leads to it."""

    limit: int
    offset: int
    conditions: Sequence[ColumnElement[bool]]


def read(connection: Connection, page: Page, ways: Sequence[Entrance]) -> list[RowMapping]:
    """The rows of a page.

    Where some way leads to few studies, those are sorted. Else an index that has the order is walked, and the walk ends
    with the page: many studies lie ahead, so some of them match soon.
    """
    walked = min((way for way in ways if way.kind in _WALKED), key=lambda way: way.kind, default=None)
    if len(ways) == 1 and walked is None:
        found = _all_of_few(connection, page, ways[0])
        if found is not None:
            return found
    if ways and (walked is None or len(ways) > 1):
        way, leads_to_few = fewest(connection, ways)
        if leads_to_few:
            return _sorted(connection, page, way, walked)
    if walked is None:
        order = (_study.last_received_at_us.desc(), _study.study_instance_uid.desc())
        return _rows(connection, page, select(schema.study).where(*page.conditions).order_by(*order))
    if len(walked.branches) > 1:
        return _merged(connection, page, walked)
    (branch,) = walked.branches
    statement = select(schema.study).where(branch.condition, *page.conditions)
    return _rows(connection, page, statement.order_by(*_order(walked, branch.order, _study.study_instance_uid)))


def _all_of_few(connection: Connection, page: Page, way: Entrance) -> list[RowMapping] | None:
    """The page when a way leads to very few matches, as a patient ID nearly always does; None when there are more.

    One query then does instead of two, and nothing is counted before.
    """
    statement = select(schema.study).where(way.condition, *page.conditions).limit(_VERY_FEW + 1)
    found = list(connection.execute(statement).mappings())
    if len(found) > _VERY_FEW:
        return None
    found.sort(key=lambda row: (row["last_received_at_us"], row["study_instance_uid"]), reverse=True)
    return found[page.offset : page.offset + page.limit]


def _sorted(connection: Connection, page: Page, way: Entrance, walked: Entrance | None) -> list[RowMapping]:
    order: tuple[Any, ...]
    uid = unindexed(_study.study_instance_uid)
    if walked is None:
        order = ((_study.last_received_at_us + 0).desc(), uid.desc())
    elif walked.kind is Kind.NAME:
        order = _order(walked, case(*((branch.condition, branch.order) for branch in walked.branches)), uid)
    else:
        order = _order(walked, unindexed(_study.study_date), uid)
    return _rows(connection, page, select(schema.study).where(way.condition, *page.conditions).order_by(*order))


def _merged(connection: Connection, page: Page, way: Entrance) -> list[RowMapping]:
    """The page from the first entries of each stretch."""
    parts = [_first_of(branch, page, way) for branch in way.branches]
    merged = union_all(*(select(part.c.uid, part.c.place) for part in parts)).subquery()
    order = _order(way, merged.c.place, merged.c.uid)
    found = connection.execute(select(merged.c.uid).order_by(*order).limit(page.limit).offset(page.offset))
    uids = list(found.scalars())
    rows = connection.execute(select(schema.study).where(_study.study_instance_uid.in_(uids))).mappings()
    by_uid = {row["study_instance_uid"]: row for row in rows}
    return [by_uid[uid] for uid in uids]


def _first_of(branch: Branch, page: Page, way: Entrance) -> Any:
    columns = (_study.study_instance_uid.label("uid"), branch.order.label("place"))
    statement = select(*columns).where(branch.condition, *page.conditions)
    ordered = statement.order_by(*_order(way, branch.order, _study.study_instance_uid))
    return ordered.limit(page.limit + page.offset).subquery()


def _order(way: Entrance, place: Any, uid: Any) -> tuple[Any, Any]:
    """Names by the alphabet, dates from the last."""
    return (place, uid) if way.kind is Kind.NAME else (place.desc(), uid.desc())


def _rows(connection: Connection, page: Page, statement: Any) -> list[RowMapping]:
    return list(connection.execute(statement.limit(page.limit).offset(page.offset)).mappings())

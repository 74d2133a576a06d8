"""Which studies the worklist's search field finds, at a cost that does not grow with the archive."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, false, func, or_, select, union

from polyclinic.core.names import fold_name
from polyclinic.departments.archive import schema
from polyclinic.departments.archive.entrances import FEW, beginnings, leads_to
from polyclinic.departments.archive.matching import unindexed

RECENT_STUDIES = 20_000
"""A part within a name is looked for among so many newest arrivals when all that begins with it is rare."""
MOST_COUNTED = 10_000
_ESCAPE = "\\"
_study = schema.study.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search means for the list's query, and how many studies it is about."""

    condition: ColumnElement[bool]
    is_exact: bool
    """Whether the condition can be counted: it names few studies."""
    total: int
    """How many studies have a name, patient ID or accession number that begins with the text, up to `MOST_COUNTED`."""


def found(connection: Connection, search: str) -> Found:
    """Studies with a patient name, patient ID or accession number that begins with the text, or it inside the name.

    Few are named one by one. Where many begin with it, the list is walked from its newest study and soon has a page.
    """
    folded, literal = fold_name(search), _literal(search)
    inside = f"%{_literal(folded)}%" if folded else None
    newest = select(_study.study_instance_uid, _study.patient_name_folded)
    newest = newest.order_by(_study.last_received_at_us.desc(), _study.study_instance_uid.desc())
    recent = newest.limit(RECENT_STUDIES).subquery()
    holds = recent.c.patient_name_folded.like(inside, escape=_ESCAPE) if inside else false()
    near = select(recent.c.study_instance_uid).where(holds).limit(FEW + 1)
    ways = beginnings(search)
    counts = [leads_to(connection, way) for way in ways]
    if max(counts, default=0) <= FEW and _count(connection, near) <= FEW:
        each = union(
            select(near.subquery().c.study_instance_uid),
            *(select(_study.study_instance_uid).where(way.condition) for way in ways),
        )
        return Found(condition=_study.study_instance_uid.in_(each), is_exact=True, total=sum(counts))
    anywhere = [
        *([unindexed(_study.patient_name_folded).like(inside, escape=_ESCAPE)] if inside else []),
        unindexed(_study.patient_id).like(f"{literal}%", escape=_ESCAPE),
        unindexed(_study.accession_number).like(f"{literal}%", escape=_ESCAPE),
    ]
    total = sum(leads_to(connection, way, MOST_COUNTED - 1) for way in ways)
    return Found(condition=or_(*anywhere), is_exact=False, total=max(total, FEW))


def _count(connection: Connection, statement: object) -> int:
    return int(connection.execute(select(func.count()).select_from(statement.subquery())).scalar_one())  # type: ignore[attr-defined]


def _literal(text: str) -> str:
    """For LIKE, with no character that means more than itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")

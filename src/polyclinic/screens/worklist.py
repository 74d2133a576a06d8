"""The worklist: the archive's studies joined with where each stands on its path."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, and_, func, or_, select, text

from polyclinic.core.errors import NotFound, Rejected
from polyclinic.departments.archive import schema
from polyclinic.departments.archive.arrivals import Arrivals
from polyclinic.departments.archive.corrections import number_of
from polyclinic.departments.archive.search import reading
from polyclinic.departments.archive.tally import count_studies
from polyclinic.departments.reading.contracts import StudyState, Urgency
from polyclinic.departments.reading.tables import study_status
from polyclinic.screens import worklist_search
from polyclinic.screens.ordered import more_urgent, ordered_urgencies

_study = schema.study.c
_status = study_status.c
_IS_TO_BE_READ = or_(_study.primary_count > 0, _status.state.is_not(None))
"""Not so a study that only came as somebody's prior."""
ONLY_A_PRIOR = "prior"
"""What stands for a state where nothing is to be read: the study was only fetched to compare another one with it."""
_FETCHED = "Fetched from another archive to compare with; it is not read here"
_RECENT_S = 60.0
_MOST_EVENTS = 200
_EVENT_KEYS = (
    "study_instance_uid",
    "corrected",
    "state",
    "step",
    "fraction",
    "urgency",
    "urgency_reason",
    "finding_count",
    "undecided",
    "instance_count",
)
"""What a page is told of a study that changes; of a corrected identity only that it was: the page reads it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some rows of the worklist, newest arrival first."""

    rows: list[dict[str, Any]]
    next_cursor: str | None
    total: int

    def plain(self) -> dict[str, Any]:
        """As the API gives it."""
        return {"rows": self.rows, "next_cursor": self.next_cursor, "total": self.total}


class WorklistScreen:
    """Reads only; may be called from any thread."""

    def __init__(self, engine: Engine, arrivals: Arrivals) -> None:
        self._engine = engine
        self._arrivals = arrivals

    def page(self, *, search: str = "", state: str = "", limit: int = 100, cursor: str | None = None) -> Page:
        """One page.

        Parameters
        ----------
        search
            Part of a patient name, or the beginning of a patient id or accession number; see `worklist_search`.
        state
            Only studies in this state; empty for all.

        Raises
        ------
        Rejected
            ``worklist.bad-cursor`` or ``worklist.bad-state``.
        """
        newest = (_study.last_received_at_us.desc(), _study.study_instance_uid.desc())
        searched = search.strip()
        with reading(self._engine) as connection:
            hits = worklist_search.found(connection, searched) if searched else None
            wanted = [_IS_TO_BE_READ, *([] if hits is None else [hits.condition]), *self._in_state(state)]
            query = _joined().where(*wanted, *_after(cursor)).order_by(*newest).limit(limit + 1)
            rows = connection.execute(query).mappings().all()
            if state or (hits is not None and hits.is_exact):
                total = _count(connection, wanted)
            else:
                total = _count_all(connection) if hits is None else hits.total
        more = len(rows) > limit
        return Page(rows=self._plain(rows[:limit]), next_cursor=_cursor(rows[limit - 1]) if more else None, total=total)

    def row(self, study_instance_uid: str) -> dict[str, Any]:
        """One study's row. Raises `NotFound` (``archive.no-study``)."""
        query = _joined().where(_study.study_instance_uid == study_instance_uid)
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        if not rows:
            raise NotFound("archive.no-study", "There is no such study; check its address")
        return self._plain(rows)[0]

    def on_their_way(self) -> dict[str, dict[str, Any]]:
        """Studies that changed last or are still arriving, each as its event; cheap, asked several times a second."""
        newest = (
            _joined(priors=False)
            .where(_status.changed_at >= time.time() - _RECENT_S)
            .order_by(_status.changed_at.desc())
            .limit(_MOST_EVENTS)
        )
        arriving = _joined(priors=False).where(_study.primary_count > _study.settled_count).limit(_MOST_EVENTS)
        with self._engine.connect() as connection:
            rows = [*connection.execute(newest).mappings(), *connection.execute(arriving).mappings()]
        return {row["study_instance_uid"]: {key: row[key] for key in _EVENT_KEYS} for row in self._plain(rows)}

    def _plain(self, rows: Sequence[RowMapping]) -> list[dict[str, Any]]:
        sending = self._arrivals.counts()
        with self._engine.connect() as connection:
            ordered = ordered_urgencies(connection, rows)
        plain = [_plain(row, sending.get(row["study_instance_uid"], 0)) for row in rows]
        for row in plain:
            urgency, reason = ordered.get(row["study_instance_uid"], (Urgency.ROUTINE, ""))
            if more_urgent(urgency, row["urgency"]):
                row |= {"urgency": urgency.value, "urgency_reason": reason}
        return plain

    def _in_state(self, state: str) -> list[ColumnElement[bool]]:
        if not state:
            return []
        if state not in {s.value for s in StudyState}:
            raise Rejected("worklist.bad-state", f"There is no state {state[:20]!r}; leave it out to see all")
        if state not in (StudyState.ARRIVING, StudyState.SETTLING):
            return [_status.state == state]
        arriving = _study.study_instance_uid.in_(list(self._arrivals.counts()))
        unsettled = _study.primary_count > _study.settled_count
        if state == StudyState.ARRIVING:
            return [unsettled, arriving]
        return [or_(_status.state == state, and_(unsettled, ~arriving))]


def _count(connection: Connection, wanted: Sequence[ColumnElement[bool]]) -> int:
    joined = schema.study.outerjoin(study_status, _status.study_instance_uid == _study.study_instance_uid)
    return int(connection.execute(select(func.count()).select_from(joined).where(*wanted)).scalar_one())


def _count_all(connection: Connection) -> int:
    """All that are to be read, without going through them: those that are not have an index."""
    known = select(1).where(_status.study_instance_uid == _study.study_instance_uid).exists()
    others = select(func.count()).select_from(schema.study).where(text(schema.ONLY_FETCHED), ~known)
    return count_studies(connection, schema.tally) - int(connection.execute(others).scalar_one())


def _joined(*, priors: bool = True) -> Any:
    other = schema.study.alias("other")
    prior_count = (
        select(func.count())
        .select_from(other)
        .where(
            other.c.patient_id == _study.patient_id,
            other.c.issuer == _study.issuer,
            other.c.study_instance_uid != _study.study_instance_uid,
            _study.patient_id != "",
        )
        .scalar_subquery()
    )
    columns: list[Any] = [c for c in study_status.c if c.name != "study_instance_uid"]
    columns.append(number_of(_study.study_instance_uid))
    if priors:
        columns.append(prior_count.label("priors"))
    return select(schema.study, *columns).select_from(
        schema.study.outerjoin(study_status, _status.study_instance_uid == _study.study_instance_uid)
    )


def _plain(row: RowMapping, open_associations: int) -> dict[str, Any]:
    state, step, fraction = row["state"], row["step"] or "", row["fraction"] or 0.0
    if row["primary_count"] > row["settled_count"] and state in (None, StudyState.SETTLING):
        state = StudyState.ARRIVING if open_associations else StudyState.SETTLING
        step, fraction = ("receive" if open_associations else "settle"), 0.0
    received = schema.from_microseconds(row["last_received_at_us"])
    return {
        "study_instance_uid": row["study_instance_uid"],
        "patient_id": row["patient_id"],
        "patient_name": row["patient_name"],
        "birth_date": row["birth_date"],
        "sex": row["sex"],
        "study_date": row["study_date"],
        "study_time": row["study_time"],
        "accession_number": row["accession_number"],
        "description": row["description"],
        "modalities": [m for m in row["modalities"].split("\\") if m],
        "instance_count": row["instance_count"],
        "series_count": row["series_count"],
        "state": state or (StudyState.SETTLING if row["primary_count"] else ONLY_A_PRIOR),
        "step": step,
        "fraction": fraction,
        "urgency": row["urgency"] or "routine",
        "urgency_reason": row["urgency_reason"] or "",
        "reason": row["reason"] or ("" if row["primary_count"] else _FETCHED),
        "finding_count": row["finding_count"] or 0,
        "undecided": row["undecided"] or 0,
        "received_at": received.isoformat(),
        "priors": row.get("priors", 0),
        "kept_aside": row["kept_aside_count"],
        "corrected": row["corrected"],
    }


def _cursor(row: RowMapping) -> str:
    return base64.urlsafe_b64encode(f"{row['last_received_at_us']}:{row['study_instance_uid']}".encode()).decode()


def _after(cursor: str | None) -> list[ColumnElement[bool]]:
    if not cursor:
        return []
    try:
        received, _, uid = base64.urlsafe_b64decode(cursor.encode()).decode("ascii").partition(":")
        at = int(received)
        schema.from_microseconds(at)
    except (binascii.Error, ValueError, OverflowError) as error:
        raise Rejected(
            "worklist.bad-cursor", "The cursor was not given by this list; start at its first page"
        ) from error
    older = _study.last_received_at_us < at
    return [or_(older, and_(_study.last_received_at_us == at, _study.study_instance_uid < uid))]

"""Who is told of what: subscriptions to one workitem, to all, to those that match a filter (PS3.4 CC.2.3, CC.2.4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, delete, insert, select, update

from polyclinic.core.errors import NotFound
from polyclinic.core.ids import is_uid_lenient
from polyclinic.departments.workitems import rules
from polyclinic.departments.workitems.contracts import (
    EVENT_SOP_CLASS_UID,
    FILTERED_SUBSCRIPTION_UID,
    GLOBAL_SUBSCRIPTION_UID,
    Event,
    EventType,
    Json,
    Workitem,
)
from polyclinic.departments.workitems.matching import matches
from polyclinic.departments.workitems.tables import event, item, subscription

KEPT_S = 24 * 3600.0
"""Reports that nobody fetches are forgotten after this time."""
MOST_REPORTS = 500
WELL_KNOWN = frozenset({GLOBAL_SUBSCRIPTION_UID, FILTERED_SUBSCRIPTION_UID})


def announce(connection: Connection, about: Workitem, events: Iterable[Event], *, now: float) -> None:
    """Put reports of the events in front of each subscriber's door, within the transaction that made them."""
    reports = [orjson.dumps(report_of(one)).decode() for one in events]
    if not reports:
        return
    told = recipients(connection, about)
    if told:
        connection.execute(delete(event).where(event.c.at < now - KEPT_S))
        rows = [{"ae_title": ae, "at": now, "report": report} for ae in sorted(told) for report in reports]
        connection.execute(insert(event), rows)


def recipients(connection: Connection, about: Workitem) -> set[str]:
    """AE titles that are subscribed to the workitem: what they said of it counts more than what they said of all."""
    rows = connection.execute(
        select(subscription).where(subscription.c.workitem_uid.in_([about.uid, *WELL_KNOWN]))
    ).mappings()
    said: dict[str, bool] = {}
    broad: dict[str, bool] = {}
    for row in rows:
        if row["workitem_uid"] == about.uid:
            said[row["ae_title"]] = row["subscribed"]
            continue
        came_later = row["suspended_at"] is not None and about.created_at > row["suspended_at"]
        fits = row["workitem_uid"] == GLOBAL_SUBSCRIPTION_UID or matches(_seen(about), orjson.loads(row["filter"]))
        broad[row["ae_title"]] = broad.get(row["ae_title"], False) or (fits and not came_later)
    return {ae for ae, wants in {**broad, **said}.items() if wants}


def _seen(about: Workitem) -> Json:
    return {**about.dataset, rules.STATE: {"vr": "CS", "Value": [about.state.value]}}


def report_of(told: Event) -> Json:
    """An event report as a dataset of its N-EVENT-REPORT (PS3.18 8.10.5, PS3.7 10.1.1)."""
    return {
        "00000002": {"vr": "UI", "Value": [EVENT_SOP_CLASS_UID]},
        "00001000": {"vr": "UI", "Value": [told.workitem_uid]},
        "00001002": {"vr": "US", "Value": [int(told.type)]},
        **told.information,
    }


class Subscriptions:
    """Every method may be called from any thread and any process."""

    def __init__(
        self,
        engine: Engine,
        writing: Callable[[Engine], AbstractContextManager[Connection]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._writing = writing
        self._clock = clock

    def subscribe(
        self, ae_title: str, workitem_uid: str, *, deletion_lock: bool = False, wanted: Mapping[str, str] | None = None
    ) -> None:
        """Subscribe to a workitem, or, by a well-known UID, to all or to those that match `wanted`.

        A subscriber to one workitem gets a report of its state at once.

        Raises
        ------
        NotFound
            ``workitems.no-workitem``.
        """
        now = self._clock()
        with self._writing(self._engine) as connection:
            state = _state_of(connection, workitem_uid)
            if workitem_uid in WELL_KNOWN:
                # Said again for all, it is said for those too that were left out before.
                _forget(connection, ae_title, subscription.c.subscribed.is_(False))
            _forget(connection, ae_title, subscription.c.workitem_uid == workitem_uid)
            row = {
                "ae_title": ae_title,
                "workitem_uid": workitem_uid,
                "subscribed": True,
                "deletion_lock": deletion_lock,
                "filter": orjson.dumps(dict(wanted or {})).decode(),
                "suspended_at": None,
            }
            connection.execute(insert(subscription).values(row))
            if state:
                information = {rules.STATE: {"vr": "CS", "Value": [state]}}
                told = Event(workitem_uid=workitem_uid, type=EventType.STATE_REPORT, information=information)
                report = orjson.dumps(report_of(told)).decode()
                connection.execute(insert(event).values(ae_title=ae_title, at=now, report=report))

    def unsubscribe(self, ae_title: str, workitem_uid: str) -> None:
        """Take a subscription back; by a well-known UID, all of this subscriber's. Raises as `subscribe`."""
        with self._writing(self._engine) as connection:
            _state_of(connection, workitem_uid)
            if workitem_uid in WELL_KNOWN:
                _forget(connection, ae_title)
                return
            _forget(connection, ae_title, subscription.c.workitem_uid == workitem_uid)
            row = {
                "ae_title": ae_title,
                "workitem_uid": workitem_uid,
                "subscribed": False,
                "deletion_lock": False,
                "filter": "{}",
                "suspended_at": None,
            }
            connection.execute(insert(subscription).values(row))

    def suspend(self, ae_title: str, workitem_uid: str) -> None:
        """Stop being subscribed to workitems that are yet to come; those that exist stay subscribed.

        Raises
        ------
        NotFound
            ``workitems.no-subscription``.
        """
        check_uid(workitem_uid)
        with self._writing(self._engine) as connection:
            changed = connection.execute(
                update(subscription)
                .where(subscription.c.ae_title == ae_title, subscription.c.workitem_uid == workitem_uid)
                .values(suspended_at=self._clock())
            )
            if workitem_uid not in WELL_KNOWN or changed.rowcount == 0:
                text = "Only a subscription to all workitems can be suspended, and there is none of this subscriber"
                raise NotFound("workitems.no-subscription", text)

    def waiting(self, ae_title: str) -> list[tuple[int, Json]]:
        """Reports for a subscriber with their numbers, oldest first."""
        query = select(event).where(event.c.ae_title == ae_title)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(event.c.number).limit(MOST_REPORTS)).mappings()
            return [(row["number"], orjson.loads(row["report"])) for row in rows]

    def delivered(self, numbers: Collection[int]) -> None:
        """Forget these reports."""
        with self._writing(self._engine) as connection:
            connection.execute(delete(event).where(event.c.number.in_(numbers)))


def check_uid(workitem_uid: str) -> None:
    """Raise `NotFound` (``workitems.no-workitem``) for what cannot be a workitem's UID."""
    if not is_uid_lenient(workitem_uid):
        raise NotFound("workitems.no-workitem", "There is no such workitem; search again")


def _state_of(connection: Connection, workitem_uid: str) -> str:
    if workitem_uid in WELL_KNOWN:
        return ""
    check_uid(workitem_uid)
    state = connection.execute(select(item.c.state).where(item.c.uid == workitem_uid)).scalar()
    if state is None:
        raise NotFound("workitems.no-workitem", "There is no such workitem; search again")
    return str(state)


def _forget(connection: Connection, ae_title: str, *where: Any) -> None:
    connection.execute(delete(subscription).where(subscription.c.ae_title == ae_title, *where))

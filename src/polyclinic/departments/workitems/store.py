"""Workitems in the database: every change of state in one transaction with what subscribers are told of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, RowMapping, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from polyclinic.core.errors import Conflict, NotFound
from polyclinic.departments.workitems import rules
from polyclinic.departments.workitems.contracts import (
    PLATFORM,
    Event,
    EventType,
    Json,
    Refusal,
    State,
    Workitem,
    WorkitemQuery,
)
from polyclinic.departments.workitems.matching import matches
from polyclinic.departments.workitems.subscriptions import announce, check_uid
from polyclinic.departments.workitems.tables import item

Writing = Callable[[Engine], AbstractContextManager[Connection]]
_PAGE = 200
_COLUMNS = {rules.PATIENT_ID: item.c.patient_id, rules.STUDY_UID: item.c.study_instance_uid}


class Refused(Conflict):
    """A request that does not fit the workitem's state or lock; `refusal` says which rule."""

    def __init__(self, refusal: Refusal, more: str = "") -> None:
        super().__init__("workitems.refused", f"{refusal}{' Missing: ' + more + '.' if more else ''}")
        self.refusal = refusal


class WorkitemStore:
    """Every method may be called from any thread and any process.

    Parameters
    ----------
    writing
        Opens a transaction that holds the write lock from its start, see `polyclinic.edges.sql.engine.writing`.
    """

    def __init__(self, engine: Engine, writing: Writing, *, clock: Callable[[], float] = time.time) -> None:
        self.engine = engine
        self.writing = writing
        self.clock = clock

    def create(self, uid: str, dataset: Json, *, performer: str = "", run_id: str = "") -> bool:
        """Keep a new workitem in state SCHEDULED; whether attributes had to be added.

        Raises
        ------
        Rejected
            ``workitems.bad-dataset``.
        Conflict
            ``workitems.exists``.
        """
        made, added = rules.new_dataset(dataset)
        now = self.clock()
        made[rules.SOP_INSTANCE_UID] = {"vr": "UI", "Value": [uid]}
        made[rules.MODIFIED_AT] = {"vr": "DT", "Value": [rules.dicom_moment(datetime.fromtimestamp(now, UTC))]}
        kept = Workitem(
            uid=uid, state=State.SCHEDULED, dataset=made, performer=performer, created_at=now, changed_at=now
        )
        row = {
            "uid": uid,
            "state": State.SCHEDULED,
            "transaction_uid": "",
            "performer": performer,
            "run_id": run_id,
            "patient_id": rules.text(made, rules.PATIENT_ID),
            "study_instance_uid": rules.text(made, rules.STUDY_UID),
            "worklist_label": rules.text(made, rules.WORKLIST_LABEL),
            "dataset": orjson.dumps(made).decode(),
            "version": 1,
            "created_at": now,
            "changed_at": now,
        }
        try:
            with self.writing(self.engine) as connection:
                connection.execute(insert(item).values(row))
                announce(connection, kept, [_state_report(kept)], now=now)
        except IntegrityError as error:
            raise Conflict("workitems.exists", "A workitem with this UID exists; choose another UID") from error
        return added

    def get(self, uid: str) -> Workitem:
        """Raises `NotFound` (``workitems.no-workitem``)."""
        check_uid(uid)
        with self.engine.connect() as connection:
            row = connection.execute(select(item).where(item.c.uid == uid)).mappings().first()
        return _workitem(row)

    def search(self, query: WorkitemQuery) -> list[Workitem]:
        """Newest first. State, patient id and study are found by index, other keys by looking at each of those."""
        statement = select(item).order_by(item.c.created_at.desc(), item.c.uid.desc())
        rest = dict(query.matches)
        for tag, column in _COLUMNS.items():
            if tag in rest and not set(rest[tag]) & set("*?\\,"):
                wanted = rest.pop(tag)
                if wanted:
                    statement = statement.where(column == wanted)
        if states := rest.pop(rules.STATE, ""):
            statement = statement.where(item.c.state.in_([part.strip() for part in states.split(",")]))
        if not rest:
            statement = statement.offset(query.offset).limit(query.limit)
            with self.engine.connect() as connection:
                return [_workitem(row) for row in connection.execute(statement).mappings()]
        found: list[Workitem] = []
        with self.engine.connect().execution_options(yield_per=_PAGE) as connection:
            skip = query.offset
            for row in connection.execute(statement).mappings():
                one = _workitem(row)
                if not matches(one.dataset, rest):
                    continue
                if skip:
                    skip -= 1
                    continue
                found.append(one)
                if len(found) >= query.limit:
                    break
        return found

    def change_state(self, uid: str, wanted: State, transaction_uid: str, *, by: str = "") -> bool:
        """Claim, complete or cancel; True when it was in that state already.

        Parameters
        ----------
        by
            `PLATFORM` when this platform changes its own work, which nobody else may.

        Raises
        ------
        NotFound
            ``workitems.no-workitem``.
        Refused
            The state machine does not allow it, or a final state still lacks something.
        """
        with self.writing(self.engine) as connection:
            now_item = self._locked(connection, uid)
            if now_item.performer != by:
                raise Refused(Refusal.INCONSISTENT)
            verdict = rules.change_state(now_item.state, now_item.transaction_uid, transaction_uid, wanted)
            if verdict.refusal is not None:
                raise Refused(verdict.refusal)
            if verdict.already:
                return True
            dataset = now_item.dataset
            if wanted is State.CANCELED and rules.lacks(dataset, wanted) is None:
                dataset = rules.with_cancellation(dataset, datetime.fromtimestamp(self.clock(), UTC))
            if missing := rules.lacks(dataset, wanted):
                raise Refused(Refusal.INCONSISTENT, missing)
            self._put(connection, now_item, state=verdict.state, dataset=dataset, lock=transaction_uid)
        return False

    def update(self, uid: str, changes: Json, transaction_uid: str, *, by: str = "") -> None:
        """Change attributes; raises as `change_state`, and `Rejected` (``workitems.bad-dataset``)."""
        with self.writing(self.engine) as connection:
            now_item = self._locked(connection, uid)
            if now_item.performer != by:
                raise Refused(Refusal.INCONSISTENT)
            refusal = rules.update_refusal(now_item.state, now_item.transaction_uid, transaction_uid)
            if refusal is not None:
                raise Refused(refusal)
            made = rules.updated_dataset(now_item.dataset, changes)
            events = [_progress_report(uid, made)] if rules.PROGRESS in changes else []
            events += [_assigned(uid, made)] if "00404025" in changes or "00404034" in changes else []
            self._put(
                connection, now_item, state=now_item.state, dataset=made, lock=now_item.transaction_uid, more=events
            )

    def request_cancel(self, uid: str, information: Json) -> bool:
        """Ask that a workitem be canceled; True when it was so already.

        One that nobody has claimed is canceled; of one in progress its performer is told.
        Raises as `change_state`.
        """
        with self.writing(self.engine) as connection:
            now_item = self._locked(connection, uid)
            verdict = rules.request_cancel(now_item.state)
            if verdict.refusal is not None:
                raise Refused(verdict.refusal)
            if verdict.already:
                return True
            if now_item.performer == PLATFORM:
                raise Refused(Refusal.NOT_CANCELING)
            if verdict.state is State.CANCELED:
                at = datetime.fromtimestamp(self.clock(), UTC)
                reason = rules.text(information, rules.REASON_FOR_CANCELLATION)
                code = rules.first_item(information, rules.DISCONTINUATION_REASON)
                dataset = rules.with_cancellation(now_item.dataset, at, reason=reason, code=code)
                self._put(connection, now_item, state=State.CANCELED, dataset=dataset, lock="")
                return False
            asked = {k: v for k, v in information.items() if k != rules.TRANSACTION_UID}
            told = Event(workitem_uid=uid, type=EventType.CANCEL_REQUESTED, information=asked)
            announce(connection, now_item, [told], now=self.clock())
        return False

    def open_of_platform(self) -> list[tuple[str, str]]:
        """(UID, run id) of the platform's own workitems that have not ended."""
        columns = select(item.c.uid, item.c.run_id)
        unfinished = item.c.state.in_([State.SCHEDULED, State.IN_PROGRESS])
        with self.engine.connect() as connection:
            rows = connection.execute(columns.where(item.c.performer == PLATFORM, unfinished))
            return [(row.uid, row.run_id) for row in rows]

    def known(self, uids: Iterable[str]) -> set[str]:
        """Those of the UIDs that name a workitem."""
        with self.engine.connect() as connection:
            return set(connection.execute(select(item.c.uid).where(item.c.uid.in_(list(uids)))).scalars())

    def newest_of_platform(self) -> float:
        """When the platform's newest workitem was made, in seconds since 1970; 0 when there is none."""
        with self.engine.connect() as connection:
            newest = select(func.max(item.c.created_at)).where(item.c.performer == PLATFORM)
            return float(connection.execute(newest).scalar() or 0.0)

    def _locked(self, connection: Connection, uid: str) -> Workitem:
        check_uid(uid)
        row = connection.execute(select(item).where(item.c.uid == uid).with_for_update()).mappings().first()
        return _workitem(row)

    def _put(
        self,
        connection: Connection,
        before: Workitem,
        *,
        state: State,
        dataset: Json,
        lock: str,
        more: Sequence[Event] = (),
    ) -> None:
        now = self.clock()
        dataset = {
            **dataset,
            rules.MODIFIED_AT: {"vr": "DT", "Value": [rules.dicom_moment(datetime.fromtimestamp(now, UTC))]},
        }
        values: dict[str, Any] = {
            "state": state,
            "transaction_uid": lock,
            "dataset": orjson.dumps(dataset).decode(),
            "worklist_label": rules.text(dataset, rules.WORKLIST_LABEL),
            "version": before.version + 1,
            "changed_at": now,
        }
        connection.execute(update(item).where(item.c.uid == before.uid).values(values))
        after = Workitem(uid=before.uid, state=state, dataset=dataset, created_at=before.created_at, changed_at=now)
        report = [_state_report(after)] if state is not before.state else []
        announce(connection, after, [*report, *more], now=now)


def as_dataset(workitem: Workitem) -> Json:
    """What a client sees: the dataset with its state, never the Transaction UID (PS3.18 11.5.2)."""
    seen = {k: v for k, v in workitem.dataset.items() if k != rules.TRANSACTION_UID}
    seen[rules.STATE] = {"vr": "CS", "Value": [workitem.state.value]}
    return seen


def _state_report(workitem: Workitem) -> Event:
    information = {rules.STATE: {"vr": "CS", "Value": [workitem.state.value]}}
    ready = workitem.dataset.get(rules.INPUT_READINESS)
    if ready:
        information[rules.INPUT_READINESS] = ready
    progress = rules.first_item(workitem.dataset, rules.PROGRESS) or {}
    for tag in (rules.REASON_FOR_CANCELLATION, rules.DISCONTINUATION_REASON):
        if workitem.state is State.CANCELED and tag in progress:
            information[tag] = progress[tag]
    return Event(workitem_uid=workitem.uid, type=EventType.STATE_REPORT, information=information)


def _progress_report(uid: str, dataset: Json) -> Event:
    information = {rules.PROGRESS: dataset[rules.PROGRESS]}
    return Event(workitem_uid=uid, type=EventType.PROGRESS_REPORT, information=information)


def _assigned(uid: str, dataset: Json) -> Event:
    information: Json = {tag: dataset[tag] for tag in ("00404025", "00404034") if tag in dataset}
    return Event(workitem_uid=uid, type=EventType.ASSIGNED, information=information)


def _workitem(row: RowMapping | None) -> Workitem:
    if row is None:
        raise NotFound("workitems.no-workitem", "There is no such workitem; search again")
    return Workitem(
        uid=row["uid"],
        state=State(row["state"]),
        dataset=orjson.loads(row["dataset"]),
        transaction_uid=row["transaction_uid"],
        performer=row["performer"],
        version=row["version"],
        created_at=row["created_at"],
        changed_at=row["changed_at"],
    )

"""The state machine of a workitem: no path leads out of a final state, and a wrong lock opens nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from polyclinic.core.errors import Conflict, NotFound, PolyclinicError, Rejected
from polyclinic.departments.workitems import rules
from polyclinic.departments.workitems.contracts import (
    FILTERED_SUBSCRIPTION_UID,
    GLOBAL_SUBSCRIPTION_UID,
    PLATFORM,
    Json,
    Refusal,
    State,
    Workitem,
    WorkitemQuery,
)
from polyclinic.departments.workitems.datasets import checked
from polyclinic.departments.workitems.matching import matches
from polyclinic.departments.workitems.store import Refused, WorkitemStore, as_dataset
from polyclinic.departments.workitems.subscriptions import Subscriptions
from polyclinic.departments.workitems.tables import metadata
from polyclinic.edges.sql.engine import open_engine, writing

A, B, C = State.SCHEDULED, State.IN_PROGRESS, State.COMPLETED
D = State.CANCELED
LOCK, OTHER = "1.2.3", "1.2.4"


def value(vr: str, *values: Any) -> Json:
    return {"vr": vr, "Value": list(values)}


def code(meaning: str) -> Json:
    return {"00080100": value("SH", "1"), "00080102": value("SH", "99T"), "00080104": value("LO", meaning)}


def new(**changes: Json) -> Json:
    return {
        "00741200": value("CS", "HIGH"),
        "00741204": value("LO", "Nodules"),
        "00404005": value("DT", "20260102101500"),
        "00404041": value("CS", "READY"),
        "00741000": value("CS", "SCHEDULED"),
        "00100010": value("PN", {"Alphabetic": "Wang^XiaoDong", "Ideographic": "王^小东"}),
        "00100020": value("LO", "P1"),
        "0020000D": value("UI", "1.2.840.1"),
        "00404018": value("SQ", code("Detect")),
        **changes,
    }


def performed(**changes: Json) -> Json:
    return {
        "00404028": value("SQ", code("GPU1")),
        "00404019": value("SQ", code("Detect")),
        "00404050": value("DT", "20260102101500"),
        "00404051": value("DT", "20260102101600"),
        "00404033": {"vr": "SQ"},
        **changes,
    }


DONE = {rules.PERFORMED: value("SQ", performed())}
STOPPED = {rules.PROGRESS: value("SQ", {rules.DISCONTINUATION_REASON: value("SQ", code("Broken"))})}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WorkitemStore]:
    engine = open_engine(f"sqlite:///{tmp_path / 'work.sqlite'}")
    metadata.create_all(engine)
    ticks = itertools.count(1000)
    yield WorkitemStore(engine, writing, clock=lambda: float(next(ticks)))
    engine.dispose()


@pytest.fixture
def subscriptions(store: WorkitemStore) -> Subscriptions:
    return Subscriptions(store.engine, writing, clock=store.clock)


def refused(call: Callable[[], object]) -> Refusal:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.refusal


NO, SAME = Refusal.INCONSISTENT, "already"


@pytest.mark.parametrize(
    ("wanted", "outcomes"),
    [(A, (NO, NO, NO, NO)), (B, (B, NO, NO, NO)), (C, (NO, C, SAME, NO)), (D, (NO, D, NO, SAME))],
)
def test_table_cc_1_1_2_with_the_right_transaction_uid(wanted: State, outcomes: tuple[object, ...]) -> None:
    for now, expected in zip((A, B, C, D), outcomes, strict=True):
        lock = "" if now is A else LOCK
        verdict = rules.change_state(now, lock, LOCK, wanted)
        assert (verdict.refusal or (SAME if verdict.already else verdict.state)) == expected, now


@pytest.mark.parametrize("wanted", [C, D])
@pytest.mark.parametrize("now", [B, C, D])
def test_without_or_with_a_wrong_transaction_uid_nothing_ends(now: State, wanted: State) -> None:
    assert rules.change_state(now, LOCK, "", wanted).refusal is Refusal.MISSING_UID
    assert rules.change_state(now, LOCK, OTHER, wanted).refusal is Refusal.WRONG_UID


states, uids = st.sampled_from(State), st.sampled_from(["", LOCK, OTHER])


@given(states, uids, uids, states)
def test_law_no_change_leads_out_of_a_final_state(now: State, lock: str, given: str, wanted: State) -> None:
    verdict = rules.change_state(now, lock, given, wanted)
    if now.is_final:
        assert verdict.state is now
    if verdict.state is not now:
        assert verdict.refusal is None
        assert given
        assert now is A or given == lock
    assert rules.request_cancel(now).state in ({now, D} if now is A else {now})


class Life(RuleBasedStateMachine):
    """Random requests of three clients; whoever claimed the work is the only one who can change it."""

    def __init__(self) -> None:
        super().__init__()
        engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        metadata.create_all(engine)
        self.store = WorkitemStore(engine, writing)
        self.store.create("1.2", new())
        self.seen = self.store.get("1.2")
        self.holder = ""

    def attempt(self, call: Callable[[], object]) -> tuple[Workitem, Workitem, bool]:
        before, done = self.store.get("1.2"), False
        with suppress(PolyclinicError):
            call()
            done = True
        return before, self.store.get("1.2"), done

    @rule(wanted=states, uid=uids)
    def change(self, wanted: State, uid: str) -> None:
        before, after, done = self.attempt(lambda: self.store.change_state("1.2", wanted, uid))
        if after != before:
            assert done
            assert before.state is A or uid == self.holder
            assert not before.state.is_final
            self.holder = uid
        if not done:
            assert after == before

    @rule(changes=st.sampled_from([DONE, STOPPED, {"00741204": value("LO", "Other")}, {"00741000": value("CS", "X")}]))
    def update_unlocked(self, changes: Json) -> None:
        before, after, done = self.attempt(lambda: self.store.update("1.2", changes, ""))
        assert done == (after != before)
        assert not done or before.state is A

    @rule(changes=st.sampled_from([DONE, STOPPED]), uid=st.sampled_from([LOCK, OTHER]))
    def update(self, changes: Json, uid: str) -> None:
        before, after, done = self.attempt(lambda: self.store.update("1.2", changes, uid))
        assert not done or (before.state is B and uid == self.holder)
        assert done or after == before

    @rule()
    def cancel(self) -> None:
        before, after, _ = self.attempt(lambda: self.store.request_cancel("1.2", {}))
        assert after.state is (D if before.state is A else before.state)

    @invariant()
    def final_is_final_and_the_lock_is_never_shown(self) -> None:
        now = self.store.get("1.2")
        if self.seen.state.is_final:
            assert now == self.seen
        if now.state is C:
            assert rules.lacks(now.dataset, C) is None
        if now.state is D:
            assert rules.lacks(now.dataset, D) is None
        assert rules.TRANSACTION_UID not in as_dataset(now)
        self.seen = now

    def teardown(self) -> None:
        self.store.engine.dispose()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)


def test_a_workitem_from_creation_to_completion(store: WorkitemStore) -> None:
    assert store.create("1.2", new())
    assert store.change_state("1.2", B, LOCK) is False
    assert refused(lambda: store.change_state("1.2", C, LOCK)) is Refusal.INCONSISTENT
    store.update("1.2", {rules.PERFORMED: value("SQ", performed(**{"00404051": {"vr": "DT"}}))}, LOCK)
    with pytest.raises(Refused, match="End DateTime"):
        store.change_state("1.2", C, LOCK)
    store.update("1.2", DONE, LOCK)
    store.change_state("1.2", C, LOCK)
    assert store.change_state("1.2", C, LOCK) is True
    assert refused(lambda: store.update("1.2", DONE, LOCK)) is Refusal.INCONSISTENT
    assert refused(lambda: store.request_cancel("1.2", {})) is Refusal.ALREADY_COMPLETED


def test_the_platforms_own_work_is_nobody_elses(store: WorkitemStore) -> None:
    store.create("1.2", new(), performer=PLATFORM, run_id="r")
    before = store.get("1.2")
    assert refused(lambda: store.change_state("1.2", B, LOCK)) is Refusal.INCONSISTENT
    assert refused(lambda: store.update("1.2", DONE, "")) is Refusal.INCONSISTENT
    assert refused(lambda: store.request_cancel("1.2", {})) is Refusal.NOT_CANCELING
    assert store.get("1.2") == before
    assert store.open_of_platform() == [("1.2", "r")]


@pytest.mark.parametrize(
    "changes",
    [
        {"00741200": value("CS", "URGENT")},
        {"00741200": {"vr": "CS"}},
        {"00741204": {"vr": "LO"}},
        {"00741000": value("CS", "IN PROGRESS")},
        {"00404041": value("CS", "MAYBE")},
        {"00081195": value("UI", "1.2")},
        {"0020000D": value("UI", "no uid")},
        DONE,
        STOPPED,
    ],
    ids=str,
)
def test_a_new_workitem_must_be_whole_and_not_begun(store: WorkitemStore, changes: Json) -> None:
    with pytest.raises(Rejected, match=r"workitems\.bad-dataset"):
        store.create("1.2", new(**changes))
    with pytest.raises(NotFound):
        store.get("1.2")


@pytest.mark.parametrize("tag", sorted(rules.FIXED))
def test_an_update_leaves_alone_what_is_fixed(store: WorkitemStore, tag: str) -> None:
    store.create("1.2", new())
    with pytest.raises(Rejected, match=r"workitems\.bad-dataset"):
        store.update("1.2", {tag: value("LO", "x")}, "")


def test_the_same_uid_twice_is_a_conflict(store: WorkitemStore) -> None:
    store.create("1.2", new())
    with pytest.raises(Conflict, match=r"workitems\.exists"):
        store.create("1.2", new())


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["1.3", "1.2", "1.1"]),
        ({"00741000": "SCHEDULED,IN PROGRESS"}, ["1.3", "1.2", "1.1"]),
        ({"00741000": "IN PROGRESS"}, ["1.2"]),
        ({"00100020": "P2"}, ["1.2"]),
        ({"00100020": "P*"}, ["1.3", "1.2", "1.1"]),
        ({"00100010": "wang*"}, ["1.3", "1.2", "1.1"]),
        ({"00100010": "*小东"}, ["1.3", "1.2", "1.1"]),
        ({"00404018.00080104": "Seg?ent"}, ["1.3"]),
        ({"00404005": "20260103-20260105"}, ["1.3"]),
        ({"00404005": "-20260102"}, ["1.2", "1.1"]),
        ({"00404005": "20260102"}, ["1.2", "1.1"]),
        ({"00741202": "polyclinic"}, []),
        ({"00741202": "Polyclinic", "00741200": "LOW"}, ["1.3"]),
        ({"00080080": "nothing has it"}, []),
        ({"00100020": ""}, ["1.3", "1.2", "1.1"]),
    ],
    ids=str,
)
def test_search(store: WorkitemStore, query: dict[str, str], found: list[str]) -> None:
    store.create("1.1", new())
    store.create("1.2", new(**{"00100020": value("LO", "P2")}))
    store.change_state("1.2", B, LOCK)
    later = {"00404005": value("DT", "20260104"), "00741200": value("CS", "LOW")}
    store.create("1.3", new(**later, **{"00404018": value("SQ", code("Segment"))}))
    assert [one.uid for one in store.search(WorkitemQuery(matches=query))] == found
    assert [one.uid for one in store.search(WorkitemQuery(matches=query, limit=1, offset=1))] == found[1:2]


def test_many_stars_take_no_time() -> None:
    assert not matches({"00741204": value("LO", "a" * 5000)}, {"00741204": "*a" * 100 + "b"})


def reports(subscriptions: Subscriptions, ae: str) -> list[tuple[str, int]]:
    waiting = subscriptions.waiting(ae)
    subscriptions.delivered([number for number, _ in waiting])
    return [(report["00001000"]["Value"][0], report["00001002"]["Value"][0]) for _, report in waiting]


def test_who_is_told_of_what(store: WorkitemStore, subscriptions: Subscriptions) -> None:
    store.create("1.1", new())
    subscriptions.subscribe("ONE", "1.1")
    subscriptions.subscribe("ALL", GLOBAL_SUBSCRIPTION_UID)
    subscriptions.subscribe("LOW", FILTERED_SUBSCRIPTION_UID, wanted={"00741200": "LOW"})
    assert reports(subscriptions, "ONE") == [("1.1", 1)]
    store.create("1.2", new(**{"00741200": value("CS", "LOW")}))
    assert [reports(subscriptions, ae) for ae in ("ONE", "ALL", "LOW")] == [[], [("1.2", 1)], [("1.2", 1)]]
    store.change_state("1.1", B, LOCK)
    store.update("1.1", STOPPED, LOCK)
    store.request_cancel("1.1", {})
    assert reports(subscriptions, "ONE") == reports(subscriptions, "ALL") == [("1.1", 1), ("1.1", 3), ("1.1", 2)]
    subscriptions.unsubscribe("ALL", "1.1")
    subscriptions.suspend("ALL", GLOBAL_SUBSCRIPTION_UID)
    store.create("1.3", new())
    store.change_state("1.1", D, LOCK)
    store.request_cancel("1.2", {})
    assert reports(subscriptions, "ALL") == [("1.2", 1)]
    subscriptions.subscribe("ALL", GLOBAL_SUBSCRIPTION_UID)
    store.request_cancel("1.3", {})
    assert reports(subscriptions, "ALL") == [("1.3", 1)]
    subscriptions.unsubscribe("ALL", GLOBAL_SUBSCRIPTION_UID)
    store.create("1.4", new())
    assert reports(subscriptions, "ALL") == []
    with pytest.raises(NotFound):
        subscriptions.subscribe("ONE", "1.99")
    with pytest.raises(NotFound):
        subscriptions.suspend("ALL", GLOBAL_SUBSCRIPTION_UID)


@pytest.mark.parametrize(
    "data",
    [
        1,
        [],
        [{}, {}],
        {"PatientID": value("LO", "x")},
        {"00100020": "x"},
        {"00100020": {"Value": []}},
        {"00100020": {"vr": "LO", "Value": "x"}},
        {"00100020": {"vr": "LO", "Value": [{}]}},
        {"00100010": {"vr": "PN", "Value": ["x"]}},
        {"00100010": {"vr": "SQ", "Value": ["x"]}},
        {"7FE00010": {"vr": "OW", "BulkDataURI": "http://elsewhere"}},
        {"00100020": {"vr": "LO", "Value": ["x"] * 10_001}},
    ],
    ids=lambda data: str(data)[:40],
)
def test_what_is_no_dicom_json_is_refused(data: object) -> None:
    with pytest.raises(Rejected, match=r"workitems\.bad-json"):
        checked(data)


def test_sequences_without_end_are_refused() -> None:
    data: Json = {}
    for _ in range(50):
        data = {"00404018": value("SQ", data)}
    with pytest.raises(Rejected, match="deeply"):
        checked(data)

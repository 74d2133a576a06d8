"""Runs on lease, decisions under competition, the outbox: on a real database with a clock of our own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from polyclinic.agentkit.outcome import Abstained, Assessed, Fact
from polyclinic.core import codes
from polyclinic.core.errors import Conflict, NotFound
from polyclinic.core.findings import Finding, FindingState, Source, SourceKind
from polyclinic.core.people import Person
from polyclinic.departments.reading.contracts import (
    DecisionKind,
    DeliveryState,
    DerivedObject,
    Language,
    ObjectKind,
    Report,
    RunState,
    StudyState,
    Task,
)
from polyclinic.departments.reading.outbox import MAX_ATTEMPTS as SEND_ATTEMPTS
from polyclinic.departments.reading.outbox import Outbox, retry_after_s
from polyclinic.departments.reading.runs import MAX_ATTEMPTS, RunStore, run_id_of
from polyclinic.departments.reading.store import ReadingStore
from polyclinic.edges.sql.engine import open_engine
from polyclinic.edges.sql.migrations import migrate

STUDY = "1.2.3"
AGENT = Source(kind=SourceKind.AGENT, id="aa", version="1.0.0")
ANN = Person(person_id="ann", name="Ann", roles=frozenset({"radiologist"}))
AT = datetime(2026, 1, 2, tzinfo=UTC)
TASK = Task(
    agent_id="aa",
    agent_version="1.0.0",
    agent_title="A",
    queue="cpu",
    time_limit_s=10.0,
    memory_limit_mb=100,
    series_instance_uids=("9",),
)
DONE = Assessed(agent=AGENT, series_instance_uid="9", findings=(), facts=(Fact(name="n", value="v"),))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_engine(f"sqlite:///{tmp_path / 'reading.sqlite'}")
    migrate(made)
    yield made
    made.dispose()


@pytest.fixture
def runs(engine: Engine) -> RunStore:
    store = RunStore(engine)
    store.enqueue(STUDY, 1, [("run-1", TASK)], now=0.0)
    return store


@pytest.fixture
def reading(engine: Engine, runs: RunStore) -> ReadingStore:
    """A study of one done run with one proposed finding, ready."""
    store = ReadingStore(engine)
    store.settling(STUDY, "quiet", now=0.0)
    runs.claim("w", ["cpu"], lease_s=10, now=1.0)
    runs.end("run-1", "w", DONE)
    store.propose("run-1", STUDY, [finding("f1")])
    store.progress(STUDY, 1, StudyState.READY, now=2.0)
    return store


def finding(finding_id: str) -> Finding:
    return Finding(id=finding_id, study_instance_uid=STUDY, code=codes.PULMONARY_NODULE, source=AGENT)


def composed(found: object) -> tuple[Report, str]:
    return Report(study_instance_uid=STUDY, revision=1, language=Language.ENGLISH, sections=(), undecided=0), "a" * 64


# Runs


def test_equal_inputs_are_one_run() -> None:
    assert run_id_of(STUDY, TASK, "x") == run_id_of(STUDY, replace(TASK, agent_title="B"), "x")
    assert run_id_of(STUDY, TASK, "x") != run_id_of(STUDY, TASK, "y")
    assert run_id_of(STUDY, TASK, "x") != run_id_of(STUDY, replace(TASK, agent_version="1.0.1"), "x")


def test_a_run_is_given_to_one_worker_and_only_of_its_queue(runs: RunStore) -> None:
    assert runs.claim("w", ["gpu"], lease_s=10, now=1.0) is None
    assert runs.claim("w", ["cpu"], lease_s=10, now=1.0).attempt == 1
    assert runs.claim("v", ["cpu"], lease_s=10, now=1.0) is None
    assert not runs.waiting(["cpu"], now=1.0)


def test_workers_at_once_get_different_runs(engine: Engine) -> None:
    store = RunStore(engine)
    store.enqueue(STUDY, 1, [(f"r{n}", TASK) for n in range(12)], now=0.0)
    got: list[str] = []

    def take(worker: str) -> None:
        while (run := store.claim(worker, ["cpu"], lease_s=60, now=1.0)) is not None:
            got.append(run.run_id)

    threads = [threading.Thread(target=take, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(f"r{n}" for n in range(12))


def test_a_silent_worker_loses_its_run_and_may_not_end_it(runs: RunStore) -> None:
    runs.claim("w", ["cpu"], lease_s=10, now=1.0)
    assert runs.claim("v", ["cpu"], lease_s=10, now=10.9) is None
    assert runs.claim("v", ["cpu"], lease_s=10, now=11.1).attempt == 2
    assert not runs.heartbeat("run-1", "w", step="s", fraction=0.5, lease_until=99.0)
    assert not runs.end("run-1", "w", DONE)
    assert runs.end("run-1", "v", DONE)
    assert runs.get("run-1").state is RunState.DONE


def test_a_heartbeat_keeps_the_run(runs: RunStore) -> None:
    runs.claim("w", ["cpu"], lease_s=10, now=1.0)
    assert runs.heartbeat("run-1", "w", step="lungs", fraction=0.5, lease_until=100.0)
    assert runs.claim("v", ["cpu"], lease_s=10, now=50.0) is None
    assert (runs.get("run-1").step, runs.get("run-1").fraction) == ("lungs", 0.5)


def test_a_run_fails_after_its_last_attempt_with_the_reason(runs: RunStore) -> None:
    now = 1.0
    for attempt in range(1, MAX_ATTEMPTS + 1):
        run = runs.claim("w", ["cpu"], lease_s=10, now=now)
        assert run.attempt == attempt
        runs.give_up(run, "w", "it crashed", again=True, now=now)
        assert runs.claim("w", ["cpu"], lease_s=10, now=now) is None
        now += 60.0
    assert (runs.get("run-1").state, runs.get("run-1").reason) == (RunState.FAILED, "it crashed")


def test_workers_that_die_silently_use_up_the_attempts_too(runs: RunStore) -> None:
    for attempt in range(MAX_ATTEMPTS):
        assert runs.claim(f"w{attempt}", ["cpu"], lease_s=1, now=attempt * 10.0) is not None
    assert runs.claim("last", ["cpu"], lease_s=1, now=100.0) is None
    assert runs.get("run-1").state is RunState.FAILED
    assert "stopped" in runs.get("run-1").reason


def test_what_is_useless_to_repeat_fails_at_once_and_can_be_retried_by_a_person(runs: RunStore) -> None:
    runs.claim("w", ["cpu"], lease_s=10, now=1.0)
    with pytest.raises(Conflict, match="not-failed"):
        runs.retry("run-1", now=2.0)
    runs.give_up(runs.get("run-1"), "w", "not installed", again=False, now=2.0)
    assert runs.get("run-1").state is RunState.FAILED
    again = runs.retry("run-1", now=3.0)
    assert (again.state, again.attempt, again.reason) == (RunState.QUEUED, 0, "")


def test_an_interrupted_run_goes_back_without_counting(runs: RunStore) -> None:
    runs.claim("w", ["cpu"], lease_s=10, now=1.0)
    runs.hand_back("run-1", "w")
    assert runs.claim("v", ["cpu"], lease_s=10, now=1.0).attempt == 1


def test_the_row_keeps_what_a_page_shows_of_the_outcome(runs: RunStore) -> None:
    runs.claim("w", ["cpu"], lease_s=10, now=1.0)
    runs.end("run-1", "w", Abstained(agent=AGENT, reason_code="c", reason="too few slices"))
    assert (runs.get("run-1").state, runs.get("run-1").reason) == (RunState.ABSTAINED, "too few slices")


def test_a_later_revision_with_equal_inputs_shares_the_run(runs: RunStore) -> None:
    runs.claim("w", ["cpu"], lease_s=10, now=1.0)
    runs.end("run-1", "w", DONE)
    runs.enqueue(STUDY, 2, [("run-1", TASK)], now=5.0)
    (shared,) = runs.of_revision(STUDY, 2)
    assert (shared.state, shared.facts) == (RunState.DONE, DONE.facts)


# Decisions and signatures


def test_of_two_decisions_on_one_version_the_second_is_told_to_read_again(reading: ReadingStore) -> None:
    reading.decide(STUDY, "f1", kind=DecisionKind.ACCEPT, version=0, person=ANN, at=AT)
    with pytest.raises(Conflict, match="stale"):
        reading.decide(STUDY, "f1", kind=DecisionKind.REJECT, version=0, person=ANN, at=AT)
    (now,) = reading.findings(STUDY, 1)
    assert (now.version, now.finding.state, now.decided_by) == (1, FindingState.ACCEPTED, "Ann")


def test_a_decision_about_nothing(reading: ReadingStore) -> None:
    with pytest.raises(NotFound, match="no-finding"):
        reading.decide(STUDY, "other", kind=DecisionKind.ACCEPT, version=0, person=ANN, at=AT)
    with pytest.raises(NotFound, match="no-study"):
        reading.decide("9.9", "f1", kind=DecisionKind.ACCEPT, version=0, person=ANN, at=AT)


def test_proposing_twice_keeps_the_first(reading: ReadingStore) -> None:
    reading.propose("run-1", STUDY, [replace(finding("f1"), note="changed")])
    assert [f.finding.note for f in reading.findings(STUDY, 1)] == [""]


def test_the_worklist_counts_follow_the_decisions(reading: ReadingStore) -> None:
    reading.recount(STUDY, 1, now=3.0)
    assert (reading.status(STUDY).finding_count, reading.status(STUDY).undecided) == (1, 1)
    reading.decide(STUDY, "f1", kind=DecisionKind.REJECT, version=0, person=ANN, at=AT)
    assert (reading.status(STUDY).finding_count, reading.status(STUDY).undecided) == (1, 0)


def sign(reading: ReadingStore, person: Person = ANN, sha256: str = "a" * 64) -> Report:
    return reading.sign(STUDY, 1, person=person, at=AT, expected_sha256=sha256, compose=composed)


def test_signing_waits_for_decisions_and_for_the_right_content(reading: ReadingStore) -> None:
    with pytest.raises(Conflict, match="undecided"):
        sign(reading)
    reading.decide(STUDY, "f1", kind=DecisionKind.ACCEPT, version=0, person=ANN, at=AT)
    with pytest.raises(Conflict, match="content-changed"):
        sign(reading, sha256="b" * 64)
    assert sign(reading).signature.person_name == "Ann"
    assert reading.status(STUDY).state is StudyState.SIGNED


def test_after_signing_nothing_changes(reading: ReadingStore) -> None:
    reading.decide(STUDY, "f1", kind=DecisionKind.ACCEPT, version=0, person=ANN, at=AT)
    sign(reading)
    with pytest.raises(Conflict, match=r"reading\.signed"):
        reading.decide(STUDY, "f1", kind=DecisionKind.REJECT, version=1, person=ANN, at=AT)
    with pytest.raises(Conflict, match=r"reading\.signed"):
        reading.add_own(replace(finding("own"), state=FindingState.ACCEPTED), at=AT)
    report, found = reading.signed_report(STUDY, 1)
    assert report.signature.sha256 == "a" * 64
    assert [f.finding.state for f in found] == [FindingState.ACCEPTED]


def test_a_step_that_runs_once_more_does_not_take_a_signed_study_back(reading: ReadingStore) -> None:
    reading.decide(STUDY, "f1", kind=DecisionKind.ACCEPT, version=0, person=ANN, at=AT)
    sign(reading)
    reading.progress(STUDY, 1, StudyState.READY, now=5.0)
    assert reading.status(STUDY).state is StudyState.SIGNED
    reading.progress(STUDY, 2, StudyState.RUNNING, now=6.0)
    assert reading.status(STUDY).state is StudyState.RUNNING


def test_a_study_on_its_way_is_not_signed(reading: ReadingStore) -> None:
    reading.progress(STUDY, 2, StudyState.RUNNING, now=5.0)
    with pytest.raises(Conflict, match="not-ready"):
        sign(reading)


def test_of_many_who_sign_at_once_one_wins(reading: ReadingStore) -> None:
    reading.decide(STUDY, "f1", kind=DecisionKind.ACCEPT, version=0, person=ANN, at=AT)
    won: list[str] = []
    lost: list[str] = []

    def try_it(number: int) -> None:
        person = replace(ANN, person_id=f"p{number}", name=f"P{number}")
        try:
            sign(reading, person)
            won.append(person.name)
        except Conflict as error:
            lost.append(error.code)

    threads = [threading.Thread(target=try_it, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert lost == ["reading.signed"] * 5
    assert reading.signatures(STUDY)[1].person_name == won[0]


def test_an_older_revision_does_not_move_the_study(reading: ReadingStore) -> None:
    reading.progress(STUDY, 2, StudyState.RUNNING, now=5.0)
    reading.progress(STUDY, 1, StudyState.READY, now=6.0)
    assert (reading.status(STUDY).revision, reading.status(STUDY).state) == (2, StudyState.RUNNING)


# Outbox


def made(uid: str = "5") -> DerivedObject:
    return DerivedObject(
        kind=ObjectKind.PDF,
        series_instance_uid="4",
        sop_instance_uid=uid,
        description="d",
        size_bytes=1,
        created_at=AT,
    )


def test_recording_twice_queues_once(engine: Engine) -> None:
    outbox = Outbox(engine)
    for _ in range(2):
        outbox.record(STUDY, 1, [made()], ["A@h:1", "B@h:1"], now=0.0)
    assert len(outbox.objects(STUDY)) == 1
    assert [d.destination for d in outbox.deliveries(STUDY)] == ["A@h:1", "B@h:1"]


def test_a_delivery_is_tried_later_and_later_and_then_given_up(engine: Engine) -> None:
    outbox = Outbox(engine)
    outbox.record(STUDY, 1, [made()], ["A@h:1"], now=0.0)
    now = 0.0
    for attempt in range(1, SEND_ATTEMPTS + 1):
        (due,) = outbox.due(now=now)
        outbox.not_sent(due, "no answer", again=True, now=now)
        if attempt < SEND_ATTEMPTS:
            assert outbox.due(now=now + retry_after_s(attempt) - 0.01) == ()
        now += retry_after_s(attempt)
    (given_up,) = outbox.deliveries(STUDY)
    assert (given_up.state, given_up.attempts, given_up.reason) == (
        DeliveryState.FAILED,
        SEND_ATTEMPTS,
        "no answer",
    )
    assert outbox.outstanding(STUDY, 1) == 1


def test_waits_grow_to_ten_minutes() -> None:
    waits = [retry_after_s(n) for n in range(1, 15)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (2.0, 600.0)


def test_sent_is_sent(engine: Engine) -> None:
    outbox = Outbox(engine)
    outbox.record(STUDY, 1, [made()], ["A@h:1"], now=0.0)
    outbox.sent(outbox.due(now=0.0)[0].key)
    assert outbox.due(now=1e9) == ()
    assert outbox.outstanding(STUDY, 1) == 0

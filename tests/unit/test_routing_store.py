"""The outbox of routing: queued once, held by one, resumed by the next, tried again later, never forgotten."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from polyclinic.core.errors import Conflict, NotFound
from polyclinic.departments.routing.contracts import Content, Delivery, FetchedPrior, JobState, PriorState
from polyclinic.departments.routing.prior_store import MAX_SEARCH_ATTEMPTS, PriorStore
from polyclinic.departments.routing.rules import MAX_ATTEMPTS
from polyclinic.departments.routing.store import RoutingStore
from polyclinic.departments.routing.tables import metadata
from polyclinic.edges.sql.engine import open_engine

NOW = 1_800_000_000.0
LEASE = {"now": NOW, "lease_s": 60.0}


def half() -> float:
    return 0.5


def delivery(to: str = "pacs", at: float = NOW, **more: object) -> Delivery:
    values: dict[str, object] = {"destination": to, "content": Content.ORIGINALS, "because": ("a: always",)}
    return Delivery(due_at=datetime.fromtimestamp(at, UTC), **(values | more))


@pytest.fixture
def store(tmp_path: Path) -> RoutingStore:
    engine = open_engine(f"sqlite:///{tmp_path / 'routing.sqlite'}")
    metadata.create_all(engine)
    return RoutingStore(engine)


def test_equal_work_is_queued_once_and_at_the_earliest_time(store: RoutingStore) -> None:
    late = store.enqueue("1", 1, [delivery(at=NOW + 500)], now=NOW)
    early = store.enqueue("1", 1, [delivery(at=NOW + 100, priority=4), delivery("other")], now=NOW)
    store.enqueue("1", 1, [delivery(at=NOW + 900)], now=NOW)
    assert late == early[:1]
    (job,) = [j for j in store.jobs() if j.destination == "pacs"]
    assert (job.due_at, job.priority, job.because) == (NOW + 100, 4, ("a: always",))
    assert len(store.jobs()) == 2


def test_a_later_revision_knows_what_went_before(store: RoutingStore) -> None:
    store.enqueue("1", 1, [delivery()], now=NOW)
    store.enqueue("1", 3, [delivery(), delivery("other")], now=NOW)
    assert {(j.destination, j.revision): j.since_revision for j in store.jobs()} == {
        ("pacs", 1): 0,
        ("pacs", 3): 1,
        ("other", 3): 0,
    }


def test_one_holds_a_job_until_its_lease_is_over(store: RoutingStore) -> None:
    store.enqueue("1", 1, [delivery(priority=1)], now=NOW)
    store.enqueue("2", 1, [delivery(priority=9), delivery("other")], now=NOW)
    first = store.claim("pacs", "a", **LEASE)
    assert first is not None
    assert first.study_instance_uid == "2"
    second = store.claim("pacs", "b", **LEASE)
    assert second is not None
    assert second.study_instance_uid == "1"
    assert store.claim("pacs", "c", **LEASE) is None
    assert store.advance(first.key, "a", {"1.1": "", "1.2": "no"}, total=5, **LEASE)
    again = store.claim("pacs", "c", now=NOW + 61, lease_s=60)
    assert again is not None
    assert (again.key, again.sent, again.refused, again.total) == (first.key, 1, 1, 5)
    assert store.done_of(first.key) == {"1.1", "1.2"}
    assert not store.advance(first.key, "a", {}, total=5, **LEASE)  # it was taken over


def test_what_a_dead_process_held_is_free_at_once(store: RoutingStore) -> None:
    store.enqueue("1", 1, [delivery()], now=NOW)
    assert store.claim("pacs", "dead", **LEASE)
    assert store.release(lambda holder: holder == "alive") == 0
    assert store.release(lambda holder: holder == "dead") == 1
    assert store.claim("pacs", "next", **LEASE)


def test_who_is_gone() -> None:
    from types import SimpleNamespace

    from polyclinic.journeys.neighbours import Neighbours

    here = socket.gethostname()
    me = SimpleNamespace(holder=f"{here}:{os.getpid()}:me")
    process = os.fork()
    if process == 0:
        os._exit(0)
    os.waitpid(process, 0)
    assert Neighbours.is_gone(me, f"{here}:{process}:x")
    assert Neighbours.is_gone(me, f"{here}:{os.getpid()}:an-earlier-life")
    assert not Neighbours.is_gone(me, me.holder)
    assert not Neighbours.is_gone(me, f"{here}:{os.getppid()}:x")
    assert not Neighbours.is_gone(me, f"another-machine:{process}:x")


def test_it_is_tried_again_later_and_given_up_in_the_end(store: RoutingStore) -> None:
    store.enqueue("1", 1, [delivery()], now=NOW)
    now, waits = NOW, []
    for attempt in range(1, MAX_ATTEMPTS + 1):
        job = store.claim("pacs", "a", now=now, lease_s=60)
        assert job is not None, attempt
        again = store.postpone(job, "a", "it is silent", now=now, chance=half)
        waits.append(store.job(job.key).due_at - now)
        now = max(now, store.job(job.key).due_at) + 1
    assert not again
    assert waits[:3] == [2, 4, 8]
    assert max(waits) == 600
    assert 2 * 86_400 < now - NOW < 4 * 86_400
    (failed,) = store.jobs(state=JobState.FAILED)
    assert failed.reason == "it is silent"
    assert store.retry(failed.key, now=now).state is JobState.QUEUED
    assert store.claim("pacs", "a", now=now, lease_s=60)


def test_something_that_arrives_starts_the_count_anew(store: RoutingStore) -> None:
    store.enqueue("1", 1, [delivery()], now=NOW)
    job = store.claim("pacs", "a", **LEASE)
    assert job is not None
    store.postpone(job, "a", "silent", now=NOW, chance=half)
    job = store.claim("pacs", "a", now=NOW + 10, lease_s=60)
    assert job is not None
    assert job.attempts == 1
    store.advance(job.key, "a", {"1.1": ""}, total=2, **LEASE)
    assert store.job(job.key).attempts == 0


def test_retry_of_a_refused_job_sends_only_what_was_refused(store: RoutingStore) -> None:
    (key,) = store.enqueue("1", 1, [delivery()], now=NOW)
    assert store.claim("pacs", "a", **LEASE)
    store.advance(key, "a", {"1.1": "", "1.2": "not taken"}, total=2, **LEASE)
    assert store.refusals(key) == {"1.2": "not taken"}
    store.finish(key, "a", reason="1 of 2 were refused")
    store.retry(key, now=NOW)
    assert store.done_of(key) == {"1.1"}
    assert store.claim("pacs", "a", **LEASE)
    store.advance(key, "a", {"1.2": ""}, total=2, **LEASE)
    store.finish(key, "a")
    assert (store.job(key).state, store.job(key).sent, store.done_of(key)) == (JobState.SENT, 2, frozenset())
    with pytest.raises(Conflict, match=r"routing\.not-failed"):
        store.retry(key, now=NOW)
    with pytest.raises(NotFound, match=r"routing\.no-job"):
        store.retry("none", now=NOW)


def test_jobs_for_a_destination_that_is_gone_say_so(store: RoutingStore) -> None:
    store.enqueue("1", 1, [delivery(), delivery("old")], now=NOW)
    assert store.refuse_unknown(["pacs"]) == 1
    (failed,) = store.jobs(state=JobState.FAILED)
    assert failed.destination == "old"
    assert "routing.toml" in failed.reason


def test_searches_for_priors(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'routing.sqlite'}")
    metadata.create_all(engine)
    store = PriorStore(engine)
    store.want("1", ["a", "b"], now=NOW)
    store.want("1", ["a", "b"], now=NOW + 50)
    assert (store.asked_at("1"), store.untried("1")) == (NOW, 2)
    one = store.claim("a", "me", now=NOW, lease_s=60)
    assert one is not None
    assert store.claim("a", "you", now=NOW, lease_s=60) is None
    assert store.untried("1") == 2  # it is just being asked
    store.finish(one, "me")
    other = store.claim("b", "me", now=NOW, lease_s=60)
    assert other is not None
    store.postpone(other, "me", "silent", now=NOW, chance=half)
    assert store.untried("1") == 0  # nobody waits for one that did not answer
    now = NOW
    for _ in range(MAX_SEARCH_ATTEMPTS - 1):
        now += 3600
        other = store.claim("b", "me", now=now, lease_s=60)
        assert other is not None
        again = store.postpone(other, "me", "silent", now=now, chance=half)
    assert not again
    assert {s.destination: s.state for s in store.searches("1")} == {"a": JobState.SENT, "b": JobState.FAILED}
    partial = FetchedPrior(study_instance_uid="9", destination="a", state=PriorState.PARTIAL, kept=3, expected=5)
    store.note(partial, now=NOW)
    whole = FetchedPrior(study_instance_uid="9", destination="a", state=PriorState.KEPT, kept=5, expected=5)
    store.note(whole, now=NOW)
    assert store.fetched(["9", "8"]) == (whole,)

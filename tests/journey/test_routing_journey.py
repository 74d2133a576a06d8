"""A study's own path queues what the rules ask for: at the agents' result, and once its report is signed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from house import House, images, study_uid, wait_for
from test_study_path import accept_all, sign

from polyclinic.core.errors import Unavailable
from polyclinic.departments.reading.contracts import StudyState
from polyclinic.departments.routing.contracts import (
    Content,
    Delivery,
    Destination,
    DestinationKind,
    Job,
    JobState,
    RoutingTable,
)
from polyclinic.journeys.routing_forward import Forwarder, instances_of


class Collecting:
    """Port `Outlets` that writes down what it gets; `trouble` may refuse or raise."""

    def __init__(self, trouble: Callable[[str], str] = lambda uid: "") -> None:
        self.got: list[str] = []
        self.trouble = trouble

    @contextmanager
    def open(self, destination: Destination, kinds: Collection[tuple[str, str]]) -> Iterator[Collecting]:
        yield self

    def send(self, sop_instance_uid: str, alive: Callable[[], None]) -> str:
        refusal = self.trouble(sop_instance_uid)
        if not refusal:
            self.got.append(sop_instance_uid)
        return refusal


def jobs_of(house: House, study: str) -> dict[Content, Job]:
    found = house.services.rooms.neighbours.jobs.jobs(study_instance_uid=study_uid(study))
    return {job.content: job for job in found}


def test_results_and_signed_reports_are_queued(house: House) -> None:
    house.store(images("routed", description="routed"))
    house.store(images("unrouted"))
    house.wait("routed", StudyState.READY)
    results = wait_for(lambda: jobs_of(house, "routed"))
    assert set(results) == {Content.ORIGINALS}
    assert results[Content.ORIGINALS].because == (
        "results: agent-result, series_description routed, agent quick_agent",
    )
    accept_all(house, "routed")
    sign(house, "routed")
    house.wait("routed", StudyState.DELIVERED)
    wait_for(lambda: len(jobs_of(house, "routed")) == 3)
    queued = jobs_of(house, "routed")
    kinds = {one.sop_instance_uid: one.kind.value for one in house.services.rooms.outbox.objects(study_uid("routed"))}
    sent = {
        content: sorted(kinds.get(one.sop_instance_uid, "image") for one in instances_of(house.services.rooms, job))
        for content, job in queued.items()
    }
    assert sent == {
        Content.ORIGINALS: ["image"] * 5,
        Content.DERIVED: ["KO", "SEG", "SR"],
        Content.REPORT: ["PDF"],
    }
    house.wait("unrouted", StudyState.READY)
    assert jobs_of(house, "unrouted") == {}


def test_trouble_with_single_instances_holds_up_no_others(house: House) -> None:
    house.store(images("troubled", slices=6))
    house.wait("troubled", StudyState.READY)
    clock = [house.services.rooms.now()]
    shelf = Destination(name="shelf")
    asked: list[str] = []

    def trouble(uid: str) -> str:
        asked.append(uid)
        if len(asked) == 2:
            return "it is too large"
        if len(asked) == 3:
            raise Unavailable("routing.not-now", "its disk is full")
        if len(asked) == 5:
            raise Unavailable("dimse.peer-lost", "the connection broke")
        return ""

    outlet = Collecting(trouble)
    neighbours = dataclasses.replace(
        house.services.rooms.neighbours,
        table=RoutingTable(destinations=(shelf,)),
        outlets={DestinationKind.DICOM: outlet},
    )
    rooms = dataclasses.replace(house.services.rooms, neighbours=neighbours, now=lambda: clock[0])
    due = house.services.archive.study(study_uid("troubled")).last_received_at
    wanted = Delivery(destination="shelf", content=Content.ORIGINALS, due_at=due)
    (key,) = neighbours.jobs.enqueue(study_uid("troubled"), 1, [wanted], now=clock[0])
    forwarder = Forwarder(rooms, neighbours, shelf)
    assert forwarder.turn() == 0
    job = neighbours.jobs.job(key)
    assert (job.state, job.sent, job.refused, job.total) == (JobState.QUEUED, 2, 1, 6)
    assert job.reason == "the connection broke"
    clock[0] += 60
    assert forwarder.turn() == 1
    job = neighbours.jobs.job(key)
    assert (job.state, job.sent, job.refused) == (JobState.FAILED, 5, 1)
    assert job.reason == "1 of 6 were refused. it is too large"
    assert len(outlet.got) == len(set(outlet.got)) == 5  # what had arrived was not sent again

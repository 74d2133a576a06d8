"""What failed for good after the signature can be taken up again: sending one object, or making all of them."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from fastapi import FastAPI
from house import House, images, study_uid, wait_for
from sqlalchemy.exc import OperationalError
from test_reading_api import Browser, ann, app, bob, decide, proposed, sign, study, tom, visitor

from polyclinic.core.errors import Rejected
from polyclinic.departments.reading.contracts import Delivery, DeliveryState, DerivedObject, ObjectKind, StudyState
from polyclinic.journeys import study as path
from polyclinic.journeys.rooms import Rooms
from polyclinic.journeys.study import depart, resume
from polyclinic.journeys.watchers import senders
from polyclinic.screens.worklist import WorklistScreen

__all__ = ["ann", "app", "bob", "study", "tom", "visitor"]

FAR_FUTURE = 9e12
"""Due only for a sender whose clock is there; the house's own loop leaves it alone."""


def failed_delivery(house: House, study: str) -> Delivery:
    """A delivery of a signed study that its destination refused."""
    outbox, uid = house.services.rooms.outbox, study.rsplit("/", 1)[1]
    wait_for(lambda: outbox.objects(uid))
    outbox.record(uid, 1, outbox.objects(uid)[:1], ["PEER@nowhere:1"], now=FAR_FUTURE)
    (item,) = outbox.deliveries(uid)
    assert not outbox.not_sent(item, "The destination does not take this object", again=False, now=0.0)
    return item


def test_a_delivery_that_failed_for_good_is_tried_again(ann: Browser, tom: Browser, study: str, house: House) -> None:
    decide(ann, study, proposed(ann, study), decision="accept")
    assert sign(ann, study).status_code == 200
    item = failed_delivery(house, study)
    (shown,) = tom.get(f"{study}/deliveries").json()
    assert (shown["key"], shown["state"]) == (item.key, "failed")

    answer = tom.post(f"{study}/deliveries/{item.key}/retry", {})
    assert answer.status_code == 200, answer.text
    assert {k: answer.json()[k] for k in ("state", "attempts", "reason")} == {
        "state": "queued",
        "attempts": 0,
        "reason": "",
    }


def test_only_a_failed_delivery_is_tried_again(ann: Browser, study: str, house: House) -> None:
    decide(ann, study, proposed(ann, study), decision="accept")
    sign(ann, study)
    item = failed_delivery(house, study)
    house.services.rooms.outbox.sent(item.key)
    assert ann.post(f"{study}/deliveries/{item.key}/retry", {}).json()["code"] == "reading.delivery-not-failed"
    assert ann.post(f"{study}/deliveries/nothing/retry", {}).status_code == 404
    other = f"/studies/{study_uid('another')}"
    assert ann.post(f"{other}/deliveries/{item.key}/retry", {}).status_code == 404


def test_objects_that_could_not_be_made_are_made_when_asked_again_and_once(
    ann: Browser, tom: Browser, study: str, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid, build, built = study.rsplit("/", 1)[1], path.build_objects, []

    def broken(*_: object) -> None:
        raise Rejected("test.broken", "The pixel data cannot be printed")

    monkeypatch.setattr(path, "build_objects", broken)
    decide(ann, study, proposed(ann, study), decision="accept")
    sign(ann, study)
    reading = house.services.rooms.reading
    wait_for(lambda: reading.status(uid).reason)
    assert reading.status(uid).state is StudyState.SIGNED

    def counted(*arguments: object) -> object:
        built.append(uid)
        return build(*arguments)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(path, "build_objects", counted)
    # The start after a crash takes it up by itself, and what it began is not begun a second time.
    resume(house.services.rooms)
    resume(house.services.rooms)
    assert tom.post(f"{study}/retry", {}).status_code in {200, 409}
    wait_for(lambda: reading.status(uid).state is StudyState.DELIVERED)
    assert built == [uid]
    assert reading.status(uid).reason == ""
    assert tom.post(f"{study}/retry", {}).json()["code"] == "reading.nothing-failed"


def test_a_signature_stands_when_its_journey_cannot_start_and_is_taken_up_later(
    ann: Browser, study: str, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    decide(ann, study, proposed(ann, study), decision="accept")
    with monkeypatch.context() as patch:
        patch.setattr(path.durable, "start_again", full)
        assert sign(ann, study).json()["state"] == "final"
    reading, uid = house.services.rooms.reading, study.rsplit("/", 1)[1]
    assert reading.status(uid).state is StudyState.SIGNED
    depart(house.services.rooms)
    depart(house.services.rooms)
    wait_for(lambda: reading.status(uid).state is StudyState.DELIVERED)


def test_a_full_disk_is_told_as_such(app: FastAPI, ann: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OperationalError("UPDATE", {}, Exception("database or disk is full"))

    monkeypatch.setattr(WorklistScreen, "page", full)
    answer = ann.get("/worklist")
    assert (answer.status_code, answer.json()["code"]) == (503, "server.database")


def test_a_study_that_failed_before_its_runs_is_taken_up_again(
    house: House, tom: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise Rejected("test.broken", "The plan cannot be made")

    with monkeypatch.context() as patch:
        patch.setattr(path, "planned_series", broken)
        house.store(images("unplanned"))
        assert house.wait("unplanned", StudyState.FAILED).reason == "The plan cannot be made"
    answer = tom.post(f"/studies/{study_uid('unplanned')}/retry", {})
    assert answer.status_code == 200, answer.text
    assert house.wait("unplanned", StudyState.READY).finding_count == 1


def arrived(rooms: Rooms, uid: str) -> set[str]:
    return {d.destination for d in rooms.outbox.deliveries(uid) if d.state is DeliveryState.SENT}


def test_a_destination_that_says_nothing_holds_up_only_itself(house: House) -> None:
    rooms, uid = house.services.rooms, study_uid("hung")
    house.store(images("hung", slices=1))
    house.wait("hung", StudyState.READY, StudyState.FAILED)
    (image,) = rooms.archive.instances(uid)
    made = DerivedObject(
        kind=ObjectKind.PDF,
        series_instance_uid=image.series_instance_uid,
        sop_instance_uid=image.sop_instance_uid,
        description="",
        size_bytes=1,
        created_at=datetime.now(UTC),
    )
    rooms.outbox.record(uid, 1, [made], ["HANG@h:1", "GOOD@h:1", "OLD@h:1"], now=FAR_FUTURE)
    answered, hanging = threading.Event(), threading.Event()

    def send(destination: str, _part10: bytes) -> None:
        if destination == "HANG@h:1":
            hanging.set()
            assert answered.wait(30)

    fields = {name: getattr(rooms, name) for name in Rooms.__dataclass_fields__}
    far = Rooms(**(fields | {"send": send, "now": lambda: FAR_FUTURE, "destinations": ("HANG@h:1", "GOOD@h:1")}))
    loops = [sender.loop() for sender in senders(far)]
    for loop in loops:
        loop.start()
    try:
        assert hanging.wait(10)
        wait_for(lambda: arrived(rooms, uid) == {"GOOD@h:1", "OLD@h:1"}, limit_s=20)
    finally:
        answered.set()
        for loop in loops:
            loop.stop()

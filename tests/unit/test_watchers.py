"""The loops go on: one study or delivery that fails holds up no other."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from polyclinic.core.errors import Rejected, Unavailable
from polyclinic.departments.archive.ports import UnsettledStudy
from polyclinic.departments.reading.contracts import Delivery, ObjectKind, StudyState
from polyclinic.journeys import watchers
from polyclinic.journeys.watchers import Loop, OutboxSender, SettlingWatcher

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PATIENT = "Doe^John"


def test_a_study_that_cannot_settle_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    quiet = NOW - timedelta(seconds=60)
    studies = [
        UnsettledStudy(
            study_instance_uid=uid,
            instance_count=1,
            first_received_at=quiet,
            last_received_at=quiet,
            open_associations=0,
        )
        for uid in ("1.1", "1.2", "1.3")
    ]
    rooms = SimpleNamespace(now=NOW.timestamp, archive=SimpleNamespace(unsettled=lambda: studies))
    settled: list[str] = []

    def settle(_rooms: object, uid: str, _evidence: str) -> None:
        if uid == "1.1":
            raise ValueError(PATIENT)
        settled.append(uid)

    monkeypatch.setattr(watchers, "settle", settle)
    assert SettlingWatcher(rooms, quiet_s=30.0, limit_s=600.0).turn() == 2
    assert settled == ["1.2", "1.3"]
    assert "ValueError" in caplog.text
    assert PATIENT not in caplog.text


def test_a_settled_study_whose_journey_could_not_start_is_sent_on_later(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = NOW - timedelta(seconds=60)
    study = UnsettledStudy(
        study_instance_uid="1.1",
        instance_count=1,
        first_received_at=quiet,
        last_received_at=quiet,
        open_associations=0,
    )
    waiting, clock, tried = [study], [NOW.timestamp()], []
    rooms = SimpleNamespace(now=lambda: clock[0], archive=SimpleNamespace(unsettled=lambda: waiting))

    def settle(_rooms: object, uid: str, _evidence: str) -> None:
        tried.append(uid)
        # The snapshot is made, so the archive has nothing to tell; then the disk is full.
        waiting.clear()
        if len(tried) == 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(watchers, "settle", settle)
    watcher = SettlingWatcher(rooms, quiet_s=30.0, limit_s=600.0)
    assert [watcher.turn(), watcher.turn()] == [0, 0]
    assert tried == ["1.1"], "it is not tried many times a second"
    clock[0] += 10.0
    assert [watcher.turn(), watcher.turn()] == [1, 0]
    assert tried == ["1.1", "1.1"]


class Post:
    """An outbox of three deliveries that notes what became of each."""

    def __init__(self) -> None:
        self.fate: dict[str, object] = {}

    def due(self, *, now: float, **_: object) -> list[Delivery]:
        return [
            Delivery(
                key=key,
                study_instance_uid="1.1",
                revision=1,
                destination="A@h:1",
                kind=ObjectKind.PDF,
                sop_instance_uid=key,
            )
            for key in ("unexpected", "refused", "down", "good")
        ]

    def not_sent(self, item: Delivery, reason: str, *, again: bool, now: float) -> bool:
        self.fate[item.key] = again
        return again

    def sent(self, key: str) -> None:
        self.fate[key] = "sent"

    def outstanding(self, uid: str, revision: int) -> int:
        return 3


def test_each_delivery_meets_its_own_fate() -> None:
    said: list[tuple[StudyState, str]] = []

    def progress(_uid: str, _revision: int, state: StudyState, *, now: float, reason: str) -> None:
        said.append((state, reason))

    def send(_destination: str, part10: bytes) -> None:
        errors = {
            b"unexpected": ValueError("x"),
            b"refused": Rejected("dimse.refused", "It does not take this"),
            b"down": Unavailable("dimse.down", "No answer"),
        }
        if part10 in errors:
            raise errors[part10]

    post = Post()
    rooms = SimpleNamespace(
        now=NOW.timestamp,
        outbox=post,
        stopping=threading.Event(),
        archive=SimpleNamespace(read=str.encode),
        reading=SimpleNamespace(progress=progress),
        send=send,
    )
    assert OutboxSender(rooms).turn() == 1
    assert post.fate == {"unexpected": True, "refused": False, "down": True, "good": "sent"}
    assert said == [(StudyState.SIGNED, "PDF was not delivered to A@h:1: It does not take this")]


def test_a_loop_outlives_a_bad_turn_and_stops_when_asked() -> None:
    turns: list[int] = []
    third = threading.Event()

    def turn() -> None:
        turns.append(len(turns))
        if len(turns) == 1:
            raise RuntimeError
        if len(turns) == 3:
            third.set()

    loop = Loop("test", turn, every_s=0.01)
    loop.start()
    assert third.wait(10)
    loop.stop()
    count = len(turns)
    threading.Event().wait(0.1)
    assert len(turns) == count

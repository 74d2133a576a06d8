"""Loops beside the journeys: one notices that a study is complete, one sends what is due."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from polyclinic.core.errors import PolyclinicError, Rejected
from polyclinic.departments.archive.ports import UnsettledStudy
from polyclinic.departments.reading.contracts import Delivery, MessageKind, StudyState
from polyclinic.journeys.orders import modality_has_ended
from polyclinic.journeys.results import send_result
from polyclinic.journeys.rooms import Rooms
from polyclinic.journeys.study import settle

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.25
_STOP_LIMIT_S = 5.0
_AGAIN_AFTER_S = 5.0


def settled(study: UnsettledStudy, *, now: datetime, quiet_s: float, limit_s: float) -> str | None:
    """Why the study may be held complete, or None when it may still be arriving.

    The end of every association that sent to the study, and then a quiet time, is the evidence. A sender that
    leaves its association open is waited for until nothing has come for `limit_s`.
    """
    silent_s = (now - study.last_received_at).total_seconds()
    if study.open_associations == 0 and silent_s >= quiet_s:
        return f"associations ended, no new image for {quiet_s:g} s"
    if silent_s >= max(quiet_s, limit_s):
        return f"an association is still open, but no new image for {limit_s:g} s"
    return None


def log_failure(what: str, error: Exception) -> None:
    """Where it failed, without the error's own text, which may hold what is about a patient."""
    log.error("%s: %s\n%s", what, type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))


class Loop:
    """A thread that does something again and again until it is stopped; an error is logged, and it goes on."""

    def __init__(self, name: str, turn: Callable[[], object], *, every_s: float) -> None:
        self._turn = turn
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the turn in hand, which is waited for a few seconds; a thread that hangs ends with the process."""
        self.stop_soon()
        self._thread.join(timeout=_STOP_LIMIT_S)

    def stop_soon(self) -> None:
        """Begin no further turn."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - a loop outlives a bad turn; what failed stands in the log
                log_failure(self._thread.name, error)
                self._stopping.wait(1.0)
            self._stopping.wait(self._every_s)


class SettlingWatcher:
    """Sends each study on its way once it has settled."""

    def __init__(self, rooms: Rooms, *, quiet_s: float, limit_s: float) -> None:
        self._rooms = rooms
        self._quiet_s = quiet_s
        self._limit_s = limit_s
        self._failed: dict[str, str] = {}
        """Evidence of studies that could not be sent on; the archive may hold them settled already."""
        self._not_before: dict[str, float] = {}

    def turn(self) -> int:
        """Look at every unsettled study once; how many were sent on."""
        now = self._rooms.now()
        begun = 0
        for uid, evidence in self._complete(datetime.fromtimestamp(now, UTC)).items():
            if now < self._not_before.get(uid, 0.0):
                continue
            try:
                settle(self._rooms, uid, evidence)
            except Exception as error:  # noqa: BLE001 - one study that cannot settle must not hold up the others
                log_failure("settling a study", error)
                self._failed[uid] = evidence
                self._not_before[uid] = now + _AGAIN_AFTER_S
                continue
            begun += 1
            self._failed.pop(uid, None)
            self._not_before.pop(uid, None)
        return begun

    def _complete(self, now: datetime) -> dict[str, str]:
        """Evidence by study: those that are complete, and those that failed before and have not grown since."""
        unsettled = self._rooms.archive.unsettled()
        growing = {study.study_instance_uid for study in unsettled}
        complete = {uid: evidence for uid, evidence in self._failed.items() if uid not in growing}
        for study in unsettled:
            evidence = settled(study, now=now, quiet_s=self._quiet_s, limit_s=self._limit_s)
            if evidence is None and self._rooms.record is not None:
                evidence = modality_has_ended(self._rooms.record, self._rooms.archive, study)
            if evidence is not None:
                complete[study.study_instance_uid] = evidence
        return complete

    def loop(self) -> Loop:
        """The thread that looks a few times a second."""
        return Loop("settling", self.turn, every_s=_LOOK_EVERY_S)


class OutboxSender:
    """Sends what is due, later again where that may help.

    Parameters
    ----------
    to
        The only destination to serve: a peer that takes a connection and then says nothing holds up its own alone.
    not_to
        Destinations that others serve. What was queued before the settings changed goes out too.
    """

    def __init__(self, rooms: Rooms, *, to: str = "", not_to: Sequence[str] = ()) -> None:
        self._rooms = rooms
        self._to = to
        self._not_to = not_to

    def turn(self) -> int:
        """Try everything that is due once; how many arrived."""
        arrived = 0
        for item in self._rooms.outbox.due(now=self._rooms.now(), to=self._to, not_to=self._not_to):
            if self._rooms.stopping.is_set():
                break
            try:
                arrived += self._send(item)
            except Exception as error:  # noqa: BLE001 - one delivery that cannot be tried must not hold up the others
                log_failure("a delivery", error)
                reason = f"An unexpected {type(error).__name__} stopped it; the server log says more"
                self._rooms.outbox.not_sent(item, reason, again=True, now=self._rooms.now())
        return arrived

    def loop(self) -> Loop:
        """The thread that sends."""
        return Loop(f"outbox {self._to}".strip(), self.turn, every_s=_LOOK_EVERY_S)

    def _send(self, item: Delivery) -> bool:
        rooms = self._rooms
        started = time.monotonic()
        try:
            if isinstance(item.kind, MessageKind):
                send_result(rooms, item)
            else:
                rooms.send(item.destination, rooms.archive.read(item.sop_instance_uid))
        except PolyclinicError as error:
            useful = not isinstance(error, Rejected)
            again = rooms.outbox.not_sent(item, error.message, again=useful, now=rooms.now())
            log.warning("delivery of a %s to %s failed: %s", item.kind, item.destination, error.code)
            if not again:
                reason = f"{item.kind} was not delivered to {item.destination}: {error.message}"
                rooms.reading.progress(
                    item.study_instance_uid, item.revision, StudyState.SIGNED, now=rooms.now(), reason=reason
                )
            return False
        rooms.outbox.sent(item.key)
        log.info("%s sent to %s in %.2f s", item.kind, item.destination, time.monotonic() - started)
        if rooms.outbox.outstanding(item.study_instance_uid, item.revision) == 0:
            rooms.reading.delivered(item.study_instance_uid, item.revision, now=rooms.now())
        return True


def senders(rooms: Rooms) -> tuple[OutboxSender, ...]:
    """One for each destination, and one for what was queued for a destination that is in the settings no longer."""
    known = (*rooms.destinations, *rooms.results_to)
    return (*(OutboxSender(rooms, to=destination) for destination in known), OutboxSender(rooms, not_to=known))

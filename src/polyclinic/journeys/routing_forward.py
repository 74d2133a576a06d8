"""Sends what routing has queued: a thread for each connection to each destination, so that none waits for another."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from datetime import UTC, datetime

from polyclinic.core.errors import NotFound, Rejected, Unavailable
from polyclinic.departments.archive.contracts import DERIVED_SOURCE, InstanceRecord
from polyclinic.departments.reading.contracts import ObjectKind
from polyclinic.departments.routing.contracts import Content, Destination, Job, Standing
from polyclinic.departments.routing.rules import next_open, retry_after_s
from polyclinic.journeys.neighbours import Neighbours
from polyclinic.journeys.rooms import Rooms
from polyclinic.journeys.routing_commitment import Committing
from polyclinic.journeys.watchers import Loop, log_failure

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.25
_LEASE_S = 120.0
"""Longer than a destination may take to answer, so that nobody takes a job from a holder who waits."""
_SAY_EVERY_S = 1.0
_SAY_EVERY = 25
"""Instances after which their arrival is noted at the latest; after a crash so many are sent twice at most."""
_LONGEST_PAUSE_S = 30.0
"""After this time a destination that was silent is tried again with the next job."""
_LATEST_FAILURES = 10
"""Instances in a row that a destination cannot keep now, after which it is left alone for a while."""


def forwarders(rooms: Rooms) -> tuple[Forwarder, ...]:
    """One for each connection that a destination allows."""
    neighbours = rooms.neighbours
    if neighbours is None:
        return ()
    return tuple(
        Forwarder(rooms, neighbours, destination)
        for destination in neighbours.table.destinations
        for _ in range(destination.connections)
    )


def take_up(neighbours: Neighbours) -> None:
    """Once after the start: free what an earlier process held, and end what can go nowhere any more."""
    neighbours.jobs.release(neighbours.is_gone)
    neighbours.jobs.refuse_unknown(d.name for d in neighbours.table.destinations)
    neighbours.prior_searches.release(neighbours.is_gone)
    neighbours.prior_searches.give_up_unknown(d.name for d in neighbours.priors_from)


class Forwarder:
    """Works on one job for one destination at a time."""

    def __init__(self, rooms: Rooms, neighbours: Neighbours, destination: Destination) -> None:
        self._rooms = rooms
        self._neighbours = neighbours
        self._destination = destination
        self._committing = (
            Committing(destination, neighbours.responsibility, neighbours.jobs) if destination.commitment else None
        )
        self._failures = 0
        """Times in a row that the destination could not be sent to."""
        self._not_before = 0.0

    def loop(self) -> Loop:
        """The thread that sends."""
        return Loop(f"forward {self._destination.name}", self.turn, every_s=_LOOK_EVERY_S)

    def turn(self) -> int:
        """Work on everything that is due; how many jobs ended."""
        ended = 0
        while not self._rooms.stopping.is_set() and self._closed_until() is None:
            if self._rooms.now() < self._not_before:
                break  # it has just been silent, and would be for every other job
            job = self._neighbours.jobs.claim(
                self._destination.name, self._neighbours.holder, now=self._rooms.now(), lease_s=_LEASE_S
            )
            if job is None:
                break
            try:
                ended += self._forward(job)
            except Exception as error:  # noqa: BLE001 - one job that cannot be tried must not hold up the others
                log_failure("a forward", error)
                self._postpone(job, f"An unexpected {type(error).__name__} stopped it; the server log says more")
        return ended

    def _closed_until(self) -> float | None:
        hours = self._destination.hours
        if hours is None:
            return None
        now = datetime.fromtimestamp(self._rooms.now(), UTC)
        opens = next_open(now, [hours])
        return opens.timestamp() if opens and opens > now else None

    def _forward(self, job: Job) -> bool:
        """Send what is left of a job; whether it ended."""
        jobs, holder = self._neighbours.jobs, self._neighbours.holder
        try:
            wanted = instances_of(self._rooms, job)
        except NotFound:
            jobs.finish(job.key, holder, reason="The study is here no longer")
            return True
        standing = self._prepared(job)
        done = jobs.done_of(job.key)
        left = [one for one in wanted if one.sop_instance_uid not in done]
        progress = _Progress(self._rooms, self._neighbours, job, total=len(wanted))
        try:
            whole = self._send(left, progress)
        except (Unavailable, Rejected) as error:
            progress.say()
            self._postpone(job, error.message)
            self._failures += 1
            self._not_before = self._rooms.now() + min(_LONGEST_PAUSE_S, retry_after_s(self._failures, random.random))
            log.warning("forward to %s stopped: %s", self._destination.name, error.code)
            return False
        progress.say()
        self._failures = 0
        if not whole:
            jobs.hand_back(job.key, holder, due_at=self._closed_until())
            return False
        refusals = jobs.refusals(job.key)
        if not self._is_committed(job, standing, [one for one in wanted if one.sop_instance_uid not in refusals]):
            return False
        reason = f"{len(refusals)} of {len(wanted)} were refused. {next(iter(refusals.values()))}" if refusals else ""
        jobs.finish(job.key, holder, reason=reason)
        detail = {"destination": self._destination.name, "content": job.content.value, "instances": str(len(wanted))}
        self._neighbours.note("study.forward", job.study_instance_uid, detail | {"refused": str(len(refusals))})
        log.info("forwarded %d instances to %s, %d refused", len(left), self._destination.name, len(refusals))
        return True

    def _prepared(self, job: Job) -> Standing:
        if self._committing is None:
            return Standing()
        return self._committing.prepare(job, self._neighbours.holder, now=self._rooms.now(), lease_s=_LEASE_S)

    def _is_committed(self, job: Job, standing: Standing, sent: Sequence[InstanceRecord]) -> bool:
        """Whether nothing is to be waited for; the job is let go where something is."""
        if self._committing is None:
            return True
        try:
            waiting = self._committing.waits(job, standing, sent, now=self._rooms.now())
        except (Unavailable, Rejected) as error:
            self._postpone(job, error.message)
            log.warning("%s was not asked to commit: %s", self._destination.name, error.code)
            return False
        if waiting is None:
            return True
        if waiting.late:
            self._postpone(job, waiting.reason)
        else:
            holder = self._neighbours.holder
            self._neighbours.jobs.hand_back(job.key, holder, due_at=waiting.due_at, reason=waiting.reason)
        return False

    def _send(self, left: Sequence[InstanceRecord], progress: _Progress) -> bool:
        """Whether everything was tried; not when the process stops, the destination closes or another took the job.

        Raises
        ------
        Unavailable
            Some could not be sent now.
        """
        outlets = self._neighbours.outlets[self._destination.kind]
        kinds = {(one.sop_class_uid, one.transfer_syntax_uid) for one in left}
        failed: list[Unavailable] = []
        in_a_row = 0
        with outlets.open(self._destination, kinds) as outlet:
            for one in left:
                if self._rooms.stopping.is_set() or progress.lost or self._closed_until() is not None:
                    return False
                try:
                    progress.done(one.sop_instance_uid, outlet.send(one.sop_instance_uid, progress.alive))
                    in_a_row = 0
                except NotFound:
                    progress.done(one.sop_instance_uid, "The instance is here no longer")
                except Unavailable as error:
                    if error.code != "routing.not-now":
                        raise
                    failed.append(error)
                    in_a_row += 1
                    if in_a_row >= _LATEST_FAILURES:
                        break
        if failed:
            raise failed[-1]
        return True

    def _postpone(self, job: Job, reason: str) -> None:
        self._neighbours.jobs.postpone(
            job, self._neighbours.holder, reason, now=self._rooms.now(), chance=random.random
        )


class _Progress:
    """Notes what has arrived, in groups, and that this process is still at it."""

    def __init__(self, rooms: Rooms, neighbours: Neighbours, job: Job, *, total: int) -> None:
        self._rooms = rooms
        self._neighbours = neighbours
        self._job = job
        self._total = total
        self._unsaid: dict[str, str] = {}
        self._said_at = rooms.now()
        self.lost = False
        """Whether another process has taken the job."""

    def done(self, sop_instance_uid: str, refusal: str) -> None:
        """It arrived, or was refused."""
        self._unsaid[sop_instance_uid] = refusal
        if len(self._unsaid) >= _SAY_EVERY or self._rooms.now() - self._said_at >= _SAY_EVERY_S:
            self.say()

    def alive(self) -> None:
        """Within an instance that takes long."""
        if self._rooms.now() - self._said_at >= _LEASE_S / 4:
            self.say()

    def say(self) -> None:
        """Note it now."""
        now = self._rooms.now()
        mine = self._neighbours.jobs.advance(
            self._job.key, self._neighbours.holder, self._unsaid, total=self._total, now=now, lease_s=_LEASE_S
        )
        self.lost = not mine
        self._unsaid = {}
        self._said_at = now


def instances_of(rooms: Rooms, job: Job) -> tuple[InstanceRecord, ...]:
    """What a job sends: of originals those that the revision brought, of derived objects those made from it.

    Raises
    ------
    NotFound
        ``archive.no-snapshot``: the study was deleted.
    """
    instances = rooms.archive.instances(job.study_instance_uid)
    frozen = set(rooms.archive.load_snapshot(job.study_instance_uid, job.revision).sop_instance_uids)
    if job.content is Content.ORIGINALS:
        before: set[str] = set()
        if job.since_revision:
            earlier = rooms.archive.load_snapshot(job.study_instance_uid, job.since_revision)
            before = set(earlier.sop_instance_uids)
        wanted = frozen - before
    else:
        signature = rooms.reading.signatures(job.study_instance_uid).get(job.revision)
        made = rooms.outbox.objects(job.study_instance_uid)
        wanted = {
            one.sop_instance_uid
            for one in made
            if signature is not None
            and one.created_at == signature.at
            and (one.kind is ObjectKind.PDF) == (job.content is Content.REPORT)
        }
        instances = tuple(i for i in instances if i.source == DERIVED_SOURCE)
    return tuple(
        one
        for one in instances
        if one.sop_instance_uid in wanted
        and (not job.series_instance_uids or one.series_instance_uid in job.series_instance_uids)
    )

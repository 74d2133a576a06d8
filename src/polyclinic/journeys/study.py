"""The one path of a study. Read it from top to bottom:

receive -> settle -> gather -> plan -> run -> check -> draft -> decide -> sign -> deliver -> watch

Receiving is the archive's (`edges/dimse`, `edges/dicomweb`): an image is answered with success once it is durable.
Deciding is the physician's (`departments/reading/api.py`). Everything else is here, in order. Each `step` is done once;
after a crash the journey goes on with the first step that is not done (`durable.py` says how).
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime

from dbos import DBOS
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from polyclinic.agentkit.outcome import Assessed
from polyclinic.core.errors import PolyclinicError
from polyclinic.departments.reading import checks, rules
from polyclinic.departments.reading.contracts import AgentRun, RunState, StudyState
from polyclinic.departments.reading.runs import run_id_of
from polyclinic.departments.records.rules import context_of
from polyclinic.departments.routing.contracts import Trigger
from polyclinic.journeys import durable
from polyclinic.journeys.case_files import extent_of, inputs_sha256, planned_series, snapshot_instances
from polyclinic.journeys.case_priors import prior_inputs, relevant_priors
from polyclinic.journeys.objects import build_objects
from polyclinic.journeys.orders import orders_of, with_order
from polyclinic.journeys.outcomes import load_outcome
from polyclinic.journeys.priors_wait import await_priors
from polyclinic.journeys.rooms import Rooms
from polyclinic.journeys.routing import send_on

log = logging.getLogger(__name__)

NO_AGENT = "No agent for this study"
"""Stands on the worklist where nobody but the reader looks at the images."""

SIGNED_BEFORE = "Images arrived after the report was signed; it stands until this revision is signed too"

_LOOK_EVERY_S = 0.1


# settle


def settle(rooms: Rooms, study_instance_uid: str, evidence: str) -> None:
    """Freeze a study that is complete, and send it on its way.

    The note is written first: a crash before the journey has started is made good by `resume`.
    """
    rooms.reading.settling(study_instance_uid, evidence, now=rooms.now())
    rooms.observe("before", "settle")
    at = datetime.fromtimestamp(rooms.now(), UTC)
    snapshot = rooms.archive.snapshot(study_instance_uid, evidence=evidence, at=at)
    rooms.observe("after", "settle")
    workflow_id = f"study:{study_instance_uid}:r{snapshot.revision}"
    durable.start(read, workflow_id, study_instance_uid, snapshot.revision)


@DBOS.workflow(name="read")
def read(study_instance_uid: str, revision: int) -> None:
    """From a settled study to a draft that waits for a physician."""
    try:
        send_on(study_instance_uid, revision, Trigger.SETTLED.value)
        await_priors(study_instance_uid)
        gather(study_instance_uid, revision)
        run_ids = plan(study_instance_uid, revision)
        run(study_instance_uid, revision, run_ids)
        check(study_instance_uid, revision, run_ids)
        draft(study_instance_uid, revision, run_ids)
        send_on(study_instance_uid, revision, Trigger.ASSESSED.value)
    except Exception as error:  # noqa: BLE001 - the journey's end of the line: whatever failed, people must see it
        fail(study_instance_uid, revision, _what_failed(error))


# gather


@durable.step("gather")
def gather(rooms: Rooms, study_instance_uid: str, revision: int) -> None:
    """Context and priors from the record, once, frozen."""
    _progress(rooms, study_instance_uid, revision, "gather", 0.0)
    study = rooms.archive.study(study_instance_uid)
    others = rooms.archive.priors(study_instance_uid)
    priors = [p.study_instance_uid for p in others if p.study_date <= study.study_date]
    context = context_of(study.patient, study.study_date, priors)
    orders = orders_of(rooms.record, study) if rooms.record else ()
    rooms.records.freeze(study_instance_uid, revision, with_order(context, next(iter(orders), None)))


# plan


@durable.step("plan")
def plan(rooms: Rooms, study_instance_uid: str, revision: int) -> list[str]:
    """Which agents look at which series. Equal inputs give an equal run, which is then not run again."""
    series = planned_series(rooms.archive, study_instance_uid, revision)
    manifests = {agent_id: agent.manifest for agent_id, agent in rooms.agents.items()}
    tasks = rules.plan(series, manifests, rooms.scenarios)
    context = rooms.records.load(study_instance_uid, revision)
    instances = snapshot_instances(rooms.archive, study_instance_uid, revision)
    named = []
    for task in tasks:
        earlier = relevant_priors(rooms.archive, study_instance_uid, task, context)
        inputs = inputs_sha256(instances, task, context, prior_inputs(rooms.archive, rooms.reading, earlier))
        named.append((run_id_of(study_instance_uid, task, inputs), task))
    rooms.runs.enqueue(study_instance_uid, revision, named, now=rooms.now())
    return [run_id for run_id, _ in named]


# run


@durable.step("run")
def run(rooms: Rooms, study_instance_uid: str, revision: int, run_ids: list[str]) -> None:
    """Wait until the workers (`app/worker.py`) have ended every run, and pass their progress on."""
    shown: tuple[str, float] | None = None
    while True:
        runs = rooms.runs.many(run_ids)
        if all(one.ended for one in runs):
            return
        if shown != (now_at := _how_far(runs)):
            shown = now_at
            _progress(rooms, study_instance_uid, revision, *now_at)
        if rooms.stopping.wait(_LOOK_EVERY_S):
            raise durable.Stopping


def _how_far(runs: Sequence[AgentRun]) -> tuple[str, float]:
    busy = next((r for r in runs if r.state is RunState.RUNNING), None)
    step = (busy.step if busy else "") or "queued"
    return step, sum(1.0 if r.ended else r.fraction for r in runs) / max(1, len(runs))


# check


@durable.step("check")
def check(rooms: Rooms, study_instance_uid: str, revision: int, run_ids: list[str]) -> None:
    """Let through what can be true; hold back the rest with its reason."""
    for one in rooms.runs.many(run_ids):
        if one.state is not RunState.DONE:
            continue
        outcome = load_outcome(rooms.objects, one.run_id, masks=False)
        if not isinstance(outcome, Assessed):
            continue
        where = extent_of(rooms.archive, study_instance_uid, revision, outcome.series_instance_uid)
        kept, withheld = checks.check_outcome(
            outcome,
            manifest=rooms.agents[one.task.agent_id].manifest,
            study_instance_uid=study_instance_uid,
            extents={where.series_instance_uid: where} if where else {},
        )
        rooms.runs.withhold(one.run_id, withheld)
        rooms.reading.propose(one.run_id, study_instance_uid, kept)


# draft


@durable.step("draft")
def draft(rooms: Rooms, study_instance_uid: str, revision: int, run_ids: list[str]) -> None:
    """Open the study for its physician. The text itself is composed whenever it is looked at."""
    runs = rooms.runs.many(run_ids)
    rooms.reading.recount(study_instance_uid, revision, now=rooms.now())
    failed = [one for one in runs if one.state is RunState.FAILED]
    state = StudyState.FAILED if failed and len(failed) == len(runs) else StudyState.READY
    reason = failed[0].reason if failed else "" if runs else NO_AGENT
    if any(earlier < revision for earlier in rooms.reading.signatures(study_instance_uid)):
        reason = ". ".join(filter(None, (SIGNED_BEFORE, reason)))
    rooms.reading.progress(study_instance_uid, revision, state, now=rooms.now(), fraction=1.0, reason=reason)


@durable.step("fail")
def fail(rooms: Rooms, study_instance_uid: str, revision: int, reason: str) -> None:
    """Say on the worklist that and why a study did not come through."""
    rooms.reading.progress(
        study_instance_uid, revision, StudyState.FAILED, now=rooms.now(), fraction=1.0, reason=reason
    )


# decide: the physician, in departments/reading/api.py and rules.py
# sign: departments/reading/store.py; then `Departure.deliver`


@DBOS.workflow(name="leave")
def leave(study_instance_uid: str, revision: int) -> None:
    """From a signed report to objects that every destination has."""
    try:
        deliver(study_instance_uid, revision)
        send_on(study_instance_uid, revision, Trigger.SIGNED.value)
        watch(study_instance_uid, revision)
    except Exception as error:  # noqa: BLE001 - the journey's end of the line: whatever failed, people must see it
        not_delivered(study_instance_uid, revision, _what_failed(error))


# deliver


@durable.step("deliver")
def deliver(rooms: Rooms, study_instance_uid: str, revision: int) -> None:
    """Build SEG, SR, key object and PDF, keep them with the study, queue them for the destinations.

    Equal inputs give equal bytes, so doing it twice stores nothing twice. Sending is `watchers.OutboxSender`'s.
    """
    made = build_objects(rooms, study_instance_uid, revision)
    rooms.outbox.record(
        study_instance_uid, revision, made, rooms.destinations, results_to=rooms.results_to, now=rooms.now()
    )


# watch


@durable.step("watch")
def watch(rooms: Rooms, study_instance_uid: str, revision: int) -> None:
    """Close the journey where nothing is left to send. Agreement was counted with the signature itself."""
    if rooms.outbox.outstanding(study_instance_uid, revision) == 0:
        rooms.reading.delivered(study_instance_uid, revision, now=rooms.now())


@durable.step("not-delivered")
def not_delivered(rooms: Rooms, study_instance_uid: str, revision: int, reason: str) -> None:
    """Say on the worklist that a signed report could not be turned into objects."""
    rooms.reading.progress(study_instance_uid, revision, StudyState.SIGNED, now=rooms.now(), reason=reason)


class Departures:
    """Port `Journeys` of the reading room."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def deliver(self, study_instance_uid: str, revision: int) -> None:
        """Send a signed revision on its way out, also once more after that failed.

        The signature stands already, so a journey that cannot be started now is left for `depart`.
        """
        self._rooms.observe("before", "leave")
        try:
            durable.start_again(leave, _way_out(study_instance_uid, revision), study_instance_uid, revision)
        except SQLAlchemyError as error:
            _what_failed(error)

    def read_again(self, study_instance_uid: str, revision: int) -> None:
        """Take up a study again that failed, or whose failed run was queued once more.

        An id of its own each time: the journey before may just be at its end and not see the run that was queued.
        Every step is idempotent, so two journeys of a revision do no harm.
        """
        _progress(self._rooms, study_instance_uid, revision, "queued", 0.0)
        workflow_id = f"study:{study_instance_uid}:r{revision}:{time.time_ns()}"
        durable.start(read, workflow_id, study_instance_uid, revision)


def _way_out(study_instance_uid: str, revision: int) -> str:
    return f"deliver:{study_instance_uid}:r{revision}"


def depart(rooms: Rooms) -> None:
    """Start the way out of every signed revision that has none, because the disk was full when it was signed."""
    for study_instance_uid, revision in rooms.reading.signed_without_objects():
        durable.start(leave, _way_out(study_instance_uid, revision), study_instance_uid, revision)


def resume(rooms: Rooms) -> None:
    """Once after the start: take up what a crash left between two journeys. DBOS itself resumes those begun."""
    for status in rooms.reading.in_state(StudyState.SETTLING):
        try:
            settle(rooms, status.study_instance_uid, status.evidence)
        except PolyclinicError as error:
            # The platform starts all the same; the worklist shows which study needs a look.
            reason = _what_failed(error)
            rooms.reading.progress(
                status.study_instance_uid, status.revision, StudyState.FAILED, now=rooms.now(), reason=reason
            )
    for status in rooms.reading.in_state(StudyState.RUNNING):
        base_id = f"study:{status.study_instance_uid}:r{status.revision}"
        durable.start_again(read, base_id, status.study_instance_uid, status.revision)
    for study_instance_uid, revision in rooms.reading.signed_without_objects():
        Departures(rooms).deliver(study_instance_uid, revision)


def _progress(rooms: Rooms, study_instance_uid: str, revision: int, step: str, fraction: float) -> None:
    rooms.reading.progress(
        study_instance_uid, revision, StudyState.RUNNING, now=rooms.now(), step=step, fraction=fraction
    )


def _what_failed(error: Exception) -> str:
    """What people may read: our own errors say it themselves; of others only the kind, never their text."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("a journey stopped: %s\n%s", type(error).__name__, frames)
    if isinstance(error, PolyclinicError):
        return error.message
    if isinstance(error, OperationalError):
        return "The database could not be read or written; check that its disk has space, then try again"
    return f"An unexpected {type(error).__name__} stopped this study; the server log says more"

"""A worker: takes agent runs from the table and executes each in a warm child process that it can kill.

The supervisor holds the lease, passes progress on and enforces the limits of the manifest; the child runs agents and
nothing else. A child that dies, hangs or takes too much is replaced, and its run is tried again or fails with a
reason that people can read. When the supervisor dies its child dies with it, and the lease lets another worker go on.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from polyclinic.app.agent_process import Ended, Failed, Message, Moved, Ready, agent_process, die_with
from polyclinic.app.limited_child import LimitedChild
from polyclinic.app.logs import start_logging
from polyclinic.app.settings import Settings, load_settings
from polyclinic.app.workroom import Workroom, open_workroom
from polyclinic.core.errors import NotFound
from polyclinic.departments.reading.contracts import AgentRun
from polyclinic.journeys.outcomes import load_outcome

log = logging.getLogger("polyclinic.app.worker")

_LOOK_EVERY_S = 0.1
_SAY_EVERY_S = 0.2
_READY_LIMIT_S = 240.0
_DATABASE_AWAY_S = 2.0
_PARENT = "POLYCLINIC_WORKER_PARENT"


class Supervisor:
    """Claims runs one at a time and sees each through in a child process."""

    def __init__(self, settings: Settings, room: Workroom, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._room = room
        self._runs = room.runs
        self._clock = clock
        self._child: LimitedChild | None = None
        self.name = f"{socket.gethostname()[:40]}:{os.getpid()}"
        self.stopping = threading.Event()

    def work(self) -> None:
        """Until `stopping` is set, or the process that started this one is gone."""
        parent = int(os.environ.get(_PARENT, "0"))
        try:
            while not self.stopping.is_set() and not (parent and os.getppid() != parent):
                try:
                    self._turn()
                except SQLAlchemyError as error:
                    # The database is away, locked or not made yet.
                    log.warning("the database does not answer (%s); trying again", type(error).__name__)
                    self.stopping.wait(_DATABASE_AWAY_S)
        finally:
            self._replace()

    def _turn(self) -> None:
        """Take a run and see it through, or wait a moment."""
        now, queues = self._clock(), self._settings.worker_queues
        if not self._child_is_ready():
            return
        if not self._runs.waiting(queues, now=now):
            self.stopping.wait(_LOOK_EVERY_S)
            return
        run = self._runs.claim(self.name, queues, lease_s=self._settings.worker_lease_s, now=now)
        if run is not None:
            try:
                self._see_through(run)
            except SQLAlchemyError:
                # Nobody can say any more whose run it is; it comes back when its lease ends.
                self._replace()
                raise

    def _child_is_ready(self) -> bool:
        """Start a child where there is none; whether it has warmed up."""
        if self._child is None:
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(
                target=agent_process, args=(self._settings.environment(), theirs, os.getpid()), daemon=True
            )
            process.start()
            theirs.close()
            self._child = LimitedChild(process=process, channel=ours, started_at=self._clock())
        child = self._child
        if child.ready:
            if child.process.is_alive():
                return True
            self._replace()
            return False
        message = self._receive(child)
        if isinstance(message, Ready):
            child.ready = True
        elif isinstance(message, _Gone) or self._clock() - child.started_at > _READY_LIMIT_S:
            log.error("the agent process did not start; trying again")
            self._replace()
            self.stopping.wait(1.0)
        return child.ready

    def _see_through(self, run: AgentRun) -> None:
        child = self._child
        assert child is not None  # work() claims only when a child is ready
        log.info("run %s: %s begins, attempt %d", run.run_id, run.task.agent_id, run.attempt)
        child.channel.send(run.run_id)
        began, said, moved = self._clock(), 0.0, Moved(step="start", fraction=0.0)
        while True:
            message = self._receive(child)
            now = self._clock()
            match message:
                case Moved():
                    moved = message
                case Ended():
                    self._ended(run)
                    return
                case Failed():
                    self._runs.give_up(run, self.name, message.reason, again=message.again, now=now)
                    return
                case _Gone():
                    self._lost(run, f"The agent's process ended in the middle ({child.exit_text()})")
                    return
            if reason := self._over_limit(run, child, now - began):
                self._lost(run, reason)
                return
            if self.stopping.is_set():
                self._replace()
                self._runs.hand_back(run.run_id, self.name)
                return
            if now - said >= _SAY_EVERY_S:
                said = now
                lease_until = now + self._settings.worker_lease_s
                if not self._runs.heartbeat(
                    run.run_id, self.name, step=moved.step, fraction=moved.fraction, lease_until=lease_until
                ):
                    log.warning("run %s was taken over by another worker", run.run_id)
                    self._replace()
                    return

    def _ended(self, run: AgentRun) -> None:
        try:
            outcome = load_outcome(self._room.objects, run.run_id, masks=False)
        except NotFound:
            self._lost(run, "The agent's result was not kept")
            return
        if self._runs.end(run.run_id, self.name, outcome):
            log.info("run %s: ended", run.run_id)
        else:
            log.warning("run %s was taken over by another worker; its result stands", run.run_id)

    def _lost(self, run: AgentRun, reason: str) -> None:
        log.warning("run %s, attempt %d: %s", run.run_id, run.attempt, reason)
        self._replace()
        self._runs.give_up(run, self.name, reason, again=True, now=self._clock())

    def _over_limit(self, run: AgentRun, child: LimitedChild, elapsed_s: float) -> str:
        if elapsed_s > run.task.time_limit_s:
            return f"The agent took longer than its limit of {run.task.time_limit_s:g} s"
        if child.memory_mb > run.task.memory_limit_mb:
            return f"The agent took more memory than its limit of {run.task.memory_limit_mb} MB"
        return ""

    def _receive(self, child: LimitedChild) -> Message | _Gone | None:
        """The newest word of the child; None when it said nothing for a moment."""
        try:
            if not child.channel.poll(_LOOK_EVERY_S):
                return None if child.process.is_alive() else _Gone()
            message: Message = child.channel.recv()
            while isinstance(message, Moved) and child.channel.poll(0):
                message = child.channel.recv()
        except (EOFError, OSError):
            return _Gone()
        return message

    def _replace(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None


class _Gone:
    """The child is no more."""


def run_worker(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; the run in hand is then queued again."""
    start_logging(settings.log_level)
    parent = int(os.environ.get(_PARENT, "0"))
    if parent:
        die_with(parent)
    supervisor = Supervisor(settings, open_workroom(settings))

    def stop(_number: int, _frame: object) -> None:
        supervisor.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    supervisor.work()


def start_worker(settings: Settings) -> subprocess.Popen[bytes]:
    """A worker process on these settings that ends with the thread that calls this."""
    environment = os.environ | settings.environment() | {_PARENT: str(os.getpid())}
    command = [sys.executable, "-m", "polyclinic.app.worker"]
    return subprocess.Popen(command, env=environment)  # noqa: S603 - our own module, no outside input


if __name__ == "__main__":
    run_worker(load_settings())

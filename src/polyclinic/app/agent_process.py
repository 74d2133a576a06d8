"""The process in which agents run: it gets run ids, and answers with progress and how the run ended."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection

from polyclinic.agentkit.case import Model
from polyclinic.agentkit.manifest import InstalledAgent, Manifest
from polyclinic.agentkit.outcome import Abstained, Assessed
from polyclinic.app.logs import start_logging
from polyclinic.app.settings import load_settings
from polyclinic.app.workroom import Workroom, open_workroom
from polyclinic.core.errors import PolyclinicError, Rejected
from polyclinic.departments.reading.contracts import AgentRun
from polyclinic.edges.inference import ModelShelf
from polyclinic.journeys.case_files import case_of
from polyclinic.journeys.case_priors import priors_of
from polyclinic.journeys.outcomes import has_outcome, keep_outcome

log = logging.getLogger(__name__)

_SAY_EVERY_S = 0.05
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The agents are loaded and warm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    step: str
    fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The outcome is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    reason: str
    again: bool
    """Whether trying again may help."""


Message = Ready | Moved | Ended | Failed


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, however that happens; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class AgentTools:
    """Port `polyclinic.agentkit.case.Tools` in the agent process."""

    def __init__(self, manifest: Manifest, shelf: ModelShelf, channel: Connection) -> None:
        self._manifest = manifest
        self._shelf = shelf
        self._channel = channel
        self._said = 0.0

    def progress(self, step: str, fraction: float) -> None:
        """Pass it to the supervisor, a few times a second at most."""
        now = time.monotonic()
        if now - self._said >= _SAY_EVERY_S:
            self._said = now
            self._channel.send(Moved(step=step[:80], fraction=min(1.0, max(0.0, float(fraction)))))

    def model(self, name: str) -> Model:
        """See `Tools.model`."""
        if name not in self._manifest.weights:
            raise Rejected("agent.undeclared-model", f"The manifest lists no model {name}; add it to [weights]")
        return self._shelf.model(self._manifest.weights[name])


def agent_process(environment: Mapping[str, str], channel: Connection, parent: int) -> None:
    """Entry of the child: warm up, then run what is asked for until the channel closes."""
    die_with(parent)
    # Ctrl-C and SIGTERM are the supervisor's to handle; it ends this process when the time has come.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(environment)
    settings = load_settings()
    start_logging(settings.log_level)
    room = open_workroom(settings)
    for agent in room.agents.values():
        _warm(agent)
    channel.send(Ready())
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            channel.send(_run(room, channel.recv(), channel))


def _warm(agent: InstalledAgent) -> None:
    try:
        agent.warm()
    except Exception as error:  # noqa: BLE001 - an agent that cannot warm up says so when it is asked to run
        log.warning("agent %s did not warm up: %s", agent.manifest.id, type(error).__name__)


def _run(room: Workroom, run_id: str, channel: Connection) -> Ended | Failed:
    try:
        run = room.runs.get(run_id)
        if not has_outcome(room.objects, run_id):
            _execute(room, run, channel)
    except Rejected as error:
        return Failed(reason=error.message, again=False)
    except PolyclinicError as error:
        return Failed(reason=error.message, again=True)
    except MemoryError:
        return Failed(reason="The agent ran out of memory", again=True)
    except Exception as error:  # noqa: BLE001 - agents are other people's code; whatever they raise ends one run only
        frames = "".join(traceback.format_tb(error.__traceback__))
        log.error("run %s failed: %s\n%s", run_id, type(error).__name__, frames)
        return Failed(reason=f"The agent stopped with an unexpected {type(error).__name__}", again=True)
    return Ended()


def _execute(room: Workroom, run: AgentRun, channel: Connection) -> None:
    agent = room.agents.get(run.task.agent_id)
    if agent is None or agent.manifest.version != run.task.agent_version:
        text = f"Agent {run.task.agent_id} {run.task.agent_version} is not installed at this worker"
        raise Rejected("agent.not-installed", text)
    context = room.records.load(run.study_instance_uid, run.revision)
    tools = AgentTools(agent.manifest, room.shelf, channel)
    priors = priors_of(room.archive, room.reading, run.study_instance_uid, run.task, context)
    outcome = agent.run(case_of(room.archive, run, context, priors), tools)
    if not isinstance(outcome, (Assessed, Abstained)):
        raise Rejected("agent.no-outcome", "The agent returned no Outcome; it must return Assessed or Abstained")
    tools.progress("keep", 1.0)
    keep_outcome(room.objects, run.run_id, outcome)

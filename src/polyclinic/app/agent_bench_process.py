"""The process in which an agent is on the bench: it gets probes, and answers with what each run came to."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

from polyclinic.agentkit.bench import OWN, Execution, Guard, Probe, RunRecord, own_case
from polyclinic.agentkit.case import Case, Model
from polyclinic.agentkit.manifest import InstalledAgent
from polyclinic.app.agent_process import die_with
from polyclinic.app.agent_sources import AgentSource
from polyclinic.app.dicom_folder import read_folder
from polyclinic.core.errors import PolyclinicError, Rejected
from polyclinic.edges.inference import ModelShelf

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What the process is started with. `cases` is the folder of each given study by the name it is shown with."""

    source: AgentSource
    cases: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The agent is imported and its studies are there; or why not."""

    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """The study of the probe is made and the agent runs from now."""


class _ShelfTools:
    def __init__(self, agent: InstalledAgent, shelf: ModelShelf) -> None:
        self._agent = agent
        self._shelf = shelf

    def progress(self, step: str, fraction: float) -> None:
        """Nobody looks on."""

    def model(self, name: str) -> Model:
        if name not in self._agent.manifest.weights:
            raise Rejected("agent.undeclared-model", f"The manifest lists no model {name}; add it to [weights]")
        return self._shelf.model(self._agent.manifest.weights[name])


def bench_process(bench: Bench, channel: Connection, parent: int) -> None:
    """Entry of the child: get ready, then run every probe that comes until the channel closes."""
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.dont_write_bytecode = True
    sys.path[:0] = bench.source.search_path
    try:
        execution = _execution(bench)
    except Exception as error:  # noqa: BLE001 - other people's code is imported here; the bench says what it raised
        text = error.message if isinstance(error, PolyclinicError) else f"{type(error).__name__} while it was imported"
        channel.send(Standing(fault=text))
        return
    channel.send(Standing())
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            channel.send(_answer(execution, channel.recv(), channel))


def _answer(execution: Execution, probe: Probe, channel: Connection) -> RunRecord:
    case = execution.prepare(probe)
    if isinstance(case, RunRecord):
        return case
    channel.send(Began())
    return execution.run(case)


def _execution(bench: Bench) -> Execution:
    agent = InstalledAgent(import_module(bench.source.package))
    agent.warm()  # imports the agent's code: compiled modules are written to no cache, and imports start no process
    studies: dict[str, Case] = {OWN: own_case(agent.manifest)}
    for name, folder in bench.cases.items():
        studies[name] = _given(folder)
    guard = Guard()
    guard.install()
    tools = _ShelfTools(agent, ModelShelf(bench.source.models))
    return Execution(agent, agent.manifest, studies, tools, guard)


def _given(folder: str) -> Case:
    found = read_folder(Path(folder)).studies
    if len(found) > 1:
        raise Rejected("bench.several-studies", "A --case folder holds several studies; give one folder for each")
    return found[0].case()

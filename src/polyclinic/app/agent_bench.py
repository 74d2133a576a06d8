"""`polyclinic agent test`: the bench in a child process, under the manifest's limits of time and memory."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from polyclinic.agentkit.bench import (
    OWN,
    End,
    Kind,
    Probe,
    RunRecord,
    State,
    Verdict,
    judge,
    judge_papers,
    judge_weights,
    probes,
)
from polyclinic.agentkit.manifest import Manifest, read_manifest
from polyclinic.app.agent_bench_process import Began, Bench, Standing, bench_process
from polyclinic.app.agent_sources import AgentSource
from polyclinic.app.limited_child import LimitedChild
from polyclinic.core.errors import Rejected

_LOOK_EVERY_S = 0.02
_READY_LIMIT_S = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """Everything the bench saw."""

    manifest: Manifest | None
    verdicts: tuple[Verdict, ...]
    records: Mapping[Probe, RunRecord]

    @property
    def passed(self) -> bool:
        """Whether no rule failed."""
        return not any(verdict.state is State.FAILED for verdict in self.verdicts)


def run_bench(
    source: AgentSource,
    *,
    cases: Mapping[str, str] | None = None,
    quick: bool = False,
    on_probe: Callable[[str, float], None] = lambda _name, _share: None,
) -> BenchResult:
    """Judge an agent. A manifest or an import that fails ends the bench with that verdict.

    Parameters
    ----------
    cases
        Folder of each further study of the agent's population, by the name it is shown with.
    quick
        Few changes, and both runs that must be equal in one process.
    on_probe
        Told which probe comes next and how much is done.
    """
    try:
        manifest = read_manifest(source.folder)
    except Rejected as error:
        fault = Verdict(rule="manifest", state=State.FAILED, reason=error.message, advice="see docs/manifest.md")
        return BenchResult(manifest=None, verdicts=(fault,), records={})
    papers = [*judge_papers(manifest, source.folder)]
    papers += judge_weights(manifest, lambda name: _below(source.models, name).read_bytes())
    bench = Bench(source=source, cases=dict(cases or {}))
    asked = probes((OWN, *bench.cases), quick=quick)
    records: dict[Probe, RunRecord] = {}
    runner = _Runner(bench, manifest)
    try:
        for number, probe in enumerate(asked):
            on_probe(probe.title, number / len(asked))
            if probe.kind is Kind.AGAIN and not quick:
                runner.renew()  # an order that follows the hash seed of a process shows only in another one
            records[probe] = runner.run(probe)
    except _NoStanding as fault:
        said = Verdict(rule="answers", state=State.FAILED, reason=str(fault), advice="import the package in Python")
        return BenchResult(manifest=manifest, verdicts=(*papers, said), records={})
    finally:
        runner.end()
    return BenchResult(manifest=manifest, verdicts=(*papers, *judge(manifest, records)), records=records)


def _below(models: Path, name: str) -> Path:
    path = (models / name).resolve()
    if not path.is_relative_to(models.resolve()):
        raise FileNotFoundError(name)
    return path


class _NoStanding(Exception):
    """The agent or a study could not be made ready."""


class _Runner:
    """A child for as long as it lives; a new one after each run that had to be stopped."""

    def __init__(self, bench: Bench, manifest: Manifest) -> None:
        self._bench = bench
        self._limits = manifest.resources
        self._child: LimitedChild | None = None

    def run(self, probe: Probe) -> RunRecord:
        child = self._child or self._started()
        child.channel.send(probe)
        began: float | None = None
        highest_mb = 0.0
        while True:
            try:
                if child.channel.poll(_LOOK_EVERY_S):
                    message = child.channel.recv()
                    if isinstance(message, RunRecord):
                        return message
                    began = time.monotonic() if isinstance(message, Began) else began
            except (EOFError, OSError):
                return self._stopped(f"its process ended in the middle ({child.exit_text()})", began, highest_mb)
            if began is None:
                continue
            highest_mb = max(highest_mb, child.memory_mb)
            if time.monotonic() - began > self._limits.time_limit_s:
                limit = f"it took longer than its limit of {self._limits.time_limit_s:g} s and was stopped"
                return self._stopped(limit, began, highest_mb)
            if highest_mb > self._limits.memory_limit_mb:
                limit = f"it took more memory than its limit of {self._limits.memory_limit_mb} MB and was stopped"
                return self._stopped(limit, began, highest_mb)

    def renew(self) -> None:
        """Go on in a new process."""
        self.end()
        self._child = None

    def end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _stopped(self, reason: str, began: float | None, highest_mb: float) -> RunRecord:
        self.renew()
        elapsed_s = time.monotonic() - began if began is not None else 0.0
        return RunRecord(
            end=End.STOPPED, reason=reason, elapsed_s=round(elapsed_s, 3), peak_memory_mb=round(highest_mb, 1)
        )

    def _started(self) -> LimitedChild:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=bench_process, args=(self._bench, theirs, os.getpid()), daemon=True)
        process.start()
        theirs.close()
        child = LimitedChild(process=process, channel=ours, started_at=time.monotonic())
        self._child = child
        try:
            standing = ours.recv() if ours.poll(_READY_LIMIT_S) else Standing(fault="the agent did not load in time")
        except (EOFError, OSError):
            standing = Standing(fault=f"its process ended while it was imported ({child.exit_text()})")
        if standing.fault:
            raise _NoStanding(standing.fault)
        return child

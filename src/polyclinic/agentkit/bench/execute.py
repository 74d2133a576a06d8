"""One probe on one agent in this process."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from polyclinic.agentkit.bench.changes import NotApplicable
from polyclinic.agentkit.bench.guard import Guard
from polyclinic.agentkit.bench.probes import Probe, case_for
from polyclinic.agentkit.bench.record import End, RunRecord, record_of
from polyclinic.agentkit.case import Case, Model, Tools
from polyclinic.agentkit.manifest import Agent, Manifest
from polyclinic.core.errors import PolyclinicError


class BenchTools:
    """Tools of a run on the bench: progress goes nowhere, models come from `source` while the guard looks away."""

    def __init__(self, source: Tools, guard: Guard | None) -> None:
        self._source = source
        self._guard = guard

    def progress(self, step: str, fraction: float) -> None:
        """See `polyclinic.agentkit.case.Tools`."""
        self._source.progress(step, fraction)

    def model(self, name: str) -> Model:
        """See `polyclinic.agentkit.case.Tools`; loading a model is the platform's work."""
        aside: AbstractContextManager[None] = self._guard.standing_aside() if self._guard else nullcontext()
        with aside:
            return self._source.model(name)


class Execution:
    """Runs probes on an agent.

    Parameters
    ----------
    studies
        By name; `polyclinic.agentkit.bench.probes.OWN` must be among them.
    guard
        Installed already, or None where nothing is watched.
    """

    def __init__(
        self, agent: Agent, manifest: Manifest, studies: Mapping[str, Case], tools: Tools, guard: Guard | None = None
    ) -> None:
        self._agent = agent
        self._manifest = manifest
        self._studies = studies
        self._tools = BenchTools(tools, guard)
        # A program of its own is started by the platform's adapter, and the hook would not see into it.
        self._guard = None if manifest.command else guard

    def prepare(self, probe: Probe) -> Case | RunRecord:
        """The study of the probe, or why it is not run."""
        try:
            return case_for(probe, self._studies, self._manifest)
        except NotApplicable as reason:
            return RunRecord(end=End.NOT_RUN, reason=str(reason))

    def run(self, case: Case) -> RunRecord:
        """Run the agent on the study and judge what it returns; whatever it raises is part of the record."""
        watching: AbstractContextManager[None] = self._guard.watching() if self._guard else nullcontext()
        start_peak()
        began = time.perf_counter()
        outcome: object = None
        raised = ""
        try:
            with watching:
                outcome = self._agent.run(case, self._tools)
        except PolyclinicError as error:
            raised = f"it raised {type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001 - the bench is there to see what an agent raises
            raised = f"it raised {type(error).__name__} {_place(error)}"
        elapsed_s, peak_mb = time.perf_counter() - began, peak_memory_mb()
        trespasses = tuple(dict.fromkeys(self._guard.trespasses)) if self._guard else ()
        record = RunRecord(end=End.FAILED, reason=raised) if raised else record_of(outcome, case, self._manifest)
        return replace(record, trespasses=trespasses, elapsed_s=round(elapsed_s, 3), peak_memory_mb=round(peak_mb, 1))


def _place(error: Exception) -> str:
    """File and line where it was raised; the message may hold patient data and is left out."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def start_peak() -> None:
    """Have the kernel forget the peak memory so far; Linux only."""
    try:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        return


def peak_memory_mb() -> float:
    """Peak resident memory of this process since `start_peak`, in MB; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return 0.0
    found = next((line for line in lines if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(found.split()[1]) * 1024 / 1e6

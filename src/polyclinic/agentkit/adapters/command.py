"""A program of its own as an agent: a folder of DICOM files in, ``findings.json`` out (docs/manifest.md)."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from polyclinic.agentkit.case import Case, CaseSeries, Tools
from polyclinic.agentkit.findings_json import FindingsDocument
from polyclinic.agentkit.manifest import Manifest, read_manifest
from polyclinic.agentkit.outcome import Abstained, Assessed, Outcome
from polyclinic.core.errors import Rejected, Unavailable

MOST_BYTES = 32 * 1024**2
"""Largest findings.json that is read."""
_LOOK_EVERY_S = 0.05
_PREFIX, _LOCK = "polyclinic-agent-", "in-use"
_SETTLED_S = 60.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_KEPT_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
_DOCUMENT = TypeAdapter(FindingsDocument)


def command_agent(package: str) -> Callable[[Case, Tools], Outcome]:
    """The function ``run`` of the agent package whose manifest has ``[command]``."""
    folder = resources.files(package)
    manifest = read_manifest(folder)
    return lambda case, tools: run_command(manifest, Path(str(folder)), case, tools)


def run_command(manifest: Manifest, folder: Path, case: Case, tools: Tools) -> Outcome:
    """Give the fitting series to the program and take its findings; abstains where no series fits.

    Raises
    ------
    polyclinic.core.errors.Unavailable
        ``command.failed``: it did not start, ended with another code than 0, or took more than its limits.
    polyclinic.core.errors.Rejected
        ``command.bad-output``: findings.json is absent, too large, not valid, or about something else.
    """
    fitting = [series for series in case.series if _fits(manifest, series)]
    if not fitting:
        reason = "The study holds no series of the modality, body part and number of images that it is meant for."
        return Abstained(agent=manifest.source, reason_code=f"{manifest.id}.no-series", reason=reason)
    with _work_folder() as work:
        given, taken = Path(work, "in"), Path(work, "out")
        taken.mkdir()
        tools.progress("write images", 0.0)
        for number, series in enumerate(fitting):
            _write_series(series, given / f"{number:03d}")
        tools.progress("run the program", 0.2)
        _call(manifest, {"in": str(given), "out": str(taken), "agent": str(folder), "python": sys.executable}, work)
        tools.progress("read findings", 0.9)
        return _outcome(manifest, case, taken / "findings.json")


@contextlib.contextmanager
def _work_folder() -> Iterator[str]:
    """A folder for one run, which is gone afterwards.

    A process that is killed cannot remove its folder, and patients' images lie in it. So each folder is locked by its
    process while it is in use, and every run first removes those that nobody holds.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        _remove_if_left(left)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as work, Path(work, _LOCK).open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield work


def _remove_if_left(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / _LOCK).open("r+", encoding="ascii") as lock:
        if time.time() - folder.stat().st_mtime < _SETTLED_S:
            return  # its run may be about to lock it
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while its run goes on
        shutil.rmtree(folder, ignore_errors=True)


def _fits(manifest: Manifest, series: CaseSeries) -> bool:
    inputs = manifest.inputs
    if series.modality not in inputs.modality or len(series.datasets) < inputs.minimum_instances:
        return False
    body_part = str(series.datasets[0].get("BodyPartExamined", "") or "").strip().upper()
    return not body_part or not inputs.body_part or body_part in inputs.body_part


def _write_series(series: CaseSeries, folder: Path) -> None:
    folder.mkdir(parents=True)
    for index in range(len(series.datasets)):
        image = series.datasets[index]
        # Names count up: a UID of somebody else's making is no safe file name.
        image.save_as(folder / f"{index:05d}.dcm", enforce_file_format=True)


def _call(manifest: Manifest, places: Mapping[str, str], work: str) -> None:
    assert manifest.command is not None
    argv = list(manifest.command.argv)
    for name, place in places.items():
        argv = [part.replace(f"{{{name}}}", place) for part in argv]
    environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    environment |= {"HOME": work, "TMPDIR": work}
    limits = manifest.resources
    began = time.monotonic()
    try:
        process = subprocess.Popen(  # noqa: S603 - the installed manifest names the program, no shell is involved
            argv,
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, loaded before the fork
        )
    except OSError as error:
        raise Unavailable("command.failed", f"The agent's program cannot be started: {error.strerror}") from error
    try:
        while process.poll() is None:
            if time.monotonic() - began > limits.time_limit_s:
                raise Unavailable("command.failed", f"The agent's program took longer than {limits.time_limit_s:g} s")
            if _memory_mb(process.pid) > limits.memory_limit_mb:
                raise Unavailable("command.failed", f"The agent's program took more than {limits.memory_limit_mb} MB")
            time.sleep(_LOOK_EVERY_S)
    finally:
        _end_group(process)
    if process.returncode:
        raise Unavailable("command.failed", f"The agent's program ended with exit code {process.returncode}")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the program and what it started; nothing of it outlives the run."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _memory_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, IndexError, ValueError):
        return 0.0


def _outcome(manifest: Manifest, case: Case, path: Path) -> Outcome:
    try:
        if path.is_symlink() or path.stat().st_size > MOST_BYTES:
            raise _bad("it is too large or a link")
        document = _DOCUMENT.validate_json(path.read_bytes())
    except OSError as error:
        raise _bad("it is not there") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise _bad(f"{'.'.join(map(str, first['loc']))} {first['type']}") from error
    if document.study_instance_uid != case.study_instance_uid or len(document.runs) != 1:
        raise _bad("it is about another study, or has not one run")
    run = document.runs[0]
    if run.agent != manifest.source:
        raise _bad("its run does not name the id and version of the manifest")
    if run.abstained is not None:
        return Abstained(
            agent=run.agent,
            reason_code=run.abstained.reason_code,
            reason=run.abstained.reason,
            series_instance_uid=run.series_instance_uid,
            facts=run.facts,
        )
    return Assessed(
        agent=run.agent,
        series_instance_uid=run.series_instance_uid,
        findings=document.findings,
        facts=run.facts,
        normal=run.normal,
        not_assessed=run.not_assessed,
        seconds=run.seconds,
    )


def _bad(why: str) -> Rejected:
    return Rejected("command.bad-output", f"The findings.json of the agent's program cannot be used: {why}")

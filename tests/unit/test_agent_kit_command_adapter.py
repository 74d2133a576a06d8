"""A program of a few lines as an agent: it passes the bench, and what it does wrong fails its run with a reason."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from polyclinic.agentkit.adapters.command import run_command
from polyclinic.agentkit.bench import State
from polyclinic.agentkit.bench.synthetic import box_images, case_of
from polyclinic.agentkit.case import SilentTools
from polyclinic.agentkit.manifest import read_manifest
from polyclinic.agentkit.outcome import Abstained, Assessed
from polyclinic.app.agent_bench import run_bench
from polyclinic.app.agent_new import make_agent
from polyclinic.app.agent_sources import agent_source
from polyclinic.core.errors import PolyclinicError

PROGRAM = """
import hashlib, json, pathlib, sys
import pydicom
images = [pydicom.dcmread(p) for p in sorted(pathlib.Path(sys.argv[1]).rglob("*.dcm"))]
first = images[0]
code = {"system": "urn:polyclinic:codes", "code": "mean-pixel-value", "display": "Mean pixel value"}
agent = {"kind": "agent", "id": "program", "version": "0.1.0"}
run = {"agent": agent, "series_instance_uid": first.SeriesInstanceUID, "abstained": None, "facts": [], "normal": [],
       "not_assessed": [], "seconds": []}
findings = []
try:
    value = round(sum(sorted(float(i.pixel_array.mean()) for i in images)) / len(images), 2)
    findings = [{"id": "f-" + hashlib.sha256(first.SeriesInstanceUID.encode()).hexdigest()[:12],
                 "study_instance_uid": first.StudyInstanceUID, "code": code, "source": agent,
                 "measurements": [{"code": code, "value": value, "unit": "1", "method": "mean of all pixels"}]}]
except ValueError:
    run["abstained"] = {"reason_code": "program.unreadable", "reason": "The pixels of an image cannot be decoded."}
document = {"schema_version": "1.0", "study_instance_uid": first.StudyInstanceUID, "runs": [run], "findings": findings}
pathlib.Path(sys.argv[2], "findings.json").write_text(json.dumps(document))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    made = make_agent("program", tmp_path, "MR") / "program"
    (made / "program.py").write_text(PROGRAM, "utf-8")
    (made / "agent.py").write_text(
        "from polyclinic.agentkit.adapters.command import command_agent\n\nrun = command_agent(__package__)\n", "utf-8"
    )
    manifest = (made / "manifest.toml").read_text("utf-8").replace("time_limit_s = 60", "time_limit_s = 20")
    command = '\n[command]\nargv = ["{python}", "{agent}/program.py", "{in}", "{out}"]\n'
    (made / "manifest.toml").write_text(manifest + command, "utf-8")
    return made


def run(package: Path, program: str = PROGRAM, time_limit_s: float = 20) -> Assessed | Abstained:
    (package / "program.py").write_text(program, "utf-8")
    manifest = read_manifest(package)
    limits = manifest.resources.model_copy(update={"time_limit_s": time_limit_s})
    tight = manifest.model_copy(update={"resources": limits})
    return run_command(tight, package, case_of(box_images("MR", "")), SilentTools())


def test_a_program_passes_the_bench(package: Path) -> None:
    result = run_bench(agent_source(str(package), package), quick=True)
    assert [v for v in result.verdicts if v.state is State.FAILED] == []
    (quiet,) = [v for v in result.verdicts if v.rule == "quiet"]
    assert quiet.state is State.NOT_SHOWN


def test_what_it_finds_comes_back(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYCLINIC_SECRET", "not for programs")
    outcome = run(package, PROGRAM + "\nimport os\nassert 'POLYCLINIC_SECRET' not in os.environ\n")
    assert isinstance(outcome, Assessed)
    assert 100 < outcome.findings[0].measurements[0].value < 1000
    wrong = case_of(box_images("CT", ""))
    assert isinstance(run_command(read_manifest(package), package, wrong, SilentTools()), Abstained)


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        ("raise SystemExit(3)", "command.failed", "exit code 3"),
        ("pass", "command.bad-output", "not there"),
        ("import sys; open(sys.argv[2] + '/findings.json', 'w').write('{}')", "command.bad-output", "missing"),
        (PROGRAM.replace("0.1.0", "0.2.0"), "command.bad-output", "id and version"),
        (PROGRAM.replace('"runs": [run]', '"runs": []'), "command.bad-output", "one run"),
        (PROGRAM.replace('"value": value', '"value": "much"'), "command.bad-output", "findings.0.measurements.0.value"),
    ],
)
def test_what_it_does_wrong_fails_the_run(package: Path, program: str, code: str, words: str) -> None:
    with pytest.raises(PolyclinicError) as failed:
        run(package, program)
    assert failed.value.code == code
    assert words in failed.value.message


def test_a_program_that_hangs_is_ended_with_its_children(package: Path, tmp_path: Path) -> None:
    mark = tmp_path / "child"
    child = f"import time; time.sleep(3); open({str(mark)!r}, 'w')"
    program = f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(60)"
    began = time.monotonic()
    with pytest.raises(PolyclinicError, match="took longer"):
        run(package, program, time_limit_s=1)
    time.sleep(max(0.0, 4.5 - (time.monotonic() - began)))
    assert not mark.exists()


def test_images_that_a_killed_run_left_are_removed_by_the_next(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tmp"
    left, held = folder / "polyclinic-agent-dead", folder / "polyclinic-agent-alive"
    for one in (left, held):
        (one / "in").mkdir(parents=True)
        (one / "in" / "00000.dcm").write_bytes(b"somebody's image")
        (one / "in-use").touch()
        os.utime(one, (0, 0))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with (held / "in-use").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert isinstance(run(package), Assessed)
        assert held.exists(), "its run goes on"
    assert not left.exists()
    assert [one.name for one in folder.iterdir()] == [held.name], "the run's own folder is gone too"

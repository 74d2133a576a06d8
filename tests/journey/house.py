"""A house in a temporary folder for the journey tests, and small CT studies to send through it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from polyclinic.app.settings import Settings
from polyclinic.core.ids import stable_uid
from polyclinic.dicom.part10 import to_part10

HERE = Path(__file__).parent


def settings_in(folder: Path, **changes: object) -> Settings:
    """Settings of a small and fast house whose only agent is the quick one."""
    sys.path.insert(0, str(HERE / "agents")) if str(HERE / "agents") not in sys.path else None
    os.environ["QUICK_AGENT_FOLDER"] = str(folder)
    os.environ["PYTHONPATH"] = str(HERE / "agents")
    values: dict[str, object] = {
        "data": folder / "data",
        "scenarios": HERE / "scenarios",
        "agents": ("quick_agent",),
        "agents_extra": ("quick_agent",),
        "settle_quiet_s": 0.2,
        "web_port": 0,
        "dicom_port": 0,
        "workers": 0,
        "worker_lease_s": 2.0,
        "log_level": "WARNING",
    }
    return Settings(**(values | changes))


def images(name: str, *, slices: int = 5, first: int = 0, description: str = "", patient: str = "P1") -> list[bytes]:
    """Part 10 files of one CT series of 16 x 16 pixels, 2 mm apart; equal arguments give equal bytes."""
    return [_image(name, number, description, patient) for number in range(first, first + slices)]


def study_uid(name: str) -> str:
    """Study Instance UID of `images` of that name."""
    return stable_uid("test-study", name)


def _image(name: str, number: int, description: str, patient: str) -> bytes:
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = stable_uid("test-image", name, number)
    dataset.StudyInstanceUID = study_uid(name)
    dataset.SeriesInstanceUID = stable_uid("test-series", name)
    dataset.FrameOfReferenceUID = stable_uid("test-frame", name)
    dataset.PatientID, dataset.PatientName = patient, "Test^Person"
    dataset.PatientBirthDate, dataset.PatientSex = "19600102", "F"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20260102", "101500", "1"
    dataset.AccessionNumber, dataset.ReferringPhysicianName = "A1", ""
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "CT", 1, number + 1
    dataset.SeriesDescription, dataset.BodyPartExamined = description, "CHEST"
    dataset.Manufacturer = "Test"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient = [0.0, 0.0, 2.0 * number]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [1.0, 1.0], 2.0
    dataset.Rows = dataset.Columns = 16
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleIntercept, dataset.RescaleSlope = 0, 1
    dataset.PixelData = bytes(512)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return to_part10(dataset)


def wait_for(question, *, limit_s: float = 60.0):
    """Ask until the answer is true; the answer."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"it did not happen within {limit_s} s")



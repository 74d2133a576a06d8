"""Fixtures that several kinds of test share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from polyclinic.core.ids import stable_uid

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real, de-identified development images beside the checkout."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real development images are not beside this checkout (../shared/data)")
    return folder


@pytest.fixture
def tiny_ct() -> Callable[..., list[Dataset]]:
    """Maker of a small axial CT series, lowest slice first; keyword arguments set attributes of every slice."""

    def make(slices: int = 6, rows: int = 20, columns: int = 17, **attributes: object) -> list[Dataset]:
        made = []
        for k in range(slices):
            image = Dataset()
            image.SpecificCharacterSet = "ISO_IR 192"
            image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
            image.SOPClassUID = CTImageStorage
            image.SOPInstanceUID = stable_uid("tiny-ct", "instance", k)
            image.StudyInstanceUID = stable_uid("tiny-ct", "study")
            image.SeriesInstanceUID = stable_uid("tiny-ct", "series")
            image.FrameOfReferenceUID = stable_uid("tiny-ct", "frame-of-reference")
            image.StudyDate = image.SeriesDate = image.ContentDate = image.AcquisitionDate = "20260102"
            image.StudyTime = image.SeriesTime = image.ContentTime = image.AcquisitionTime = "101112"
            image.AccessionNumber = "ACC-1"
            image.StudyID = "S1"
            image.Modality = "CT"
            image.Manufacturer = "Tiny"
            image.ReferringPhysicianName = "Doe^Jane"
            image.PatientName = "Wang^XiaoDong=王^小东"
            image.PatientID = "P-1"
            image.IssuerOfPatientID = "SITE-A"
            image.PatientBirthDate = "19600102"
            image.PatientSex = "M"
            image.PatientPosition = "HFS"
            image.PositionReferenceIndicator = ""
            image.SeriesNumber, image.AcquisitionNumber, image.InstanceNumber = 2, 1, k + 1
            image.KVP, image.SliceThickness = "120", "2.5"
            image.ImagePositionPatient = [-10.5, -20.25, -100.0 + 2.5 * k]
            image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            image.PixelSpacing = [0.75, 0.8]
            image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
            image.Rows, image.Columns = rows, columns
            image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
            image.RescaleIntercept, image.RescaleSlope, image.RescaleType = 0, 1, "HU"
            image.PixelData = bytes(rows * columns * 2)
            image["PixelData"].VR = "OW"
            for keyword, value in attributes.items():
                setattr(image, keyword, value)
            made.append(image)
        return made

    return make

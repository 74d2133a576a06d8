"""Fixtures that several kinds of test share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.schema import metadata as archive_tables
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.sql.engine import open_engine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # modules that several tests share


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests last: Playwright keeps an event loop in this thread, and others must find none."""
    items.sort(key=lambda item: Path(item.path).parent.name == "e2e")


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


@pytest.fixture
def part10() -> Callable[..., bytes]:
    """Maker of one small DICOM file; equal arguments give equal bytes."""

    def make(
        number: int = 1, study: str = "1", series: str = "1", syntax: str = ExplicitVRLittleEndian, **attributes: object
    ) -> bytes:
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = syntax
        image.SpecificCharacterSet = "ISO_IR 192"
        image.SOPClassUID = CTImageStorage
        image.StudyInstanceUID = stable_uid("study", study)
        image.SeriesInstanceUID = stable_uid("series", study, series)
        image.SOPInstanceUID = stable_uid("instance", study, series, number)
        image.StudyDate, image.StudyTime, image.AccessionNumber = "20260102", "101112", f"ACC-{study}"
        image.Modality, image.SeriesNumber, image.InstanceNumber = "CT", int(series), number
        image.SeriesDescription, image.StudyDescription, image.StudyID = "Lung", "Chest", study
        image.PatientName, image.PatientID, image.IssuerOfPatientID = "Wang^XiaoDong=王^小东", "P-1", "SITE-A"
        image.PatientBirthDate, image.PatientSex, image.BodyPartExamined = "19600102", "M", "CHEST"
        image.Rows, image.Columns = 8, 6
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
        image.PixelData = bytes(range(8 * 6 * 2))
        image["PixelData"].VR = "OW"
        for keyword, value in attributes.items():
            setattr(image, keyword, value)
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        out = BytesIO()
        dcmwrite(out, image, enforce_file_format=True)
        return out.getvalue()

    return make


@pytest.fixture
def open_archive() -> Iterator[Callable[..., SqlArchive]]:
    """Opener of the archive in a folder; what is still open at the end of the test is closed."""
    opened: list[SqlArchive] = []

    def opener(folder: Path, **settings: Any) -> SqlArchive:
        engine = open_engine(f"sqlite:///{folder / 'index.db'}")
        archive_tables.create_all(engine)
        archive = SqlArchive(engine, folder / "segments", **settings)
        opened.append(archive)
        return archive

    yield opener
    for archive in opened:
        archive.close()
        archive.engine.dispose()

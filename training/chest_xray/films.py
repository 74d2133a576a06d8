"""DICOM radiographs made of development images, so that figures come from the agent's own way in."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from polyclinic.agentkit.case import Case, CaseSeries
from polyclinic.core.ids import stable_uid


def as_dicom(image: npt.NDArray[np.uint8], name: str) -> Dataset:
    """A DX image for presentation (DICOM PS3.3 A.26), uncompressed, 8 bit, dense is bright."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = stable_uid("film", "instance", name)
    dataset.SeriesInstanceUID = stable_uid("film", "series", name)
    dataset.StudyInstanceUID = stable_uid("film", "study", name)
    dataset.Modality = "DX"
    dataset.BodyPartExamined = "CHEST"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.PatientOrientation = ["L", "F"]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = image.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    content = np.ascontiguousarray(image).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB"
    return dataset


def read_dicom(path: Path) -> Dataset:
    """`as_dicom` of an image file."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ValueError(f"{path.name} is not an image that OpenCV reads")
    return as_dicom(np.asarray(image, dtype=np.uint8), path.stem)


def as_case(dataset: Dataset) -> Case:
    """A study of this one image."""
    series = CaseSeries(
        series_instance_uid=str(dataset.SeriesInstanceUID),
        modality=str(dataset.Modality),
        description="",
        datasets=(dataset,),
    )
    return Case(study_instance_uid=str(dataset.StudyInstanceUID), revision=1, series=(series,))

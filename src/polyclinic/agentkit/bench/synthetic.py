"""Studies that the bench makes itself, by what a manifest is planned for: phantom, drawn radiograph, or plain box."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
)

from polyclinic.agentkit.case import Case, CaseSeries
from polyclinic.agentkit.manifest import Manifest
from polyclinic.agentkit.phantom import ChestPhantom, make_chest_phantom, to_datasets
from polyclinic.core.ids import stable_uid

RADIOGRAPHS = ("CR", "DX")
VOLUMES = ("CT", "MR", "PT")
_CHEST = ("CHEST", "THORAX", "LUNG")
_CLASSES = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "PT": PositronEmissionTomographyImageStorage,
    "CR": ComputedRadiographyImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
}
_BOX_SHAPE = (24, 96, 96)
_BOX_SPACING_MM = (6.0, 3.0, 3.0)
_CHEST_PHANTOM = ChestPhantom.small(
    rows=192, columns=192, spacing_mm=(1.9, 1.9), slices=60, slice_spacing_mm=5.0, slice_thickness_mm=5.0
)

Pixels = npt.NDArray[np.uint16]


def own_case(manifest: Manifest) -> Case:
    """A study of the kind that the manifest is planned for; the same at every call.

    CT of a chest is the synthetic chest in 5 mm slices, CR and DX a drawn frontal chest, everything else a box of two
    materials with noise, labelled with the first modality and body part of the manifest.
    """
    modality = manifest.inputs.modality[0]
    body_part = next(iter(manifest.inputs.body_part), "")
    chest = not manifest.inputs.body_part or any(part in _CHEST for part in manifest.inputs.body_part)
    if modality in RADIOGRAPHS:
        return case_of([_radiograph(modality, body_part or "CHEST", _chest_film())])
    if modality == "CT" and chest:
        return case_of(list(to_datasets(make_chest_phantom(_CHEST_PHANTOM))))
    return case_of(box_images(modality, body_part))


def other_body_part(manifest: Manifest) -> Case:
    """A study of another part of the body than the manifest names: header and pixels say so."""
    modality = manifest.inputs.modality[0]
    named = {part.upper() for part in manifest.inputs.body_part}
    label = "KNEE" if "KNEE" not in named else "HEAD"
    if modality in RADIOGRAPHS:
        return case_of([_radiograph(modality, label, _limb_film())])
    return case_of(box_images(modality, label))


def case_of(datasets: Sequence[Dataset]) -> Case:
    """The study of one series that the datasets make."""
    first = datasets[0]
    series = CaseSeries(
        series_instance_uid=str(first.SeriesInstanceUID),
        modality=str(first.Modality),
        description=str(first.get("SeriesDescription", "")),
        datasets=list(datasets),
    )
    sex = str(first.get("PatientSex", ""))
    return Case(
        study_instance_uid=str(first.StudyInstanceUID),
        revision=1,
        series=(series,),
        context={"sex": sex} if sex else {},
    )


def box_images(modality: str, body_part: str) -> list[Dataset]:
    """Axial images of a box (60 x 60 pixels of water with a denser core) in air, from foot to head."""
    slices, rows, columns = _BOX_SHAPE
    values = np.full(_BOX_SHAPE, 24.0)
    values[2:-2, 18:-18, 18:-18] = 1024.0
    values[8:-8, 36:-36, 36:-36] = 1324.0
    values += np.random.default_rng(7).normal(0.0, 8.0, values.shape)
    stored = np.clip(values, 0, 4095).astype(np.uint16)
    made = []
    for index in range(slices):
        image = _image(modality, body_part, stored[index], ("box", modality, body_part), index)
        image.ImagePositionPatient = [
            -(columns - 1) / 2 * _BOX_SPACING_MM[2],
            -(rows - 1) / 2 * _BOX_SPACING_MM[1],
            index * _BOX_SPACING_MM[0],
        ]
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.PixelSpacing = list(_BOX_SPACING_MM[1:])
        image.SliceThickness = image.SpacingBetweenSlices = _BOX_SPACING_MM[0]
        image.FrameOfReferenceUID = stable_uid("bench-frame", modality, body_part)
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.PatientPosition = "HFS"
        if modality == "CT":
            image.RescaleIntercept, image.RescaleSlope, image.RescaleType = -1024, 1, "HU"
        made.append(image)
    return made


def _image(modality: str, body_part: str, stored: Pixels, name: tuple[str, ...], index: int) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID = _CLASSES.get(modality, SecondaryCaptureImageStorage)
    image.SOPInstanceUID = stable_uid("bench-instance", *name, index)
    image.SeriesInstanceUID, image.StudyInstanceUID = (
        stable_uid("bench-series", *name),
        stable_uid("bench-study", *name),
    )
    image.Modality, image.BodyPartExamined = modality, body_part
    image.StudyDate, image.StudyTime, image.AccessionNumber = "20260115", "093000", "SYN-BENCH"
    image.SeriesDescription, image.SeriesNumber, image.InstanceNumber = "Bench", 1, index + 1
    image.PatientName, image.PatientID = "Synthetic^Bench", "SYN-BENCH-0001"
    image.PatientSex, image.PatientAge, image.PatientBirthDate = "F", "061Y", "19640601"
    image.Manufacturer = "Polyclinic"
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = stored.shape
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.WindowCenter, image.WindowWidth = 2048, 4096
    image.PixelData = stored.tobytes()
    image["PixelData"].VR = "OW"
    return image


def _radiograph(modality: str, body_part: str, stored: Pixels) -> Dataset:
    image = _image(modality, body_part, stored, ("film", modality, body_part), 0)
    image.ViewPosition, image.PatientOrientation = "PA", ["L", "F"]
    image.ImageType = ["ORIGINAL", "PRIMARY"]
    image.ImagerPixelSpacing = [0.8, 0.8]
    return image


def _chest_film(side: int = 420) -> Pixels:
    """A frontal chest as geometry: body, two lungs, mediastinum, heart, ribs, grain; dense tissue is bright."""
    y, x = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    film = np.where((np.abs(x - 0.5) > 0.46) | (y < 0.04), 1350.0, 2550.0)
    lungs = np.zeros_like(film)
    for centre in (0.29, 0.71):
        inside = ((x - centre) / 0.155) ** 2 + ((y - 0.45) / 0.31) ** 2 < 1
        lungs = np.maximum(lungs, cv2.GaussianBlur(inside.astype(np.float64), (0, 0), side / 80))
    film -= 1450 * lungs
    film += 120 * lungs * (np.sin(2 * np.pi * (y * 11 + 1.2 * (x - 0.5) ** 2)) > 0.55)
    film += 700 * np.exp(-(((x - 0.5) / 0.08) ** 2))
    film += 500 * np.exp(-(((x - 0.57) / 0.11) ** 2) - ((y - 0.62) / 0.12) ** 2)
    film += np.random.default_rng(3).normal(0.0, 30.0, film.shape)
    return np.asarray(np.clip(film, 0, 4095), dtype=np.uint16)


def _limb_film(side: int = 420) -> Pixels:
    """Two bones with a joint in soft tissue: no two dark fields anywhere."""
    y, x = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    film = 500.0 + 900.0 * (np.abs(x - 0.5) < 0.24)
    film += 1500.0 * (np.abs(x - 0.5) < 0.1 + 0.06 * np.exp(-(((y - 0.5) / 0.12) ** 2))) * (np.abs(y - 0.5) > 0.012)
    film += np.random.default_rng(4).normal(0.0, 30.0, film.shape)
    return np.asarray(np.clip(film, 0, 4095), dtype=np.uint16)

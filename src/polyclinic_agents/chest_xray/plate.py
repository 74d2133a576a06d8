"""One projection radiograph as a grey image with dense tissue bright, and what its header says about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from polyclinic.core.findings import ImageReference
from polyclinic_agents.chest_xray.fields import GreyArray

MODALITIES = ("CR", "DX")
SMALLEST_SIDE = 90
"""Shorter images are not judged at all."""
_BODY_PARTS = ("CHEST", "THORAX", "LUNG", "RIB", "PULMON")
_FRONTAL = ("PA", "AP")
_ADULT_YEARS = 18


class Unsuitable(Exception):
    """The image cannot be judged; becomes an Abstained result."""

    def __init__(self, reason_code: str, reason: str) -> None:
        super().__init__(reason_code)
        self.reason_code = reason_code
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plate:
    """A decoded radiograph."""

    modality: str
    """CR or DX."""

    image: GreyArray
    """Axes (row, column), dense tissue bright, stored or rescaled units."""
    view: str
    """View Position, empty when the header does not say."""
    reference: ImageReference
    burned_in: bool
    """The header says that text is part of the pixels."""
    right_is_left: bool
    """Image left is the patient's right, as usually hung (DICOM PS3.3 C.7.6.1.1.1)."""


def check_header(dataset: Dataset) -> None:
    """Refuse what the header shows to be no frontal chest radiograph of an adult.

    Only what is present counts: an absent attribute refuses nothing.

    Raises
    ------
    Unsuitable
        With reason code and sentence.
    """
    modality = _text(dataset, "Modality")
    if modality not in MODALITIES:
        raise Unsuitable("chest-xray.not-radiograph", "The image is not a CR or DX radiograph.")
    body_part = _text(dataset, "BodyPartExamined")
    if body_part and not any(part in body_part for part in _BODY_PARTS):
        raise Unsuitable("chest-xray.other-body-part", "The header names another body part than the chest.")
    view = _text(dataset, "ViewPosition")
    orientation = [str(v).upper() for v in dataset.get("PatientOrientation") or []]
    along_row = orientation[0][:1] if orientation and orientation[0] else ""
    if view and view not in _FRONTAL:
        raise Unsuitable("chest-xray.not-frontal", f"The view is {view}; only PA and AP views are judged.")
    if not view and along_row in {"A", "P"}:
        raise Unsuitable("chest-xray.not-frontal", "Patient Orientation says that this is a lateral view.")
    if along_row in {"H", "F"}:
        raise Unsuitable("chest-xray.turned", "The image is stored lying on its side.")
    if len(orientation) > 1 and orientation[1][:1] == "H":
        raise Unsuitable("chest-xray.turned", "The image is stored upside down.")
    if _text(dataset, "PresentationIntentType") == "FOR PROCESSING":
        raise Unsuitable("chest-xray.for-processing", "The image is unprocessed detector data (FOR PROCESSING).")
    age = age_years(_text(dataset, "PatientAge"))
    if age is not None and age < _ADULT_YEARS:
        raise Unsuitable("chest-xray.child", "The agent is for adults only.")
    if min(int(dataset.get("Rows", 0)), int(dataset.get("Columns", 0))) < SMALLEST_SIDE:
        raise Unsuitable("chest-xray.too-small", f"The image has fewer than {SMALLEST_SIDE} rows or columns.")


def age_years(text: str) -> float | None:
    """Years of a DICOM age string such as ``034Y`` or ``011M`` (DICOM PS3.5 6.2); None when it is not one."""
    days = {"Y": 365.25, "M": 30.44, "W": 7.0, "D": 1.0}
    if len(text) != 4 or not text[:3].isdigit() or text[3] not in days:
        return None
    return int(text[:3]) * days[text[3]] / days["Y"]


def read_plate(dataset: Dataset) -> Plate:
    """Decode the pixels; density is made bright whatever the photometric interpretation.

    Raises
    ------
    Unsuitable
        When the pixels cannot be decoded, are in colour, or several frames.
    """
    return Plate(
        modality=_text(dataset, "Modality"),
        image=_grey(dataset),
        view=_text(dataset, "ViewPosition"),
        reference=ImageReference(
            series_instance_uid=str(dataset.SeriesInstanceUID),
            sop_class_uid=str(dataset.SOPClassUID),
            sop_instance_uid=str(dataset.SOPInstanceUID),
        ),
        burned_in=_text(dataset, "BurnedInAnnotation") == "YES",
        right_is_left=not str((dataset.get("PatientOrientation") or [""])[0]).upper().startswith("R"),
    )


def _grey(dataset: Dataset) -> GreyArray:
    try:
        pixels = dataset.pixel_array
    except (AttributeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise Unsuitable("chest-xray.unreadable", "The pixels of the image cannot be decoded.") from error
    if pixels.ndim == 3 and pixels.shape[-1] == 3 and int(dataset.get("SamplesPerPixel", 1)) == 3:
        if not (np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 1], pixels[..., 2])):
            raise Unsuitable("chest-xray.colour", "The image is in colour.")
        pixels = pixels[..., 0]
    if pixels.ndim != 2:
        raise Unsuitable("chest-xray.several-frames", "The image has several frames; single films are judged.")
    padding = dataset.get("PixelPaddingValue")
    outside = pixels == padding if isinstance(padding, int) else None
    values = apply_modality_lut(pixels, dataset)
    if "VOILUTSequence" in dataset or _text(dataset, "VOILUTFunction") == "SIGMOID":
        values = apply_voi_lut(values, dataset)  # a plain window is undone by the percentiles later, a curve is not
    image = np.asarray(values, dtype=np.float32)
    if _text(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        image = image.max() + image.min() - image
    if outside is not None and outside.any() and not outside.all():
        image = np.where(outside, image[~outside].min(), image)
    return image


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword, "") or "").strip().upper()

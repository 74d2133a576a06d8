"""One image plane as its attributes describe it, classic or as a frame of an enhanced image.

Implements DICOM PS3.3 C.7.6.2 (Image Plane), C.7.6.16.2 (functional groups of enhanced multi-frame images) and
C.11.1 (Modality LUT: rescale slope and intercept).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from polyclinic.core.errors import Rejected
from polyclinic.core.findings import ImageReference, Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Where one frame lies in patient space and how its stored values become Hounsfield units."""

    image: ImageReference
    dataset_index: int
    """Which dataset of the series holds it."""
    rows: int
    columns: int
    position_mm: Point
    """Centre of the first pixel, LPS."""
    along_columns: Point
    """Unit vector in which the column index grows (first half of Image Orientation)."""
    along_rows: Point
    """Unit vector in which the row index grows (second half of Image Orientation)."""
    pixel_spacing_mm: tuple[float, float]
    """Between rows, between columns."""
    frame_of_reference_uid: str
    kind: str
    """Value 3 of Image Type in upper case, e.g. ``"AXIAL"`` or ``"LOCALIZER"``."""
    acquisition: str
    kernel: str
    thickness_mm: float | None
    slope: float
    intercept: float
    padding: tuple[int, int] | None
    """Stored values from, to that mark pixels outside the reconstruction (DICOM PS3.3 C.7.5.1.1.2)."""


_REQUIRED = ("Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


def planes_of(datasets: Sequence[Dataset]) -> tuple[tuple[Plane, ...], int]:
    """Every frame that is placed in space, in the order given, and how many images lack the attributes for it."""
    placed: list[Plane] = []
    unplaced = 0
    for index, dataset in enumerate(datasets):
        try:
            planes = [_plane(view, dataset, index, frame) for view, frame in _frames(dataset)]
        except UNREADABLE:
            planes = [None]
        unplaced += planes.count(None)
        placed += [plane for plane in planes if plane is not None]
    return tuple(placed), unplaced


UNREADABLE = (ArithmeticError, AttributeError, KeyError, LookupError, NotImplementedError, TypeError, ValueError)
"""What pydicom raises for values that are not what their VR says, sooner or later."""


def frame_count(dataset: Dataset) -> int:
    """Number of Frames (0028,0008); 1 where it is absent or no number (devices write ``1A`` and worse)."""
    try:
        return max(int(dataset.get("NumberOfFrames", 1) or 1), 1)
    except UNREADABLE:
        return 1


def _frames(dataset: Dataset) -> Iterator[tuple[Dataset, int]]:
    """One flat view per frame: its own functional groups over the shared ones over the top level."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        yield dataset, 1
        return
    shared = dataset.get("SharedFunctionalGroupsSequence")
    for number, groups in enumerate(per_frame[: frame_count(dataset)], 1):
        view = Dataset()
        for name in (*_REQUIRED, "FrameOfReferenceUID", "ImageType", "SliceThickness", "PixelPaddingValue"):
            if name in dataset:
                view[name] = dataset[name]
        view.PixelRepresentation = dataset.get("PixelRepresentation", 0)
        view.BitsAllocated = dataset.get("BitsAllocated", 16)
        for source in (*(shared or ()), groups):
            for sequence in source:
                if sequence.VR == "SQ" and sequence.value:
                    view.update(sequence.value[0])
        if "FrameType" in view:
            view.ImageType = view.FrameType
        yield view, number


def _plane(view: Dataset, dataset: Dataset, index: int, frame: int) -> Plane | None:
    if any(view.get(name) in (None, "") for name in _REQUIRED):
        return None
    position, orientation = _numbers(view.ImagePositionPatient), _numbers(view.ImageOrientationPatient)
    spacing = _numbers(view.PixelSpacing)
    if len(position) != 3 or len(orientation) != 6 or len(spacing) != 2:
        return None
    finite = all(math.isfinite(value) for value in (*position, *orientation, *spacing))
    across, down = _unit(orientation[:3]), _unit(orientation[3:])
    if not finite or min(spacing) <= 0 or across is None or down is None:
        return None
    image_type = [str(part).upper() for part in view.get("ImageType") or ()]
    return Plane(
        image=ImageReference(
            series_instance_uid=str(dataset.get("SeriesInstanceUID", "")),
            sop_class_uid=str(dataset.get("SOPClassUID", "")),
            sop_instance_uid=str(dataset.get("SOPInstanceUID", "")),
            frame=frame,
        ),
        dataset_index=index,
        rows=int(view.Rows),
        columns=int(view.Columns),
        position_mm=(position[0], position[1], position[2]),
        along_columns=across,
        along_rows=down,
        pixel_spacing_mm=(spacing[0], spacing[1]),
        frame_of_reference_uid=str(view.get("FrameOfReferenceUID", "") or ""),
        kind=image_type[2] if len(image_type) > 2 else "",
        acquisition=str(view.get("AcquisitionNumber", "") or ""),
        kernel=kernel_of(view),
        thickness_mm=_number_or_none(view.get("SliceThickness")),
        slope=_number_or(view.get("RescaleSlope"), 1.0),
        intercept=_number_or(view.get("RescaleIntercept"), 0.0),
        padding=_padding(view),
    )


def kernel_of(dataset: Dataset) -> str:
    """Convolution Kernel; several values are joined by a backslash as DICOM writes them."""
    value = dataset.get("ConvolutionKernel") or ""
    return value if isinstance(value, str) else "\\".join(str(part) for part in value)


def check_hounsfield(dataset: Dataset) -> None:
    """Refuse stored values that no linear rescale turns into Hounsfield units.

    Raises
    ------
    Rejected
        ``volume.not-hounsfield``.
    """
    if int(dataset.get("SamplesPerPixel", 1) or 1) != 1:
        raise Rejected("volume.not-hounsfield", "The images are in colour; a CT with one sample per pixel is needed")
    if str(dataset.get("RescaleType", "HU") or "HU").upper() not in ("HU", "US"):
        raise Rejected("volume.not-hounsfield", "Rescale Type is not HU; send the series in Hounsfield units")


def _padding(view: Dataset) -> tuple[int, int] | None:
    if view.get("PixelPaddingValue") in (None, ""):
        return None
    low = _stored(int(view.PixelPaddingValue), view)
    limit = view.get("PixelPaddingRangeLimit")
    high = low if limit in (None, "") else _stored(int(limit), view)
    return min(low, high), max(low, high)


def _stored(value: int, view: Dataset) -> int:
    """Read the padding value as the pixels are read: some devices write 63536 and mean signed -2000."""
    bits = int(view.get("BitsAllocated", 16) or 16)
    signed = int(view.get("PixelRepresentation", 0) or 0) == 1
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value


def _numbers(value: object) -> list[float]:
    try:
        return [float(part) for part in value]  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return []


def _number_or(value: object, default: float) -> float:
    number = _number_or_none(value)
    return default if number is None else number


def _number_or_none(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _unit(vector: Sequence[float]) -> Point | None:
    length = math.sqrt(sum(v * v for v in vector))
    if not 0.5 < length < 2.0:
        return None
    return vector[0] / length, vector[1] / length, vector[2] / length

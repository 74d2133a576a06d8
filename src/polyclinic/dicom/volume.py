"""A series of CT images as one volume in Hounsfield units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import ImplicitVRLittleEndian

from polyclinic.core.errors import Rejected
from polyclinic.core.findings import ImageReference
from polyclinic.dicom.geometry import VolumeGeometry
from polyclinic.dicom.planes import UNREADABLE, Plane, check_hounsfield, frame_count, planes_of
from polyclinic.dicom.stack import ProblemKind, Stack, VolumeProblem, arrange

AIR_HU = -1024
"""Value of everything outside the reconstruction, and the lowest value a voxel can have."""

MOST_VOXELS = 4 * 1024**3
"""8 GB of Hounsfield units; headers that claim more are wrong, or need another machine."""

HuArray = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """How the images were made, as far as they say; empty or None where they do not."""

    modality: str
    manufacturer: str
    model: str
    kernel: str
    contrast_agent: str
    image_type: tuple[str, ...]
    body_part: str
    kvp: float | None
    slice_thickness_mm: float | None
    slice_spacing_mm: float
    tilt_degrees: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Volume:
    """One series on a regular orthogonal grid.

    `hu` has the axes (slice, row, column) and `geometry.shape`. `images` names the source image of each slice; for a
    slice that was interpolated, the nearer neighbour.
    """

    hu: HuArray
    geometry: VolumeGeometry
    images: tuple[ImageReference, ...]
    interpolated: tuple[int, ...]
    """Slices that no image shows."""
    longest_gap_mm: float
    """Longest step between two neighbouring images."""
    facts: Acquisition
    problems: tuple[VolumeProblem, ...]

    def has(self, kind: ProblemKind) -> bool:
        """Whether a problem of that kind was noted."""
        return any(problem.kind is kind for problem in self.problems)


def read_volume(datasets: Sequence[Dataset]) -> Volume:
    """Sort, check, decode and rescale the images of one series.

    Parameters
    ----------
    datasets
        Images of one series in any order, classic single-frame or enhanced multi-frame; each is indexed once.

    Raises
    ------
    Rejected
        ``volume.no-planes``, ``volume.too-few-slices``, ``volume.not-orthogonal``, ``volume.too-sparse``,
        ``volume.not-hounsfield``, ``volume.unreadable``, ``volume.too-large`` or ``volume.undecodable``.
    """
    held: list[Dataset | None] = [datasets[index] for index in range(len(datasets))]
    every = [dataset for dataset in held if dataset is not None]
    planes, unplaced = planes_of(every)
    stack = arrange(planes)
    problems = list(stack.problems)
    if unplaced:
        text = f"{unplaced} images carry no position or spacing and were left out"
        problems.append(VolumeProblem(kind=ProblemKind.UNPLACED, count=unplaced, text=text))
    first = every[stack.planes[0].dataset_index]
    try:
        check_hounsfield(first)
        facts = _acquisition(first, stack)
    except UNREADABLE as error:
        text = "An attribute of the images is not what it must be: check the device"
        raise Rejected("volume.unreadable", text) from error
    del every
    pixels = _Pixels(held)
    problems += _compare_twins(stack, pixels)
    hu = _fill(stack, pixels)
    images = tuple(stack.planes[layer.planes[layer.weight_above > 0.5]].image for layer in stack.layers)
    return Volume(
        hu=hu,
        geometry=stack.geometry,
        images=images,
        interpolated=tuple(index for index, layer in enumerate(stack.layers) if len(layer.planes) > 1),
        longest_gap_mm=stack.longest_gap_mm,
        facts=facts,
        problems=tuple(problems),
    )


class _Pixels:
    """Stored values by plane. A dataset is let go after its last frame was read, to bound the memory."""

    def __init__(self, datasets: list[Dataset | None]) -> None:
        self._datasets = datasets
        self._many: tuple[int, npt.NDArray[np.integer]] | None = None

    def stored(self, plane: Plane, *, last: bool = False) -> npt.NDArray[np.integer]:
        dataset = self._datasets[plane.dataset_index]
        if dataset is None:
            raise RuntimeError("dataset was let go too early")
        if frame_count(dataset) > 1:
            if self._many is None or self._many[0] != plane.dataset_index:
                self._many = (plane.dataset_index, self._decode(dataset))
            frame: npt.NDArray[np.integer] = self._many[1][plane.image.frame - 1]
            return frame
        values = self._decode(dataset)
        if last:
            self._datasets[plane.dataset_index] = None
        return values

    @staticmethod
    def _decode(dataset: Dataset) -> npt.NDArray[np.integer]:
        meta = getattr(dataset, "file_meta", None)
        syntax = getattr(meta, "TransferSyntaxUID", None) or ImplicitVRLittleEndian
        try:
            values: npt.NDArray[np.integer] = get_decoder(syntax).as_array(dataset, raw=True)[0]
        except (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            raise Rejected(
                "volume.undecodable", "The pixel data of an image cannot be decoded; send the series again"
            ) from error
        if not np.issubdtype(values.dtype, np.integer):
            raise Rejected("volume.not-hounsfield", "Pixel data are not integers; send the series as CT images")
        return values


def _compare_twins(stack: Stack, pixels: _Pixels) -> list[VolumeProblem]:
    """Copies of a slice are dropped; a different image at the same place is a fault worth telling."""
    same = other = 0
    for index, twin in stack.twins:
        if np.array_equal(pixels.stored(stack.planes[index]), pixels.stored(twin)):
            same += 1
        else:
            other += 1
    problems = []
    if same:
        text = f"{same} slices are there twice with the same pixels; the copies were left out"
        problems.append(VolumeProblem(kind=ProblemKind.DOUBLED, count=same, text=text))
    if other:
        text = f"{other} positions have two different images; the first by its UID was taken"
        problems.append(VolumeProblem(kind=ProblemKind.CONFLICTING, count=other, text=text))
    return problems


def _fill(stack: Stack, pixels: _Pixels) -> HuArray:
    if math.prod(stack.geometry.shape) > MOST_VOXELS:
        raise Rejected("volume.too-large", "The series has more voxels than can be held: send a smaller reconstruction")
    hu = np.empty(stack.geometry.shape, dtype=np.int16)
    for index, layer in enumerate(stack.layers):
        if len(layer.planes) == 1:
            _plane_hu(stack, layer.planes[0], pixels, hu[index])
            continue
        pair = np.empty((2, *hu.shape[1:]), dtype=np.int16)
        for place, plane in zip(pair, layer.planes, strict=True):
            _plane_hu(stack, plane, pixels, place)
        weight = layer.weight_above
        hu[index] = np.rint(pair[0] * np.float32(1 - weight) + pair[1] * np.float32(weight)).astype(np.int16)
    return hu


def _plane_hu(stack: Stack, index: int, pixels: _Pixels, out: HuArray) -> None:
    """Write one plane into `out` in HU, moved onto the orthogonal grid."""
    plane = stack.planes[index]
    # Interpolated layers read a plane again; only a stack without them can let go at first use.
    once = len(stack.layers) == len(stack.planes)
    stored = pixels.stored(plane, last=once)
    _rescale(stored, plane, out)
    row, column = stack.shifts_px[index]
    if row or column:
        matrix = np.asarray([[1.0, 0.0, column], [0.0, 1.0, row]])
        size = (out.shape[1], out.shape[0])
        out[:] = cv2.warpAffine(out, matrix, size, flags=cv2.INTER_LINEAR, borderValue=AIR_HU)


def _rescale(stored: npt.NDArray[np.integer], plane: Plane, out: HuArray) -> None:
    limits = np.iinfo(np.int16)
    whole = plane.slope == 1.0 and plane.intercept.is_integer() and abs(plane.intercept) < limits.max // 2
    if whole and stored.dtype == np.uint16 and int(stored.max()) + max(0, int(plane.intercept)) <= limits.max:
        stored = stored.view(np.int16)
    # int16 wraps only where stored + intercept leaves its range, which padding far below air does not do.
    if whole and stored.dtype == np.int16:
        np.add(stored, np.int16(plane.intercept), out=out)
        if plane.intercept < 0:
            out[stored < limits.min - int(plane.intercept)] = AIR_HU
    else:
        values = stored.astype(np.float32) * np.float32(plane.slope) + np.float32(plane.intercept)
        np.clip(np.rint(values), limits.min, limits.max, out=values)
        out[:] = values
    if plane.padding is not None:
        low, high = plane.padding
        out[(stored >= low) & (stored <= high)] = AIR_HU
    np.maximum(out, AIR_HU, out=out)


def _acquisition(dataset: Dataset, stack: Stack) -> Acquisition:
    def text(name: str) -> str:
        return str(dataset.get(name, "") or "").strip()

    plane = stack.planes[0]
    kvp = dataset.get("KVP")
    return Acquisition(
        modality=text("Modality"),
        manufacturer=text("Manufacturer"),
        model=text("ManufacturerModelName"),
        kernel=plane.kernel,
        contrast_agent=text("ContrastBolusAgent"),
        image_type=tuple(str(part) for part in dataset.get("ImageType") or ()),
        body_part=text("BodyPartExamined"),
        kvp=float(kvp) if kvp not in (None, "") else None,
        slice_thickness_mm=plane.thickness_mm,
        slice_spacing_mm=stack.geometry.spacing_mm[0],
        tilt_degrees=stack.tilt_degrees,
    )

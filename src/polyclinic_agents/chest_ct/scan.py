"""The volume turned so that index axes follow the patient: slices to the head, rows to the back, columns to the left.

Axial images are usually stored so already; prone or feet-first ones may run the other way. Turning is a view, never a
copy, and is undone for masks, which must lie on the pixels of the source images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polyclinic.core.findings import Point
from polyclinic.dicom.geometry import VolumeGeometry
from polyclinic.dicom.volume import Volume

HuArray = npt.NDArray[np.int16]
LabelArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

AXIAL_COSINE = 0.85
"""Slices whose normal leaves the body axis by more than about 30 degrees are not axial."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scan:
    """A volume in patient order."""

    volume: Volume
    hu: HuArray
    """Axes (slice, row, column) towards head, back and left."""
    spacing_mm: tuple[float, float, float]
    flipped: tuple[bool, bool, bool]

    @property
    def geometry(self) -> VolumeGeometry:
        """Of the source volume, not of the turned view."""
        return self.volume.geometry

    def to_source(self, index: npt.ArrayLike) -> FloatArray:
        """Fractional indices ``(..., 3)`` of the turned view -> indices of the source volume."""
        points = np.asarray(index, dtype=np.float64).copy()
        for axis, turned in enumerate(self.flipped):
            if turned:
                points[..., axis] = self.hu.shape[axis] - 1 - points[..., axis]
        return points

    def to_patient(self, index: npt.ArrayLike) -> FloatArray:
        """Fractional indices ``(..., 3)`` of the turned view -> LPS mm."""
        return self.geometry.to_patient(self.to_source(index))

    def from_patient(self, points_mm: npt.ArrayLike) -> FloatArray:
        """LPS mm ``(..., 3)`` -> fractional indices of the turned view."""
        return self.to_source(self.geometry.to_index(points_mm))

    def unturned(self, labels: LabelArray) -> LabelArray:
        """A label map of the turned view on the grid of the source volume."""
        return np.ascontiguousarray(labels[_steps(self.flipped)])


def is_axial(directions: tuple[Point, Point, Point]) -> bool:
    """Whether slice, row and column directions follow the body's axes z, y and x."""
    return all(abs(direction[axis]) > AXIAL_COSINE for direction, axis in zip(directions, (2, 1, 0), strict=True))


def turn(volume: Volume) -> Scan:
    """The volume in patient order; it must be axial."""
    geometry = volume.geometry
    flipped = (
        geometry.slice_direction[2] < 0,
        geometry.row_direction[1] < 0,
        geometry.column_direction[0] < 0,
    )
    return Scan(volume=volume, hu=volume.hu[_steps(flipped)], spacing_mm=geometry.spacing_mm, flipped=flipped)


def _steps(flipped: tuple[bool, bool, bool]) -> tuple[slice, slice, slice]:
    first, second, third = (slice(None, None, -1 if turned else 1) for turned in flipped)
    return first, second, third

"""The box in patient space that the images of a series fill (DICOM PS3.3 C.7.6.2.1.1)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from pydicom.dataset import Dataset

from polyclinic.core.findings import Point


def series_box(datasets: Iterable[Dataset]) -> tuple[str, Point, Point] | None:
    """Frame of reference, smallest and largest LPS coordinate in mm over all pixel corners of all images.

    Images without position are passed over; None when no image has one. Of several frames of reference under one
    series UID, the one of most images counts, as in a volume: a region in another one will not match it.
    """
    corners: dict[str, list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]] = {}
    for dataset in datasets:
        placed = _corners(dataset)
        if placed is not None:
            corners.setdefault(str(dataset.get("FrameOfReferenceUID", "") or ""), []).append(placed)
    if not corners:
        return None
    frame_of_reference = max(sorted(corners), key=lambda uid: len(corners[uid]))
    every = np.concatenate(corners[frame_of_reference])
    low, high = every.min(axis=0), every.max(axis=0)
    return frame_of_reference, _point(low), _point(high)


def _corners(dataset: Dataset) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None:
    position = dataset.get("ImagePositionPatient")
    orientation = dataset.get("ImageOrientationPatient")
    spacing = dataset.get("PixelSpacing")
    if not position or not orientation or not spacing or len(orientation) != 6 or len(position) != 3:
        return None
    origin = np.asarray([float(v) for v in position])
    along_row = np.asarray([float(v) for v in orientation[:3]]) * float(spacing[1])
    along_column = np.asarray([float(v) for v in orientation[3:]]) * float(spacing[0])
    right, bottom = int(dataset.get("Columns", 1)) - 1, int(dataset.get("Rows", 1)) - 1
    return np.stack([origin + along_row * c + along_column * r for c in (0, right) for r in (0, bottom)])


def _point(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Point:
    return float(values[0]), float(values[1]), float(values[2])

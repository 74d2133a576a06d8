"""What was found on the coarse grid, on the images of the scan."""

from __future__ import annotations

import cv2
import numpy as np

from polyclinic.core.findings import Contour
from polyclinic_agents.chest_ct.grid import Coarse
from polyclinic_agents.chest_ct.proposals import placed
from polyclinic_agents.chest_ct.scan import BoolArray, FloatArray, Scan


def full_index(index: FloatArray, scan: Scan, grid: Coarse) -> FloatArray:
    """Fractional indices ``(..., 3)`` of coarse voxels on the grid of the scan."""
    ratio = np.asarray(grid.spacing_mm) / np.asarray(scan.spacing_mm)
    return np.asarray((index + 0.5) * ratio - 0.5, dtype=np.float64)


def outline_on(scan: Scan, image: BoolArray, at: int, grid: Coarse) -> tuple[Contour, ...]:
    """The longest outline of coarse slice `at`, on the image of the scan that is nearest to its middle.

    Empty when the slice holds no region, or the image was made up for a missing one.
    """
    found, _ = cv2.findContours(image.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
    slice_index = round(float(full_index(np.array([at, 0.0, 0.0]), scan, grid)[0]))
    slice_index = min(max(slice_index, 0), scan.hu.shape[0] - 1)
    source = round(float(scan.to_source([slice_index, 0, 0])[0]))
    if not found or source in scan.volume.interpolated:
        return ()
    longest = max(found, key=cv2.contourArea)[:, 0, ::-1].astype(np.float64)  # OpenCV gives (column, row)
    if len(longest) < 3:
        return ()
    index = full_index(np.concatenate([np.full((len(longest), 1), float(at)), longest], axis=1), scan, grid)
    index[:, 0] = slice_index
    points = tuple(placed(point) for point in np.round(scan.to_patient(index), 2))
    return (Contour(image=scan.volume.images[source], points_mm=points),)


def largest_outline(scan: Scan, region: BoolArray, grid: Coarse) -> tuple[Contour, ...]:
    """The outline on the image on which a coarse region is largest."""
    at = int(np.count_nonzero(region, axis=(1, 2)).argmax())
    return outline_on(scan, region[at], at, grid)

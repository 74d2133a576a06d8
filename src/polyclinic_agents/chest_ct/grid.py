"""The coarse grid on which the lungs are found, and what is done on it.

Arrays have the axes (slice, row, column) in patient order, see `scan.Scan`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import cv2
import edt
import numba
import numpy as np
import numpy.typing as npt

from polyclinic_agents.chest_ct.scan import BoolArray, HuArray, LabelArray, Scan

Components = npt.NDArray[np.unsignedinteger]

THREADS = min(4, os.cpu_count() or 1)
"""Of one distance transform; its result does not depend on them."""
COARSE_MM = 2.0
"""Edge of a voxel of the coarse grid: the finest at which every step stays below a second."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coarse:
    """The scan averaged to about `COARSE_MM`."""

    hu: HuArray
    spacing_mm: tuple[float, float, float]
    full_shape: tuple[int, int, int]

    @property
    def voxel_ml(self) -> float:
        return self.spacing_mm[0] * self.spacing_mm[1] * self.spacing_mm[2] / 1000.0


def coarse(scan: Scan) -> Coarse:
    """Average slices and pixels; thick slices stay as they are."""
    slices, rows, columns = scan.hu.shape
    every = max(1, round(COARSE_MM / scan.spacing_mm[0]))
    size = (
        max(32, round(columns * scan.spacing_mm[2] / COARSE_MM)),
        max(32, round(rows * scan.spacing_mm[1] / COARSE_MM)),
    )
    count = -(-slices // every)
    hu = np.empty((count, size[1], size[0]), dtype=np.int16)
    for index in range(count):
        part = scan.hu[index * every : (index + 1) * every]
        small = [cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in part]
        hu[index] = small[0] if len(small) == 1 else np.mean(small, axis=0)
    spacing = (
        scan.spacing_mm[0] * every,
        scan.spacing_mm[1] * rows / size[1],
        scan.spacing_mm[2] * columns / size[0],
    )
    return Coarse(hu=hu, spacing_mm=spacing, full_shape=scan.hu.shape)


@numba.njit("uint8[:,:,::1](uint8[:,:,::1], boolean[:,:,::1])", cache=True)
def flood(seeds: LabelArray, allowed: BoolArray) -> LabelArray:
    """Grow seeds inside `allowed`, six-connected, one layer at a time: each voxel goes to the nearer seed."""
    slices, rows, columns = seeds.shape
    out = seeds.copy()
    flat, open_ = out.ravel(), allowed.ravel()
    queue = np.empty(flat.size, np.int64)
    head, tail = 0, 0
    for start in range(flat.size):
        if flat[start]:
            queue[tail] = start
            tail += 1
    area = rows * columns
    while head < tail:
        at = queue[head]
        head += 1
        label = flat[at]
        plane, rest = at // area, at % area
        row, column = rest // columns, rest % columns
        for direction in range(6):
            if direction == 0 and plane > 0:
                to = at - area
            elif direction == 1 and plane < slices - 1:
                to = at + area
            elif direction == 2 and row > 0:
                to = at - columns
            elif direction == 3 and row < rows - 1:
                to = at + columns
            elif direction == 4 and column > 0:
                to = at - 1
            elif direction == 5 and column < columns - 1:
                to = at + 1
            else:
                continue
            if open_[to] and flat[to] == 0:
                flat[to] = label
                queue[tail] = to
                tail += 1
    return out


def dilate(mask: BoolArray, radius_mm: float, spacing_mm: tuple[float, float, float]) -> BoolArray:
    if not mask.any():
        return mask
    box = bounding_box(mask, int(radius_mm / min(spacing_mm)) + 2)
    out = np.zeros_like(mask)
    out[box] = edt.edt(~mask[box], anisotropy=spacing_mm, parallel=THREADS) <= radius_mm
    return out


def deeper(mask: BoolArray, depth_mm: float, spacing_mm: tuple[float, float, float]) -> BoolArray:
    """Voxels of the mask farther than `depth_mm` from everything outside it; the border of the grid is no edge."""
    out = np.zeros_like(mask)
    if mask.any():
        box = bounding_box(mask, 1)
        part = np.ascontiguousarray(mask[box])
        out[box] = edt.edt(part, anisotropy=spacing_mm, black_border=False, parallel=THREADS) > depth_mm
    return out


def bounding_box(mask: BoolArray, margin: int) -> tuple[slice, slice, slice]:
    sides = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        used = np.flatnonzero(mask.any(axis=others))
        sides.append(slice(max(0, int(used[0]) - margin), min(mask.shape[axis], int(used[-1]) + 1 + margin)))
    return sides[0], sides[1], sides[2]

"""Exact Euclidean distance on small crops.

The same result as the library that whole lungs use, without its cost per call: hundreds of candidates each need a few
transforms of a crop of some ten thousand voxels, most of which lie outside the mask or beyond the distance of interest.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from polyclinic_agents.chest_ct.scan import BoolArray, Float32Array, FloatArray

FAR = 1e12
"""Squared distance where there is no background at all."""


def distance_mm(mask: BoolArray, spacing_mm: tuple[float, float, float], up_to_mm: float = math.inf) -> Float32Array:
    """Distance of each voxel of `mask` to the nearest voxel outside it, in mm; the border of the crop is no edge.

    Distances longer than `up_to_mm` are only known to be longer.
    """
    squared = _squared(np.ascontiguousarray(mask), *spacing_mm, min(up_to_mm * up_to_mm * (1.0 + 1e-6), FAR))
    return np.sqrt(squared).astype(np.float32)


def box_around(mask: BoolArray, margin_mm: float, spacing_mm: tuple[float, float, float]) -> tuple[slice, slice, slice]:
    """A box that holds `mask` and all that lies within `margin_mm` of it; nothing for an empty mask."""
    low, high = _extent(np.ascontiguousarray(mask))
    sides = [
        slice(max(0, int(first) - more), max(0, min(size, int(last) + 1 + more)))
        for first, last, size, more in zip(
            low, high, mask.shape, (int(margin_mm / step) + 1 for step in spacing_mm), strict=True
        )
    ]
    return sides[0], sides[1], sides[2]


@numba.njit("Tuple((int64[::1], int64[::1]))(boolean[:,:,::1])", cache=True, nogil=True)
def _extent(mask: BoolArray) -> tuple[FloatArray, FloatArray]:
    """First and last used index of each axis; an empty mask ends before it begins."""
    slices, rows, columns = mask.shape
    low, high = np.array([slices, rows, columns]), np.full(3, -(1 << 30))
    for z in range(slices):
        for y in range(rows):
            first = 0
            while first < columns and not mask[z, y, first]:
                first += 1
            if first == columns:
                continue
            last = columns - 1
            while not mask[z, y, last]:
                last -= 1
            low[0], high[0] = min(low[0], z), z
            low[1], high[1] = min(low[1], y), max(high[1], y)
            low[2], high[2] = min(low[2], first), max(high[2], last)
    return low, high


@numba.njit("void(float64[:,::1], float64[:,::1], float64, float64)", cache=True, nogil=True, fastmath={"nnan", "nsz"})
def _lowered(lines: FloatArray, out: FloatArray, step: float, most: float) -> None:
    """Each row of `out` becomes the least of all rows of `lines`, each raised by its squared distance up to `most`.

    Rows at growing distance are taken until none can be lower: structures in the lung are thin, so that is soon, and
    whole rows at a time suit the processor better than the lower envelope of parabolas.
    """
    count, columns = lines.shape
    weight = step * step
    for q in range(count):
        worst = 0.0
        for x in range(columns):
            out[q, x] = lines[q, x]
            worst = max(worst, out[q, x])
        for k in range(1, count):
            raised = weight * k * k
            if raised >= worst or raised > most:
                break
            if q >= k:
                for x in range(columns):
                    out[q, x] = min(out[q, x], lines[q - k, x] + raised)
            if q + k < count:
                for x in range(columns):
                    out[q, x] = min(out[q, x], lines[q + k, x] + raised)
            worst = 0.0
            for x in range(columns):
                worst = max(worst, out[q, x])


@numba.njit("float64[:,:,::1](boolean[:,:,::1], float64, float64, float64, float64)", cache=True, nogil=True)
def _squared(mask: BoolArray, step_z: float, step_y: float, step_x: float, most: float) -> FloatArray:
    slices, rows, columns = mask.shape
    first = np.empty((slices, rows, columns), np.float64)
    # Squares by the number of steps; as many steps as columns stand for no background on this side.
    squares = np.full(2 * columns + 1, FAR)
    away = 0.0
    for k in range(columns):
        squares[k] = away * away
        away += step_x
    for z in range(slices):
        for y in range(rows):
            steps = columns
            for x in range(columns):
                steps = steps + 1 if mask[z, y, x] else 0
                first[z, y, x] = squares[steps]
            steps = columns
            for x in range(columns - 1, -1, -1):
                steps = steps + 1 if mask[z, y, x] else 0
                first[z, y, x] = min(first[z, y, x], squares[steps])
    second = np.empty((slices, rows, columns), np.float64)
    for z in range(slices):
        _lowered(first[z], second[z], step_y, most)
    # One slice is one line now.
    flat = second.reshape(slices, rows * columns)
    out = first.reshape(slices, rows * columns)
    lines, lowered = np.empty((slices, columns)), np.empty((slices, columns))
    for y in range(rows):
        for z in range(slices):
            lines[z] = flat[z, y * columns : (y + 1) * columns]
        _lowered(lines, lowered, step_z, most)
        for z in range(slices):
            out[z, y * columns : (y + 1) * columns] = lowered[z]
    return first

"""Exact Euclidean distance on small crops.

The same result as the library that whole lungs use, without its cost per call: hundreds of candidates each need a few
transforms of a crop of some ten thousand voxels. Separable lower envelope of parabolas (P. Felzenszwalb and
D. Huttenlocher, "Distance Transforms of Sampled Functions", Theory of Computing 2012).
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from polyclinic_agents.chest_ct.scan import BoolArray, Float32Array, FloatArray

FAR = 1e12
"""Squared distance where there is no background at all."""


def distance_mm(mask: BoolArray, spacing_mm: tuple[float, float, float]) -> Float32Array:
    """Distance of each voxel of `mask` to the nearest voxel outside it, in mm; the border of the crop is no edge."""
    squared = _squared(np.ascontiguousarray(mask), spacing_mm[0], spacing_mm[1], spacing_mm[2])
    return np.sqrt(squared).astype(np.float32)


@numba.njit("void(float64[::1], float64, int64[::1], float64[::1], float64[::1])", cache=True)
def _envelope(
    line: FloatArray, step: float, places: npt.NDArray[np.int64], borders: FloatArray, out: FloatArray
) -> None:
    """One-dimensional transform of `line` in place; the arrays are working space."""
    count = line.size
    used = 0
    places[0] = 0
    borders[0], borders[1] = -FAR, FAR
    weight = step * step
    for q in range(1, count):
        while True:
            p = places[used]
            cross = ((line[q] - line[p]) / weight + q * q - p * p) / (2.0 * (q - p))
            if cross > borders[used] or used == 0:
                break
            used -= 1
        if cross <= borders[used]:
            places[0] = q
            borders[1] = FAR
            continue
        used += 1
        places[used] = q
        borders[used], borders[used + 1] = cross, FAR
    at = 0
    for q in range(count):
        while borders[at + 1] < q:
            at += 1
        away = q - places[at]
        out[q] = weight * away * away + line[places[at]]
    for q in range(count):
        line[q] = out[q]


@numba.njit("float64[:,:,::1](boolean[:,:,::1], float64, float64, float64)", cache=True)
def _squared(mask: BoolArray, step_z: float, step_y: float, step_x: float) -> FloatArray:
    slices, rows, columns = mask.shape
    out = np.empty((slices, rows, columns), np.float64)
    longest = max(slices, rows, columns)
    line, result = np.empty(longest, np.float64), np.empty(longest, np.float64)
    borders, places = np.empty(longest + 1, np.float64), np.empty(longest + 1, np.int64)
    for z in range(slices):
        for y in range(rows):
            away = FAR
            for x in range(columns):
                away = 0.0 if not mask[z, y, x] else away + step_x
                out[z, y, x] = away
            away = FAR
            for x in range(columns - 1, -1, -1):
                away = 0.0 if not mask[z, y, x] else away + step_x
                nearer = min(away, out[z, y, x])
                out[z, y, x] = nearer * nearer if nearer < 1e6 else FAR
    for z in range(slices):
        for x in range(columns):
            for y in range(rows):
                line[y] = out[z, y, x]
            _envelope(line[:rows], step_y, places, borders, result)
            for y in range(rows):
                out[z, y, x] = line[y]
    for y in range(rows):
        for x in range(columns):
            for z in range(slices):
                line[z] = out[z, y, x]
            _envelope(line[:slices], step_z, places, borders, result)
            for z in range(slices):
                out[z, y, x] = line[z]
    return out

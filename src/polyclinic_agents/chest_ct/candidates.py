"""Places that could be nodules: blobs brighter than the lung around them, at several sizes.

The lungs are cropped and resampled to about 1 mm; a blob is a local maximum of a Hessian dot filter, which answers to
spots and not to tubes: with eigenvalues ordered by size, all negative, the smallest squared over the largest (Q. Li,
S. Sone and K. Doi, Med Phys 2003, "Selective enhancement filters for nodules, vessels, and airway walls").
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numba
import numpy as np
import numpy.typing as npt

from polyclinic_agents.chest_ct.cavities import fill_cavities
from polyclinic_agents.chest_ct.scan import BoolArray, Float32Array, FloatArray, LabelArray, Scan

GRID_MM = 1.0
DIAMETERS_MM = (4.0, 5.5, 8.0, 11.0, 16.0, 23.0, 32.0)
"""Sizes that the filter is tuned to; sizes between them answer to both neighbours."""
MIN_RESPONSE_HU = 15.0
"""Scale-normalised response that a ground-glass spot of 100 HU above its surroundings reaches."""
MAX_CANDIDATES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A spot; `index` is its (slice, row, column) in the turned scan, fractions allowed."""

    index: tuple[float, float, float]
    diameter_mm: float
    response_hu: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Field:
    """The crop around the lungs on a grid of about `GRID_MM`."""

    hu: Float32Array
    lung: BoolArray
    start: tuple[int, int, int]
    """First (slice, row, column) of the crop in the scan."""
    step: tuple[float, float, float]
    """Scan voxels per grid voxel, along each axis."""
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Level:
    """The field halved so often that its voxels are `scale` times as long."""

    hu: Float32Array
    lung: BoolArray
    spacing_mm: tuple[float, ...]
    scale: int


def find_candidates(
    scan: Scan, lungs: LabelArray, diameters_mm: tuple[float, ...] = DIAMETERS_MM
) -> tuple[Candidate, ...]:
    """Spots in the lungs, strongest first; without the smallest of `DIAMETERS_MM` in a fraction of the time."""
    field = _field(scan, lungs)
    found: list[Candidate] = []
    hu, lung, spacing = field.hu, field.lung, field.spacing_mm
    scale = 1
    for diameter_mm in diameters_mm:
        if diameter_mm >= 8.0 * scale * GRID_MM and scale < 4:
            hu, lung = _half(hu), _half(lung.astype(np.float32)) > 0.5
            scale *= 2
        level = Level(hu=hu, lung=lung, spacing_mm=tuple(s * scale for s in spacing), scale=scale)
        found += _spots(level, diameter_mm, field)
    return _distinct(found, scan)[:MAX_CANDIDATES]


def _field(scan: Scan, lungs: LabelArray) -> Field:
    """Crop and resample; outside the lungs the value is that of lung, so that the chest wall does not answer."""
    box = []
    for axis in range(3):
        used = np.flatnonzero(lungs.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append((max(0, int(used[0]) - 3), min(lungs.shape[axis], int(used[-1]) + 4)))
    size = [stop - start for start, stop in box]
    shape = [max(4, round(n * s / GRID_MM)) for n, s in zip(size, scan.spacing_mm, strict=True)]
    if scan.spacing_mm[0] > 0.8 * GRID_MM:
        shape[0] = min(shape[0], 2 * size[0])  # a thick slice holds no more than its neighbours can tell
    planes = np.empty((size[0], shape[1], shape[2]), dtype=np.float32)
    inside = np.empty((size[0], shape[1], shape[2]), dtype=np.float32)
    rows, columns = slice(*box[1]), slice(*box[2])
    for index in range(size[0]):
        at = box[0][0] + index
        mask = (lungs[at, rows, columns] > 0).astype(np.float32)
        image = np.clip(scan.hu[at, rows, columns], -1000, 100).astype(np.float32)
        image = np.where(mask > 0, image, np.float32(-850))
        planes[index] = cv2.resize(image, (shape[2], shape[1]), interpolation=cv2.INTER_AREA)
        inside[index] = cv2.resize(mask, (shape[2], shape[1]), interpolation=cv2.INTER_AREA)
        fill_cavities(planes[index], inside[index] > 0.5, GRID_MM**2)
    step = tuple(n / m for n, m in zip(size, shape, strict=True))
    return Field(
        hu=_along_slices(planes, shape[0]),
        lung=_along_slices(inside, shape[0]) > 0.5,
        start=(box[0][0], box[1][0], box[2][0]),
        step=(step[0], step[1], step[2]),
        spacing_mm=tuple(a * b for a, b in zip(step, scan.spacing_mm, strict=True)),
    )


def _along_slices(planes: Float32Array, count: int) -> Float32Array:
    """Resample the slice axis linearly, or by area when it shrinks, as one image of (slice, row x column)."""
    if count == len(planes):
        return planes
    out = np.empty((count, *planes.shape[1:]), dtype=np.float32)
    way = cv2.INTER_AREA if count < len(planes) else cv2.INTER_LINEAR
    for row in range(planes.shape[1]):
        out[:, row] = cv2.resize(np.ascontiguousarray(planes[:, row]), (planes.shape[2], count), interpolation=way)
    return out


def _half(values: Float32Array) -> Float32Array:
    """Mean over blocks of 2 x 2 x 2; odd ends are left out."""
    slices, rows, columns = (n // 2 * 2 for n in values.shape)
    even = values[:slices, :rows, :columns]
    flat = np.empty((slices, rows // 2, columns // 2), dtype=np.float32)
    for index in range(slices):
        flat[index] = cv2.resize(even[index], (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
    return np.asarray((flat[::2] + flat[1::2]) * np.float32(0.5), dtype=np.float32)


def _smooth(values: Float32Array, sigma_mm: float, spacing_mm: tuple[float, ...]) -> Float32Array:
    """Gaussian with `sigma_mm` along all axes, separable."""
    out = np.empty_like(values)
    sigmas = [sigma_mm / step for step in spacing_mm]
    for index, image in enumerate(values):
        out[index] = cv2.GaussianBlur(image, (0, 0), sigmaX=sigmas[2], sigmaY=sigmas[1])
    for row in range(out.shape[1]):
        plane = np.ascontiguousarray(out[:, row])
        out[:, row] = cv2.GaussianBlur(plane, (1, 2 * int(4 * sigmas[0] + 0.5) + 1), sigmaX=1e-3, sigmaY=sigmas[0])
    return out


def _spots(level: Level, diameter_mm: float, field: Field) -> list[Candidate]:
    hu, lung, spacing_mm, scale = level.hu, level.lung, level.spacing_mm, level.scale
    # A ball answers most to a Gaussian of sigma = radius / sqrt(3).
    sigma_mm = diameter_mm / 2.0 / 3.0**0.5
    smooth = _smooth(hu, sigma_mm, spacing_mm)
    response = _dot(smooth, lung, np.asarray(spacing_mm, dtype=np.float64), np.float32(sigma_mm))
    places = _maxima(response, np.float32(MIN_RESPONSE_HU))
    found = []
    for place in places:
        at = tuple(int(p) for p in place)
        middle = _peak(response, at)
        index = tuple(
            start + ((p + 0.5) * scale - 0.5 + 0.5) * step - 0.5
            for p, start, step in zip(middle, field.start, field.step, strict=True)
        )
        found.append(
            Candidate(index=(index[0], index[1], index[2]), diameter_mm=diameter_mm, response_hu=float(response[at]))
        )
    return found


def _peak(response: Float32Array, at: tuple[int, ...]) -> list[float]:
    """Position of the maximum between voxels, by a parabola along each axis."""
    place = []
    for axis in range(3):
        before, after = list(at), list(at)
        before[axis] -= 1
        after[axis] += 1
        low, here, high = float(response[tuple(before)]), float(response[at]), float(response[tuple(after)])
        bend = low - 2 * here + high
        place.append(at[axis] + (0.5 * (low - high) / bend if bend < 0 else 0.0))
    return place


@numba.njit("float32[:,:,::1](float32[:,:,::1], boolean[:,:,::1], float64[::1], float32)", cache=True)
def _dot(smooth: Float32Array, lung: BoolArray, spacing: FloatArray, sigma: np.float32) -> Float32Array:
    """Scale-normalised dot enhancement in HU where `lung`, 0 elsewhere and on the outermost voxels."""
    slices, rows, columns = smooth.shape
    out = np.zeros((slices, rows, columns), np.float32)
    za, ya, xa = 1.0 / spacing[0] ** 2, 1.0 / spacing[1] ** 2, 1.0 / spacing[2] ** 2
    zy = 0.25 / (spacing[0] * spacing[1])
    zx = 0.25 / (spacing[0] * spacing[2])
    yx = 0.25 / (spacing[1] * spacing[2])
    scale = sigma * sigma
    for z in range(1, slices - 1):
        for y in range(1, rows - 1):
            for x in range(1, columns - 1):
                if not lung[z, y, x]:
                    continue
                twice = 2.0 * smooth[z, y, x]
                dzz = (smooth[z + 1, y, x] + smooth[z - 1, y, x] - twice) * za
                dyy = (smooth[z, y + 1, x] + smooth[z, y - 1, x] - twice) * ya
                dxx = (smooth[z, y, x + 1] + smooth[z, y, x - 1] - twice) * xa
                if dzz >= 0.0 or dyy >= 0.0 or dxx >= 0.0:
                    continue  # a negative definite matrix has a negative diagonal
                dzy = (
                    smooth[z + 1, y + 1, x]
                    - smooth[z + 1, y - 1, x]
                    - smooth[z - 1, y + 1, x]
                    + smooth[z - 1, y - 1, x]
                ) * zy
                dzx = (
                    smooth[z + 1, y, x + 1]
                    - smooth[z + 1, y, x - 1]
                    - smooth[z - 1, y, x + 1]
                    + smooth[z - 1, y, x - 1]
                ) * zx
                dyx = (
                    smooth[z, y + 1, x + 1]
                    - smooth[z, y + 1, x - 1]
                    - smooth[z, y - 1, x + 1]
                    + smooth[z, y - 1, x - 1]
                ) * yx
                mean = (dzz + dyy + dxx) / 3.0
                a, b, c = dzz - mean, dyy - mean, dxx - mean
                p = np.sqrt((a * a + b * b + c * c + 2.0 * (dzy * dzy + dzx * dzx + dyx * dyx)) / 6.0)
                if p < 1e-9:
                    out[z, y, x] = -scale * mean
                    continue
                half = (a * (b * c - dyx * dyx) - dzy * (dzy * c - dyx * dzx) + dzx * (dzy * dyx - b * dzx)) / (
                    2.0 * p * p * p
                )
                phi = np.arccos(min(1.0, max(-1.0, half))) / 3.0
                largest = mean + 2.0 * p * np.cos(phi)
                smallest = mean + 2.0 * p * np.cos(phi + 2.0 * np.pi / 3.0)
                if largest < 0.0:
                    out[z, y, x] = scale * largest * largest / -smallest
    return out


@numba.njit("int64[:,::1](float32[:,:,::1], float32)", cache=True)
def _maxima(values: Float32Array, least: np.float32) -> npt.NDArray[np.int64]:
    """Indices (n, 3) of voxels of at least `least` that no one of the 26 neighbours exceeds."""
    slices, rows, columns = values.shape
    found = np.empty((20000, 3), np.int64)
    count = 0
    for z in range(1, slices - 1):
        for y in range(1, rows - 1):
            for x in range(1, columns - 1):
                here = values[z, y, x]
                if here < least:
                    continue
                top = True
                for k in range(27):
                    if k != 13:
                        other = values[z + k // 9 - 1, y + k // 3 % 3 - 1, x + k % 3 - 1]
                        # Of equal neighbours the first in order counts, so that a plateau gives one maximum.
                        if other > here or (other == here and k < 13):
                            top = False
                            break
                if top and count < found.shape[0]:
                    found[count, 0], found[count, 1], found[count, 2] = z, y, x
                    count += 1
    return found[:count].copy()


def _distinct(found: list[Candidate], scan: Scan) -> tuple[Candidate, ...]:
    """Of spots inside one another, the one that answers most."""
    ordered = sorted(found, key=lambda one: (-one.response_hu, one.index))
    kept: list[Candidate] = []
    spacing = np.asarray(scan.spacing_mm)
    places = np.empty((len(ordered), 3))
    radii = np.empty(len(ordered))
    for one in ordered:
        place = np.asarray(one.index) * spacing
        if kept:
            away = np.linalg.norm(places[: len(kept)] - place, axis=1)
            if np.any(away < 0.5 * np.maximum(radii[: len(kept)], one.diameter_mm)):
                continue
        places[len(kept)], radii[len(kept)] = place, one.diameter_mm
        kept.append(one)
    return tuple(kept)

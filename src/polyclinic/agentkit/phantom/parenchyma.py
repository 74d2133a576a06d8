"""Attenuation of lung tissue: gravity, texture, emphysema, hazy opacities and fissures."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from polyclinic.agentkit.phantom.fields import CoarseGrid, Field, union
from polyclinic.agentkit.phantom.spec import ChestPhantom

_HU_PER_MM_BACK = 0.28
_EMPHYSEMA_TISSUE_HU = -986.0
_TISSUE_SHARE = 0.93
"""Of the lung; vessels and the walls of airways take the rest."""


def lung_tissue(grid: CoarseGrid, lungs: Field, spec: ChestPhantom, rng: np.random.Generator) -> Field:
    """HU of the tissue between the vessels, on the coarse grid."""
    texture = 9.0 * smooth_noise(grid, 4.0, rng) + 7.0 * smooth_noise(grid, 12.0, rng)
    tissue: Field = np.float32(spec.lung_hu) + np.float32(_HU_PER_MM_BACK) * grid.y + texture
    if spec.ground_glass_opacities:
        tissue = _opacities(tissue, grid, lungs, spec.ground_glass_opacities, rng)
    if spec.emphysema_fraction:
        tissue = _emphysema(tissue, grid, lungs, spec, rng)
    return (tissue + _fissures(grid)).astype(np.float32)


def smooth_noise(grid: CoarseGrid, scale_mm: float, rng: np.random.Generator) -> Field:
    """Noise of unit variance whose blobs measure about `scale_mm`."""
    sigma = max(scale_mm / grid.step_mm / 2.0, 0.3)
    kernel = np.asarray(cv2.getGaussianKernel(2 * int(np.ceil(3 * sigma)) + 1, sigma, cv2.CV_32F), np.float32)
    field: Field = rng.standard_normal(grid.shape, dtype=np.float32)
    for axis in (2, 1, 0):
        field = np.moveaxis(_along_last(np.moveaxis(field, axis, 2), kernel), 2, axis)
    result: Field = np.ascontiguousarray(field / np.float32(field.std()))
    return result


def _along_last(field: Field, kernel: Field) -> Field:
    lines = np.ascontiguousarray(field).reshape(-1, field.shape[-1])
    smooth = np.empty_like(lines)
    cv2.sepFilter2D(lines, -1, kernel, np.ones(1, np.float32), dst=smooth)
    return smooth.reshape(field.shape)


def _emphysema(tissue: Field, grid: CoarseGrid, lungs: Field, spec: ChestPhantom, rng: np.random.Generator) -> Field:
    # Centrilobular emphysema prefers the upper lobes and the inside of the lung.
    tendency = smooth_noise(grid, 9.0, rng) + np.float32(0.006) * grid.z - np.float32(0.01) * np.maximum(lungs, -30)
    inside = tendency[lungs < 0]
    if not inside.size:
        return tissue
    points = _points_within(grid, lungs, rng)
    wanted = spec.emphysema_fraction / _TISSUE_SHARE
    low, high = float(inside.min()), float(inside.max())
    # Holes shrink when the coarse grid is interpolated, so the threshold is sought on interpolated values.
    for _ in range(10):
        threshold = 0.5 * (low + high)
        share = float((grid.sample(_hollow(tissue, tendency, threshold), points) < -950.0).mean())
        low, high = (threshold, high) if share > wanted else (low, threshold)
    return _hollow(tissue, tendency, high)


def _hollow(tissue: Field, tendency: Field, threshold: float) -> Field:
    hole = np.clip((tendency - np.float32(threshold)) / np.float32(0.25), 0, 1)
    result: Field = tissue + hole * (np.float32(_EMPHYSEMA_TISSUE_HU) - tissue)
    return result


def _points_within(grid: CoarseGrid, lungs: Field, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    nodes = np.argwhere(lungs < 0)
    chosen = nodes[rng.integers(0, len(nodes), 20000)] + rng.uniform(-0.5, 0.5, (20000, 3))
    points: npt.NDArray[np.float64] = chosen[:, ::-1] * grid.steps_mm + np.asarray(grid.origin_mm)
    return points[grid.sample(lungs, points) < 0]


def _opacities(tissue: Field, grid: CoarseGrid, lungs: Field, count: int, rng: np.random.Generator) -> Field:
    border = np.argwhere((lungs < -4) & (lungs > -14) & (grid.y > -30))
    if not len(border):
        return tissue
    blobs = []
    for k, j, i in border[rng.integers(0, len(border), count)]:
        centre = np.asarray(grid.origin_mm) + np.array([i, j, k]) * grid.steps_mm
        size = rng.uniform((14, 10, 12), (34, 22, 30))
        x, y, z = (
            (g - np.float32(c)) / np.float32(s) for g, c, s in zip((grid.x, grid.y, grid.z), centre, size, strict=True)
        )
        blobs.append(np.sqrt(x**2 + y**2 + z**2) - 1)
    shape = union(*blobs, rounding_mm=0.2) + np.float32(0.22) * smooth_noise(grid, 10.0, rng)
    haze = np.clip(0.5 - shape / 0.35, 0, 1)
    result: Field = tissue + haze * np.float32(290.0) * (1 + np.float32(0.12) * smooth_noise(grid, 4.0, rng))
    return result


def _fissures(grid: CoarseGrid) -> Field:
    """The oblique fissures as faint sheets, and the paler zone of the minor fissure, in HU to add."""
    x, y, z = grid.x, grid.y, grid.z
    sheet = np.zeros(grid.shape, dtype=np.float32)
    for side in (-1.0, 1.0):
        bow = np.float32(0.0022) * (x - np.float32(70 * side)) ** 2
        distance = (z + np.float32(28.0 - 4 * side) - np.float32(1.2) * y + bow * 4) / np.float32(1.56)
        sheet += np.exp(-((distance / np.float32(0.5 * grid.step_mm)) ** 2)) * (np.sign(x - 3) == side)
    result: Field = np.float32(110.0) * sheet
    return result

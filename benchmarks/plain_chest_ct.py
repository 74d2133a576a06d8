"""The peer: the same questions of a chest CT, answered with the obvious library calls.

Load a folder of CT slices with pydicom, segment the lungs and split them with scipy.ndimage, measure %LAA-950 and
Perc15, find blob candidates with Laplacian of Gaussian filters. No tuning either way: this is what one writes first.
Prints one JSON line with seconds for each step.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pydicom
from scipy import ndimage


def load(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Hounsfield units ``(slice, row, column)`` and spacing in mm."""
    slices = [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]
    slices.sort(key=lambda d: float(d.ImagePositionPatient[2]))
    hu = np.stack([d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in slices]).astype(np.int16)
    step = abs(float(slices[1].ImagePositionPatient[2]) - float(slices[0].ImagePositionPatient[2]))
    return hu, np.array([step, *map(float, slices[0].PixelSpacing)])


def lungs(hu: np.ndarray) -> np.ndarray:
    """Largest one or two air components that do not touch the border, closed and filled."""
    labels, count = ndimage.label(hu < -400)
    border = set(np.unique(labels[:, [0, -1], :])) | set(np.unique(labels[:, :, [0, -1]]))
    sizes = ndimage.sum_labels(np.ones_like(labels, dtype=np.uint8), labels, np.arange(count + 1))
    sizes[list(border)] = 0
    keep = [label for label in np.argsort(sizes)[-2:] if sizes[label] > 0.05 * sizes.max()]
    mask = ndimage.binary_closing(np.isin(labels, keep), iterations=5)
    for index in range(len(mask)):
        mask[index] = ndimage.binary_fill_holes(mask[index])
    return mask


def candidates(hu: np.ndarray, mask: np.ndarray, spacing: np.ndarray) -> int:
    """Number of local maxima of the scale-normalised Laplacian in the lungs, four scales."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    crop = np.clip(hu[box], -1000, 200).astype(np.float32)
    best = np.full(crop.shape, -np.inf, dtype=np.float32)
    for sigma_mm in (1.5, 2.5, 4.0, 6.0):
        sigma = sigma_mm / spacing
        np.maximum(best, -ndimage.gaussian_laplace(crop, sigma) * sigma_mm**2, out=best)
    peaks = (best == ndimage.maximum_filter(best, size=5)) & (best > 150) & mask[box]
    return int(peaks.sum())


def main() -> None:
    seconds: dict[str, float] = {}
    start = time.perf_counter()
    hu, spacing = load(Path(sys.argv[1]))
    seconds["load"] = time.perf_counter() - start
    start = time.perf_counter()
    mask = lungs(hu)
    seconds["lungs"] = time.perf_counter() - start
    start = time.perf_counter()
    inside = hu[mask]
    laa, perc15 = float((inside < -950).mean() * 100), float(np.percentile(inside, 15))
    seconds["emphysema"] = time.perf_counter() - start
    start = time.perf_counter()
    found = candidates(hu, mask, spacing)
    seconds["candidates"] = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "laa_950": laa, "perc_15": perc15, "candidates": found}))


if __name__ == "__main__":
    main()

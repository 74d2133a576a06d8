"""How well two masks agree: Dice and the distances between their surfaces."""

from __future__ import annotations

import math
from dataclasses import dataclass

import edt
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from polyclinic.core.errors import Rejected

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Agreement of two masks; distances are NaN when either is empty."""

    dice: float
    mean_distance_mm: float
    """Mean over the surface voxels of both masks of the distance to the other's surface."""
    distance_95_mm: float
    """95th percentile of the same distances (HD95 over both surfaces together)."""


def overlap(first: BoolArray, second: BoolArray, spacing_mm: tuple[float, float, float]) -> Overlap:
    """Compare two boolean volumes of one shape; `spacing_mm` goes with their axes.

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``assessment.shapes`` when the shapes differ.
    """
    if first.shape != second.shape:
        raise Rejected("assessment.shapes", "Masks to compare must lie on one grid")
    a, b = int(np.count_nonzero(first)), int(np.count_nonzero(second))
    both = int(np.count_nonzero(first & second))
    if not a or not b:
        return Overlap(dice=1.0 if a == b else 0.0, mean_distance_mm=math.nan, distance_95_mm=math.nan)
    box = _box(first | second)
    outlines = [_surface(np.ascontiguousarray(mask[box])) for mask in (first, second)]
    away = [edt.edt(~outline, anisotropy=spacing_mm, black_border=False) for outline in outlines]
    distances = np.concatenate([away[1][outlines[0]], away[0][outlines[1]]])
    return Overlap(
        dice=2 * both / (a + b),
        mean_distance_mm=float(distances.mean()),
        distance_95_mm=float(np.percentile(distances, 95)),
    )


def _box(mask: BoolArray) -> tuple[slice, ...]:
    parts = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        parts.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(parts)


def _surface(mask: BoolArray) -> BoolArray:
    """Voxels of the mask with a face neighbour outside it; beyond the box counts as outside."""
    padded = np.pad(mask, 1)
    return np.asarray(mask & ~ndimage.binary_erosion(padded)[tuple(slice(1, -1) for _ in mask.shape)])

"""Signed distance fields (mm, negative inside) on a coarse grid, from which organs are drawn.

The distances are approximate away from a surface; near it they are good enough to draw an edge of one voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from polyclinic.core.findings import Point

Field = npt.NDArray[np.float32]
FAR_MM = np.float32(40.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoarseGrid:
    """Grid of a few millimetres over the field of view; axes of a field are (z, y, x)."""

    origin_mm: Point
    steps_mm: Point
    """Along x, y, z; nearly equal."""
    shape: tuple[int, int, int]

    @property
    def step_mm(self) -> float:
        """The longest step."""
        return max(self.steps_mm)

    def rescaled(self, scale: Point) -> CoarseGrid:
        """The same nodes with every coordinate divided by `scale`."""
        x, y, z = (o / s for o, s in zip(self.origin_mm, scale, strict=True))
        dx, dy, dz = (o / s for o, s in zip(self.steps_mm, scale, strict=True))
        return CoarseGrid(origin_mm=(x, y, z), steps_mm=(dx, dy, dz), shape=self.shape)

    @property
    def x(self) -> Field:
        """LPS x of the nodes, shape (1, 1, nx)."""
        return self._axis(2, 0).reshape(1, 1, -1)

    @property
    def y(self) -> Field:
        """LPS y of the nodes, shape (1, ny, 1)."""
        return self._axis(1, 1).reshape(1, -1, 1)

    @property
    def z(self) -> Field:
        """LPS z of the nodes, shape (nz, 1, 1)."""
        return self._axis(0, 2).reshape(-1, 1, 1)

    def _axis(self, axis: int, coordinate: int) -> Field:
        nodes = np.arange(self.shape[axis], dtype=np.float32)
        return np.float32(self.origin_mm[coordinate]) + nodes * np.float32(self.steps_mm[coordinate])

    def sample(self, field: Field, points_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Trilinear value of `field` at LPS points ``(n, 3)``; outside the grid its border counts."""
        index = (np.atleast_2d(points_mm) - np.asarray(self.origin_mm)) / self.steps_mm
        index = np.clip(index[:, ::-1], 0.0, np.asarray(self.shape) - 1.001)
        low = index.astype(np.intp)
        part = index - low
        value = np.zeros(len(index))
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod(np.where(corner, part, 1.0 - part), axis=1)
            value += weight * field[tuple((low + corner).T)]
        return value


def union(*fields: Field, rounding_mm: float = 0.0) -> Field:
    """Union; with `rounding_mm` the crease between two bodies is filled by that much."""
    result = fields[0]
    for field in fields[1:]:
        if rounding_mm:
            reach = np.maximum(rounding_mm - np.abs(result - field), 0.0)
            result = np.minimum(result, field) - reach * reach * np.float32(0.25 / rounding_mm)
        else:
            result = np.minimum(result, field)
    return result


def intersection(*fields: Field, rounding_mm: float = 0.0) -> Field:
    """Intersection; with `rounding_mm` its edge is rounded off."""
    return -union(*(-field for field in fields), rounding_mm=rounding_mm)


def ellipsoid(grid: CoarseGrid, centre_mm: Point, semi_axes_mm: Point, long_axis: Point | None = None) -> Field:
    """Ellipsoid along the axes, or with its first semi-axis along the unit vector `long_axis`."""
    x, y, z = (g - np.float32(c) for g, c in zip((grid.x, grid.y, grid.z), centre_mm, strict=True))
    if long_axis is not None:
        first = np.asarray(long_axis) / np.linalg.norm(long_axis)
        second = np.cross((0.0, 0.0, 1.0), first)
        second /= np.linalg.norm(second)
        third = np.cross(first, second)
        x, y, z = (np.float32(a[0]) * x + np.float32(a[1]) * y + np.float32(a[2]) * z for a in (first, second, third))
    a, b, c = (np.float32(s) for s in semi_axes_mm)
    scaled = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2) + np.float32(1e-6)
    slope = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2) + np.float32(1e-6)
    result: Field = scaled * (scaled - 1) / slope
    return result


def superellipse(grid: CoarseGrid, half_width: Field, half_depth: Field, centre_y: Field, power: float) -> Field:
    """Stack of superellipses whose size and centre change with z (each argument of shape (nz, 1, 1))."""
    y = grid.y - centre_y
    q = (np.abs(grid.x / half_width) ** power + np.abs(y / half_depth) ** power) ** (1.0 / power)
    q = np.maximum(q, np.float32(0.05))
    radius = np.sqrt(grid.x**2 + y**2)
    result: Field = np.where(q > 0.06, radius * (1 - 1 / q), -np.minimum(half_width, half_depth))
    return result


def profile(grid: CoarseGrid, knots: Sequence[tuple[float, float]]) -> Field:
    """Value along z through `knots` of (z, value), smoothed, shape (nz, 1, 1)."""
    heights, values = zip(*knots, strict=True)
    offsets = np.linspace(-12.0, 12.0, 9)
    z = grid.z.ravel()
    smooth = np.mean([np.interp(z + o, heights, values) for o in offsets], axis=0)
    result: Field = smooth.astype(np.float32).reshape(-1, 1, 1)
    return result


def tube(grid: CoarseGrid, path_mm: Sequence[Point], radii_mm: Sequence[float], reach_mm: float = 24.0) -> Field:
    """Chain of tapering capsules through `path_mm`; farther than `reach_mm` the field is only `FAR_MM`."""
    field = np.full(grid.shape, FAR_MM, dtype=np.float32)
    points = np.asarray(path_mm, dtype=np.float32)
    axes = (grid.x, grid.y, grid.z)
    for (start, end), (r0, r1) in zip(pairwise(points), pairwise(radii_mm), strict=True):
        margin = reach_mm + max(r0, r1)
        window = _window(grid, np.minimum(start, end) - margin, np.maximum(start, end) + margin)
        x, y, z = (
            axis[tuple(w if n > 1 else slice(None) for w, n in zip(window, axis.shape, strict=True))] - s
            for axis, s in zip(axes, start, strict=True)
        )
        d = end - start
        along = np.clip((x * d[0] + y * d[1] + z * d[2]) / max(float(d @ d), 1e-6), 0, 1)
        distance = np.sqrt((x - along * d[0]) ** 2 + (y - along * d[1]) ** 2 + (z - along * d[2]) ** 2)
        field[window] = np.minimum(field[window], distance - (r0 + along * np.float32(r1 - r0)))
    return field


def _window(
    grid: CoarseGrid, low_mm: npt.NDArray[np.float32], high_mm: npt.NDArray[np.float32]
) -> tuple[slice, slice, slice]:
    origin = np.asarray(grid.origin_mm)
    low = np.floor((low_mm - origin) / grid.steps_mm).astype(int)[::-1]
    high = np.ceil((high_mm - origin) / grid.steps_mm).astype(int)[::-1] + 1
    z, y, x = (
        slice(int(np.clip(a, 0, n)), int(np.clip(b, 0, n))) for a, b, n in zip(low, high, grid.shape, strict=True)
    )
    return (z, y, x)

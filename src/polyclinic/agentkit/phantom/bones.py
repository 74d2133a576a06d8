"""The bony thorax as chains of flattened capsules, and the vertebral bodies as fields."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from polyclinic.agentkit.phantom import chest
from polyclinic.agentkit.phantom.fields import CoarseGrid, Field, intersection, profile, tube, union
from polyclinic.core.findings import Point

Capsules = npt.NDArray[np.float32]
"""Rows of x0, y0, z0, x1, y1, z1, r0, r1, flatness; flatness below 1 stretches the section along z."""

CORTEX_MM = 1.5
_RIB_ARC_END = (2.35, 2.42, 2.45, 2.45, 2.42, 2.38, 2.32, 2.15, 1.95, 1.75, 1.35, 0.95)
"""Angle from the spine at which the bony rib ends, ribs 1 to 12, radians."""


def vertebra_height_mm(number: int) -> float:
    """z of the middle of thoracic vertebra `number`; 13 and 14 are lumbar, 0 and -1 cervical."""
    step = number - 1
    return 100.0 - 20.0 * step - 0.25 * step * abs(step)


def scaled(capsules: Capsules, scale: Point) -> Capsules:
    """Capsules whose ends are moved to ``scale`` times their coordinates; their girth stays."""
    result = capsules.copy()
    result[:, :3] *= np.asarray(scale, dtype=np.float32)
    result[:, 3:6] *= np.asarray(scale, dtype=np.float32)
    return result


def bone_capsules() -> Capsules:
    """Every bone that is drawn from capsules."""
    rows: list[tuple[float, ...]] = []
    for number in range(-1, 15):
        rows.extend(_posterior_arch(vertebra_height_mm(number)))
    for side in (-1.0, 1.0):
        for number in range(1, 13):
            rows.extend(_chain(rib_path(number, side), 3.7, 0.58))
        rows.extend(_shoulder(side))
    rows.extend(_sternum())
    return np.asarray(rows, dtype=np.float32)


def vertebral_fields(grid: CoarseGrid) -> tuple[Field, Field, Field]:
    """Vertebral bodies, the column with its discs, and the spinal canal."""
    z = grid.z
    spine_y = chest.spine_y_mm(z)
    levels = np.array([vertebra_height_mm(n) for n in range(-2, 16)], dtype=np.float32)
    nearest = np.abs(z.ravel()[:, None] - levels[None, :]).min(axis=1).reshape(-1, 1, 1).astype(np.float32)
    half_height = profile(grid, ((-190, 10.8), (-60, 9.4), (60, 7.8), (160, 6.5)))
    girth = profile(grid, ((-190, 1.2), (-60, 1.06), (60, 0.92), (160, 0.8)))
    waist = np.float32(1.0) - np.float32(0.12) * np.clip(1 - nearest / 8.0, 0, 1)
    across = np.sqrt((grid.x / (18 * girth * waist)) ** 2 + ((grid.y - spine_y) / (15 * girth * waist)) ** 2)
    column = (across - 1) * 15 * girth
    ends = nearest - half_height + np.zeros(grid.shape, np.float32)
    heights = range(-200, 161, 30)
    path = [(0.0, float(chest.spine_y_mm(z0)) + 21.5, float(z0)) for z0 in heights]
    canal = tube(grid, path, [8.5] * len(path))
    return intersection(column, ends, rounding_mm=2), column, canal


def cartilage_field(grid: CoarseGrid) -> Field:
    """Costal cartilages of ribs 1 to 7, from the bony end to the edge of the sternum."""
    parts = []
    for side in (-1.0, 1.0):
        for number in range(1, 8):
            end = rib_path(number, side)[-1]
            z = max(end[2] + (4.0 if number < 4 else 14.0 * (number - 3)), -82.0)
            parts.append(tube(grid, (end, (side * 15.0, _sternum_y_mm(z), z)), (5.0, 4.5)))
    return union(*parts)


def rib_path(number: int, side: float) -> list[Point]:
    """Middle line of a rib from its head to its bony end; `side` is -1 for the right, +1 for the left."""
    top = vertebra_height_mm(number)
    spine_y = float(chest.spine_y_mm(top))
    drop = 38.0 + 7.5 * (min(number, 9) - 1)
    path: list[Point] = [(side * 16.0, spine_y + 6.0, top + 6.0)]
    end = _RIB_ARC_END[number - 1]
    count = max(int(end / 0.09), 4)
    for angle in np.linspace(0.42, end, count):
        z = top + 7.0 - drop * (angle / 2.5) ** 1.15
        path.append(_on_cage(angle, z, side, outward_mm=5.5))
    return path


def _on_cage(angle: float, z: float, side: float, outward_mm: float) -> Point:
    width = _at(chest.CAGE_HALF_WIDTH, z)
    depth = _at(chest.CAGE_HALF_DEPTH, z)
    centre = _at(chest.CAGE_CENTRE_Y, z)
    x, y = math.sin(angle), math.cos(angle)
    power = chest.CAGE_POWER
    radius = ((x / width) ** power + (abs(y) / depth) ** power) ** (-1 / power) + outward_mm
    return (side * x * radius, centre + y * radius, z)


def _sternum_y_mm(z: float) -> float:
    return _at(chest.CAGE_CENTRE_Y, z) - _at(chest.CAGE_HALF_DEPTH, z) - 5.0


def _at(knots: Sequence[tuple[float, float]], z: float) -> float:
    return float(np.interp(z, [knot[0] for knot in knots], [knot[1] for knot in knots]))


def _chain(path: Sequence[Point], radius_mm: float, flatness: float) -> Iterator[tuple[float, ...]]:
    for start, end in pairwise(path):
        yield (*start, *end, radius_mm, radius_mm, flatness)


def _posterior_arch(z: float) -> Iterator[tuple[float, ...]]:
    y = float(chest.spine_y_mm(z))
    for side in (-1.0, 1.0):
        corner = (side * 13.0, y + 22.0, z)
        yield (side * 11.0, y + 9.0, z + 2.0, *corner, 3.4, 3.2, 0.6)
        yield (*corner, 0.0, y + 33.0, z - 3.0, 3.0, 3.0, 0.42)
        yield (*corner, side * 36.0, y + 31.0, z + 4.0, 4.2, 4.4, 0.8)
    yield (0.0, y + 33.0, z - 3.0, 0.0, y + 43.0, z - 18.0, 2.8, 3.4, 0.6)


def _sternum() -> Iterator[tuple[float, ...]]:
    for z in np.arange(-78.0, 62.1, 3.0):
        half_width = 22.0 + 0.3 * (z - 40.0) if z > 38.0 else 11.0 + 4.0 * math.cos(z / 24.0)
        gap = abs(z - 35.0) < 3.0
        if not gap:
            y = _sternum_y_mm(float(z))
            yield (-half_width, y, float(z), half_width, y, float(z), 5.0, 5.0, 0.9)


def _shoulder(side: float) -> Iterator[tuple[float, ...]]:
    clavicle: list[Point] = [
        (side * 22, -47, 62), (side * 48, -46, 76), (side * 82, -34, 94), (side * 116, -8, 112),
    ]  # fmt: skip
    yield from _chain(clavicle, 5.2, 1.0)
    # Blade of the scapula, turned outwards by the raised arm: one flat capsule for each height.
    for z in np.arange(-14.0, 92.0, 6.0):
        medial, lateral = 0.55 + 0.0035 * (40.0 - z), 1.3
        angles = np.linspace(min(medial, 1.15), lateral, 5)
        points = [_on_cage(a, float(z), side, 17.0 + max(0.0, z - 50.0) * 0.35) for a in angles]
        for index, (start, end) in enumerate(pairwise(points)):
            radius = 4.5 if index == 3 else 2.0
            yield (*start, *end, 2.0 if index == 3 else radius, radius, 0.45)
    glenoid = (side * 122.0, 26.0, 98.0)
    yield (*_on_cage(1.0, 80.0, side, 30.0), *glenoid, 4.0, 9.0, 1.0)
    yield (side * 130.0, 12.0, 118.0, side * 128.0, 6.0, 150.0, 20.0, 13.0, 1.0)

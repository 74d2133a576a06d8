"""Airways, arteries and veins of the lungs: trees that fill the space and taper by Murray's law.

Each tree is grown from the hilum over a jittered lattice of end points: the points are halved again and again
along their longest extent, and each half gets a branch towards its middle. Airways run beside arteries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polyclinic.agentkit.phantom import chest
from polyclinic.agentkit.phantom.bones import Capsules, scaled
from polyclinic.agentkit.phantom.fields import CoarseGrid, Field
from polyclinic.core.findings import Point

Points = npt.NDArray[np.float64]
_LEAF_RADIUS_MM = 0.42
_MURRAY_EXPONENT = 1 / 2.85
_AIRWAY_BESIDE_ARTERY = np.array([0.0, 0.8, -0.6])
_AIRWAY_SMALLEST_LUMEN_MM = 0.8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trees:
    """Capsules of the tubes inside and outside the lungs; radii in mm."""

    vessels: Capsules
    airway_walls: Capsules
    airway_lumens: Capsules

    def scaled(self, scale: Point) -> Trees:
        """The trees of a body `scale` times the drawn one; the girth of the tubes stays."""
        return Trees(
            vessels=scaled(self.vessels, scale),
            airway_walls=scaled(self.airway_walls, scale),
            airway_lumens=scaled(self.airway_lumens, scale),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tree:
    starts: Points
    ends: Points
    start_radii: npt.NDArray[np.float64]
    end_radii: npt.NDArray[np.float64]


def grow_trees(grid: CoarseGrid, lungs: Field, rng: np.random.Generator, twig_spacing_mm: float) -> Trees:
    """Grow the trees of both lungs.

    Parameters
    ----------
    twig_spacing_mm
        Distance between neighbouring end points, about 9 mm for thin slices; more is faster and barer.
    """
    arteries: list[_Tree] = []
    veins: list[_Tree] = []
    for side, hilum, vein_hilum in (
        (-1.0, chest.RIGHT_HILUM, chest.RIGHT_VEIN_HILUM),
        (1.0, chest.LEFT_HILUM, chest.LEFT_VEIN_HILUM),
    ):
        for trees, root in ((arteries, hilum), (veins, vein_hilum)):
            spacing = twig_spacing_mm if trees is arteries else twig_spacing_mm * 1.1
            ends = _end_points(grid, lungs, side, spacing, rng)
            trees.append(_grow(np.asarray(root, dtype=float), ends, rng))
    lumens = [_beside(tree) for tree in arteries]
    lumens = [_inside(tree, grid, lungs) for tree in lumens]
    main = _main_airways()
    lumen_rows = np.concatenate([main, *(_capsules(tree) for tree in lumens)])
    walls = lumen_rows.copy()
    walls[:, 6:8] += 0.45 + 0.14 * np.minimum(lumen_rows[:, 6:8], 8.0)
    return Trees(
        vessels=np.concatenate([_capsules(tree) for tree in (*arteries, *veins)]),
        airway_walls=walls,
        airway_lumens=lumen_rows,
    )


def _end_points(grid: CoarseGrid, lungs: Field, side: float, spacing_mm: float, rng: np.random.Generator) -> Points:
    axes = [np.arange(low, high, spacing_mm) for low, high in ((-140, 140), (-95, 95), (-170, 120))]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    lattice = lattice + rng.uniform(-0.5, 0.5, lattice.shape) * spacing_mm
    lattice = lattice[np.sign(lattice[:, 0] - chest.MIDLINE_X_MM) == side]
    inside: Points = lattice[grid.sample(lungs, lattice) < -3.5]
    return inside


def _grow(root: Points, ends: Points, rng: np.random.Generator) -> _Tree:
    starts: list[Points] = []
    stops: list[Points] = []
    radii: list[tuple[float, float]] = []
    pending = [(root, ends, _radius_mm(len(ends)))] if len(ends) else []
    while pending:
        start, points, parent_radius = pending.pop()
        count = len(points)
        radius = _radius_mm(count)
        stop = points[0]
        if count > 1:
            stop = start + (points.sum(axis=0) / count - start) * (0.42 + 0.16 * rng.random())
            axis = int((points.max(axis=0) - points.min(axis=0)).argmax())
            cut = min(max(round(count * (0.35 + 0.3 * rng.random())), 1), count - 1)
            order = points[:, axis].argpartition(cut)
            pending.append((stop, points[order[:cut]], radius))
            pending.append((stop, points[order[cut:]], radius))
        starts.append(start)
        stops.append(stop)
        radii.append((min(parent_radius, 1.25 * radius), radius))
    return _bent(np.asarray(starts).reshape(-1, 3), np.asarray(stops).reshape(-1, 3), np.asarray(radii), rng)


def _bent(starts: Points, stops: Points, radii: Points, rng: np.random.Generator) -> _Tree:
    """Each branch in two halves with a slight bend between them."""
    lengths = np.linalg.norm(stops - starts, axis=1, keepdims=True)
    bends = 0.5 * (starts + stops) + rng.normal(0.0, 0.06, starts.shape) * lengths
    radii = radii.reshape(-1, 2)
    return _Tree(
        starts=np.concatenate([starts, bends]),
        ends=np.concatenate([bends, stops]),
        start_radii=np.concatenate([radii[:, 0], radii[:, 1]]),
        end_radii=np.concatenate([radii[:, 1], radii[:, 1]]),
    )


def _radius_mm(leaves: int) -> float:
    return float(_LEAF_RADIUS_MM * max(leaves, 1) ** _MURRAY_EXPONENT)


def _beside(artery: _Tree) -> _Tree:
    """The airway that runs along an artery, as far as it would be seen on CT."""
    start_radii, end_radii = 0.8 * artery.start_radii, 0.8 * artery.end_radii
    seen = end_radii >= _AIRWAY_SMALLEST_LUMEN_MM
    shift_start = ((artery.start_radii + start_radii + 0.9) * seen)[:, None] * _AIRWAY_BESIDE_ARTERY
    shift_end = ((artery.end_radii + end_radii + 0.9) * seen)[:, None] * _AIRWAY_BESIDE_ARTERY
    return _Tree(
        starts=(artery.starts + shift_start)[seen],
        ends=(artery.ends + shift_end)[seen],
        start_radii=start_radii[seen],
        end_radii=end_radii[seen],
    )


def _inside(tree: _Tree, grid: CoarseGrid, lungs: Field) -> _Tree:
    # A straight branch may cut across the heart or the diaphragm; a bronchus there would look wrong.
    keep = (grid.sample(lungs, tree.ends) < 1.0) & (grid.sample(lungs, tree.starts) < 12.0)
    return _Tree(
        starts=tree.starts[keep],
        ends=tree.ends[keep],
        start_radii=tree.start_radii[keep],
        end_radii=tree.end_radii[keep],
    )


def _main_airways() -> Capsules:
    rows: list[tuple[float, ...]] = []
    paths: tuple[tuple[tuple[Point, ...], tuple[float, ...]], ...] = (
        (chest.TRACHEA, (8.5, 8.5, 8.5, 8.5)),
        (chest.RIGHT_MAIN_BRONCHUS, (7.5, 6.5, 5.0)),
        (chest.LEFT_MAIN_BRONCHUS, (7.0, 6.0, 5.0)),
    )
    for path, radii in paths:
        for index in range(len(path) - 1):
            rows.append((*path[index], *path[index + 1], radii[index], radii[index + 1], 1.0))
    return np.asarray(rows, dtype=np.float32)


def _capsules(tree: _Tree) -> Capsules:
    columns = (tree.starts, tree.ends, tree.start_radii, tree.end_radii, np.ones(len(tree.starts)))
    return np.column_stack(columns).astype(np.float32)

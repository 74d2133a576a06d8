"""Where a place of this scan is on an earlier one: an affine map of each lung, and a local shift around each place.

The surfaces of both lungs are brought together by iterated closest points (P. Besl and N. McKay, IEEE PAMI 1992,
14:239-256), with an affine map because lungs stretch with each breath. Vessels inside then say whether it is the same
chest: around a set of places the local structure of both scans is correlated over small shifts. In the same person
there is one shift at which vessels lie on vessels; in two persons there is none, however well the surfaces fit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numba
import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates, uniform_filter
from scipy.spatial import cKDTree

from polyclinic_agents.chest_ct.grid import bounding_box, deeper
from polyclinic_agents.chest_ct.lungs import LEFT, RIGHT, Lungs
from polyclinic_agents.chest_ct.scan import BoolArray, Float32Array, FloatArray, LabelArray, Scan

MAX_RESIDUAL_MM = 3.5
"""Median distance of the lung surfaces above which nothing is compared; a voxel of the coarse grid has 2 mm."""
MIN_AGREEMENT = 0.55
"""Median correlation of local structure below which nothing is compared. Two real persons gave 0.29 and 0.36, phantoms
of different persons, which share their hila, up to 0.53; one person 0.59 under the deepest breath that was tried."""

SURFACE_POINTS = 4000
KEPT_SHARE = 0.85
"""Of the closest pairs; the rest is where one outline has an opacity or a vessel more than the other."""
MAX_ROUNDS = 40
STILL_MM = 0.02
PROBES = 48
PROBE_DEPTH_MM = 12.0
STEP_MM, WINDOW_MM, SEARCH_MM = 2.0, 16.0, 12.0
WINDOW_VOXELS = 2000
"""Of the 4913 in a window: scattered evenly they tell as much as all."""
STRUCTURE_HU = (-1000.0, -300.0)
BACKGROUND_MM = 24.0


class Unregistered(Exception):
    """The two scans cannot be brought together; `reason` completes a sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Structure:
    """Vessels and nodules of one scan as deviation from the lung around them, on the coarse grid."""

    scan: Scan
    lungs: LabelArray
    """Coarse labels, `RIGHT` and `LEFT`."""
    hu: Float32Array
    start: tuple[int, int, int]
    """First coarse voxel of `hu`."""
    per_voxel: FloatArray
    """Scan voxels for each coarse voxel, along each axis."""

    def to_patient(self, coarse: FloatArray) -> FloatArray:
        """Coarse indices ``(..., 3)`` -> LPS mm."""
        return self.scan.to_patient((coarse + 0.5) * self.per_voxel - 0.5)

    def at(self, points_mm: FloatArray) -> Float32Array:
        """Deviation in HU at LPS mm ``(n, 3)``; 0 outside the lungs."""
        coarse = (self.scan.from_patient(points_mm) + 0.5) / self.per_voxel - 0.5 - np.asarray(self.start)
        return np.asarray(map_coordinates(self.hu, coarse.T, order=1, mode="constant"), dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Registration:
    """Maps LPS mm of this scan to LPS mm of the earlier one."""

    now: Structure
    before: Structure
    before_labels: LabelArray
    """Lungs of the earlier scan on its full grid."""
    maps: dict[int, FloatArray]
    """Affine matrix (3, 4) of each lung that both scans show."""
    residual_mm: float
    """Median distance of mapped lung surface points to the surface on the earlier scan."""
    agreement: float
    """Median over the probes of the best local correlation, -1 to 1."""

    def to_before(self, point_mm: FloatArray, lung: int, without_mm: float = 0.0) -> tuple[FloatArray, float]:
        """Place on the earlier scan, and how well the structure around it agrees (-1 to 1).

        What lies within `without_mm` of the place does not count: a nodule that grew or came must not vote.
        """
        used = _USED[np.linalg.norm(_WINDOW[_USED], axis=1) >= without_mm]
        window = self.now.at(point_mm + _WINDOW[used])
        matrix = self.maps[lung]
        middle = _moved(matrix, point_mm[None])[0]
        wide = self.before.at(middle + _WIDE @ matrix[:, :3].T).reshape([_WIDE_SIDE] * 3)
        found = _correlations(window, np.stack(np.unravel_index(used, [SIDE] * 3), axis=1), wide)
        best = np.unravel_index(int(np.argmax(found)), found.shape)
        shift_mm = (np.asarray(best, dtype=np.float64) - (found.shape[0] - 1) / 2) * STEP_MM
        return middle + matrix[:, :3] @ shift_mm, float(found[best])

    def roughly_now(self, point_mm: FloatArray, lung: int) -> FloatArray:
        """Place on this scan of a place of the earlier one, by the map of the whole lung alone."""
        matrix = self.maps[lung]
        return _solved(matrix, point_mm - matrix[:, 3])

    def to_now(self, point_mm: FloatArray, lung: int) -> FloatArray:
        """Place on this scan of a place of the earlier one."""
        matrix = self.maps[lung]
        place = self.roughly_now(point_mm, lung)
        for _ in range(2):
            there, _agreement = self.to_before(place, lung)
            place = place + _solved(matrix, point_mm - there)
        return place


def register(now: Scan, now_lungs: Lungs, before: Scan, before_lungs: Lungs) -> Registration:
    """Bring two scans of one person together.

    Raises
    ------
    Unregistered
        When no lung is seen on both, the surfaces stay apart, or the structure inside does not agree.
    """
    first, second = structure(now, now_lungs), structure(before, before_lungs)
    maps: dict[int, FloatArray] = {}
    distances: list[FloatArray] = []
    for lung in (RIGHT, LEFT):
        one, two = surface_mm(first, lung, SURFACE_POINTS), surface_mm(second, lung, 10 * SURFACE_POINTS)
        if min(len(one), len(two)) < SURFACE_POINTS // 20:
            continue
        maps[lung], left = _closest_points(one, two)
        distances.append(left)
    if not maps:
        raise Unregistered("no lung is seen on both")
    residual_mm = float(np.median(np.concatenate(distances)))
    if residual_mm > MAX_RESIDUAL_MM:
        raise Unregistered(f"the lung surfaces stay {residual_mm:.1f} mm apart")
    made = Registration(
        now=first, before=second, before_labels=before_lungs.labels, maps=maps, residual_mm=residual_mm, agreement=0.0
    )
    found = [made.to_before(point, lung)[1] for lung in maps for point in _probes_mm(first, lung)]
    agreement = float(np.median(found)) if found else 0.0
    if agreement < MIN_AGREEMENT:
        raise Unregistered(f"the vessels of the lungs do not match (agreement {agreement:.2f})")
    return replace(made, agreement=agreement)


def structure(scan: Scan, lungs: Lungs) -> Structure:
    """Local structure of the lungs of one scan."""
    grid, labels = lungs.coarse.grid, lungs.coarse.lungs
    box = bounding_box(labels > 0, 2)
    inside = (labels[box] > 0).astype(np.float32)
    values = np.clip(grid.hu[box], *STRUCTURE_HU).astype(np.float32) * inside
    size = [max(1, round(BACKGROUND_MM / step)) for step in grid.spacing_mm]
    share = uniform_filter(inside, size, mode="constant")
    background = uniform_filter(values, size, mode="constant") / np.maximum(share, 1e-3)
    deviation = np.asarray((values - background) * inside, dtype=np.float32)
    for image in deviation:
        cv2.GaussianBlur(image, (3, 3), 0, dst=image)
    return Structure(
        scan=scan,
        lungs=labels,
        hu=deviation,
        start=(box[0].start, box[1].start, box[2].start),
        per_voxel=np.asarray(grid.spacing_mm) / np.asarray(scan.spacing_mm),
    )


def surface_mm(of: Structure, lung: int, most: int) -> FloatArray:
    """At most `most` points of the surface of a lung, evenly drawn, LPS mm ``(n, 3)``."""
    own = of.lungs == lung
    if not own.any():
        return np.empty((0, 3))
    box = bounding_box(own, 1)
    part = own[box]
    inner = part.copy()
    for axis in range(3):
        for step in (1, -1):
            inner &= np.roll(part, step, axis)
    return of.to_patient(_drawn(part & ~inner, most) + [side.start for side in box])


def _drawn(mask: BoolArray, most: int) -> FloatArray:
    """Indices ``(n, 3)`` of at most `most` voxels, the same at every call."""
    places = np.argwhere(mask).astype(np.float64)
    if len(places) > most:
        places = places[np.random.default_rng(0).permutation(len(places))[:most]]
    return places


def _probes_mm(of: Structure, lung: int) -> FloatArray:
    own = of.lungs == lung
    spacing = np.asarray(of.scan.spacing_mm) * of.per_voxel
    deep = deeper(own, PROBE_DEPTH_MM, (float(spacing[0]), float(spacing[1]), float(spacing[2])))
    return of.to_patient(_drawn(deep, PROBES // 2))


def _closest_points(one: FloatArray, two: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Affine matrix (3, 4) that lays `one` on `two`, and the distances that are left."""
    low, high = (np.percentile(points, (3, 97), axis=0) for points in (one, two))
    scale = np.clip((high[1] - high[0]) / (low[1] - low[0]), 0.5, 2.0)
    matrix = np.column_stack([np.diag(scale), high.mean(axis=0) - scale * low.mean(axis=0)])
    tree = cKDTree(two)
    placed = _moved(matrix, one)
    for _ in range(MAX_ROUNDS):
        distances, nearest = tree.query(placed)
        near = distances <= np.quantile(distances, KEPT_SHARE)
        known = np.column_stack([one[near], np.ones(int(near.sum()))])
        matrix = np.linalg.lstsq(known, two[nearest[near]], rcond=None)[0].T
        moved = _moved(matrix, one)
        step_mm = float(np.abs(moved - placed).mean())
        placed = moved
        if step_mm < STILL_MM:
            break
    return matrix, tree.query(placed)[0]


def _solved(matrix: FloatArray, way_mm: FloatArray) -> FloatArray:
    """A way on the earlier scan as a way on this one."""
    return np.asarray(np.linalg.solve(matrix[:, :3], way_mm), dtype=np.float64)


def _moved(matrix: FloatArray, points_mm: FloatArray) -> FloatArray:
    return np.asarray(points_mm @ matrix[:, :3].T + matrix[:, 3], dtype=np.float64)


def _cube(reach_mm: float) -> FloatArray:
    steps = np.arange(-round(reach_mm / STEP_MM), round(reach_mm / STEP_MM) + 1) * STEP_MM
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)


_WINDOW, _WIDE = _cube(WINDOW_MM), _cube(WINDOW_MM + SEARCH_MM)
_USED = np.sort(np.random.default_rng(0).permutation(len(_WINDOW))[:WINDOW_VOXELS])
SIDE, _WIDE_SIDE = (2 * round(reach / STEP_MM) + 1 for reach in (WINDOW_MM, WINDOW_MM + SEARCH_MM))


@numba.njit("float32[:,:,::1](float32[::1], int64[:,::1], float32[:,:,::1])", cache=True, nogil=True)
def _correlations(window: Float32Array, places: npt.NDArray[np.int64], wide: Float32Array) -> Float32Array:
    """Pearson correlation of `window`, which holds the voxels `places`, with `wide` at every shift; 0 where flat."""
    count = wide.shape[0] - SIDE + 1
    out = np.zeros((count, count, count), np.float32)
    total = np.float32(len(window))
    centred = window - window.mean()
    spread = np.sqrt((centred * centred).sum() / total)
    if spread < 1.0:
        return out
    for a in range(count):
        for b in range(count):
            for c in range(count):
                both, plain, square = np.float32(0), np.float32(0), np.float32(0)
                for n in range(len(window)):
                    value = wide[a + places[n, 0], b + places[n, 1], c + places[n, 2]]
                    both += centred[n] * value
                    plain += value
                    square += value * value
                variance = square / total - (plain / total) ** 2
                if variance > 1.0:
                    out[a, b, c] = both / total / (spread * np.sqrt(variance))
    return out

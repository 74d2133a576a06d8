"""Where nodules lie, and how they fill voxels: exact by counting sub-voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polyclinic.agentkit.phantom import chest
from polyclinic.agentkit.phantom.bones import Capsules
from polyclinic.agentkit.phantom.fields import CoarseGrid, Field
from polyclinic.agentkit.phantom.spec import ChestPhantom, NoduleKind, NoduleSpec, NoduleTruth
from polyclinic.core.errors import Rejected
from polyclinic.core.findings import Point
from polyclinic.dicom.geometry import VolumeGeometry

_TISSUE_HU = {
    NoduleKind.SOLID: (20.0, 60.0),
    NoduleKind.PART_SOLID: (-600.0, -520.0),
    NoduleKind.GROUND_GLASS: (-640.0, -540.0),
    NoduleKind.CALCIFIED: (350.0, 650.0),
}
_CORE_HU = 30.0
_CORE_SHARE = 0.55
"""Core diameter over nodule diameter of a part-solid nodule."""
_CLEARANCE_MM = 2.0
_SUBSAMPLES = 7
_PLACES_TRIED = 4000


def draw_specs(spec: ChestPhantom, rng: np.random.Generator) -> tuple[NoduleSpec, ...]:
    """The nodules to plant: those of `spec`, or as many as it asks for, drawn from `rng`."""
    if spec.nodules is not None:
        return spec.nodules
    kinds = (NoduleKind.SOLID, NoduleKind.SOLID, NoduleKind.GROUND_GLASS, NoduleKind.PART_SOLID)
    low, high = spec.nodule_diameter_mm
    drawn = []
    for number in range(spec.nodule_count):
        kind = kinds[number % len(kinds)]
        diameter = rng.uniform(low, high)
        if kind is not NoduleKind.SOLID:
            diameter = max(diameter, 0.5 * (low + high))
        x, y, z = np.exp(rng.normal(0.0, 0.08, 3))
        drawn.append(
            NoduleSpec(
                diameter_mm=round(float(diameter), 2),
                kind=kind,
                semi_axis_ratios=(float(x), float(y), float(z)),
                spiculated=kind is NoduleKind.SOLID and bool(rng.random() < 0.3),
            )
        )
    return tuple(drawn)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Room:
    """Where nodules may lie: the lungs, within the image, beside the tubes."""

    grid: CoarseGrid
    lungs: Field
    tubes: Capsules
    geometry: VolumeGeometry


def place(specs: Sequence[NoduleSpec], room: Room, rng: np.random.Generator) -> tuple[NoduleTruth, ...]:
    """Give each nodule its place: inside the pleura, inside the image, clear of visible tubes and of each other.

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``phantom.nodule-outside-lungs`` for a given centre that does not fit, ``phantom.no-room`` when the lungs
        are too full.
    """
    placed: list[NoduleTruth] = []
    for number, spec in enumerate(specs, start=1):
        reach = max(spec.semi_axes_mm)
        if spec.centre_mm is None:
            centre = _free_place(reach, placed, room, rng)
        else:
            centre = spec.centre_mm
            inside_lung = float(room.grid.sample(room.lungs, np.asarray([centre]))[0]) <= -reach
            if not (inside_lung and _inside_image(centre, spec.semi_axes_mm, room.geometry)):
                raise Rejected(
                    "phantom.nodule-outside-lungs", "A nodule must lie inside a lung and the image; move its centre"
                )
        placed.append(_truth(number, spec, centre, rng))
    return tuple(placed)


def clear_of(tubes: Capsules, nodules: Sequence[NoduleTruth]) -> Capsules:
    """`tubes` without those that would run into a nodule, so that each nodule stands alone."""
    keep = np.ones(len(tubes), dtype=bool)
    for nodule in nodules:
        gap = _gap_mm(np.asarray([nodule.centre_mm]), tubes)[0]
        keep &= gap > max(nodule.semi_axes_mm) + 0.75
    return tubes[keep]


def spicules(nodules: Sequence[NoduleTruth], specs: Sequence[NoduleSpec], rng: np.random.Generator) -> Capsules:
    """Thin strands that leave the spiculated nodules."""
    rows: list[npt.NDArray[np.float64]] = []
    for nodule, spec in zip(nodules, specs, strict=True):
        for _ in range(14 if spec.spiculated else 0):
            direction = rng.normal(size=3)
            direction /= np.linalg.norm(direction)
            radius = float(1 / np.linalg.norm(direction / np.asarray(nodule.semi_axes_mm)))
            start = np.asarray(nodule.centre_mm) + direction * radius * 0.9
            end = start + direction * rng.uniform(0.35, 0.8) * radius
            rows.append(np.concatenate([start, end, (0.6, 0.25, 1.0)]))
    return np.asarray(rows, dtype=np.float32).reshape(-1, 9)


def render_slice(
    image: npt.NDArray[np.float32],
    labels: npt.NDArray[np.uint8],
    nodule: NoduleTruth,
    *,
    geometry: VolumeGeometry,
    index: int,
    slice_thickness_mm: float,
) -> None:
    """Draw what slice `index` shows of one nodule, in place, and label the pixels it fills by half or more."""
    z = geometry.origin_mm[2] + index * geometry.spacing_mm[0]
    if abs(z - nodule.centre_mm[2]) > nodule.semi_axes_mm[2] + slice_thickness_mm + geometry.spacing_mm[0]:
        return
    shells: list[tuple[Point, float]] = [(nodule.semi_axes_mm, nodule.hu)]
    if nodule.core_diameter_mm:
        x, y, z = nodule.semi_axes_mm
        ratio = nodule.core_diameter_mm / 2 / (x * y * z) ** (1 / 3)
        shells.append(((x * ratio, y * ratio, z * ratio), _CORE_HU))
    for semi_axes_mm, level in shells:
        window, share = coverage(nodule.centre_mm, semi_axes_mm, geometry, slice_thickness_mm, only_slice=index)
        image[window[1:]] += share[0] * (np.float32(level) - image[window[1:]])
    # The label is of the voxel itself, also where thick slices overlap and blur along z.
    spacing_mm = geometry.spacing_mm[0]
    window, share = coverage(nodule.centre_mm, nodule.semi_axes_mm, geometry, spacing_mm, only_slice=index)
    labels[window[1:]][share[0] >= 0.5] = nodule.number


def coverage(
    centre_mm: Point,
    semi_axes_mm: Point,
    geometry: VolumeGeometry,
    slice_thickness_mm: float,
    *,
    only_slice: int | None = None,
) -> tuple[tuple[slice, slice, slice], npt.NDArray[np.float32]]:
    """Share of each voxel that an ellipsoid fills, by 7 x 7 x 7 sub-voxels.

    Returns
    -------
    window, share
        Index window (slice, row, column) and the share in it, 0 to 1. Summed over the volume and times the volume
        of a voxel this is the volume of the ellipsoid, when slices neither overlap nor leave gaps.
    """
    index = geometry.to_index(centre_mm)
    extent = (slice_thickness_mm, *geometry.spacing_mm[1:])
    window, parts = [], []
    for axis, (semi, width) in enumerate(zip(semi_axes_mm[::-1], extent, strict=True)):
        spacing = geometry.spacing_mm[axis]
        reach = (semi + width / 2) / spacing
        low = max(0, math.floor(float(index[axis]) - reach))
        high = max(low, min(geometry.shape[axis], math.ceil(float(index[axis]) + reach) + 1))
        if axis == 0 and only_slice is not None:
            low, high = only_slice, only_slice + 1
        window.append(slice(low, high))
        nodes = (np.arange(low, high) - index[axis])[:, None] * spacing
        offsets = ((np.arange(_SUBSAMPLES) + 0.5) / _SUBSAMPLES - 0.5) * width
        parts.append((((nodes + offsets) / semi) ** 2).astype(np.float32))
    z, y, x = parts
    share = np.zeros([part.shape[0] for part in parts], dtype=np.float32)
    for a in range(_SUBSAMPLES):
        for b in range(_SUBSAMPLES):
            plane = z[:, None, a] + y[None, :, b]
            for c in range(_SUBSAMPLES):
                share += plane[:, :, None] + x[None, None, :, c] <= 1.0
    return (window[0], window[1], window[2]), share / np.float32(_SUBSAMPLES**3)


def _free_place(reach: float, placed: Sequence[NoduleTruth], room: Room, rng: np.random.Generator) -> Point:
    corners = room.geometry.to_patient(np.stack([np.zeros(3), np.asarray(room.geometry.shape) - 1]))
    low = np.maximum(corners[0], (-140, -95, -165)) + reach + 4
    high = np.minimum(corners[1], (140, 95, 118)) - reach - 4
    if np.any(low >= high):
        raise Rejected("phantom.no-room", "The image is too small to hold the nodules; use more or thicker slices")
    candidates = rng.uniform(low, high, (_PLACES_TRIED, 3))
    # The coarse grid rounds thin tips of lung off; its step is a margin against that.
    margin = reach + _CLEARANCE_MM + 0.5 * room.grid.step_mm
    candidates = candidates[room.grid.sample(room.lungs, candidates) < -margin]
    visible = room.tubes[room.tubes[:, 6] >= 0.9]
    for candidate in candidates:
        apart = all(math.dist(candidate, other.centre_mm) > reach + max(other.semi_axes_mm) + 12.0 for other in placed)
        if apart and _gap_mm(candidate[None], visible).min(initial=np.inf) > reach + _CLEARANCE_MM:
            x, y, z = (round(float(c), 2) for c in candidate)
            return (x, y, z)
    raise Rejected("phantom.no-room", "The lungs are too full for the nodules; ask for fewer or smaller ones")


def _inside_image(centre: Point, semi_axes_mm: Point, geometry: VolumeGeometry) -> bool:
    reach = np.asarray(semi_axes_mm[::-1]) / geometry.spacing_mm
    index = geometry.to_index(centre)
    return bool(np.all(index - reach >= 0) and np.all(index + reach <= np.asarray(geometry.shape) - 1))


def _gap_mm(points: npt.NDArray[np.float64], tubes: Capsules) -> npt.NDArray[np.float64]:
    """Distance from points ``(n, 3)`` to the surface of each tube, shape (n, tubes)."""
    start, vector = tubes[:, :3], tubes[:, 3:6] - tubes[:, :3]
    relative = points[:, None, :] - start[None]
    length2 = np.maximum((vector**2).sum(axis=1), 1e-6)
    t = np.clip((relative * vector).sum(axis=2) / length2, 0, 1)
    distance = np.linalg.norm(relative - t[..., None] * vector, axis=2)
    gap: npt.NDArray[np.float64] = distance - (tubes[:, 6] + t * (tubes[:, 7] - tubes[:, 6]))
    return gap


def _truth(number: int, spec: NoduleSpec, centre: Point, rng: np.random.Generator) -> NoduleTruth:
    x, y, z = spec.semi_axes_mm
    return NoduleTruth(
        number=number,
        centre_mm=centre,
        kind=spec.kind,
        semi_axes_mm=(x, y, z),
        long_axis_mm=2 * max(x, y),
        short_axis_mm=2 * min(x, y),
        volume_mm3=4 / 3 * math.pi * x * y * z,
        side="right" if centre[0] < chest.MIDLINE_X_MM else "left",
        hu=round(float(rng.uniform(*_TISSUE_HU[spec.kind])), 1),
        core_diameter_mm=_CORE_SHARE * spec.diameter_mm if spec.kind is NoduleKind.PART_SOLID else 0.0,
    )

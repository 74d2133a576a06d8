"""The thoracic aorta: followed as a circle beside the spine and before it, measured where its wall meets fat or lung.

A circle scores for being brighter inside than outside all along its ring; fat and lung count alike. The brightest ring
is followed through the slices below the arch by dynamic programming. Diameters are then taken on the full grid from
circles fitted to the points where the wall can be seen, on axial images, as readers do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from polyclinic.core import codes, units
from polyclinic.core.codes import Code
from polyclinic.core.findings import Contour, Finding, Measurement
from polyclinic.core.guidelines.reference_limits import Quantity, judge
from polyclinic_agents.chest_ct.check import Check, Checked, Chest, NotSeen
from polyclinic_agents.chest_ct.lungs import CoarseChest
from polyclinic_agents.chest_ct.organ_findings import measured
from polyclinic_agents.chest_ct.outlines import full_index
from polyclinic_agents.chest_ct.proposals import placed
from polyclinic_agents.chest_ct.scan import BoolArray, Float32Array, FloatArray, Scan
from polyclinic_agents.chest_ct.spine import follow_spine
from polyclinic_agents.chest_ct.tracking import best_path

MAX_SLICE_MM = 5.5
MIN_TRACHEA_SLICES = 8
CARINA_WIDENING = 1.8
"""Where the airway is so much wider than the trachea, it has begun to part."""
ASCENDING_RADII_MM, DESCENDING_RADII_MM = (12.0, 28.0), (8.0, 24.0)
ASCENDING_FROM_TO_MM = (-45.0, 5.0)
"""Searched heights, from the carina towards the head."""
MEASURED_FROM_TO_MM = (-35.0, -8.0)
"""About the height of the right pulmonary artery, where both parts cross the images at right angles."""
BLOOD_HU = (0.0, 110.0)
ENHANCED_BLOOD_HU = (60.0, 500.0)
FAT_HU = -100.0
MIN_WALL_SHARE = 0.45
"""Share of the circumference on which the wall must be seen."""
REACH = (0.8, 1.15)
"""Where a ray looks for the wall, in radii of the ring that was followed; farther out lies the wall of a neighbour."""
MIN_SLICES = 3
RAYS = 72

_METHOD = "median diameter of circles fitted to the visible outer wall on axial images below the carina"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Track:
    """A vessel as a circle in consecutive coarse slices; fractional coarse rows and columns, radii in mm."""

    first_slice: int
    centres: FloatArray
    radii_mm: FloatArray
    scores: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """A fitted circle on one slice of the scan, in mm from its first voxel along rows and columns."""

    slice_index: int
    centre_mm: FloatArray
    radius_mm: float
    wall_share: float


def look(chest: Chest) -> Checked:
    """Diameters of the ascending and the descending aorta. Raises `NotSeen`."""
    scan, coarse = chest.scan, chest.lungs.coarse
    if scan.spacing_mm[0] > MAX_SLICE_MM:
        raise NotSeen("slices too far apart")
    carina = find_carina(coarse)
    enhanced = bool(scan.volume.facts.contrast_agent)
    spine = follow_spine(coarse)
    findings, unseen = [], []
    for part in (ASCENDING, DESCENDING):
        cuts = measure(scan, coarse, follow(coarse, spine, carina, part, enhanced=enhanced), carina)
        if len(cuts) < MIN_SLICES:
            unseen.append(part.unseen)
        else:
            findings.append(_finding(chest, part, cuts))
    return Checked(findings=tuple(findings), not_assessed=tuple(unseen))


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Where one part of the aorta is searched: mm from the middle of the spine towards the back and the left."""

    name: str
    unseen: str
    code: Code
    site: Code
    radii_mm: tuple[float, float]
    back_mm: tuple[float, float]
    left_mm: tuple[float, float]
    heights_mm: tuple[float, float]


ASCENDING = Part(
    name="ascending", unseen="ascending aorta (its wall is not seen)", code=codes.ASCENDING_AORTA_DIAMETER,
    site=codes.ASCENDING_AORTA, radii_mm=ASCENDING_RADII_MM, back_mm=(-120.0, -42.0), left_mm=(-50.0, 22.0),
    heights_mm=ASCENDING_FROM_TO_MM,
)  # fmt: skip
DESCENDING = Part(
    name="descending", unseen="descending aorta (its wall is not seen)", code=codes.DESCENDING_AORTA_DIAMETER,
    site=codes.DESCENDING_AORTA, radii_mm=DESCENDING_RADII_MM, back_mm=(-50.0, 15.0), left_mm=(2.0, 62.0),
    heights_mm=(-45.0, -5.0),
)  # fmt: skip


def find_carina(coarse: CoarseChest) -> int:
    """Coarse slice in which the trachea has become wide. Raises `NotSeen`."""
    widths: list[float] = []
    for index in np.flatnonzero(coarse.airway.any(axis=(1, 2)))[::-1]:
        columns = np.flatnonzero(coarse.airway[index].any(axis=0))
        width = float(columns[-1] - columns[0] + 1) * coarse.grid.spacing_mm[2]
        if len(widths) >= MIN_TRACHEA_SLICES and width > CARINA_WIDENING * float(np.median(widths)):
            return int(index)
        widths.append(width)
    raise NotSeen("the carina was not found")


def follow(coarse: CoarseChest, spine: npt.NDArray[np.int64], carina: int, part: Part, *, enhanced: bool) -> Track:
    """The chain of brightest rings of one part. Raises `NotSeen` when its heights are not in view."""
    grid = coarse.grid
    slice_mm, row_mm, column_mm = grid.spacing_mm
    first = max(0, carina + round(part.heights_mm[0] / slice_mm))
    last = min(len(grid.hu), carina + round(part.heights_mm[1] / slice_mm))
    if last - first < MIN_SLICES:
        raise NotSeen("the mediastinum below the carina is not in view")
    low = np.array([round(part.back_mm[0] / row_mm), round(part.left_mm[0] / column_mm)]) + spine[first:last].min(
        axis=0
    )
    high = np.array([round(part.back_mm[1] / row_mm), round(part.left_mm[1] / column_mm)]) + spine[first:last].max(
        axis=0
    )
    low, high = np.maximum(low, 0), np.minimum(high, grid.hu.shape[1:])
    radii = np.arange(part.radii_mm[0], part.radii_mm[1] + 0.5)
    scored = [_rings(grid.hu[index], low, high, radii, row_mm, enhanced=enhanced) for index in range(first, last)]
    scores, best = np.stack([score for score, _ in scored]), np.stack([radius for _, radius in scored])
    path = best_path(scores, reach=2, bend=2.0)
    along = (np.arange(len(path)), path[:, 0], path[:, 1])
    return Track(
        first_slice=first,
        centres=(path + low).astype(np.float64),
        radii_mm=best[along].astype(np.float64),
        scores=scores[along].astype(np.float64),
    )


def _rings(
    image: npt.NDArray[np.int16],
    low: npt.NDArray[np.int64],
    high: npt.NDArray[np.int64],
    radii: FloatArray,
    pixel_mm: float,
    *,
    enhanced: bool,
) -> tuple[Float32Array, Float32Array]:
    """Best score of any radius at every pixel of the box ``low`` to ``high``, and that radius in mm."""
    margin = math.ceil((float(radii[-1]) + 6.0) / pixel_mm)
    rows = slice(max(0, int(low[0]) - margin), int(high[0]) + margin)
    columns = slice(max(0, int(low[1]) - margin), int(high[1]) + margin)
    part = image[rows, columns].astype(np.float32)
    blood = ENHANCED_BLOOD_HU if enhanced else BLOOD_HU
    tissue, raw = np.clip(part, -100.0, blood[1] if enhanced else 80.0), np.clip(part, -200.0, 700.0)
    box = (
        slice(int(low[0]) - rows.start, int(high[0]) - rows.start),
        slice(int(low[1]) - columns.start, int(high[1]) - columns.start),
    )
    every = []
    for radius in radii:
        ring, disc = _ring_templates(float(radius), pixel_mm, margin)
        mean = cv2.filter2D(raw, -1, disc)[box]
        outside = np.clip(mean - blood[1], 0.0, None) + np.clip(blood[0] - mean, 0.0, None)
        every.append(cv2.filter2D(tissue, -1, ring)[box] - 2.0 * outside)
    scores = np.stack(every)
    return (
        np.asarray(scores.max(axis=0), dtype=np.float32),
        np.asarray(radii[scores.argmax(axis=0)], dtype=np.float32),
    )


def _ring_templates(radius_mm: float, pixel_mm: float, reach: int) -> tuple[Float32Array, Float32Array]:
    """Inner minus outer ring, and the disc well inside."""
    away = np.hypot(*np.meshgrid(*(2 * [np.arange(-reach, reach + 1) * pixel_mm]), indexing="ij"))
    inner, outer = (np.exp(-(((away - (radius_mm + side)) / 1.2) ** 2)) for side in (-2.0, 2.0))
    disc = away <= 0.7 * radius_mm
    ring = inner / inner.sum() - outer / outer.sum()
    return np.asarray(ring, dtype=np.float32), np.asarray(disc / disc.sum(), dtype=np.float32)


def measure(scan: Scan, coarse: CoarseChest, track: Track, carina: int) -> list[Cut]:
    """Circles fitted on the full grid, on the slices of `MEASURED_FROM_TO_MM` on which enough wall is seen."""
    slice_mm = coarse.grid.spacing_mm[0]
    cuts = []
    for place, (centre, radius) in enumerate(zip(track.centres, track.radii_mm, strict=True)):
        at = track.first_slice + place
        if MEASURED_FROM_TO_MM[0] <= (at - carina) * slice_mm <= MEASURED_FROM_TO_MM[1]:
            index = full_index(np.array([at, *centre]), scan, coarse.grid)
            cut = _fit(scan, index, float(radius))
            if cut is not None and cut.wall_share >= MIN_WALL_SHARE:
                cuts.append(cut)
    return cuts


def _fit(scan: Scan, index: FloatArray, radius_mm: float) -> Cut | None:
    """A circle through the points where the wall is seen along rays from the middle; None when it makes no sense."""
    slice_index = min(max(round(float(index[0])), 0), scan.hu.shape[0] - 1)
    image = cv2.GaussianBlur(scan.hu[slice_index].astype(np.float32), (0, 0), 1.0 / scan.spacing_mm[1])
    middle = index[1:] * np.asarray(scan.spacing_mm[1:])
    ring_mm = radius_mm
    for _ in range(3):
        points = _wall(image, scan, middle, radius_mm)
        if len(points) < RAYS * MIN_WALL_SHARE:
            return None
        middle, fitted_mm = _circle(points)
        residual = np.abs(np.hypot(*(points - middle).T) - fitted_mm)
        middle, fitted_mm = _circle(points[residual <= np.percentile(residual, 85)])
        if not 0.8 * ring_mm < fitted_mm < 1.2 * ring_mm:
            return None
        radius_mm = fitted_mm
    return Cut(slice_index=slice_index, centre_mm=middle, radius_mm=radius_mm, wall_share=len(points) / RAYS)


def _wall(image: Float32Array, scan: Scan, middle: FloatArray, radius_mm: float) -> FloatArray:
    """Points ``(n, 2)`` in mm where a ray from the middle first leaves blood for fat or lung, near the radius.

    The wall is where the value lies midway between that of the blood and that of fat.
    """
    angles = np.linspace(0.0, 2 * math.pi, RAYS, endpoint=False)
    away = np.arange(REACH[0] * radius_mm, REACH[1] * radius_mm + 0.01, 0.25)
    rows = (middle[0] + away[None] * np.sin(angles)[:, None]) / scan.spacing_mm[1]
    columns = (middle[1] + away[None] * np.cos(angles)[:, None]) / scan.spacing_mm[2]
    values = cv2.remap(
        image, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    wall_hu = (float(np.median(values[:, 0])) + FAT_HU) / 2
    left: BoolArray = values < wall_hu
    seen = left.any(axis=1) & ~left[:, 0]
    at = left.argmax(axis=1)[seen]
    before, after = values[seen, at - 1], values[seen, at]
    share = (before - wall_hu) / np.maximum(before - after, 1e-3)
    distance = away[at - 1] + share * 0.25
    return np.stack(
        [middle[0] + distance * np.sin(angles[seen]), middle[1] + distance * np.cos(angles[seen])], axis=1
    ).astype(np.float64)


def _circle(points: FloatArray) -> tuple[FloatArray, float]:
    """Least squares circle (Kåsa 1976): middle and radius."""
    design = np.column_stack([2 * points, np.ones(len(points))])
    (row, column, rest), *_ = np.linalg.lstsq(design, (points**2).sum(axis=1), rcond=None)
    return np.array([row, column]), math.sqrt(max(1e-6, float(rest + row**2 + column**2)))


def _finding(chest: Chest, part: Part, cuts: list[Cut]) -> Finding:
    scan = chest.scan
    diameters = sorted(2 * cut.radius_mm for cut in cuts)
    value = round(float(np.median(diameters)), 1)
    shown = min(cuts, key=lambda cut: abs(2 * cut.radius_mm - value))
    return measured(
        chest,
        kind=("chest-ct-aorta", part.name),
        code=part.code,
        site=part.site,
        measurement=Measurement(code=codes.DIAMETER, value=value, unit=units.MILLIMETRE, method=_METHOD),
        judged=judge(Quantity.ASCENDING_AORTA_MM, value) if part is ASCENDING else None,
        middle=np.array([shown.slice_index, *(shown.centre_mm / np.asarray(scan.spacing_mm[1:]))]),
        outline=_outline(scan, shown),
        limits=_limits(scan, diameters, cuts),
    )


def _outline(scan: Scan, cut: Cut) -> tuple[Contour, ...]:
    source = round(float(scan.to_source([cut.slice_index, 0, 0])[0]))
    if source in scan.volume.interpolated:
        return ()
    angles = np.linspace(0.0, 2 * math.pi, 36, endpoint=False)
    ring = cut.centre_mm + cut.radius_mm * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    index = np.column_stack([np.full(len(ring), cut.slice_index), ring / np.asarray(scan.spacing_mm[1:])])
    points = tuple(placed(point) for point in np.round(scan.to_patient(index), 2))
    return (Contour(image=scan.volume.images[source], points_mm=points),)


def _limits(scan: Scan, diameters: list[float], cuts: list[Cut]) -> tuple[str, ...]:
    limits = []
    limits.append("Measured on axial images; where the vessel runs obliquely it is narrower than measured.")
    if float(np.mean([cut.wall_share for cut in cuts])) < 0.7:
        limits.append("Part of the wall cannot be told from its neighbours; the circle is completed there.")
    if diameters[-1] - diameters[0] > 4.0:
        limits.append("The diameter varies by more than 4 mm between the images measured.")
    if (scan.volume.facts.slice_thickness_mm or scan.spacing_mm[0]) > 3.0:
        limits.append("Slices thicker than 3 mm blur the wall of the vessel.")
    return tuple(limits)


CHECK = Check(organ="aorta", look=look)

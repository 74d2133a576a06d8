"""Diameters, volume, density and shape of a segmented nodule.

Long axis and short axis are taken as a reader takes them: in the axial slice in which the nodule is largest, the
longest diameter and the longest one perpendicular to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from polyclinic.core import codes
from polyclinic.core.codes import Code
from polyclinic_agents.chest_ct.distance import box_around, distance_mm
from polyclinic_agents.chest_ct.scan import BoolArray, Float32Array, FloatArray, HuArray, LabelArray, Scan
from polyclinic_agents.chest_ct.segmentation import Body, hounsfield_of

SUBPIXELS = 4
SHELL_MM = (0.8, 2.6)
"""What lies so far outside a body counts as its surroundings; nearer is its blurred border."""
SOLID_ABOVE_HU = -300.0
"""Denser than any ground glass (method of this agent; no guideline gives a Hounsfield border)."""
CALCIUM_ABOVE_HU = 200.0
CONTRAST_CALCIUM_ABOVE_HU = 350.0
"""With contrast agent a vessel wall or an enhancing nodule may pass 200 HU."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outline:
    """Closed outline on one slice of the turned scan; points ``(n, 2)`` are (row, column), fractions of pixels."""

    slice_index: int
    points: FloatArray
    area_mm2: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nodule:
    """A measured candidate; indices are those of the turned scan."""

    centre: tuple[float, float, float]
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    outlines: tuple[Outline, ...]
    main: Outline
    """The outline on the slice of largest area."""
    long_axis_mm: float
    short_axis_mm: float
    volume_mm3: float
    mean_hu: float
    attenuation: Code
    mask: BoolArray
    """On the scan's own slices, box starting at `start`."""
    filled_hu: Float32Array
    """Values of the same box with cavities filled; see `cavities.fill_cavities`."""
    start: tuple[int, int, int]
    shape: Shape
    touches_pleura: bool

    @property
    def mean_diameter_mm(self) -> float:
        return (self.long_axis_mm + self.short_axis_mm) / 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Numbers in which nodules and vessels differ; all without unit unless the name says so."""

    compactness: float
    """Diameter of the largest ball inside over that of a ball of equal volume."""
    roundness: float
    """Volume over that of a ball with the greatest extent as diameter."""
    elongation: float
    """Longest over middle principal axis."""
    flatness: float
    """Middle over shortest principal axis."""
    attached: float
    """Share of the surroundings (`SHELL_MM` outside) that is as dense as the body."""
    pleural: float
    """Share of the surroundings that is outside the lungs."""
    aerated: float
    """Share of the surroundings that is lung with air: half for a nodule sitting on the pleura."""
    branches: float
    """Volume of what was cut off within two radii, over the body's."""
    opening_share: float
    """How deep the opening had to be to cut the body from what it hangs on; see `segmentation.OPENING_SHARES`."""
    contrast_hu: float


def measure(scan: Scan, lungs: LabelArray, body: Body, *, contrast_agent: bool) -> Nodule | None:
    """Measure a body, or None when it has no outline on any slice."""
    crop = body.crop
    fine = np.count_nonzero(body.mask)
    if fine < 8:
        return None
    own = body.mask[:: crop.finer]
    outlines = tuple(
        outline for index in np.flatnonzero(own.any(axis=(1, 2))) if (outline := _outline(body, int(index)))
    )
    if not outlines:
        return None
    main = max(outlines, key=lambda one: one.area_mm2)
    long_axis, short_axis = _axes_mm(main.points, scan.spacing_mm)
    voxel_mm3 = float(np.prod(crop.spacing_mm))
    places = np.argwhere(body.mask).astype(np.float64)
    places[:, 0] /= crop.finer
    places += crop.start
    values = hounsfield_of(scan, crop)
    inside = values[own]
    shape = _shape(body, places, scan)
    centre, low, high = places.mean(axis=0), places.min(axis=0), places.max(axis=0)
    return Nodule(
        centre=_triple(centre),
        low=_triple(low - 0.5),
        high=_triple(high + 0.5),
        outlines=outlines,
        main=main,
        long_axis_mm=long_axis,
        short_axis_mm=short_axis,
        volume_mm3=float(fine) * voxel_mm3,
        mean_hu=float(inside.mean()),
        attenuation=_attenuation(body, values[own], contrast_agent),
        mask=own,
        filled_hu=np.ascontiguousarray(crop.hu[:: crop.finer]),
        start=crop.start,
        shape=shape,
        touches_pleura=shape.pleural > 0.08,
    )


def _triple(values: FloatArray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _outline(body: Body, index: int) -> Outline | None:
    """Border at the threshold between pixels, inside the body grown by one pixel."""
    crop = body.crop
    mask = body.mask[index * crop.finer]
    values = crop.hu[index * crop.finer]
    rows, columns = np.nonzero(mask)
    top, left = max(int(rows.min()) - 2, 0), max(int(columns.min()) - 2, 0)
    part = (slice(top, int(rows.max()) + 3), slice(left, int(columns.max()) + 3))
    # Pixels beside the body count as far as they are below the threshold: what lies above was cut off on purpose.
    soft = np.where(
        mask[part], np.maximum(values[part], body.threshold_hu), np.minimum(values[part], body.threshold_hu)
    )
    soft = np.where(mask[part], soft + 1.0, soft - 1.0)
    return _contour(
        soft, body.threshold_hu, crop.start[0] + index, (top + crop.start[1], left + crop.start[2]), crop.spacing_mm
    )


def _contour(
    soft: Float32Array, level: float, slice_index: int, origin: tuple[int, int], spacing_mm: tuple[float, float, float]
) -> Outline | None:
    size = (soft.shape[1] * SUBPIXELS, soft.shape[0] * SUBPIXELS)
    fine = (cv2.resize(soft, size, interpolation=cv2.INTER_LINEAR) > level).astype(np.uint8)
    contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    contour = max(contours, key=cv2.contourArea)
    area = cv2.contourArea(contour) + 0.5 * cv2.arcLength(contour, closed=True)
    if len(contour) < 3:
        return None
    simple = cv2.approxPolyDP(contour, 0.75, closed=True).reshape(-1, 2)
    if len(simple) < 3:
        simple = contour.reshape(-1, 2)
    points = (simple[:, ::-1].astype(np.float64) + 0.5) / SUBPIXELS - 0.5 + np.asarray(origin)
    area_mm2 = area / SUBPIXELS**2 * spacing_mm[1] * spacing_mm[2]
    return Outline(slice_index=slice_index, points=points, area_mm2=float(area_mm2))


def _axes_mm(points: FloatArray, spacing_mm: tuple[float, float, float]) -> tuple[float, float]:
    """Longest diameter of an outline and the longest chord perpendicular to it."""
    placed = points * np.asarray(spacing_mm[1:])
    # The outline runs through the centres of the outermost subpixels, half of one inside the border.
    border = float(np.mean(spacing_mm[1:])) / SUBPIXELS
    hull = cv2.convexHull(placed.astype(np.float32)).reshape(-1, 2).astype(np.float64)
    between = hull[:, None, :] - hull[None, :, :]
    lengths = np.hypot(between[..., 0], between[..., 1])
    first, second = np.unravel_index(int(np.argmax(lengths)), lengths.shape)
    longest = float(lengths[first, second])
    if longest == 0.0:
        return border, border
    along = between[first, second] / longest
    across = np.asarray([-along[1], along[0]])
    return longest + border, min(longest, _widest_chord(placed @ along, placed @ across)) + border


def _widest_chord(along: FloatArray, across: FloatArray) -> float:
    """Longest extent of a closed polygon across, over positions along."""
    places = np.linspace(along.min(), along.max(), 41)[1:-1, None]
    step = np.roll(along, -1) - along
    crosses = ((along - places) * (np.roll(along, -1) - places) <= 0) & (np.abs(step) > 1e-9)
    share = (places - along) / np.where(step == 0.0, 1.0, step)
    heights = across + share * (np.roll(across, -1) - across)
    extents = np.where(crosses, heights, -np.inf).max(axis=1) - np.where(crosses, heights, np.inf).min(axis=1)
    return max(0.0, float(extents.max()))


def _attenuation(body: Body, values: HuArray, contrast_agent: bool) -> Code:
    calcium = CONTRAST_CALCIUM_ABOVE_HU if contrast_agent else CALCIUM_ABOVE_HU
    if np.count_nonzero(values > calcium) > max(3, 0.15 * values.size):
        return codes.CALCIFIED
    box = box_around(body.mask, 0.0, body.crop.spacing_mm)
    depth = distance_mm(body.mask[box], body.crop.spacing_mm)
    inner = body.crop.hu[box][depth > 0.4 * body.radius_mm]
    solid_share = float(np.count_nonzero(inner > SOLID_ABOVE_HU)) / max(1, inner.size)
    if body.halo:
        return codes.PART_SOLID if solid_share > 0.03 else codes.GROUND_GLASS
    if solid_share > 0.5:
        return codes.SOLID
    small = body.radius_mm < 2.5
    # A small solid nodule is dimmed by partial volume; its middle still passes what ground glass reaches.
    if solid_share > 0.1:
        return codes.SOLID if small else codes.PART_SOLID
    return codes.SOLID if small and body.core_hu > -400.0 else codes.GROUND_GLASS


def _shape(body: Body, places: FloatArray, scan: Scan) -> Shape:
    crop = body.crop
    voxel_mm3 = float(np.prod(crop.spacing_mm))
    volume = float(np.count_nonzero(body.mask)) * voxel_mm3
    equal_mm = (6.0 * volume / math.pi) ** (1.0 / 3.0)
    centred = (places - places.mean(axis=0)) * np.asarray(scan.spacing_mm)
    axes = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(centred.T)), 1e-3))
    principal = np.linalg.eigh(np.cov(centred.T))[1]
    extent = max(float(np.ptp(centred @ principal[:, 2])) + min(crop.spacing_mm), 1e-3)
    reach_mm = max(SHELL_MM[1], equal_mm / 2.0)
    box = box_around(body.mask, reach_mm, crop.spacing_mm)
    lung, whole = crop.lung[box], body.whole[box]
    outside = distance_mm(~body.mask[box], crop.spacing_mm, reach_mm)
    shell = (outside > SHELL_MM[0]) & (outside <= SHELL_MM[1])
    surroundings = max(1.0, float(np.count_nonzero(shell)))
    near = (outside > 0) & (outside <= equal_mm / 2.0)
    return Shape(
        compactness=2.0 * body.radius_mm / equal_mm,
        roundness=min(1.0, volume / (math.pi / 6.0 * extent**3)),
        elongation=float(axes[2] / axes[1]),
        flatness=float(axes[1] / axes[0]),
        attached=float(np.count_nonzero(shell & lung & whole)) / surroundings,
        pleural=float(np.count_nonzero(shell & ~lung)) / surroundings,
        aerated=float(np.count_nonzero(shell & lung & (crop.hu[box] <= body.threshold_hu))) / surroundings,
        branches=float(np.count_nonzero(near & whole)) * voxel_mm3 / volume,
        opening_share=body.opening_share,
        contrast_hu=body.core_hu - body.background_hu,
    )

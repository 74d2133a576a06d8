"""The thoracic spine: vertebral bodies told apart along it, and the attenuation of their spongy bone.

The spine is followed from slice to slice, then sampled in planes across its own direction, so that kyphosis and
scoliosis do not smear discs over bodies. Discs are the dark lines between two bright endplates at body-like intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from polyclinic.agentkit.outcome import Fact
from polyclinic.core import codes, units
from polyclinic.core.findings import Contour, Finding, Measurement
from polyclinic.core.guidelines.reference_limits import Quantity, judge
from polyclinic_agents.chest_ct.check import Check, Checked, Chest, NotSeen
from polyclinic_agents.chest_ct.grid import Coarse
from polyclinic_agents.chest_ct.lungs import CoarseChest
from polyclinic_agents.chest_ct.organ_findings import measured
from polyclinic_agents.chest_ct.proposals import placed
from polyclinic_agents.chest_ct.scan import Float32Array, FloatArray, HuArray, Scan
from polyclinic_agents.chest_ct.tracking import best_path

STEP_MM = 1.0
"""Distance of the planes across the spine, and of the samples in them."""
HALF_WIDTH_MM = 20.0
CORE_MM = 8.0
"""Radius around the middle of a body that holds spongy bone only."""
MIN_HEIGHT_MM, MAX_HEIGHT_MM = 18, 38
"""Of a body with one disc, in adults."""
RIM_WINDOW_MM = 25
"""About one body with its disc."""
ENDPLATE_MM = (2, 7)
"""From the middle of a disc to its endplates."""
MIN_BODIES = 5
MAX_SLICE_MM = 5.5
COMPACT_FROM_HU = 450
MAX_COMPACT_SHARE = 0.05
"""With more, the middle of a body holds cortex, cement, metal or a sclerotic lesion, and is no spongy bone."""
USED, FEWEST_USED = 4, 3
"""So many of the lowest bodies at the height of the lungs are averaged."""

_METHOD = "mean over a cylinder of 8 mm radius in the middle half of the vertebral body, across the spine's axis"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Body:
    """One vertebral body; positions are in mm of the turned scan's axes (slice, row, column)."""

    centre_mm: FloatArray
    axis: FloatArray
    """Unit vector along the spine, towards the head."""
    height_mm: float
    """With one disc."""
    attenuation_hu: float


def look(chest: Chest) -> Checked:
    """Mean attenuation of the lowest bodies at the height of the lungs. Raises `NotSeen`."""
    scan = chest.scan
    if scan.spacing_mm[0] > MAX_SLICE_MM:
        raise NotSeen("slices too far apart")
    used = bodies(scan, chest.lungs.coarse)[:USED]
    if len(used) < FEWEST_USED:
        raise NotSeen("too few vertebral bodies with spongy bone only")
    return Checked(
        findings=(_finding(chest, used),),
        facts=(Fact(name="vertebral bodies measured", value=", ".join(f"{b.attenuation_hu:.0f} HU" for b in used)),),
    )


def bodies(scan: Scan, chest: CoarseChest) -> list[Body]:
    """Whole vertebral bodies at the height of the lungs that hold spongy bone in their middle, lowest first.

    Raises `NotSeen` when there are too few to be sure of the discs between them.
    """
    line = _Line.through(follow_spine(chest), chest.grid)
    block = line.sampled(scan)
    across = np.hypot(*np.meshgrid(line.offsets_mm, line.offsets_mm, indexing="ij"))
    core = block[:, across <= CORE_MM]
    lungs_mm = np.flatnonzero((chest.lungs > 0).any(axis=(1, 2)))[[0, -1]] * chest.grid.spacing_mm[0]
    spans = [
        (low, high)
        for low, high in pairwise(_discs(_endplates(core) + _missing_rim(block)))
        if lungs_mm[0] <= line.points_mm[low, 0] and line.points_mm[high, 0] <= lungs_mm[1]
    ]
    if len(spans) < MIN_BODIES:
        raise NotSeen("fewer than five vertebral bodies could be told apart")
    found = []
    for low, high in spans:
        quarter = (high - low) / 4
        samples = core[round(low + quarter) : round(high - quarter)]
        smooth = cv2.blur(samples.astype(np.float32), (1, 3), borderType=cv2.BORDER_REPLICATE)  # noise is no cortex
        if np.mean(smooth > COMPACT_FROM_HU) <= MAX_COMPACT_SHARE:
            middle = (low + high) // 2
            found.append(
                Body(
                    centre_mm=line.points_mm[middle],
                    axis=line.axes[middle],
                    height_mm=(high - low) * STEP_MM,
                    attenuation_hu=float(samples.mean()),
                )
            )
    return found


def follow_spine(chest: CoarseChest) -> npt.NDArray[np.int64]:
    """Row and column of the middle of the vertebral column in every coarse slice.

    Each place scores for a bright disc of a body's width with the dark canal behind it and the bright arch behind
    that; a path of small steps through the best places is found by dynamic programming.
    """
    grid, lungs = chest.grid, chest.lungs > 0
    columns = np.flatnonzero(lungs.any(axis=(0, 1)))
    back = int(np.flatnonzero(lungs.any(axis=(0, 2)))[-1])
    across, along = grid.spacing_mm[2], grid.spacing_mm[1]
    middle = (columns[0] + columns[-1]) / 2
    low = np.array([max(0, back - round(75 / along)), max(0, round(middle - 35 / across))])
    high = np.array([back + round(5 / along), round(middle + 35 / across)])
    template = _template(along, across)
    box = (slice(low[0], high[0]), slice(low[1], high[1]))
    scores = np.stack(
        [cv2.filter2D(np.clip(image, -100, 300).astype(np.float32), -1, template)[box] for image in grid.hu]
    )
    return np.asarray(best_path(scores.astype(np.float32)) + low, dtype=np.int64)


def _template(row_mm: float, column_mm: float) -> Float32Array:
    reach = 46.0
    rows = np.arange(-round(reach / row_mm), round(reach / row_mm) + 1) * row_mm
    columns = np.arange(-round(reach / column_mm), round(reach / column_mm) + 1) * column_mm
    y, x = np.meshgrid(rows, columns, indexing="ij")
    body = np.hypot(x, y) <= 11.0
    canal = np.hypot(x, y - 22.0) <= 5.0
    arch = (np.abs(x) <= 5.0) & (y > 30.0) & (y < 42.0)
    template = body / body.sum() - 0.7 * canal / canal.sum() + 0.3 * arch / arch.sum()
    return np.asarray(template, dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Line:
    """The middle line of the spine, every `STEP_MM`, with a frame across it; mm of the turned scan's axes."""

    points_mm: FloatArray
    axes: FloatArray
    back: FloatArray
    left: FloatArray
    offsets_mm: FloatArray

    @staticmethod
    def through(path: npt.NDArray[np.int64], grid: Coarse) -> _Line:
        slice_mm, row_mm, column_mm = grid.spacing_mm
        heights = np.arange(len(path)) * slice_mm
        row, column = (
            np.polynomial.Polynomial.fit(heights, path[:, axis] * size, 5)
            for axis, size in ((0, row_mm), (1, column_mm))
        )
        fine = np.arange(0.0, heights[-1], 0.25)
        curve = np.stack([fine, row(fine), column(fine)], axis=1)
        length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
        at = np.arange(0.0, length[-1], STEP_MM)
        points = np.stack([np.interp(at, length, curve[:, axis]) for axis in range(3)], axis=1)
        axes = np.gradient(points, axis=0)
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        left = np.array([0.0, 0.0, 1.0]) - axes * axes[:, 2:]
        left /= np.linalg.norm(left, axis=1, keepdims=True)
        back = np.cross(left, axes)
        back *= np.sign(back[:, 1:2])
        offsets = np.arange(-HALF_WIDTH_MM, HALF_WIDTH_MM + 0.5, STEP_MM)
        return _Line(points_mm=points, axes=axes, back=back, left=left, offsets_mm=offsets)

    def sampled(self, scan: Scan) -> HuArray:
        """Nearest voxels across the line, axes (along, back, left); what is outside the scan repeats its border."""
        places = (
            self.points_mm[:, None, None, :]
            + self.back[:, None, None, :] * self.offsets_mm[None, :, None, None]
            + self.left[:, None, None, :] * self.offsets_mm[None, None, :, None]
        )
        index = [
            np.clip(np.rint(places[..., axis] / scan.spacing_mm[axis]).astype(np.intp), 0, scan.hu.shape[axis] - 1)
            for axis in range(3)
        ]
        return np.asarray(scan.hu[index[0], index[1], index[2]], dtype=np.int16)


def _missing_rim(block: HuArray) -> FloatArray:
    """How much less of a bright rim each plane has than its neighbours, in HU: cortex is around bodies, not discs.

    Axes of `block`: (along the spine, back, left). The back of the rim is left out, where pedicles and arch lie.
    """
    angles = np.linspace(0.9 * math.pi, 2.1 * math.pi, 24)
    radii = np.arange(CORE_MM + 1.0, HALF_WIDTH_MM, STEP_MM)[:, None]
    back = np.rint((radii * np.sin(angles) + HALF_WIDTH_MM) / STEP_MM).astype(np.intp)
    left = np.rint((radii * np.cos(angles) + HALF_WIDTH_MM) / STEP_MM).astype(np.intp)
    rim = np.median(np.clip(block[:, back, left], -100, 600).max(axis=1), axis=1).astype(np.float32)
    around = cv2.blur(rim[:, None], (1, RIM_WINDOW_MM), borderType=cv2.BORDER_REPLICATE)[:, 0]
    return np.asarray(around - rim, dtype=np.float64)


def _endplates(core: HuArray) -> FloatArray:
    """How much darker each plane is than the endplates on both sides of it, in HU; the median over ``core``'s columns.

    Axes of `core`: (along the spine, sample).
    """
    values = np.clip(core, -100, 600).astype(np.float32)
    smooth = cv2.blur(values, (1, 3), borderType=cv2.BORDER_REPLICATE)
    beside = np.pad(smooth, ((ENDPLATE_MM[1], ENDPLATE_MM[1]), (0, 0)), mode="edge")
    brightest = sliding_window_view(beside, ENDPLATE_MM[1] - ENDPLATE_MM[0] + 1, axis=0).max(axis=-1)
    below, above = brightest[: len(core)], brightest[-len(core) :]
    return np.asarray(np.median(np.minimum(below, above) - smooth, axis=1), dtype=np.float64)


def _discs(likeness: FloatArray) -> list[int]:
    """Positions of discs along the spine, lowest first: a chain at intervals that change slowly.

    The chain that collects most likeness beyond what a disc should have is found by dynamic programming over position
    and interval. Half of the best is asked for, so that the dark middle of a sclerotic body is no disc.
    """
    inner = likeness[1:-1]
    peaks = inner[(inner >= likeness[:-2]) & (inner > likeness[2:]) & (inner > 0)]
    if peaks.size < MIN_BODIES:
        return []
    wanted = max(10.0, 0.5 * float(np.percentile(peaks, 80)))
    gain = likeness / wanted - 1.0
    heights = np.arange(MIN_HEIGHT_MM, MAX_HEIGHT_MM + 1)
    best = np.tile(gain[:, None], (1, len(heights)))
    came = np.full(best.shape, -1, dtype=np.int16)
    change = 0.12 * np.abs(heights[:, None] - heights[None, :])
    for at in range(len(gain)):
        for number, height in enumerate(heights[heights <= at]):
            before = best[at - int(height)] - change[number]
            previous = int(before.argmax())
            if before[previous] > 0:
                best[at, number] = gain[at] + before[previous]
                came[at, number] = previous
    at, number = (int(i) for i in np.unravel_index(int(best.argmax()), best.shape))
    chain = [at]
    while came[at, number] >= 0:
        at, number = at - int(heights[number]), int(came[at, number])
        chain.append(at)
    return chain[::-1]


def _finding(chest: Chest, used: list[Body]) -> Finding:
    value = round(float(np.mean([body.attenuation_hu for body in used])))
    shown = used[len(used) // 2]
    return measured(
        chest,
        kind=("chest-ct-bone-density",),
        code=codes.BONE_DENSITY,
        site=codes.THORACIC_SPINE,
        measurement=Measurement(code=codes.MEAN_ATTENUATION, value=value, unit=units.HOUNSFIELD, method=_METHOD),
        judged=judge(Quantity.L1_TRABECULAR_HU, value, sex=chest.context.get("sex", "")),
        middle=shown.centre_mm / np.asarray(chest.scan.spacing_mm),
        outline=_outline(chest.scan, shown),
        limits=_limits(chest.scan),
    )


def _outline(scan: Scan, body: Body) -> tuple[Contour, ...]:
    """Where the measured cylinder cuts the image through its middle."""
    spacing = np.asarray(scan.spacing_mm)
    slice_index = round(float(body.centre_mm[0] / spacing[0]))
    left = np.array([0.0, 0.0, 1.0]) - body.axis * body.axis[2]
    left /= np.linalg.norm(left)
    back = np.cross(left, body.axis)
    points = []
    for angle in np.linspace(0.0, 2 * math.pi, 24, endpoint=False):
        across = CORE_MM * (math.cos(angle) * left + math.sin(angle) * back)
        place = body.centre_mm + across
        points.append(place - body.axis * (place[0] - slice_index * spacing[0]) / body.axis[0])
    source = round(float(scan.to_source([slice_index, 0, 0])[0]))
    if source in scan.volume.interpolated:
        return ()
    placed_points = np.round(scan.to_patient(np.asarray(points) / spacing), 2)
    return (Contour(image=scan.volume.images[source], points_mm=tuple(placed(p) for p in placed_points)),)


def _limits(scan: Scan) -> tuple[str, ...]:
    facts = scan.volume.facts
    limits = []
    limits.append("Lower thoracic vertebrae were measured, levels not counted; the thresholds were set at L1.")
    if facts.contrast_agent:
        limits.append("Contrast agent raises the attenuation of bone.")
    if facts.kvp and abs(facts.kvp - 120.0) > 1.0:
        limits.append("The thresholds were set at 120 kV; at another tube voltage attenuation differs.")
    if (facts.slice_thickness_mm or scan.spacing_mm[0]) > 3.0:
        limits.append("Slices thicker than 3 mm mix bone with its surroundings.")
    return tuple(limits)


CHECK = Check(organ="thoracic spine", look=look)

"""Attenuation of the liver under the right dome of the diaphragm, without contrast medium."""

from __future__ import annotations

import cc3d
import cv2
import numpy as np

from polyclinic.core import codes, units
from polyclinic.core.findings import Finding, Measurement
from polyclinic.core.guidelines.reference_limits import Quantity, judge
from polyclinic_agents.chest_ct.check import Check, Checked, Chest, NotSeen
from polyclinic_agents.chest_ct.grid import deeper
from polyclinic_agents.chest_ct.lungs import RIGHT, CoarseChest
from polyclinic_agents.chest_ct.organ_findings import measured
from polyclinic_agents.chest_ct.outlines import full_index, largest_outline
from polyclinic_agents.chest_ct.scan import BoolArray, Float32Array, Scan

DEPTH_MM = (12.0, 45.0)
"""Below the lung: deep enough for the diaphragm and breathing, not as deep as the kidney."""
EDGE_MM = 6.0
"""Kept away from everything that is no liver."""
PARENCHYMA_HU = (-30.0, 140.0)
MIN_ML = 30.0
MAX_SPREAD_HU = 18.0
"""Median absolute deviation of the smoothed parenchyma; more is no single organ."""

DENSEST_HU = 85.0
"""No liver without contrast medium, iron or amiodarone is denser."""

_METHOD = "median of the parenchyma 12 to 45 mm below the right lung, 6 mm from its edges"


def look(chest: Chest) -> Checked:
    """Median attenuation of the liver below the right lung. Raises `NotSeen`."""
    scan = chest.scan
    if scan.volume.facts.contrast_agent:
        raise NotSeen("contrast medium was given")
    coarse = chest.lungs.coarse
    liver, smooth = _parenchyma(coarse)
    core = deeper(liver, EDGE_MM, coarse.grid.spacing_mm)
    values = smooth[core]
    if values.size * coarse.grid.voxel_ml < MIN_ML:
        raise NotSeen("too little of it is in view")
    median = float(np.median(values))
    if median > DENSEST_HU:
        raise NotSeen("it is as dense as after contrast medium")
    if float(np.median(np.abs(values - median))) > MAX_SPREAD_HU:
        raise NotSeen("what lies below the right lung is not uniform")
    return Checked(findings=(_finding(chest, core, median),))


def _parenchyma(coarse: CoarseChest) -> tuple[BoolArray, Float32Array]:
    """The largest soft body under the right lung, and the scan smoothed over 3 voxels."""
    grid = coarse.grid
    right = coarse.lungs == RIGHT
    floor = np.where(right.any(axis=0), right.argmax(axis=0), -1)  # lowest slice of the lung in each column
    footprint = (floor >= 0).astype(np.uint8)
    heights = np.arange(len(grid.hu))[:, None, None]
    depth_mm = (floor[None] - heights) * grid.spacing_mm[0]
    under = (depth_mm >= DEPTH_MM[0]) & (depth_mm <= DEPTH_MM[1]) & (footprint[None] > 0) & coarse.body
    smooth = np.stack([cv2.blur(image.astype(np.float32), (3, 3)) for image in grid.hu])
    smooth[1:-1] = (smooth[:-2] + smooth[1:-1] + smooth[2:]) / 3
    soft = under & (smooth > PARENCHYMA_HU[0]) & (smooth < PARENCHYMA_HU[1])
    labels, count = cc3d.connected_components(soft, connectivity=6, return_N=True)
    if count == 0:
        raise NotSeen("too little of it is in view")
    sizes = np.bincount(labels.reshape(-1), minlength=count + 1)
    sizes[0] = 0
    return np.asarray(labels == int(sizes.argmax()), dtype=np.bool_), smooth


def _finding(chest: Chest, core: BoolArray, median: float) -> Finding:
    grid = chest.lungs.coarse.grid
    return measured(
        chest,
        kind=("chest-ct-liver-attenuation",),
        code=codes.LIVER_ATTENUATION,
        site=codes.LIVER,
        measurement=Measurement(
            code=codes.MEAN_ATTENUATION, value=round(median), unit=units.HOUNSFIELD, method=_METHOD
        ),
        judged=judge(Quantity.LIVER_HU, round(median)),
        middle=full_index(np.argwhere(core).mean(axis=0), chest.scan, grid),
        outline=largest_outline(chest.scan, core, grid),
        limits=_limits(chest.scan),
    )


def _limits(scan: Scan) -> tuple[str, ...]:
    limits = []
    facts = scan.volume.facts
    limits.append("Only the dome of the liver was measured; focal fat and vessels were not told apart.")
    if facts.kvp and abs(facts.kvp - 120.0) > 1.0:
        limits.append("The threshold was set at 120 kV; at another tube voltage attenuation differs.")
    if not facts.contrast_agent:
        limits.append("Whether contrast medium was given is taken from the image header, which may not state it.")
    return tuple(limits)


CHECK = Check(organ="liver", look=look)

"""Gas that is not lung: trachea and bronchi, stomach and bowel."""

from __future__ import annotations

import cc3d
import edt
import numpy as np

from polyclinic_agents.chest_ct.grid import THREADS, Coarse, Components, deeper, dilate, flood
from polyclinic_agents.chest_ct.scan import BoolArray

BRONCHUS_RADIUS_MM = 3.5


def airways(parts: BoolArray, grid: Coarse) -> BoolArray:
    """Trachea and main bronchi: darkest connected air from a round seed near the top, grown until it leaks."""
    best = np.zeros(parts.shape, dtype=np.bool_)
    volume = 0.0
    for threshold in (-980, -960, -940, -920, -900, -880, -860):
        dark = parts & (grid.hu < threshold)
        labels, count = cc3d.connected_components(dark, connectivity=6, return_N=True)
        seed = _tracheal_label(labels, count, parts, grid)
        if not seed:
            continue
        grown = labels == seed
        size = float(np.count_nonzero(grown)) * grid.voxel_ml
        if size > 110.0 or (volume > 30.0 and size > 1.7 * volume):
            break
        best, volume = grown, size
    return best


def wide(airway: BoolArray, grid: Coarse) -> BoolArray:
    """Trachea and main bronchi without their branches, which lie in the lungs and belong to them."""
    core = deeper(airway, BRONCHUS_RADIUS_MM, grid.spacing_mm)
    return np.asarray(airway & dilate(core, BRONCHUS_RADIUS_MM + 1.0, grid.spacing_mm), dtype=np.bool_)


def _tracheal_label(labels: Components, count: int, parts: BoolArray, grid: Coarse) -> int:
    """The component with most slices, in the upper half of the lungs, whose cut is small and central."""
    used = np.flatnonzero(parts.any(axis=(1, 2)))
    middle_column = float(np.mean(np.flatnonzero(parts.any(axis=(0, 1)))))
    pixel_mm2 = grid.spacing_mm[1] * grid.spacing_mm[2]
    votes = np.zeros(count + 1)
    for index in range(int(used[-1]), int(used[0] + 0.5 * (used[-1] - used[0])), -1):
        image = labels[index]
        areas = np.bincount(image.reshape(-1), minlength=count + 1) * pixel_mm2
        for label in np.flatnonzero((areas > 60.0) & (areas < 900.0)):
            if label == 0:
                continue
            rows, columns = np.nonzero(image == label)
            near_middle = abs(columns.mean() - middle_column) * grid.spacing_mm[2] < 40.0
            extent = max(np.ptp(rows) * grid.spacing_mm[1], np.ptp(columns) * grid.spacing_mm[2])
            if near_middle and extent < 45.0:
                votes[label] += 1
    best = int(np.argmax(votes))
    return best if votes[best] * grid.spacing_mm[0] >= 15.0 else 0


def enclosed_gas(air: BoolArray, grid: Coarse) -> BoolArray:
    """Gas with soft tissue around it (stomach, colon, oesophagus, upper airway); a bulla has lung around it."""
    gas = air & (grid.hu < -940)
    core = deeper(gas, 2.5, grid.spacing_mm)
    labels, count = cc3d.connected_components(core, connectivity=6, return_N=True)
    out = np.zeros_like(air)
    if count == 0:
        return out
    volumes_ml = np.bincount(labels.reshape(-1), minlength=count + 1) * grid.voxel_ml
    boxes = cc3d.statistics(labels)["bounding_boxes"]
    reach = tuple(int(9.0 / step) + 1 for step in grid.spacing_mm)
    for label in np.flatnonzero(volumes_ml > 3.0):
        if label == 0:
            continue
        box = tuple(
            slice(max(0, side.start - more), side.stop + more) for side, more in zip(boxes[label], reach, strict=True)
        )
        own = labels[box] == label
        away = edt.edt(~own, anisotropy=grid.spacing_mm, parallel=THREADS)
        shell = (away > 6.0) & (away <= 9.0) & ~(gas[box] & (away <= 7.0))
        around = grid.hu[box][shell]
        lung_like = np.count_nonzero((around > -930) & (around < -600))
        if around.size and lung_like < 0.35 * around.size:
            out[box] |= gas[box] & (away <= 4.0)
    if not out.any():
        return out
    # Beam hardening lifts part of the gas above the threshold; it is reached from the rest.
    reachable = air & (grid.hu < -880) & dilate(out, 20.0, grid.spacing_mm)
    return np.asarray(flood(out.astype(np.uint8), np.ascontiguousarray(reachable)) > 0, dtype=np.bool_)

"""Body, airways and both lungs, found on a coarse grid and refined on the full one.

Arrays have the axes (slice, row, column) in patient order: slice index towards the head, row index towards the back,
column index towards the patient's left (see `scan.Scan`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import cv2
import edt
import numpy as np
import numpy.typing as npt

from polyclinic_agents.chest_ct.airways import airways, enclosed_gas, wide
from polyclinic_agents.chest_ct.grid import THREADS, Coarse, Components, bounding_box, coarse, deeper, dilate, flood
from polyclinic_agents.chest_ct.scan import BoolArray, FloatArray, HuArray, LabelArray, Scan

RIGHT, LEFT = 1, 2

AIR_BELOW_HU = -400
"""Air and lung on one side, soft tissue on the other: midway between lung tissue and muscle."""
OPACITY_BELOW_HU = -250
"""Second, higher threshold, so that ground-glass opacities stay inside the lung."""
CLOSING_MM = 8.0
"""Vessels at the hilum and nodules at the pleura up to twice this width become part of the lung."""
BONE_FROM_HU = 180
DOME_FROM_HU, DOME_CORE_MM = -100, 6.0
OPACITY_MM, SURFACE_MM = 10.0, 8.0
OPAQUE_FROM_HU = -650
MIN_LUNG_ML = 150.0
"""Less is no lung that can be judged."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoarseChest:
    """Body, lungs and airways on the coarse grid."""

    grid: Coarse
    body: BoolArray
    """The body with everything it encloses; without table and clothes."""
    lungs: LabelArray
    """`RIGHT`, `LEFT`; closed over vessels and small opacities."""
    airway: BoolArray
    """Trachea and bronchi as far as they were followed; its walls are not part of it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lungs:
    """Label map of the lungs on the full grid (`RIGHT`, `LEFT`) and what was seen on the way."""

    labels: LabelArray
    volumes_ml: tuple[float, float]
    """Right, left."""
    airway_ml: float
    cut_at_top: bool
    cut_at_bottom: bool
    cut_at_side: bool
    opaque_share: float
    """Share of the lungs, away from their surface, that is dense over a centimetre: no vessel is so wide there."""
    coarse: CoarseChest
    """What the other checks start from."""


def find_lungs(scan: Scan) -> Lungs | None:
    """Segment both lungs, or None when there is no air inside a body that could be lung."""
    grid = coarse(scan)
    inside, open_side = _inside_body(grid)
    air = inside & (grid.hu < AIR_BELOW_HU)
    parts = _lung_parts(air, grid)
    if parts is None:
        return None
    airway = airways(parts, grid)
    # The wall of airway and bowel is blurred, that of bowel also by its motion: the seam belongs to the gas.
    gas = enclosed_gas(parts & ~airway, grid)
    tube = dilate(wide(airway, grid), 3.0, grid.spacing_mm) | dilate(gas, 5.0, grid.spacing_mm)
    lungs = _left_and_right(_without_crumbs(parts & ~tube, grid), grid)
    if lungs is None:
        return None
    lungs = _with_opacities(lungs, inside & ~tube, grid)
    closed = _closed(lungs, inside & ~bone(grid), tube, grid)
    labels = _refine(closed, tube, grid, scan)
    voxel_ml = float(np.prod(scan.spacing_mm)) / 1000.0
    right, left = (sum(int(np.count_nonzero(image == label)) for image in labels) for label in (RIGHT, LEFT))
    areas = _areas_cm2(closed, grid)
    return Lungs(
        labels=labels,
        volumes_ml=(right * voxel_ml, left * voxel_ml),
        airway_ml=float(np.count_nonzero(airway)) * grid.voxel_ml,
        cut_at_top=_cut(areas[::-1]),
        cut_at_bottom=_cut(areas),
        cut_at_side=_touches_side(closed) or open_side,
        opaque_share=_opaque_share(closed, grid),
        coarse=CoarseChest(grid=grid, body=inside, lungs=closed, airway=airway),
    )


def _inside_body(grid: Coarse) -> tuple[BoolArray, bool]:
    """Body with everything it encloses, and whether air inside has an open way out of the field of view."""
    body = np.zeros(grid.hu.shape, dtype=np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    for index, image in enumerate(grid.hu):
        dense = (image > -300).astype(np.uint8)
        # The opening cuts the thin shell of a table and of clothes from the skin.
        body[index] = cv2.morphologyEx(dense, cv2.MORPH_OPEN, kernel)
    largest = cc3d.largest_k(body, k=1, connectivity=6) > 0
    inside = np.zeros_like(largest)
    for index in range(len(body)):
        contours, _ = cv2.findContours(largest[index].astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        filled = np.zeros(body.shape[1:], dtype=np.uint8)
        cv2.drawContours(filled, contours, -1, 1, thickness=cv2.FILLED)
        inside[index] = filled > 0
    # Where the chest wall is outside the field of view, the lung is open to the border and not filled above.
    lost = sum(bool(_open_air(image, mask)) for image, mask in zip(grid.hu, inside, strict=True))
    return inside, lost > 0.1 * len(inside)


def _open_air(image: HuArray, inside: BoolArray) -> bool:
    """Whether the border rows and columns hold lung-like values that no body encloses."""
    lung_like = (image > -920) & (image < -700) & ~inside
    border = (lung_like[:2].sum(), lung_like[-2:].sum(), lung_like[:, :2].sum(), lung_like[:, -2:].sum())
    return int(max(border)) > 40


def _lung_parts(air: BoolArray, grid: Coarse) -> BoolArray | None:
    """Connected air that looks like lung: large enough, and not the homogeneous gas of bowel."""
    labels, count = cc3d.connected_components(air, connectivity=6, return_N=True)
    if count == 0:
        return None
    sizes = np.bincount(labels.reshape(-1), minlength=count + 1).astype(np.float64)
    gas = np.bincount(labels[grid.hu < -960].reshape(-1), minlength=count + 1)
    volumes_ml = sizes * grid.voxel_ml
    lung_like = (volumes_ml > 30.0) & (gas / np.maximum(sizes, 1) < 0.75)
    lung_like[0] = False
    if not lung_like.any():
        return None
    main = int(np.argmax(np.where(lung_like, sizes, 0)))
    if volumes_ml[main] < MIN_LUNG_ML:
        return None
    keep = lung_like & (volumes_ml > 0.03 * volumes_ml[main])
    return np.asarray(keep[labels], dtype=np.bool_)


def _without_crumbs(air: BoolArray, grid: Coarse) -> BoolArray:
    """Drop pieces below 15 mL: residues of airway and bowel."""
    labels, count = cc3d.connected_components(air, connectivity=6, return_N=True)
    keep = np.bincount(labels.reshape(-1), minlength=count + 1) * grid.voxel_ml > 15.0
    keep[0] = False
    return np.asarray(keep[labels], dtype=np.bool_)


def bone(grid: Coarse) -> BoolArray:
    """Ribs, spine and vessels full of contrast: a closing over a nodule must not take them in."""
    labels, count = cc3d.connected_components(grid.hu > BONE_FROM_HU, connectivity=18, return_N=True)
    large = np.bincount(labels.reshape(-1), minlength=count + 1) * grid.voxel_ml > 4.0
    large[0] = False
    return dilate(np.asarray(large[labels], dtype=np.bool_), min(grid.spacing_mm), grid.spacing_mm)


def _left_and_right(air: BoolArray, grid: Coarse) -> LabelArray | None:
    """Label the two lungs; where they touch, cut them at the narrow place between their thick cores."""
    # A plain separation first, then ever deeper erosion: the anterior junction is a few mm wide.
    distance: FloatArray | None = None
    for depth_mm in (0.0, 3.0, 5.0, 8.0, 12.0, 16.0):
        if depth_mm and distance is None:
            distance = edt.edt(air, anisotropy=grid.spacing_mm, black_border=False, parallel=THREADS)
        core = air if distance is None else air & (distance > depth_mm)
        labels, count = cc3d.connected_components(core, connectivity=6, return_N=True)
        if count == 0:
            return None
        sizes = np.bincount(labels.reshape(-1), minlength=count + 1)
        sizes[0] = 0
        order = np.argsort(sizes)[::-1]
        two_lungs = count > 1 and sizes[order[1]] > 0.12 * sizes[order[0]]
        if two_lungs:
            columns = [float(np.mean(np.nonzero(labels == label)[2])) for label in order[:2]]
            if abs(columns[0] - columns[1]) * grid.spacing_mm[2] > 50.0:
                return _spread_seeds(labels, order, columns, air)
    return _one_lung(air, grid)


def _spread_seeds(labels: Components, order: npt.NDArray[np.intp], columns: list[float], air: BoolArray) -> LabelArray:
    seeds = np.zeros(air.shape, dtype=np.uint8)
    first_is_right = columns[0] < columns[1]
    seeds[labels == order[0]] = RIGHT if first_is_right else LEFT
    seeds[labels == order[1]] = LEFT if first_is_right else RIGHT
    spread = flood(seeds, air)
    # Air that touches neither (a lobe cut off by consolidation) goes to the side on which it lies.
    loose = air & (spread == 0)
    if loose.any():
        middle = sum(columns) / 2.0
        side = np.where(np.arange(air.shape[2]) < middle, RIGHT, LEFT).astype(np.uint8)
        spread += loose * side[None, None, :]
    return np.asarray(spread, dtype=np.uint8)


def _one_lung(air: BoolArray, grid: Coarse) -> LabelArray | None:
    """A single lung on one side of the body; both together that cannot be cut are divided at the middle."""
    columns = np.nonzero(air.any(axis=(0, 1)))[0]
    middle = air.shape[2] / 2.0
    labels = np.zeros(air.shape, dtype=np.uint8)
    if np.ptp(columns) * grid.spacing_mm[2] > 190.0:
        middle = float(columns.mean())
        labels[:, :, : int(middle)][air[:, :, : int(middle)]] = RIGHT
        labels[:, :, int(middle) :][air[:, :, int(middle) :]] = LEFT
        return labels
    labels[air] = RIGHT if columns.mean() < middle else LEFT
    return labels


def _with_opacities(lungs: LabelArray, inside: BoolArray, grid: Coarse) -> LabelArray:
    """Let each lung take in the denser, still aerated voxels that it touches: ground glass up to `OPACITY_BELOW_HU`.

    The growth stays within 12 mm, so that fat planes or a bronchus cannot lead it out of the chest.
    """
    near = dilate(lungs > 0, 12.0, grid.spacing_mm)
    smooth = np.stack([cv2.blur(image, (3, 3)) for image in grid.hu])
    allowed = ((smooth < OPACITY_BELOW_HU) & near & inside) | (lungs > 0)
    return np.asarray(flood(np.ascontiguousarray(lungs), np.ascontiguousarray(allowed)), dtype=np.uint8)


def _closed(lungs: LabelArray, inside: BoolArray, tube: BoolArray, grid: Coarse) -> LabelArray:
    """Close each lung and fill its holes slice by slice, without taking the airway or the other lung."""
    out = lungs.copy()
    for label in (RIGHT, LEFT):
        own = lungs == label
        if not own.any():
            continue
        box = bounding_box(own, 6)
        part = np.pad(own[box], 5)
        grown = edt.edt(~part, anisotropy=grid.spacing_mm, parallel=THREADS) <= CLOSING_MM
        closed = edt.edt(grown, anisotropy=grid.spacing_mm, parallel=THREADS) > CLOSING_MM
        closed = (closed | part)[5:-5, 5:-5, 5:-5]
        for image in closed:
            _fill_holes(image)
        closed &= ~_dome(closed & ~part[5:-5, 5:-5, 5:-5], closed, box, grid)
        target = out[box]
        target[closed & (target == 0) & inside[box] & ~tube[box]] = label
    return out


def _dome(added: BoolArray, closed: BoolArray, box: tuple[slice, slice, slice], grid: Coarse) -> BoolArray:
    """What was filled in and is the top of liver, spleen or stomach: thick, solid, and going on below the lung.

    The dome of the diaphragm looks like an island in its highest slices; a nodule or consolidation has lung below it.
    """
    solid = added & (grid.hu[box] > DOME_FROM_HU)
    core = deeper(solid, DOME_CORE_MM, grid.spacing_mm)
    labels, count = cc3d.connected_components(core, connectivity=6, return_N=True)
    out = np.zeros_like(added)
    below = np.roll(grid.hu[box] > DOME_FROM_HU, 1, axis=0) & ~np.roll(closed, 1, axis=0)
    below[0] = grid.hu[box][0] > DOME_FROM_HU  # the lung's own box ends here
    for label in range(1, count + 1):
        own = dilate(labels == label, DOME_CORE_MM + 1.0, grid.spacing_mm) & solid
        if np.count_nonzero(own & below) > 0.5 * np.count_nonzero(own.any(axis=0)):
            out |= own
    return out


def _fill_holes(image: BoolArray) -> None:
    contours, _ = cv2.findContours(image.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(image.shape, dtype=np.uint8)
    cv2.drawContours(filled, contours, -1, 1, thickness=cv2.FILLED)
    image |= filled > 0


def _refine(lungs: LabelArray, tubes: BoolArray, grid: Coarse, scan: Scan) -> LabelArray:
    """Bring the coarse labels to the full grid with a border at `AIR_BELOW_HU` where lung meets tissue."""
    slices, rows, columns = grid.full_shape
    every = -(-slices // len(lungs)) if len(lungs) < slices else 1
    out = np.zeros(grid.full_shape, dtype=np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    size = (columns, rows)
    for index in range(slices):
        at = (index + 0.5) / every - 0.5
        low = min(max(int(np.floor(at)), 0), len(lungs) - 1)
        high = min(low + 1, len(lungs) - 1)
        weight = np.float32(min(max(at - low, 0.0), 1.0))
        if not (lungs[low].any() or lungs[high].any()):
            continue
        tube = cv2.resize(tubes[low].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        aerated = (scan.hu[index] < AIR_BELOW_HU) & ~tube
        for label in (RIGHT, LEFT):
            pair = [(lungs[one] == label).astype(np.float32) for one in (low, high)]
            share = pair[0] * (1 - weight) + pair[1] * weight
            if not share.any():
                continue
            # Dense voxels count a little farther inside, so that no rind of the chest wall is taken for lung.
            smooth = cv2.resize(share, size, interpolation=cv2.INTER_LINEAR) > 0.75
            wide = cv2.dilate((share > 0.25).astype(np.uint8), kernel)
            edge = cv2.resize(wide, size, interpolation=cv2.INTER_NEAREST) > 0
            image = out[index]
            image[((smooth & ~tube) | (edge & aerated)) & (image == 0)] = label
    return out


def _areas_cm2(lungs: LabelArray, grid: Coarse) -> FloatArray:
    counts = np.count_nonzero(lungs, axis=(1, 2))
    return np.asarray(counts * grid.spacing_mm[1] * grid.spacing_mm[2] / 100.0, dtype=np.float64)


def _opaque_share(lungs: LabelArray, grid: Coarse) -> float:
    core = deeper(lungs > 0, SURFACE_MM, grid.spacing_mm)
    total = int(np.count_nonzero(core))
    width = 2 * round(OPACITY_MM / grid.spacing_mm[1] / 2) + 1
    dense = sum(
        int(np.count_nonzero(cv2.blur(image, (width, width))[mask] > OPAQUE_FROM_HU))
        for image, mask in zip(grid.hu, core, strict=True)
        if mask.any()
    )
    return dense / max(1, total)


def _cut(areas_cm2: FloatArray) -> bool:
    """Whether the lungs are still wide in the outermost slice: apex and base taper off when they are in view."""
    widest = float(areas_cm2.max())
    return bool(areas_cm2[0] > max(15.0, 0.12 * widest))


def _touches_side(lungs: LabelArray) -> bool:
    border = np.zeros(lungs.shape[1:], dtype=np.bool_)
    border[:1], border[-1:], border[:, :1], border[:, -1:] = True, True, True, True
    return int(np.count_nonzero(lungs[:, border])) > 5 * len(lungs)

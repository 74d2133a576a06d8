"""Body, airways and both lungs, found on a coarse grid and refined on the full one.

Arrays have the axes (slice, row, column) in patient order: slice index towards the head, row index towards the back,
column index towards the patient's left (see `scan.Scan`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import cv2
import edt
import numba
import numpy as np
import numpy.typing as npt

from polyclinic_agents.chest_ct.scan import BoolArray, FloatArray, HuArray, LabelArray, Scan

RIGHT, LEFT = 1, 2

COARSE_MM = 2.0
"""Edge of a voxel of the coarse grid: the finest at which every step stays below a second."""
AIR_BELOW_HU = -400
"""Air and lung on one side, soft tissue on the other: midway between lung tissue and muscle."""
OPACITY_BELOW_HU = -250
"""Second, higher threshold, so that ground-glass opacities stay inside the lung."""
CLOSING_MM = 8.0
"""Vessels at the hilum and nodules at the pleura up to twice this width become part of the lung."""
BRONCHUS_RADIUS_MM = 3.5
BONE_FROM_HU = 180
OPACITY_MM, SURFACE_MM = 10.0, 8.0
OPAQUE_FROM_HU = -650
MIN_LUNG_ML = 150.0
"""Less is no lung that can be judged."""


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coarse:
    """The scan averaged to about `COARSE_MM`."""

    hu: HuArray
    spacing_mm: tuple[float, float, float]
    full_shape: tuple[int, int, int]

    @property
    def voxel_ml(self) -> float:
        return self.spacing_mm[0] * self.spacing_mm[1] * self.spacing_mm[2] / 1000.0


def coarse(scan: Scan) -> Coarse:
    """Average slices and pixels; thick slices stay as they are."""
    slices, rows, columns = scan.hu.shape
    every = max(1, round(COARSE_MM / scan.spacing_mm[0]))
    size = (
        max(32, round(columns * scan.spacing_mm[2] / COARSE_MM)),
        max(32, round(rows * scan.spacing_mm[1] / COARSE_MM)),
    )
    count = -(-slices // every)
    hu = np.empty((count, size[1], size[0]), dtype=np.int16)
    for index in range(count):
        part = scan.hu[index * every : (index + 1) * every]
        small = [cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in part]
        hu[index] = small[0] if len(small) == 1 else np.mean(small, axis=0)
    spacing = (
        scan.spacing_mm[0] * every,
        scan.spacing_mm[1] * rows / size[1],
        scan.spacing_mm[2] * columns / size[0],
    )
    return Coarse(hu=hu, spacing_mm=spacing, full_shape=scan.hu.shape)


def find_lungs(scan: Scan) -> Lungs | None:
    """Segment both lungs, or None when there is no air inside a body that could be lung."""
    grid = coarse(scan)
    inside, open_side = _inside_body(grid)
    air = inside & (grid.hu < AIR_BELOW_HU)
    parts = _lung_parts(air, grid)
    if parts is None:
        return None
    airway = _airways(parts, grid)
    # The wall of airway and bowel is blurred, that of bowel also by its motion: the seam belongs to the gas.
    gas = _enclosed_gas(parts & ~airway, grid)
    tube = _dilate(_wide(airway, grid), 3.0, grid.spacing_mm) | _dilate(gas, 5.0, grid.spacing_mm)
    lungs = _left_and_right(_without_crumbs(parts & ~tube, grid), grid)
    if lungs is None:
        return None
    lungs = _with_opacities(lungs, inside & ~tube, grid)
    closed = _closed(lungs, inside & ~_bone(grid), tube, grid)
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


def _enclosed_gas(air: BoolArray, grid: Coarse) -> BoolArray:
    """Gas with soft tissue around it (stomach, colon, oesophagus, upper airway); a bulla has lung around it."""
    gas = air & (grid.hu < -940)
    core = edt.edt(gas, anisotropy=grid.spacing_mm, black_border=False, parallel=1) > 2.5
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
        away = edt.edt(~own, anisotropy=grid.spacing_mm, parallel=1)
        shell = (away > 6.0) & (away <= 9.0) & ~(gas[box] & (away <= 7.0))
        around = grid.hu[box][shell]
        lung_like = np.count_nonzero((around > -930) & (around < -600))
        if around.size and lung_like < 0.35 * around.size:
            out[box] |= gas[box] & (away <= 4.0)
    if not out.any():
        return out
    # Beam hardening lifts part of the gas above the threshold; it is reached from the rest.
    reachable = air & (grid.hu < -880) & _dilate(out, 20.0, grid.spacing_mm)
    return np.asarray(_flood(out.astype(np.uint8), np.ascontiguousarray(reachable)) > 0, dtype=np.bool_)


def _without_crumbs(air: BoolArray, grid: Coarse) -> BoolArray:
    """Drop pieces below 15 mL: residues of airway and bowel."""
    labels, count = cc3d.connected_components(air, connectivity=6, return_N=True)
    keep = np.bincount(labels.reshape(-1), minlength=count + 1) * grid.voxel_ml > 15.0
    keep[0] = False
    return np.asarray(keep[labels], dtype=np.bool_)


def _airways(parts: BoolArray, grid: Coarse) -> BoolArray:
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


def _wide(airway: BoolArray, grid: Coarse) -> BoolArray:
    """Trachea and main bronchi without their branches, which lie in the lungs and belong to them."""
    distance = edt.edt(airway, anisotropy=grid.spacing_mm, black_border=False, parallel=1)
    core = distance > BRONCHUS_RADIUS_MM
    return np.asarray(airway & _dilate(core, BRONCHUS_RADIUS_MM + 1.0, grid.spacing_mm), dtype=np.bool_)


def _bone(grid: Coarse) -> BoolArray:
    """Ribs, spine and vessels full of contrast: a closing over a nodule must not take them in."""
    labels, count = cc3d.connected_components(grid.hu > BONE_FROM_HU, connectivity=18, return_N=True)
    large = np.bincount(labels.reshape(-1), minlength=count + 1) * grid.voxel_ml > 4.0
    large[0] = False
    return _dilate(np.asarray(large[labels], dtype=np.bool_), min(grid.spacing_mm), grid.spacing_mm)


def _tracheal_label(labels: LabelArray, count: int, parts: BoolArray, grid: Coarse) -> int:
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


def _left_and_right(air: BoolArray, grid: Coarse) -> LabelArray | None:
    """Label the two lungs; where they touch, cut them at the narrow place between their thick cores."""
    # A plain separation first, then ever deeper erosion: the anterior junction is a few mm wide.
    distance: FloatArray | None = None
    for depth_mm in (0.0, 3.0, 5.0, 8.0, 12.0, 16.0):
        if depth_mm and distance is None:
            distance = edt.edt(air, anisotropy=grid.spacing_mm, black_border=False, parallel=1)
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


def _spread_seeds(labels: LabelArray, order: npt.NDArray[np.intp], columns: list[float], air: BoolArray) -> LabelArray:
    seeds = np.zeros(air.shape, dtype=np.uint8)
    first_is_right = columns[0] < columns[1]
    seeds[labels == order[0]] = RIGHT if first_is_right else LEFT
    seeds[labels == order[1]] = LEFT if first_is_right else RIGHT
    spread = _flood(seeds, air)
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


@numba.njit("uint8[:,:,::1](uint8[:,:,::1], boolean[:,:,::1])", cache=True)
def _flood(seeds: LabelArray, allowed: BoolArray) -> LabelArray:
    """Grow seeds inside `allowed`, six-connected, one layer at a time: each voxel goes to the nearer seed."""
    slices, rows, columns = seeds.shape
    out = seeds.copy()
    flat, open_ = out.ravel(), allowed.ravel()
    queue = np.empty(flat.size, np.int64)
    head, tail = 0, 0
    for start in range(flat.size):
        if flat[start]:
            queue[tail] = start
            tail += 1
    area = rows * columns
    while head < tail:
        at = queue[head]
        head += 1
        label = flat[at]
        plane, rest = at // area, at % area
        row, column = rest // columns, rest % columns
        for direction in range(6):
            if direction == 0 and plane > 0:
                to = at - area
            elif direction == 1 and plane < slices - 1:
                to = at + area
            elif direction == 2 and row > 0:
                to = at - columns
            elif direction == 3 and row < rows - 1:
                to = at + columns
            elif direction == 4 and column > 0:
                to = at - 1
            elif direction == 5 and column < columns - 1:
                to = at + 1
            else:
                continue
            if open_[to] and flat[to] == 0:
                flat[to] = label
                queue[tail] = to
                tail += 1
    return out


def _with_opacities(lungs: LabelArray, inside: BoolArray, grid: Coarse) -> LabelArray:
    """Let each lung take in the denser, still aerated voxels that it touches: ground glass up to `OPACITY_BELOW_HU`.

    The growth stays within 12 mm, so that fat planes or a bronchus cannot lead it out of the chest.
    """
    near = _dilate(lungs > 0, 12.0, grid.spacing_mm)
    smooth = np.stack([cv2.blur(image, (3, 3)) for image in grid.hu])
    allowed = ((smooth < OPACITY_BELOW_HU) & near & inside) | (lungs > 0)
    return np.asarray(_flood(np.ascontiguousarray(lungs), np.ascontiguousarray(allowed)), dtype=np.uint8)


def _closed(lungs: LabelArray, inside: BoolArray, tube: BoolArray, grid: Coarse) -> LabelArray:
    """Close each lung and fill its holes slice by slice, without taking the airway or the other lung."""
    out = lungs.copy()
    for label in (RIGHT, LEFT):
        own = lungs == label
        if not own.any():
            continue
        box = _box(own, 6)
        part = np.pad(own[box], 5)
        grown = edt.edt(~part, anisotropy=grid.spacing_mm, parallel=1) <= CLOSING_MM
        closed = edt.edt(grown, anisotropy=grid.spacing_mm, parallel=1) > CLOSING_MM
        closed = (closed | part)[5:-5, 5:-5, 5:-5]
        for image in closed:
            _fill_holes(image)
        target = out[box]
        target[closed & (target == 0) & inside[box] & ~tube[box]] = label
    return out


def _fill_holes(image: BoolArray) -> None:
    contours, _ = cv2.findContours(image.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(image.shape, dtype=np.uint8)
    cv2.drawContours(filled, contours, -1, 1, thickness=cv2.FILLED)
    image |= filled > 0


def _dilate(mask: BoolArray, radius_mm: float, spacing_mm: tuple[float, float, float]) -> BoolArray:
    if not mask.any():
        return mask
    box = _box(mask, int(radius_mm / min(spacing_mm)) + 2)
    out = np.zeros_like(mask)
    out[box] = edt.edt(~mask[box], anisotropy=spacing_mm, parallel=1) <= radius_mm
    return out


def _box(mask: BoolArray, margin: int) -> tuple[slice, slice, slice]:
    sides = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        used = np.flatnonzero(mask.any(axis=others))
        sides.append(slice(max(0, int(used[0]) - margin), min(mask.shape[axis], int(used[-1]) + 1 + margin)))
    return sides[0], sides[1], sides[2]


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
    core = edt.edt(lungs > 0, anisotropy=grid.spacing_mm, parallel=1) > SURFACE_MM
    total = int(np.count_nonzero(core))
    width = 2 * round(OPACITY_MM / grid.spacing_mm[1] / 2) + 1
    dense = sum(
        int(np.count_nonzero(cv2.blur(image, (width, width))[mask] > OPAQUE_FROM_HU))
        for image, mask in zip(grid.hu, core, strict=True)
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

"""One candidate as a body of voxels: threshold at a share of its contrast, without vessels and pleura it touches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polyclinic_agents.chest_ct.candidates import Candidate
from polyclinic_agents.chest_ct.cavities import fill_small_cavities
from polyclinic_agents.chest_ct.distance import box_around, distance_mm
from polyclinic_agents.chest_ct.regions import part_at
from polyclinic_agents.chest_ct.scan import BoolArray, Float32Array, HuArray, LabelArray, Scan

LUNG_HU = -860.0
"""Lung around a nodule where the scan shows too little of it."""
THRESHOLD_LIMITS_HU = (-760.0, -300.0)
EDGE_SHARE = 0.4
"""Where between lung and core the border lies: a little outside half, where readers see it in a lung window."""
OPENING_SHARES = (0.5, 0.7, 0.85)
"""What is thinner than this share of the body at its thickest place is a vessel or a strand; the next share is tried
where the body still runs out of the crop."""
MAX_HALF_MM = 42.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crop:
    """Neighbourhood of a candidate on a grid that is close to isotropic: slices are subdivided, pixels are kept."""

    hu: Float32Array
    """With cavities filled."""
    lung: BoolArray
    start: tuple[int, int, int]
    finer: int
    """Grid slices per scan slice; grid slice ``k`` lies at scan slice ``start[0] + k / finer``."""
    spacing_mm: tuple[float, float, float]
    away_mm: Float32Array
    """Distance from the candidate's place."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Body:
    """A segmented candidate on its crop."""

    crop: Crop
    mask: BoolArray
    whole: BoolArray
    """The connected part above the threshold before vessels and pleura were cut off."""
    threshold_hu: float
    background_hu: float
    core_hu: float
    radius_mm: float
    """Of the largest ball inside."""
    opening_share: float
    """Of `OPENING_SHARES`, the one that cut the body free."""
    halo: bool
    """Whether ground glass around a denser core was taken in."""


Cut = tuple[BoolArray, BoolArray, float, float]


def segment(scan: Scan, lungs: LabelArray, candidate: Candidate) -> Body | None:
    """Outline a candidate, or None when there is no body that stands out from the lung."""
    half_mm = min(MAX_HALF_MM, max(9.0, 1.3 * candidate.diameter_mm))
    body = _segment_within(scan, lungs, candidate, half_mm)
    # A tube runs through any crop; only what is thick for its crop may be larger than it.
    if body is not None and half_mm < MAX_HALF_MM and body.radius_mm > 0.3 * half_mm and _touches_edge(body.mask):
        body = _segment_within(scan, lungs, candidate, min(MAX_HALF_MM, 2.0 * half_mm))
    return None if body is None or _touches_edge(body.mask) else body


def _segment_within(scan: Scan, lungs: LabelArray, candidate: Candidate, half_mm: float) -> Body | None:
    crop = cut(scan, lungs, candidate.index, half_mm)
    near = crop.away_mm <= max(1.5, 0.3 * candidate.diameter_mm)
    aerated = crop.hu[crop.lung & (crop.hu < -600)]
    background = float(np.median(aerated)) if aerated.size > 50 else LUNG_HU
    inside = crop.hu[near & crop.lung]
    if inside.size == 0:
        return None
    core = float(np.percentile(inside, 75))
    if core - background < 90.0:
        return None
    low, high = THRESHOLD_LIMITS_HU
    threshold = min(max(background + EDGE_SHARE * (core - background), low), high)
    reach_mm = max(2.5, 0.6 * candidate.diameter_mm)
    made = _body(crop, threshold, reach_mm)
    if made is None:
        return None
    mask, whole, radius, share = made
    halo = False
    if core > -450.0 and not _touches_edge(mask):
        glass = _halo(crop, mask, radius, (background, threshold), reach_mm)
        if glass is not None:
            mask, whole, radius, share = glass
            halo = True
    return Body(
        crop=crop,
        mask=mask,
        whole=whole,
        threshold_hu=background + 110.0 if halo else threshold,
        background_hu=background,
        core_hu=core,
        radius_mm=radius,
        opening_share=share,
        halo=halo,
    )


def cut(scan: Scan, lungs: LabelArray, index: tuple[float, float, float], half_mm: float) -> Crop:
    """Crop `half_mm` around a place (slice, row, column) of the turned scan."""
    spacing = scan.spacing_mm
    box = []
    for at, step, size in zip(index, spacing, scan.hu.shape, strict=True):
        reach = half_mm / step
        box.append(slice(max(0, int(np.floor(at - reach))), min(size, int(np.ceil(at + reach)) + 1)))
    where = (box[0], box[1], box[2])
    planes = np.clip(scan.hu[where], -1024, 1500).astype(np.float32)
    lung = np.ascontiguousarray(lungs[where] > 0)
    fill_small_cavities(planes, lung, spacing[1] * spacing[2])
    finer = max(1, round(spacing[0] / spacing[1]))
    fine_spacing = (spacing[0] / finer, spacing[1], spacing[2])
    hu, mask = _subdivided(planes, finer), _subdivided(lung.astype(np.float32), finer) > 0.5
    start = (box[0].start, box[1].start, box[2].start)
    axes = [
        (np.arange(n) / (finer if axis == 0 else 1) + start[axis] - index[axis]) * spacing[axis]
        for axis, n in enumerate(hu.shape)
    ]
    away = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None, :] ** 2)
    return Crop(hu=hu, lung=mask, start=start, finer=finer, spacing_mm=fine_spacing, away_mm=away.astype(np.float32))


def _subdivided(planes: Float32Array, finer: int) -> Float32Array:
    """Linear values between slices, `finer` per slice; the last slice ends the stack."""
    if finer == 1 or len(planes) < 2:
        return planes
    count = (len(planes) - 1) * finer + 1
    out = np.empty((count, *planes.shape[1:]), dtype=np.float32)
    for part in range(finer):
        weight = np.float32(part / finer)
        last = len(planes) - 1
        out[part : last * finer : finer] = planes[:last] * (1 - weight) + planes[1:] * weight
    out[-1] = planes[-1]
    return out


def _body(crop: Crop, threshold: float, reach_mm: float) -> Cut | None:
    """Opened body, whole connected part, inscribed radius and opening share at one threshold."""
    above = crop.lung & (crop.hu > threshold)
    distance = distance_mm(above, crop.spacing_mm)
    close = np.where(crop.away_mm <= reach_mm, distance - 0.25 * crop.away_mm, -np.inf)
    peak = np.unravel_index(int(np.argmax(close)), close.shape)
    if not above[peak]:
        return None
    whole = part_at(above, peak)
    radius = float(distance[peak])
    mask = whole
    for share in OPENING_SHARES:
        mask = _opened(whole, distance, peak, share * radius, crop)
        if not _touches_edge(mask):
            break
    return mask, whole, radius, share


def _opened(whole: BoolArray, distance: Float32Array, peak: tuple[np.intp, ...], depth: float, crop: Crop) -> BoolArray:
    """Erode by `depth` mm, keep the part around the peak, grow it back inside the whole."""
    core = part_at(whole & (distance > depth), peak)
    if not core[peak]:
        return whole
    return whole & _grown(core, depth + 0.5 * min(crop.spacing_mm), crop)


def _grown(mask: BoolArray, reach_mm: float, crop: Crop) -> BoolArray:
    """All voxels within `reach_mm` of the mask."""
    out = np.zeros_like(mask)
    box = box_around(mask, reach_mm, crop.spacing_mm)
    out[box] = distance_mm(~mask[box], crop.spacing_mm, reach_mm) <= reach_mm
    return out


def _halo(
    crop: Crop, solid: BoolArray, solid_radius: float, levels_hu: tuple[float, float], reach_mm: float
) -> Cut | None:
    """The wider body of ground glass around a dense core, if there is a plateau and not just a blurred edge.

    `levels_hu` are the lung around it and the threshold of the core.
    """
    background, threshold = levels_hu
    made = _body(crop, background + 110.0, reach_mm)
    if made is None or _touches_edge(made[0]):
        return None
    mask, whole, radius, opening = made
    voxel = float(np.prod(crop.spacing_mm))
    thin = (np.count_nonzero(solid) * voxel * 6 / np.pi) ** (1 / 3)
    wide = (np.count_nonzero(mask) * voxel * 6 / np.pi) ** (1 / 3)
    rim = mask & ~_grown(solid, 1.2, crop) & (crop.hu < threshold)
    share = float(np.count_nonzero(rim)) / max(1.0, float(np.count_nonzero(mask)))
    # Glass surrounds the core, so the ball inside grows too; a vessel beside a solid nodule adds on one side only.
    surrounds = radius - solid_radius > max(0.9, 0.3 * (wide - thin))
    plateau = share > 0.2 and float(np.median(crop.hu[rim])) > background + 140.0
    if not surrounds or not plateau or wide - thin < max(1.9, 0.2 * thin):
        return None
    return mask, whole, radius, opening


def _touches_edge(mask: BoolArray) -> bool:
    return bool(
        mask[0].any()
        or mask[-1].any()
        or mask[:, 0].any()
        or mask[:, -1].any()
        or mask[:, :, 0].any()
        or mask[:, :, -1].any()
    )


def hounsfield_of(scan: Scan, crop: Crop) -> HuArray:
    """The original values on the scan's own slices of the crop, cavities as they are."""
    slices = (crop.hu.shape[0] - 1) // crop.finer + 1
    start = crop.start
    return scan.hu[
        start[0] : start[0] + slices, start[1] : start[1] + crop.hu.shape[1], start[2] : start[2] + crop.hu.shape[2]
    ]

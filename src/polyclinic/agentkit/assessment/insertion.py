"""Nodules put into a finished image where the phantom itself plants none: against the pleura and against a vessel.

The ellipsoid's share of each voxel is blurred as the scanner blurs; it lifts the image towards its own attenuation
where the image lies below, so that vessel and wall stay and the noise stays. At the pleura only what lies inside the
lung counts as nodule: place and size of the truth are those of the part inside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import cv2
import edt
import numpy as np
import numpy.typing as npt

from polyclinic.agentkit.assessment.annotations import Nodule
from polyclinic.agentkit.phantom import Kernel, NoduleKind, NoduleSpec, PhantomStudy
from polyclinic.agentkit.phantom.nodules import coverage
from polyclinic.core.findings import Point

BLUR_MM = {Kernel.SMOOTH: 0.85, Kernel.STANDARD: 0.55, Kernel.SHARP: 0.28}
"""In-plane Gaussian of the phantom's scanner."""
_HU = {
    NoduleKind.SOLID: 40.0,
    NoduleKind.PART_SOLID: -560.0,
    NoduleKind.GROUND_GLASS: -590.0,
    NoduleKind.CALCIFIED: 450.0,
}
_CORE_HU, _CORE_SHARE = 30.0, 0.55
_APART_MM = 10.0
_MEDIASTINUM_MM = 45.0
"""Pleura nearer to the midline than this is that of the mediastinum, where no nodule is put."""
_VESSEL_HU = -500
_PAD = 4


class Site(StrEnum):
    FREE = "free in the lung"
    PLEURA = "at the pleura"
    VESSEL = "at a vessel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """A nodule to insert."""

    spec: NoduleSpec
    site: Site


def insert(study: PhantomStudy, wanted: Sequence[Attached], rng: np.random.Generator) -> tuple[Nodule, ...]:
    """Insert into ``study.hu`` in place; one for which no place is found is left out.

    Returns
    -------
    tuple of Nodule
        Truth of those inserted, in order.
    """
    lungs = study.lung_labels > 0
    spacing = study.geometry.spacing_mm
    depth_mm = edt.edt(lungs, anisotropy=spacing)
    taken = [(nodule.centre_mm, max(nodule.semi_axes_mm)) for nodule in study.nodules]
    away_mm = edt.edt(~(lungs & (depth_mm > 4.0) & (study.hu > _VESSEL_HU)), anisotropy=spacing)
    placed = []
    for one in wanted:
        radius = one.spec.diameter_mm / 2
        if one.site is Site.PLEURA:
            fits = (depth_mm > 0.3 * radius) & (depth_mm < 0.8 * radius) & _lateral(study)
        else:
            fits = (depth_mm > radius + 3.0) & (away_mm > 0.4 * radius) & (away_mm < 0.9 * radius)
        centre = _choose(study, fits, taken, radius, rng)
        if centre is not None:
            taken.append((centre, max(one.spec.semi_axes_mm)))
            placed.append(_draw(study, lungs, centre, one))
    return tuple(placed)


def _lateral(study: PhantomStudy) -> npt.NDArray[np.bool_]:
    geometry = study.geometry
    x = geometry.origin_mm[0] + np.arange(geometry.shape[2]) * geometry.spacing_mm[2]
    return np.broadcast_to(np.abs(x) > _MEDIASTINUM_MM, geometry.shape)


def _choose(
    study: PhantomStudy,
    fits: npt.NDArray[np.bool_],
    taken: Sequence[tuple[Point, float]],
    radius_mm: float,
    rng: np.random.Generator,
) -> Point | None:
    margin = _PAD + math.ceil(2 * radius_mm / min(study.geometry.spacing_mm))
    places = np.flatnonzero(fits)
    for place in rng.permutation(places)[:200] if len(places) else ():
        index = np.asarray(np.unravel_index(place, fits.shape))
        if np.any(index[1:] < margin) or np.any(index[1:] >= np.asarray(fits.shape[1:]) - margin):
            continue
        x, y, z = (float(v) for v in study.geometry.to_patient(index))
        if all(math.dist((x, y, z), other) > radius_mm + size + _APART_MM for other, size in taken):
            return (x, y, z)
    return None


def _draw(study: PhantomStudy, lungs: npt.NDArray[np.bool_], centre: Point, one: Attached) -> Nodule:
    geometry, spec = study.geometry, one.spec
    shells: list[tuple[Point, float]] = [(spec.semi_axes_mm, _HU[spec.kind])]
    if spec.kind is NoduleKind.PART_SOLID:
        x, y, z = spec.semi_axes_mm
        shells.append(((x * _CORE_SHARE, y * _CORE_SHARE, z * _CORE_SHARE), _CORE_HU))
    thickness_mm = study.spec.slice_thickness_mm
    sigma = BLUR_MM[study.spec.kernel] / geometry.spacing_mm[1]
    for semi_axes_mm, level in shells:
        (slices, rows, columns), share = coverage(centre, semi_axes_mm, geometry, thickness_mm)
        wide = (slice(rows.start - _PAD, rows.stop + _PAD), slice(columns.start - _PAD, columns.stop + _PAD))
        for index, part in zip(range(slices.start, slices.stop), share, strict=True):
            image = study.hu[index][wide].astype(np.float32)
            blurred = cv2.GaussianBlur(np.pad(part, _PAD), (0, 0), sigma)
            rise = np.maximum(0.0, level - cv2.GaussianBlur(image, (0, 0), 1.0))
            study.hu[index][wide] = np.rint(np.clip(image + blurred * rise, -1024, 3071)).astype(np.int16)
    window, share = coverage(centre, spec.semi_axes_mm, geometry, thickness_mm)
    inside = share * lungs[window]
    volume_mm3 = float(inside.sum()) * geometry.voxel_volume_mm3
    starts = [part.start for part in window]
    middle = np.asarray([np.average(np.arange(n), weights=inside.sum(axis=axes)) for n, axes in zip(
        inside.shape, ((1, 2), (0, 2), (0, 1)), strict=True
    )])  # fmt: skip
    x, y, z = (float(v) for v in geometry.to_patient(middle + starts))
    return Nodule(
        centre_mm=(x, y, z),
        diameter_mm=(6 * volume_mm3 / math.pi) ** (1 / 3),
        groups={"kind": spec.kind.value, "site": one.site.value},
    )

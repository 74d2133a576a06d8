"""Ground glass and consolidation: what stays dense in the lungs after everything as thin as a vessel was opened away.

A grey-scale opening removes bright structures narrower than 8 mm; what is left above -700 HU, is large enough and is no
vessel of the hilum counts as opacity. Its voxels above -300 HU count as consolidation.
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import cv2
import edt
import numpy as np

from polyclinic.agentkit.outcome import Fact, Mask, MaskLabel
from polyclinic.core import codes, units
from polyclinic.core.codes import Code
from polyclinic.core.findings import Attribute, Evidence, Finding, Measurement, Region
from polyclinic_agents.chest_ct.check import Check, Checked, Chest
from polyclinic_agents.chest_ct.grid import THREADS, Coarse, deeper
from polyclinic_agents.chest_ct.lungs import LEFT, RIGHT, CoarseChest
from polyclinic_agents.chest_ct.outlines import full_index, largest_outline
from polyclinic_agents.chest_ct.proposals import placed
from polyclinic_agents.chest_ct.scan import BoolArray, HuArray, LabelArray, Scan

VESSEL_RADIUS_MM = 4.0
OPACITY_FROM_HU, CONSOLIDATION_FROM_HU = -700, -300
RIND_MM = 3.0
"""The surface of the lungs is blurred with the chest wall."""
MIN_OPACITY_ML = 1.5
HILUM_MM, HILAR_ML = 20.0, 40.0
"""A smaller body that lies so near the bronchi for the most part is taken for hilar vessels."""
MIN_SHARE_PERCENT = 1.0
"""Less of both lungs is not proposed: motion, dependent density and vessels leave as much."""
DENSE_LUNG_HU = -700.0

_SIDES: tuple[tuple[int, Code, Code, str], ...] = (
    (RIGHT, codes.RIGHT_LUNG, codes.RIGHT, "right"),
    (LEFT, codes.LEFT_LUNG, codes.LEFT, "left"),
)
_METHOD = "lung voxels above -700 HU after a grey-scale opening of 8 mm, hilar vessels left out"
_CONSOLIDATION_METHOD = "voxels of the opacity above -300 HU"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opacities:
    """On the coarse grid."""

    mask: BoolArray
    consolidated: BoolArray


def look(chest: Chest) -> Checked:
    """One finding for each lung with opacities, or that none was found."""
    coarse = chest.lungs.coarse
    found = find_opacities(coarse)
    total = _count(coarse.lungs)
    share = 100.0 * _count(found.mask) / max(1, total)
    fact = Fact(name="share of opacities in the lungs", value=f"{share:.1f} %")
    if share < MIN_SHARE_PERCENT:
        return Checked(normal=(codes.LUNG_OPACITY,), facts=(fact,))
    sides = [side for side in _SIDES if np.any(found.mask & (coarse.lungs == side[0]))]
    findings = tuple(_finding(chest, found, side, number) for number, side in enumerate(sides, 1))
    return Checked(
        findings=findings,
        masks=(_mask(chest, found, sides, findings),),
        facts=(fact, *_thirds(coarse, found.mask)),
    )


def find_opacities(coarse: CoarseChest) -> Opacities:
    """Opacities of both lungs on the coarse grid."""
    grid, lungs = coarse.grid, coarse.lungs > 0
    smooth = np.stack([cv2.blur(image, (3, 3)) for image in grid.hu])
    opened = _opened(np.where(lungs, smooth, -870).astype(np.int16), grid)
    dense = deeper(lungs, RIND_MM, grid.spacing_mm) & (opened > OPACITY_FROM_HU)
    labels, count = cc3d.connected_components(dense, connectivity=18, return_N=True)
    sizes_ml = np.bincount(labels.reshape(-1), minlength=count + 1) * grid.voxel_ml
    near = np.bincount(labels[_near_bronchi(coarse)].reshape(-1), minlength=count + 1) * grid.voxel_ml
    hilar = (near > 0.5 * sizes_ml) & (sizes_ml < HILAR_ML)
    keep = (sizes_ml >= MIN_OPACITY_ML) & ~hilar
    keep[0] = False
    mask = np.asarray(keep[labels], dtype=np.bool_)
    return Opacities(mask=mask, consolidated=mask & (smooth > CONSOLIDATION_FROM_HU))


def _opened(hu: HuArray, grid: Coarse) -> HuArray:
    """Erosion, then dilation by a flat cylinder of `VESSEL_RADIUS_MM`."""
    along, across = (max(1, round(VESSEL_RADIUS_MM / step)) for step in grid.spacing_mm[:2])
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * across + 1, 2 * across + 1))
    eroded = np.stack([cv2.erode(image, disc) for image in hu]).astype(np.int16)
    low = _along(_along(eroded, along, np.minimum), along, np.maximum)
    return np.stack([cv2.dilate(image, disc) for image in low]).astype(np.int16)


def _along(hu: HuArray, reach: int, extreme: np.ufunc) -> HuArray:
    """Minimum or maximum over ``reach`` slices to both sides."""
    padded = np.pad(hu, ((reach, reach), (0, 0), (0, 0)), mode="edge")
    out = padded[: len(hu)].copy()
    for shift in range(1, 2 * reach + 1):
        extreme(out, padded[shift : shift + len(hu)], out=out)
    return out


def _near_bronchi(coarse: CoarseChest) -> BoolArray:
    """Lung within `HILUM_MM` of the airways that were followed."""
    if not coarse.airway.any():
        return np.zeros(coarse.airway.shape, dtype=np.bool_)
    away = edt.edt(~coarse.airway, anisotropy=coarse.grid.spacing_mm, parallel=THREADS)
    return np.asarray((away <= HILUM_MM) & (coarse.lungs > 0), dtype=np.bool_)


def _thirds(coarse: CoarseChest, mask: BoolArray) -> tuple[Fact, ...]:
    """Share of opacities in the upper, middle and lower third of the height of both lungs."""
    used = np.flatnonzero(coarse.lungs.any(axis=(1, 2)))
    edges = np.linspace(used[0], used[-1] + 1, 4).round().astype(int)
    facts = []
    for name, low, high in zip(("lower", "middle", "upper"), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        share = 100 * _count(mask[low:high]) / max(1, _count(coarse.lungs[low:high]))
        facts.append(Fact(name=f"opacities in the {name} third", value=f"{share:.1f} %"))
    return tuple(facts[::-1])


def _finding(chest: Chest, found: Opacities, side: tuple[int, Code, Code, str], number: int) -> Finding:
    label, site, laterality, name = side
    scan, coarse = chest.scan, chest.lungs.coarse
    lung = coarse.lungs == label
    own = found.mask & lung
    ml = _count(own) * coarse.grid.voxel_ml
    outline = largest_outline(scan, own, coarse.grid)
    middle = full_index(np.argwhere(own).mean(axis=0), scan, coarse.grid)
    values = (
        (codes.VOLUME, ml, units.MILLILITRE, _METHOD),
        (codes.SHARE_OF_LUNG, 100 * _count(own) / _count(lung), units.PERCENT, _METHOD),
        (
            codes.CONSOLIDATED_SHARE,
            100 * _count(found.consolidated & own) / max(1, _count(own)),
            units.PERCENT,
            _CONSOLIDATION_METHOD,
        ),
    )
    return Finding(
        id=chest.origin.id("chest-ct-opacity", name),
        study_instance_uid=chest.origin.study_instance_uid,
        code=codes.LUNG_OPACITY,
        source=chest.origin.source,
        body_site=site,
        laterality=laterality,
        region=Region(
            frame_of_reference_uid=scan.geometry.frame_of_reference_uid,
            centre_mm=placed(scan.to_patient(middle)),
            contours=outline,
            mask="opacities",
            segment=number,
        ),
        measurements=tuple(
            Measurement(code=code, value=round(float(value), 1), unit=unit, method=method)
            for code, value, unit, method in values
        ),
        attributes=(Attribute(code=codes.INTERPRETATION, value=codes.BEYOND_LIMITS),),
        limits=_limits(chest),
        evidence=Evidence(images=tuple(contour.image for contour in outline)),
    )


def _count(mask: BoolArray | LabelArray) -> int:
    return int(np.count_nonzero(mask))


def _limits(chest: Chest) -> tuple[str, ...]:
    limits = []
    limits.append("Causes are not told apart: infection, oedema, haemorrhage, atelectasis and scars look alike.")
    limits.append("Opacities around the hila below 40 mL are taken for vessels and not counted.")
    limits.append("Consolidation at chest wall or mediastinum is partly outside the lung outline and not counted.")
    lungs = chest.lungs.coarse.grid.hu[chest.lungs.coarse.lungs > 0]
    if float(np.median(lungs)) > DENSE_LUNG_HU:
        limits.append("The lungs are dense on the whole; a shallow breath may look like ground glass.")
    if (chest.scan.volume.facts.slice_thickness_mm or chest.scan.spacing_mm[0]) > 3.0:
        limits.append("Slices thicker than 3 mm blur vessels into their surroundings.")
    return tuple(limits)


def _mask(
    chest: Chest, found: Opacities, sides: list[tuple[int, Code, Code, str]], findings: tuple[Finding, ...]
) -> Mask:
    scan, coarse = chest.scan, chest.lungs.coarse
    labels = np.zeros(found.mask.shape, dtype=np.uint8)
    for number, side in enumerate(sides, 1):
        labels[found.mask & (coarse.lungs == side[0])] = number
    return Mask(
        id="opacities",
        title="Opacities",
        geometry=scan.geometry,
        voxels=scan.unturned(_on_scan(labels, scan, coarse.grid)),
        labels=tuple(
            MaskLabel(
                number=number,
                code=codes.LUNG_OPACITY,
                title=f"Opacities of the {side[3]} lung",
                finding_id=finding.id,
            )
            for number, (side, finding) in enumerate(zip(sides, findings, strict=True), 1)
        ),
        images=scan.volume.images,
    )


def _on_scan(labels: LabelArray, scan: Scan, grid: Coarse) -> LabelArray:
    """Nearest coarse label of every voxel of the scan."""
    slices, rows, columns = scan.hu.shape
    out = np.zeros(scan.hu.shape, dtype=np.uint8)
    ratio = scan.spacing_mm[0] / grid.spacing_mm[0]
    for index in range(slices):
        image = labels[min(int((index + 0.5) * ratio), len(labels) - 1)]
        if image.any():
            out[index] = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_NEAREST)
    return out


CHECK = Check(organ="lung opacities", look=look)

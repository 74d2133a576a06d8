"""The heart between the lungs, and the calcium in it: an Agatston-equivalent score of an ungated scan.

The heart region is what the lungs enclose before the spine, from below the pulmonary bifurcation to the dome of the
diaphragm. Calcium is what reaches 130 HU there on slabs of about 3 mm and is no bone, airway wall, aorta or hilum.
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import cv2
import numpy as np
import numpy.typing as npt

from polyclinic.core import codes, units
from polyclinic.core.findings import Attribute, Contour, Evidence, Finding, Measurement, Region
from polyclinic.core.guidelines.cac_drs import Calcium, classify
from polyclinic_agents.chest_ct.aorta import ASCENDING, Track, find_carina, follow
from polyclinic_agents.chest_ct.check import Check, Checked, Chest, NotSeen
from polyclinic_agents.chest_ct.lungs import RIGHT, CoarseChest, bone
from polyclinic_agents.chest_ct.proposals import placed
from polyclinic_agents.chest_ct.scan import BoolArray, Float32Array, FloatArray, HuArray, Scan
from polyclinic_agents.chest_ct.spine import follow_spine

SLAB_MM = 3.0
"""Slice thickness for which the weights of the score were made."""
MAX_SLICE_MM = 5.0
CALCIUM_FROM_HU = 130
WEIGHTS_FROM_HU = (130, 200, 300, 400)
"""Density weights 1 to 4 begin here."""
MIN_AREA_MM2 = 1.0
MAX_NOISE_HU = 35.0
"""Above it noise alone reaches 130 HU in blood of 45 HU more than once in a heart."""
NOISY_HU, NOISY_AREA_MM2 = 20.0, 4.0
MAX_BLOOD_HU = 85.0
MIN_HEART_ML, MAX_HEART_ML = 250.0, 2500.0
BELOW_CARINA_MM = 22.0
BEFORE_SPINE_MM = 30.0
"""Behind it lie bronchi, nodes and the descending aorta."""

_CLASSES = {0: codes.CAC_DRS_A0, 1: codes.CAC_DRS_A1, 2: codes.CAC_DRS_A2, 3: codes.CAC_DRS_A3}
_METHOD = "area of each lesion from 130 HU times its density weight, on slabs of about 3 mm, scaled to 3 mm; not gated"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesion:
    """Calcium on one slab."""

    slice_index: int
    """Middle slice of the slab on the scan."""
    area_mm2: float
    peak_hu: float
    outline: FloatArray
    """Rows and columns on the scan, ``(n, 2)``."""

    @property
    def points(self) -> float:
        """Area times density weight (Agatston 1990)."""
        return self.area_mm2 * sum(self.peak_hu >= limit for limit in WEIGHTS_FROM_HU)


def look(chest: Chest) -> Checked:
    """The score and its class, or that no calcium was found. Raises `NotSeen`."""
    scan, coarse = chest.scan, chest.lungs.coarse
    if scan.volume.facts.contrast_agent:
        raise NotSeen("contrast medium was given")
    if scan.spacing_mm[0] > MAX_SLICE_MM:
        raise NotSeen("slices too far apart")
    carina, spine = find_carina(coarse), follow_spine(coarse)
    heart = heart_region(coarse, spine, carina)
    blood = coarse.grid.hu[heart & (coarse.grid.hu > 0) & (coarse.grid.hu < 300)]
    if blood.size == 0 or float(np.median(blood)) > MAX_BLOOD_HU:
        raise NotSeen("it is as dense as after contrast medium")
    aorta = follow(coarse, spine, carina, ASCENDING, enhanced=False)
    lesions, noise_hu, slab_mm = _lesions(scan, coarse, heart & ~_around(aorta, coarse))
    score = sum(lesion.points for lesion in lesions) * slab_mm / SLAB_MM
    if round(score) == 0:
        return Checked(normal=(codes.CORONARY_CALCIUM,))
    return Checked(findings=(_finding(chest, lesions, score, noise_hu),))


def heart_region(coarse: CoarseChest, spine: npt.NDArray[np.int64], carina: int) -> BoolArray:
    """Heart with its fat on the coarse grid. Raises `NotSeen` when what is found cannot be a heart."""
    grid, lungs = coarse.grid, coarse.lungs > 0
    slice_mm, row_mm, column_mm = grid.spacing_mm
    opening = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    heart = np.zeros(lungs.shape, dtype=np.uint8)
    bottom = max(int(np.flatnonzero(lungs.any(axis=(1, 2)))[0]), _dome(coarse) - round(5.0 / slice_mm))
    for index in range(bottom, max(bottom, carina - round(BELOW_CARINA_MM / slice_mm))):
        points = np.argwhere(lungs[index])[:, ::-1].astype(np.int32)
        if len(points) < 50:
            continue
        hull = np.zeros(lungs.shape[1:], dtype=np.uint8)
        cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
        enclosed = np.asarray(cv2.erode(hull, opening), dtype=np.uint8)
        enclosed[max(0, int(spine[index, 0] - BEFORE_SPINE_MM / row_mm)) :] = 0
        heart[index] = cv2.morphologyEx(enclosed * ~lungs[index], cv2.MORPH_OPEN, opening)
    found = np.asarray(cc3d.largest_k(heart, k=1, connectivity=6) > 0, dtype=np.bool_)
    if not MIN_HEART_ML < np.count_nonzero(found) * grid.voxel_ml < MAX_HEART_ML:
        raise NotSeen("the heart could not be told from its surroundings")
    middle = np.argwhere(found).mean(axis=0)
    rows, columns = np.arange(found.shape[1])[:, None], np.arange(found.shape[2])
    # Calcified nodes of the right hilum lie behind and to the right; no coronary artery does at these heights.
    hilum = (rows > middle[1] + 8.0 / row_mm) & (columns < middle[2] - 5.0 / column_mm)
    return np.asarray(found & ~hilum[None], dtype=np.bool_)


def _dome(coarse: CoarseChest) -> int:
    """Coarse slice of the top of the right half of the diaphragm, under the inner part of the right lung."""
    right = coarse.lungs == RIGHT
    footprint = right.any(axis=0)
    width = 2 * round(20.0 / coarse.grid.spacing_mm[1]) + 1
    inner = cv2.erode(footprint.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))) > 0
    if not inner.any():
        raise NotSeen("the heart could not be told from its surroundings")
    return int(np.percentile(right.argmax(axis=0)[inner], 90))


def _around(track: Track, coarse: CoarseChest) -> BoolArray:
    """The followed vessel with its wall."""
    inside = np.zeros(coarse.lungs.shape, dtype=np.bool_)
    _, height, width = coarse.lungs.shape
    rows, columns = np.arange(height)[:, None], np.arange(width)
    row_mm, column_mm = coarse.grid.spacing_mm[1:]
    for place, (centre, radius) in enumerate(zip(track.centres, track.radii_mm, strict=True)):
        away = np.hypot((rows - centre[0]) * row_mm, (columns - centre[1]) * column_mm)
        inside[track.first_slice + place] = away <= radius + 2.0
    return inside


def _lesions(scan: Scan, coarse: CoarseChest, heart: BoolArray) -> tuple[list[Lesion], float, float]:
    """Calcium in the region, the noise of the slabs in HU and their thickness in mm. Raises `NotSeen`."""
    every = max(1, round(SLAB_MM / scan.spacing_mm[0]))
    allowed = heart & ~bone(coarse.grid)
    slabs = [
        (first, _slab(scan.hu, first, every))
        for first in range(0, scan.hu.shape[0] - every + 1, every)
        if heart[_coarse_slice(first + every // 2, scan, coarse)].any()
    ]
    regions = [
        cv2.resize(
            allowed[_coarse_slice(first + every // 2, scan, coarse)].astype(np.uint8),
            (scan.hu.shape[2], scan.hu.shape[1]),
            interpolation=cv2.INTER_NEAREST,
        )
        for first, _ in slabs
    ]
    noise = float(np.median([_noise(image, region) for (_, image), region in zip(slabs, regions, strict=True)]))
    if noise > MAX_NOISE_HU:
        raise NotSeen("too noisy to tell calcium from noise")
    least = NOISY_AREA_MM2 if noise > NOISY_HU else MIN_AREA_MM2
    found = [
        lesion
        for (first, image), region in zip(slabs, regions, strict=True)
        for lesion in _on_slab(image, region, first + every // 2, scan.spacing_mm[1] * scan.spacing_mm[2], least)
    ]
    return found, noise, every * scan.spacing_mm[0]


def _slab(hu: HuArray, first: int, every: int) -> Float32Array:
    return np.asarray(hu[first : first + every].mean(axis=0, dtype=np.float32), dtype=np.float32)


def _coarse_slice(index: int, scan: Scan, coarse: CoarseChest) -> int:
    ratio = scan.spacing_mm[0] / coarse.grid.spacing_mm[0]
    return min(int((index + 0.5) * ratio), len(coarse.lungs) - 1)


def _noise(image: Float32Array, region: npt.NDArray[np.uint8]) -> float:
    """Spread of what a small median leaves of blood and muscle, robust against edges and calcium."""
    soft = (region > 0) & (image > -20) & (image < 110)
    if not soft.any():
        return 0.0
    rest = image - cv2.medianBlur(np.clip(image, -200, 300), 5)
    return float(1.4826 * np.median(np.abs(rest[soft])))


def _on_slab(
    image: Float32Array, region: npt.NDArray[np.uint8], slice_index: int, pixel_mm2: float, least_mm2: float
) -> list[Lesion]:
    dense = ((image >= CALCIUM_FROM_HU) & (region > 0)).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(dense, connectivity=8)
    found = []
    for label in range(1, count):
        area = float(stats[label, cv2.CC_STAT_AREA]) * pixel_mm2
        if area < least_mm2:
            continue
        own = labels == label
        edges, _ = cv2.findContours(own.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        outline = max(edges, key=len)[:, 0, ::-1].astype(np.float64)
        found.append(Lesion(slice_index=slice_index, area_mm2=area, peak_hu=float(image[own].max()), outline=outline))
    return found


def _finding(chest: Chest, lesions: list[Lesion], score: float, noise_hu: float) -> Finding:
    scan = chest.scan
    value = float(round(score))
    graded = classify(Calcium(agatston=value, gated=False))
    largest = sorted(lesions, key=lambda lesion: -lesion.points)[:12]
    outlines = tuple(contour for lesion in largest for contour in _outline(scan, lesion))
    heaviest = largest[0]
    middle = np.array([heaviest.slice_index, *heaviest.outline.mean(axis=0)])
    return Finding(
        id=chest.origin.id("chest-ct-coronary-calcium"),
        study_instance_uid=chest.origin.study_instance_uid,
        code=codes.CORONARY_CALCIUM,
        source=chest.origin.source,
        body_site=codes.HEART,
        region=Region(
            frame_of_reference_uid=scan.geometry.frame_of_reference_uid,
            centre_mm=placed(scan.to_patient(middle)),
            contours=outlines,
        ),
        measurements=(Measurement(code=codes.AGATSTON, value=value, unit=units.NO_UNIT, method=_METHOD),),
        attributes=(
            Attribute(code=codes.CAC_DRS, value=_CLASSES[graded.grade]),
            Attribute(code=codes.INTERPRETATION, value=codes.BEYOND_LIMITS),
        ),
        limits=_limits(scan, noise_hu),
        evidence=Evidence(images=tuple(dict.fromkeys(c.image for c in outlines)), rules=(graded.rule,)),
    )


def _outline(scan: Scan, lesion: Lesion) -> tuple[Contour, ...]:
    source = round(float(scan.to_source([lesion.slice_index, 0, 0])[0]))
    if source in scan.volume.interpolated or len(lesion.outline) < 3:
        return ()
    index = np.column_stack([np.full(len(lesion.outline), lesion.slice_index), lesion.outline])
    points = tuple(placed(point) for point in np.round(scan.to_patient(index), 2))
    return (Contour(image=scan.volume.images[source], points_mm=points),)


def _limits(scan: Scan, noise_hu: float) -> tuple[str, ...]:
    limits = []
    limits.append("The scan is not ECG-gated: the score is an estimate of the class, not a calcium score.")
    limits.append("Coronary arteries, heart valves and pericardium are not told apart.")
    if noise_hu > NOISY_HU:
        limits.append("The images are noisy; small plaques are left out, and noise may count as calcium.")
    if scan.volume.facts.kvp and abs(scan.volume.facts.kvp - 120.0) > 1.0:
        limits.append("The score was made for 120 kV; at another tube voltage it differs.")
    return tuple(limits)


CHECK = Check(organ="coronary calcium", look=look)

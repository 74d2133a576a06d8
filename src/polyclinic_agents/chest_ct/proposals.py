"""Findings, masks and key images from what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polyclinic.agentkit.outcome import KeyImage, Mask, MaskLabel
from polyclinic.core import codes, units
from polyclinic.core.codes import Code
from polyclinic.core.findings import Attribute, Contour, Evidence, Finding, Measurement, Point, Region
from polyclinic.core.guidelines.lung_rads_v2022 import mean_diameter_mm
from polyclinic_agents.chest_ct.densitometry import Density
from polyclinic_agents.chest_ct.lungs import LEFT, RIGHT, Lungs
from polyclinic_agents.chest_ct.measure import Outline
from polyclinic_agents.chest_ct.nodules import Scored
from polyclinic_agents.chest_ct.origin import Origin
from polyclinic_agents.chest_ct.scan import FloatArray, Scan

MAX_KEY_IMAGES = 5
KEY_FROM = 0.5

SITES = {RIGHT: (codes.RIGHT_LUNG, codes.RIGHT), LEFT: (codes.LEFT_LUNG, codes.LEFT)}
_DIAMETER_METHOD = "outline on the axial slice of largest area; threshold between lung and core"
_VOLUME_METHOD = "voxels of the segmented body times voxel volume"
_LUNG_METHOD = "voxels of the lung mask times voxel volume; airways down to the hilum excluded"
_DENSITY_METHOD = "lung mask without airways, voxels below -250 HU"


def nodule_findings(
    scan: Scan, lungs: Lungs, shown: Sequence[Scored], origin: Origin, limits: tuple[str, ...]
) -> tuple[Finding, ...]:
    """One finding per nodule, in the order given; segment n of mask ``nodules`` is the n-th."""

    def on_side(one: Scored) -> int:
        return _lung_at(lungs, one.nodule.centre)

    return tuple(_nodule(scan, one, (on_side(one), n), origin, limits) for n, one in enumerate(shown, 1))


def _nodule(scan: Scan, one: Scored, place: tuple[int, int], origin: Origin, limits: tuple[str, ...]) -> Finding:
    """`place` is the lung it lies in and its number."""
    lung, number = place
    nodule = one.nodule
    centre = placed(scan.to_patient(nodule.centre))
    corners = scan.to_patient(np.asarray([nodule.low, nodule.high]))
    site, side = SITES[lung]
    long_mm, short_mm = round(nodule.long_axis_mm, 1), round(nodule.short_axis_mm, 1)
    sizes = (
        (codes.LONG_AXIS, long_mm, units.MILLIMETRE, _DIAMETER_METHOD),
        (codes.SHORT_AXIS, short_mm, units.MILLIMETRE, _DIAMETER_METHOD),
        (codes.MEAN_DIAMETER, mean_diameter_mm(long_mm, short_mm), units.MILLIMETRE, "mean of long and short axis"),
        (codes.VOLUME, nodule.volume_mm3, units.CUBIC_MILLIMETRE, _VOLUME_METHOD),
        (codes.MEAN_ATTENUATION, nodule.mean_hu, units.HOUNSFIELD, "mean over the segmented body"),
    )
    own = list(limits)
    if nodule.touches_pleura:
        own.append("It touches the pleura; its border there is estimated.")
    if nodule.shape.attached > 0.12:
        own.append("It touches a vessel; its border there is estimated.")
    outlines = tuple(_contour(scan, outline) for outline in nodule.outlines if _is_image(scan, outline))
    main = _image(scan, nodule.main)
    return Finding(
        id=origin.id("chest-ct-nodule", *(f"{value:.1f}" for value in centre)),
        study_instance_uid=origin.study_instance_uid,
        code=codes.PULMONARY_NODULE,
        source=origin.source,
        body_site=site,
        laterality=side,
        region=Region(
            frame_of_reference_uid=scan.geometry.frame_of_reference_uid,
            centre_mm=centre,
            bounds_mm=(placed(corners.min(axis=0)), placed(corners.max(axis=0))),
            contours=outlines,
            mask="nodules",
            segment=number,
        ),
        measurements=tuple(
            Measurement(code=code, value=round(value, 1), unit=unit, method=method)
            for code, value, unit, method in sizes
        ),
        attributes=(Attribute(code=codes.NODULE_ATTENUATION, value=nodule.attenuation),),
        confidence=round(one.confidence, 3),
        limits=tuple(own),
        evidence=Evidence(images=(scan.volume.images[main],)),
    )


def _lung_at(lungs: Lungs, centre: tuple[float, float, float]) -> int:
    """The lung of a nodule: by the mask, or by the nearer side where its middle is outside."""
    place = [min(max(round(c), 0), n - 1) for c, n in zip(centre, lungs.labels.shape, strict=True)]
    window = lungs.labels[place[0], max(0, place[1] - 12) : place[1] + 13, max(0, place[2] - 12) : place[2] + 13]
    right, left = (int(np.count_nonzero(window == label)) for label in (RIGHT, LEFT))
    return RIGHT if right >= left else LEFT


def _image(scan: Scan, outline: Outline) -> int:
    return round(float(scan.to_source([outline.slice_index, 0, 0])[0]))


def _is_image(scan: Scan, outline: Outline) -> bool:
    return _image(scan, outline) not in scan.volume.interpolated


def _contour(scan: Scan, outline: Outline) -> Contour:
    points = np.concatenate([np.full((len(outline.points), 1), outline.slice_index), outline.points], axis=1)
    rounded = np.round(scan.to_patient(points), 2)
    return Contour(image=scan.volume.images[_image(scan, outline)], points_mm=tuple(placed(p) for p in rounded))


def placed(values: FloatArray) -> Point:
    """LPS mm to a hundredth, as findings keep them."""
    return round(float(values[0]), 2), round(float(values[1]), 2), round(float(values[2]), 2)


def density_finding(scan: Scan, whole: Density, origin: Origin, limits: tuple[str, ...]) -> Finding:
    """Emphysema index and Perc15 of both lungs; a measurement, not a diagnosis."""
    return Finding(
        id=origin.id("chest-ct-densitometry"),
        study_instance_uid=origin.study_instance_uid,
        code=codes.EMPHYSEMA,
        source=origin.source,
        body_site=codes.LUNG,
        measurements=(
            Measurement(
                code=codes.LAA_950, value=round(whole.laa_950_percent, 2), unit=units.PERCENT, method=_DENSITY_METHOD
            ),
            Measurement(
                code=codes.PERC_15, value=round(whole.perc_15_hu, 1), unit=units.HOUNSFIELD, method=_DENSITY_METHOD
            ),
        ),
        limits=limits,
    )


def volume_findings(lungs: Lungs, origin: Origin, limits: tuple[str, ...]) -> tuple[Finding, ...]:
    """Volume of both lungs together, then of each."""
    right, left = lungs.volumes_ml
    parts: list[tuple[str, Code, Code | None, float]] = [("both", codes.LUNG, None, right + left)]
    if right:
        parts.append(("right", codes.RIGHT_LUNG, codes.RIGHT, right))
    if left:
        parts.append(("left", codes.LEFT_LUNG, codes.LEFT, left))
    return tuple(
        Finding(
            id=origin.id("chest-ct-lung-volume", name),
            study_instance_uid=origin.study_instance_uid,
            code=codes.LUNG_VOLUME_FINDING,
            source=origin.source,
            body_site=site,
            laterality=side,
            measurements=(
                Measurement(code=codes.VOLUME, value=round(value), unit=units.MILLILITRE, method=_LUNG_METHOD),
            ),
            limits=limits,
        )
        for name, site, side, value in parts
    )


def masks(scan: Scan, lungs: Lungs, shown: Sequence[Scored], findings: Sequence[Finding]) -> tuple[Mask, ...]:
    """Label maps on the grid of the source images: lungs, and nodules when there are any."""
    images = scan.volume.images
    made = [
        Mask(
            id="lungs",
            title="Lungs",
            geometry=scan.geometry,
            voxels=scan.unturned(lungs.labels),
            labels=tuple(
                MaskLabel(number=number, code=code, title=title)
                for number, code, title, volume in (
                    (RIGHT, codes.RIGHT_LUNG, "Right lung", lungs.volumes_ml[0]),
                    (LEFT, codes.LEFT_LUNG, "Left lung", lungs.volumes_ml[1]),
                )
                if volume
            ),
            images=images,
        )
    ]
    if shown:
        voxels = np.zeros(scan.hu.shape, dtype=np.uint8)
        for number, one in reversed(list(enumerate(shown, 1))):
            start, size = one.nodule.start, one.nodule.mask.shape
            box = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
            voxels[box][one.nodule.mask] = number
        labels = tuple(
            MaskLabel(number=n, code=codes.PULMONARY_NODULE, title=f"Nodule {n}", finding_id=finding.id)
            for n, finding in enumerate(findings, 1)
        )
        made.append(
            Mask(
                id="nodules",
                title="Nodules",
                geometry=scan.geometry,
                voxels=scan.unturned(voxels),
                labels=labels,
                images=images,
            )
        )
    return tuple(made)


def key_images(findings: Sequence[Finding]) -> tuple[KeyImage, ...]:
    """The slice of largest area of the likeliest nodules."""
    likely = [one for one in findings if one.confidence is not None and one.confidence >= KEY_FROM]
    return tuple(
        KeyImage(image=one.evidence.images[0], reason="Nodule at its largest", finding_id=one.id)
        for one in likely[:MAX_KEY_IMAGES]
    )


def organ_key_images(findings: Sequence[Finding]) -> tuple[KeyImage, ...]:
    """The first image of every finding beyond its limits, so that the reader and the PDF show what it stands on."""
    return tuple(
        KeyImage(image=one.evidence.images[0], reason=f"{one.code.display}, beyond its limit", finding_id=one.id)
        for one in findings
        if one.evidence.images
        and (judged := one.attribute(codes.INTERPRETATION)) is not None
        and judged.same_as(codes.BEYOND_LIMITS)
    )

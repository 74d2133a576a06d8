"""What may reach a reader: geometry, codes, units and physical limits of every proposed finding. Pure.

A finding that fails is withheld with a reason that people can read; it never disappears silently.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set

from polyclinic.agentkit.manifest import Manifest
from polyclinic.agentkit.outcome import Assessed
from polyclinic.core import codes
from polyclinic.core.findings import Contour, Finding, FindingState, Measurement, Point, Region
from polyclinic.core.units import PRINTED
from polyclinic.departments.reading.contracts import SeriesExtent, Withheld
from polyclinic.departments.reading.rules import DIAMETER_LIMITS_MM, SIDE_OF_LUNG

EDGE_MM = 5.0
"""How far outside the images a region may reach: half a thick slice."""

_DIAMETERS = (codes.LONG_AXIS, codes.SHORT_AXIS, codes.MEAN_DIAMETER)


def check_outcome(
    outcome: Assessed, *, manifest: Manifest, study_instance_uid: str, extents: Mapping[str, SeriesExtent]
) -> tuple[tuple[Finding, ...], tuple[Withheld, ...]]:
    """Split an outcome's findings into those a reader sees and those withheld.

    Parameters
    ----------
    manifest
        Of the agent that proposed; its outputs are the only codes allowed.
    extents
        Where the images of each series lie, by series.
    """
    allowed = {(output.system, output.code) for output in manifest.outputs}
    kept: list[Finding] = []
    withheld: list[Withheld] = []
    seen: set[str] = set()
    for finding in outcome.findings:
        reason = _first_fault(finding, study_instance_uid, allowed, extents.get(outcome.series_instance_uid))
        if not reason and finding.id in seen:
            reason = "the agent gave two findings the same id"
        if not reason and finding.source != manifest.source:
            reason = "the finding does not name the agent that made it"
        seen.add(finding.id)
        if reason:
            withheld.append(Withheld(finding_id=finding.id, code=finding.code, reason=reason))
        else:
            kept.append(finding)
    return tuple(kept), tuple(withheld)


def _first_fault(
    finding: Finding, study_instance_uid: str, allowed: Set[tuple[str, str]], extent: SeriesExtent | None
) -> str:
    checks: tuple[Callable[[], str], ...] = (
        lambda: _identity(finding, study_instance_uid, allowed),
        lambda: next((fault for m in finding.measurements if (fault := _measurement(m))), ""),
        lambda: _axes(finding),
        lambda: _side(finding),
        lambda: _region(finding.region, extent) if finding.region else "",
    )
    return next((fault for check in checks if (fault := check())), "")


def _identity(finding: Finding, study_instance_uid: str, allowed: Set[tuple[str, str]]) -> str:
    if finding.study_instance_uid != study_instance_uid:
        return "it belongs to another study"
    if finding.state is not FindingState.PROPOSED:
        return "an agent may only propose"
    if (finding.code.system, finding.code.code) not in allowed:
        return "its code is not among the outputs that the agent declares"
    if finding.confidence is not None and not 0.0 <= finding.confidence <= 1.0:
        return "its confidence is not between 0 and 1"
    return ""


def _measurement(measurement: Measurement) -> str:
    """Why the measurement cannot be, or empty."""
    what, value = measurement.code.display, measurement.value
    if measurement.unit not in PRINTED:
        return f"{what} has a unit that is not known"
    if not math.isfinite(value):
        return f"{what} is not a number"
    low, high = DIAMETER_LIMITS_MM
    if any(measurement.code.same_as(c) for c in _DIAMETERS) and not low <= value <= high:
        return f"{what} is not from {low:g} to {high:g} mm"
    if measurement.code.same_as(codes.VOLUME) and value <= 0:
        return f"{what} is not above zero"
    if measurement.code.same_as(codes.LAA_950) and not 0.0 <= value <= 100.0:
        return f"{what} is not from 0 to 100 %"
    return ""


def _axes(finding: Finding) -> str:
    long_axis, short_axis = finding.measurement(codes.LONG_AXIS), finding.measurement(codes.SHORT_AXIS)
    if long_axis and short_axis and short_axis.value > long_axis.value + 1e-6:
        return "its short axis is longer than its long axis"
    return ""


def _side(finding: Finding) -> str:
    if finding.body_site is None or finding.laterality is None:
        return ""
    for site, side in SIDE_OF_LUNG:
        if finding.body_site.same_as(site) and not finding.laterality.same_as(side):
            return "its side contradicts its body site"
    return ""


def _region(region: Region, extent: SeriesExtent | None) -> str:
    if extent is None:
        return "it lies in a series that is not part of the study"
    if region.frame_of_reference_uid != extent.frame_of_reference_uid:
        return "its frame of reference is not that of the images"
    corners = region.bounds_mm or ()
    if not all(_inside(point, extent) for point in (region.centre_mm, *corners)):
        return "it lies outside the images"
    return next((fault for contour in region.contours if (fault := _contour(contour, extent))), "")


def _contour(contour: Contour, extent: SeriesExtent) -> str:
    if contour.image.sop_instance_uid not in extent.sop_instance_uids:
        return "its outline is on an image that is not part of the series"
    if len(contour.points_mm) < 3:
        return "its outline has fewer than three points"
    if not all(_inside(point, extent) for point in contour.points_mm):
        return "its outline leaves the images"
    return ""


def _inside(point: Point, extent: SeriesExtent) -> bool:
    return all(
        math.isfinite(value) and low - EDGE_MM <= value <= high + EDGE_MM
        for value, low, high in zip(point, extent.low_mm, extent.high_mm, strict=True)
    )

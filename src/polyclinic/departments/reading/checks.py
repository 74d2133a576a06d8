"""What may reach a reader: geometry, codes, units and physical limits of every proposed finding. Pure.

A finding that fails is withheld with a reason that people can read; it never disappears silently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

from polyclinic.agentkit.finding_checks import identity_fault, number_fault, region_fault
from polyclinic.agentkit.manifest import Manifest
from polyclinic.agentkit.outcome import Assessed
from polyclinic.core import codes
from polyclinic.core.findings import Finding, Measurement
from polyclinic.departments.reading.contracts import SeriesExtent, Withheld
from polyclinic.departments.reading.rules import DIAMETER_LIMITS_MM, SIDE_OF_LUNG

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
        lambda: identity_fault(finding, study_instance_uid, allowed),
        lambda: next((fault for m in finding.measurements if (fault := _measurement(m))), ""),
        lambda: _axes(finding),
        lambda: _side(finding),
        lambda: region_fault(finding.region, extent) if finding.region else "",
    )
    return next((fault for check in checks if (fault := check())), "")


def _measurement(measurement: Measurement) -> str:
    """Why the measurement cannot be, or empty."""
    if fault := number_fault(measurement):
        return fault
    what, value = measurement.code.display, measurement.value
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

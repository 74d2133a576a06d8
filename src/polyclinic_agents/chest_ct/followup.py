"""Findings with what the comparison says of them, and one for each nodule that is no longer seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from polyclinic.core import codes, units
from polyclinic.core.codes import Code
from polyclinic.core.findings import Attribute, Evidence, Finding, Measurement, Region
from polyclinic.core.guidelines.lung_rads_v2022 import ID
from polyclinic.core.guidelines.lung_rads_v2022_rows import GROWTH_SOURCE
from polyclinic_agents.chest_ct.earlier import Followed, Gone
from polyclinic_agents.chest_ct.matching import (
    VOLUME_CHANGE_PERCENT,
    Change,
    Seen,
    change_of,
    doubling_days,
    volume_change_percent,
)
from polyclinic_agents.chest_ct.origin import Origin
from polyclinic_agents.chest_ct.priors import Comparison
from polyclinic_agents.chest_ct.proposals import SITES, placed
from polyclinic_agents.chest_ct.scan import Scan

HIDDEN_SHARE = 1.0
"""A nodule smaller than the earlier slices are thick, times this, may have been there unseen."""
THICKNESS_RATIO = 1.5
"""Slices that differ more than this change what is measured."""
_AGAIN = "measured anew on the earlier study with the same method"
_CODES = {
    Change.NEW: codes.NODULE_NEW,
    Change.GROWN: codes.NODULE_GROWN,
    Change.STABLE: codes.NODULE_STABLE,
    Change.DECREASED: codes.NODULE_DECREASED,
}


def with_changes(findings: Sequence[Finding], comparison: Comparison, scan: Scan) -> tuple[Finding, ...]:
    """The nodules' findings, in the order in which they were compared, with their change."""
    return tuple(
        _with_change(finding, followed, comparison, scan)
        for finding, followed in zip(findings, comparison.followed, strict=True)
    )


def _with_change(finding: Finding, followed: Followed, comparison: Comparison, scan: Scan) -> Finding:
    own = list(finding.limits)
    if followed.before is None:
        change = _when_unseen(finding, followed, comparison, own)
        return replace(finding, limits=tuple(own), attributes=(*finding.attributes, *_attribute(change)))
    before = followed.before
    now_mm = _value(finding, codes.MEAN_DIAMETER)
    change = change_of(now_mm, before.mean_mm)
    thickness_mm = max(scan.volume.facts.slice_thickness_mm or 0.0, scan.spacing_mm[0])
    one, two = sorted((thickness_mm, comparison.thickness_mm))
    if two > THICKNESS_RATIO * one:
        own.append(f"Slices of {thickness_mm:.1f} mm are compared with slices of {comparison.thickness_mm:.1f} mm.")
    measurements = [*finding.measurements, *_before(before), *_interval(comparison)]
    if before.volume_mm3:
        now_mm3 = _value(finding, codes.VOLUME)
        percent = volume_change_percent(now_mm3, before.volume_mm3)
        measurements.append(_measured(codes.VOLUME_CHANGE, percent, units.PERCENT, "volume now over volume before"))
        days = doubling_days(now_mm3, before.volume_mm3, comparison.interval_days or 0)
        if days is not None:
            method = "exponential growth between both volumes (Schwartz 1961)"
            measurements.append(_measured(codes.DOUBLING_TIME, days, units.DAY, method))
        if change is Change.STABLE and abs(percent) >= VOLUME_CHANGE_PERCENT:
            own.append(
                "Stable by diameter, but the volume changed by more than the 25 % that are commonly taken as the error "
                "of measuring twice."
            )
    rule = GROWTH_SOURCE.rule(f"{ID}.growth", change.value)
    evidence = replace(
        finding.evidence,
        rules=(*finding.evidence.rules, rule),
        prior_finding_ids=(before.finding_id,) if before.finding_id else (),
    )
    return replace(
        finding,
        limits=tuple(own),
        measurements=tuple(measurements),
        attributes=(*finding.attributes, *_attribute(change)),
        evidence=evidence,
    )


def _when_unseen(finding: Finding, followed: Followed, comparison: Comparison, own: list[str]) -> Change | None:
    """New, or nothing where it may have been there unseen; the reason goes to `own`."""
    if not followed.certain:
        own.append("It could not be compared: its place on the earlier study is not certain.")
        return None
    if _value(finding, codes.MEAN_DIAMETER) < HIDDEN_SHARE * comparison.thickness_mm:
        own.append("It could not be compared: it is smaller than the slices of the earlier study are thick.")
        return None
    return Change.NEW


def gone_findings(comparison: Comparison, scan: Scan, origin: Origin) -> tuple[Finding, ...]:
    """One finding for each nodule of the earlier study that is no longer seen, at its place on this scan."""
    return tuple(_gone(one, comparison, scan, origin) for one in comparison.gone)


def _gone(one: Gone, comparison: Comparison, scan: Scan, origin: Origin) -> Finding:
    centre = placed(scan.to_patient(np.asarray(one.index)))
    site, side = SITES[one.lung]
    image = min(max(round(float(scan.to_source(one.index)[0])), 0), len(scan.volume.images) - 1)
    return Finding(
        id=origin.id("chest-ct-resolved-nodule", *(f"{value:.1f}" for value in centre)),
        study_instance_uid=origin.study_instance_uid,
        code=codes.RESOLVED_NODULE,
        source=origin.source,
        body_site=site,
        laterality=side,
        region=Region(frame_of_reference_uid=scan.geometry.frame_of_reference_uid, centre_mm=centre),
        measurements=(*_before(one.before), *_interval(comparison)),
        confidence=round(one.before.confidence, 3) if not one.before.finding_id else None,
        evidence=Evidence(
            images=(scan.volume.images[image],),
            prior_finding_ids=(one.before.finding_id,) if one.before.finding_id else (),
        ),
    )


def _before(before: Seen) -> list[Measurement]:
    found = [_measured(codes.PRIOR_MEAN_DIAMETER, before.mean_mm, units.MILLIMETRE, _AGAIN)]
    if before.volume_mm3:
        found.append(_measured(codes.PRIOR_VOLUME, before.volume_mm3, units.CUBIC_MILLIMETRE, _AGAIN))
    return found


def _interval(comparison: Comparison) -> list[Measurement]:
    if comparison.interval_days is None:
        return []
    return [_measured(codes.PRIOR_INTERVAL, comparison.interval_days, units.DAY, "days between the study dates")]


def _attribute(change: Change | None) -> tuple[Attribute, ...]:
    return () if change is None else (Attribute(code=codes.NODULE_CHANGE, value=_CODES[change]),)


def _measured(code: Code, value: float, unit: str, method: str) -> Measurement:
    return Measurement(code=code, value=round(float(value), 1), unit=unit, method=method)


def _value(finding: Finding, code: Code) -> float:
    measurement = finding.measurement(code)
    assert measurement is not None  # every nodule of this agent is measured
    return measurement.value

"""What a nodule did since the earlier study, from its measurements as they stand. Pure.

The verdict is taken anew from both mean diameters, so that it follows when a reader corrects one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from polyclinic.core import codes
from polyclinic.core.codes import Code
from polyclinic.core.findings import Finding
from polyclinic.core.guidelines import lung_rads_v2022 as lung_rads
from polyclinic.core.guidelines.nodule import NoduleKind, round_half_up

DAYS_A_MONTH = 365.25 / 12


class Since(StrEnum):
    """Change since the earlier study; decreased and stable are one row in Lung-RADS v2022."""

    NEW = "new"
    GROWN = "grown"
    DECREASED = "decreased"
    STABLE = "stable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A nodule beside its earlier self. What was not measured is None; a new one has no earlier size."""

    since: Since
    before_mm: float | None = None
    before_mm3: float | None = None
    now_mm3: float | None = None
    volume_percent: float | None = None
    interval_days: float | None = None
    doubling_days: float | None = None


HISTORY = (
    codes.PRIOR_MEAN_DIAMETER,
    codes.PRIOR_VOLUME,
    codes.PRIOR_INTERVAL,
    codes.VOLUME_CHANGE,
    codes.DOUBLING_TIME,
)
"""Measurements that a report tells in the sentence about change."""


def followed(finding: Finding, mean_mm: float | None) -> Followed | None:
    """What is known of the nodule's past; None when it was not compared.

    Parameters
    ----------
    mean_mm
        Its mean diameter now, to 0.1 mm.
    """
    before_mm = _value(finding, codes.PRIOR_MEAN_DIAMETER)
    if before_mm is None or mean_mm is None:
        said = finding.attribute(codes.NODULE_CHANGE)
        return Followed(since=Since.NEW) if said is not None and said.same_as(codes.NODULE_NEW) else None
    step = round(mean_mm - round_half_up(before_mm, "0.1"), 6)
    grown, shrunk = step > lung_rads.GROWTH_MM, step < -lung_rads.GROWTH_MM
    return Followed(
        since=Since.GROWN if grown else Since.DECREASED if shrunk else Since.STABLE,
        before_mm=before_mm,
        before_mm3=_value(finding, codes.PRIOR_VOLUME),
        now_mm3=_value(finding, codes.VOLUME),
        volume_percent=_value(finding, codes.VOLUME_CHANGE),
        interval_days=_value(finding, codes.PRIOR_INTERVAL),
        doubling_days=_value(finding, codes.DOUBLING_TIME),
    )


def lung_rads_change(past: Followed | None, kind: NoduleKind, now_mm: float) -> lung_rads.Change | None:
    """The change as Lung-RADS v2022 names it; None where more than 12 months leave growth undetermined (note 6).

    Exams are scheduled in whole months, so the interval counts in whole months.
    """
    if past is None:
        return lung_rads.Change.BASELINE
    if past.since is Since.NEW or past.before_mm is None:
        return lung_rads.Change.NEW
    if past.since is Since.GROWN:
        months = max(1, round(past.interval_days / DAYS_A_MONTH)) if past.interval_days else None
        if months is None:
            return None
        grew = lung_rads.growth(earlier_mm=past.before_mm, now_mm=now_mm, months=months)
        return lung_rads.Change.GROWING if grew is lung_rads.Growth.YES else None
    higher = kind is not NoduleKind.PART_SOLID and _rank(kind, now_mm) > _rank(kind, past.before_mm)
    return lung_rads.Change.ENLARGED if higher else lung_rads.Change.STABLE


def _rank(kind: NoduleKind, mean_mm: float) -> int:
    """Of the category by size alone."""
    category = lung_rads.classify(lung_rads.Nodule(kind=kind, mean_diameter_mm=mean_mm)).category
    return category.rank if category else 0


def _value(finding: Finding, code: Code) -> float | None:
    measurement = finding.measurement(code)
    return measurement.value if measurement is not None else None

"""Which nodule of this scan is which of the earlier one, and how it changed.

Growth is that of Lung-RADS v2022 note 6: the mean diameter by more than 1.5 mm. The same step downwards counts as
decreased, which is this agent's reading; the guideline puts stable and decreased into one row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.optimize import linear_sum_assignment

from polyclinic.core.guidelines.lung_rads_v2022 import GROWTH_MM
from polyclinic.core.guidelines.nodule import round_half_up
from polyclinic.core.guidelines.volume_doubling import volume_doubling_days
from polyclinic_agents.chest_ct.scan import FloatArray

VOLUME_CHANGE_PERCENT = 25.0
"""Commonly taken as the error of measuring a volume twice (BTS guideline 2015, NELSON). Their primary text was not
read, so it never decides; a change beyond it is pointed out."""
GATE_MM, GATE_PER_RESIDUAL, GATE_PER_DIAMETER = 3.0, 1.5, 0.25
"""A place is searched within a fixed reach, the error of the registration, and the way that growth moves a middle."""
MAX_RATIO, MAX_UNLIKELY_RATIO = 4.0, 1.6
"""Of two diameters; the second where the earlier one looks more like a vessel."""
LIKELY_FROM = 0.25
SIZE_COST = 0.8
"""Cost of a diameter ratio of e, in gates."""
FORBIDDEN = 1e6


class Change(StrEnum):
    NEW = "new"
    GROWN = "grown"
    STABLE = "stable"
    DECREASED = "decreased"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """A nodule on one of the two scans, at a place of the earlier one (LPS mm)."""

    place_mm: FloatArray
    mean_mm: float
    """Mean of long and short axis."""
    volume_mm3: float | None
    """None where a reader measured diameters only."""
    confidence: float
    finding_id: str = ""
    """Of the signed finding on the earlier study."""


def gate_mm(residual_mm: float, diameter_mm: float) -> float:
    """How far from its mapped place a nodule of that diameter is looked for."""
    return GATE_MM + GATE_PER_RESIDUAL * residual_mm + GATE_PER_DIAMETER * diameter_mm


def pair(now: Sequence[Seen], before: Sequence[Seen], residual_mm: float) -> dict[int, int]:
    """Index in `now` -> index in `before`, one to one, at the least total cost of distance and size."""
    if not now or not before:
        return {}
    # One more column for each nodule that stays alone: dearer than any pair that is allowed.
    costs = np.full((len(now), len(before) + len(now)), FORBIDDEN / 2)
    for row, one in enumerate(now):
        for column, other in enumerate(before):
            costs[row, column] = _cost(one, other, residual_mm)
    rows, columns = linear_sum_assignment(costs)
    return {
        int(row): int(column)
        for row, column in zip(rows, columns, strict=True)
        if column < len(before) and costs[row, column] < FORBIDDEN / 2
    }


def _cost(one: Seen, other: Seen, residual_mm: float) -> float:
    gate = gate_mm(residual_mm, max(one.mean_mm, other.mean_mm))
    away = float(np.linalg.norm(one.place_mm - other.place_mm)) / gate
    ratio = max(one.mean_mm / other.mean_mm, other.mean_mm / one.mean_mm)
    unlikely = other.confidence < LIKELY_FROM
    if away > 1.0 or ratio > (MAX_UNLIKELY_RATIO if unlikely else MAX_RATIO) or (unlikely and away > 0.5):
        return FORBIDDEN
    return away + SIZE_COST * math.log(ratio)


def change_of(now_mm: float, before_mm: float) -> Change:
    """By mean diameters to 0.1 mm."""
    step = round(round_half_up(now_mm, "0.1") - round_half_up(before_mm, "0.1"), 6)
    if step > GROWTH_MM:
        return Change.GROWN
    return Change.DECREASED if step < -GROWTH_MM else Change.STABLE


def volume_change_percent(now_mm3: float, before_mm3: float) -> float:
    return 100.0 * (now_mm3 / before_mm3 - 1.0)


def doubling_days(now_mm3: float, before_mm3: float, interval_days: int) -> float | None:
    """None where the volume did not grow beyond `VOLUME_CHANGE_PERCENT`: it would be a number out of noise."""
    if interval_days <= 0 or volume_change_percent(now_mm3, before_mm3) < VOLUME_CHANGE_PERCENT:
        return None
    return volume_doubling_days(first_mm3=before_mm3, second_mm3=now_mm3, interval_days=interval_days)

"""Published limits of single measurements on chest CT: each a row with the study that set it and what it showed.

A limit says on which side of it a value lies and what that meant in its study; it is no diagnosis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from polyclinic.core.findings import Rule
from polyclinic.core.guidelines.nodule import invalid
from polyclinic.core.guidelines.source import Advice, Checked, Provenance, Source
from polyclinic.core.units import HOUNSFIELD, MILLIMETRE, NO_UNIT

ID = "reference-limits"


class Quantity(StrEnum):
    """What is measured, named with its unit where it has one."""

    L1_TRABECULAR_HU = "L1 trabecular attenuation"
    MAIN_PULMONARY_ARTERY_MM = "main pulmonary artery diameter"
    PULMONARY_ARTERY_RATIO = "main pulmonary artery to ascending aorta ratio"
    ASCENDING_AORTA_MM = "ascending aorta diameter"
    LIVER_HU = "liver attenuation without contrast medium"


UNITS: dict[Quantity, str] = {
    Quantity.L1_TRABECULAR_HU: HOUNSFIELD,
    Quantity.MAIN_PULMONARY_ARTERY_MM: MILLIMETRE,
    Quantity.PULMONARY_ARTERY_RATIO: NO_UNIT,
    Quantity.ASCENDING_AORTA_MM: MILLIMETRE,
    Quantity.LIVER_HU: HOUNSFIELD,
}


class Side(StrEnum):
    """Where values beyond the limit lie; the limit itself belongs to them where `Row.inclusive`."""

    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One limit. Of several rows for a quantity, the first that a value passes holds: sort the severest first."""

    id: str
    quantity: Quantity
    side: Side
    limit: float
    inclusive: bool
    sex: str
    """``M``, ``F``, or empty for everybody."""
    meaning: Advice
    source: Source

    def passed_by(self, value: float) -> bool:
        """Whether the value lies beyond the limit."""
        if value == self.limit:
            return self.inclusive
        return value > self.limit if self.side is Side.ABOVE else value < self.limit


_PICKHARDT_BONE = "Pickhardt PJ et al., Ann Intern Med 2013;158:588-595"
_TRUONG = "Truong QA et al., Circ Cardiovasc Imaging 2012;5:147-154, doi:10.1161/CIRCIMAGING.111.968610"
_PICKHARDT_LIVER = "Pickhardt PJ et al., Eur Radiol 2012;22:1075-1082, doi:10.1007/s00330-011-2349-2"
_ESC_AORTA = "Erbel R et al. (ESC guidelines on aortic diseases), Eur Heart J 2014;35:2873-2926"

_WIDE_ARTERY = Advice(
    code="wide-pulmonary-artery",
    english="wider than the 90th percentile of healthy people of the same sex",
    chinese="超过同性别健康人群第90百分位",
)

ROWS: tuple[Row, ...] = (
    Row(
        id="bone-l1-110", quantity=Quantity.L1_TRABECULAR_HU, side=Side.BELOW, limit=110, inclusive=True, sex="",
        meaning=Advice(
            code="osteoporosis-likely",
            english="at or below the threshold that was more than 90% specific for osteoporosis by DXA",
            chinese="不高于DXA骨质疏松特异度超过90%的阈值",
        ),
        source=Source(citation=_PICKHARDT_BONE, place="abstract, L1 threshold 110 HU"),
    ),
    Row(
        id="bone-l1-160", quantity=Quantity.L1_TRABECULAR_HU, side=Side.BELOW, limit=160, inclusive=True, sex="",
        meaning=Advice(
            code="osteoporosis-not-excluded",
            english="at or below the threshold that was 90% sensitive for osteoporosis by DXA",
            chinese="不高于DXA骨质疏松敏感度90%的阈值",
        ),
        source=Source(citation=_PICKHARDT_BONE, place="abstract, L1 threshold 160 HU"),
    ),
    Row(
        id="pulmonary-artery-men", quantity=Quantity.MAIN_PULMONARY_ARTERY_MM, side=Side.ABOVE, limit=29,
        inclusive=False, sex="M", meaning=_WIDE_ARTERY, source=Source(citation=_TRUONG, place="abstract, men 29 mm"),
    ),
    Row(
        id="pulmonary-artery-women", quantity=Quantity.MAIN_PULMONARY_ARTERY_MM, side=Side.ABOVE, limit=27,
        inclusive=False, sex="F", meaning=_WIDE_ARTERY, source=Source(citation=_TRUONG, place="abstract, women 27 mm"),
    ),
    Row(
        id="pulmonary-artery-ratio", quantity=Quantity.PULMONARY_ARTERY_RATIO, side=Side.ABOVE, limit=0.9,
        inclusive=False, sex="",
        meaning=Advice(
            code="wide-pulmonary-artery-ratio",
            english="above the 90th percentile of healthy people",
            chinese="超过健康人群第90百分位",
        ),
        source=Source(citation=_TRUONG, place="abstract, ratio 0.9"),
    ),
    Row(
        id="ascending-aorta", quantity=Quantity.ASCENDING_AORTA_MM, side=Side.ABOVE, limit=40, inclusive=False, sex="",
        meaning=Advice(
            code="wide-ascending-aorta",
            english="above what is taken as the upper limit in healthy adults",
            chinese="超过健康成人上限",
        ),
        source=Source(citation=_ESC_AORTA, place="healthy adults, 40 mm"),
    ),
    Row(
        id="liver-48", quantity=Quantity.LIVER_HU, side=Side.BELOW, limit=48, inclusive=False, sex="",
        meaning=Advice(
            code="steatosis-likely",
            english="below the threshold that was 100% specific for moderate to severe steatosis at biopsy",
            chinese="低于活检中重度脂肪变性特异度100%的阈值",
        ),
        source=Source(citation=_PICKHARDT_LIVER, place="abstract, threshold 48 HU"),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Where a value lies among the limits of its quantity; `row` is None when it passes none of them."""

    compared_with: tuple[Row, ...]
    row: Row | None

    @property
    def rule(self) -> Rule | None:
        """The evidence a Finding keeps; None when no limit applies to the person."""
        if self.row is not None:
            return self.row.source.rule(f"{ID}:{self.row.id}", self.row.meaning.english)
        if self.compared_with:
            last = self.compared_with[-1]
            return last.source.rule(f"{ID}:{last.id}", "within the limit")
        return None


def judge(quantity: Quantity, value: float, *, sex: str = "") -> Judged:
    """Compare a value in the unit of `UNITS` with the limits of its quantity.

    Parameters
    ----------
    sex
        ``M`` or ``F``; limits for one sex are left out where it is not known.

    Raises
    ------
    Rejected
        ``guideline.input`` when the value is not a finite number.
    """
    if not math.isfinite(value):
        raise invalid("A measurement is a finite number.")
    rows = rows_of(quantity, sex)
    return Judged(compared_with=tuple(rows), row=next((row for row in rows if row.passed_by(value)), None))


def rows_of(quantity: Quantity, sex: str = "") -> Sequence[Row]:
    """The limits of a quantity that apply to a person."""
    return [row for row in ROWS if row.quantity is quantity and row.sex in ("", sex)]


PROVENANCE = Provenance(
    title="Limits of single measurements",
    citation="each row names its study",
    checked=(
        Checked(what="L1 attenuation of 110 and 160 HU", against="abstract of the article as published"),
        Checked(what="pulmonary artery of 29 and 27 mm, ratio of 0.9", against="abstract of the article as published"),
        Checked(what="liver of 48 HU", against="abstract of the article as published"),
        Checked(
            what="ascending aorta of 40 mm",
            against="introduction of an article that cites it (Eur Radiol 2019, doi:10.1007/s00330-019-06433-z)",
        ),
        Checked(what="full texts; the ESC guideline itself", against="**not read**: no copy was at hand"),
    ),
    readings=(
        "The bone thresholds were set at L1; the value of another vertebra is a hint only, and its finding says so.",
        "The pulmonary artery is compared with the rounded limits that the study proposes; the limit itself is within.",
        "The liver threshold holds without contrast medium only.",
    ),
    left_out=(
        "Age-specific limits of pulmonary artery and aorta, limits by body surface: their tables were not read.",
        "Liver to spleen ratios: no primary source was read.",
    ),
)  # fmt: skip

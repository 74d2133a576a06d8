"""Fleischner Society 2017: follow-up of a nodule found incidentally on CT of an adult."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from polyclinic.core.findings import Rule
from polyclinic.core.guidelines.nodule import (
    ANY_SIZE,
    Band,
    NoduleKind,
    Size,
    Threshold,
    invalid,
    round_half_up,
)
from polyclinic.core.guidelines.source import Advice, Checked, Provenance, Source

ID = "fleischner-2017"
CITATION = "MacMahon H et al., Radiology 2017;284:228-243, doi:10.1148/radiol.2017161659"
MEASURING_CITATION = "Bankier AA et al., Radiology 2017;285:584-600, doi:10.1148/radiol.2017162894"
YOUNGEST_YEARS = 35
SIZE_CHANGE_MM = 2


class Risk(StrEnum):
    """Estimated risk of lung cancer; it decides only between rows of solid nodules."""

    LOW = "low"
    HIGH = "high"


class Exclusion(StrEnum):
    """Whom the guideline does not address."""

    UNDER_35 = "younger than 35 years"
    KNOWN_CANCER = "known primary cancer"
    IMMUNOSUPPRESSED = "immunosuppression"
    SCREENING = "lung cancer screening"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """What decides whether the guideline applies."""

    age_years: float
    known_cancer: bool = False
    immunosuppressed: bool = False
    in_screening: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.age_years) and self.age_years >= 0):
            raise invalid("Age in years is a finite number, not negative.")

    @property
    def exclusions(self) -> tuple[Exclusion, ...]:
        """Every reason for which the guideline does not apply."""
        reasons = (
            (self.age_years < YOUNGEST_YEARS, Exclusion.UNDER_35),
            (self.known_cancer, Exclusion.KNOWN_CANCER),
            (self.immunosuppressed, Exclusion.IMMUNOSUPPRESSED),
            (self.in_screening, Exclusion.SCREENING),
        )
        return tuple(reason for holds, reason in reasons if holds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodule:
    """The nodule that guides management: the only one, or the most suspicious of several."""

    kind: NoduleKind
    risk: Risk
    mean_diameter_mm: float | None = None
    volume_mm3: float | None = None
    multiple: bool = False
    typical_lymph_node: bool = False
    """Solid, perifissural or juxtapleural, of a shape consistent with an intrapulmonary lymph node, not spiculated and
    not displacing the fissure."""

    def __post_init__(self) -> None:
        Size.measured(diameter_mm=self.mean_diameter_mm, volume_mm3=self.volume_mm3)
        if self.typical_lymph_node and self.kind is not NoduleKind.SOLID:
            raise invalid("An intrapulmonary lymph node is solid.")

    @property
    def size(self) -> Size:
        """The size as reported: diameter to 1 mm; a volume as measured."""
        return Size(diameter_mm=self.mean_diameter_mm, volume_mm3=self.volume_mm3).rounded(mm="1", mm3=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    id: str
    source: Source
    kinds: tuple[NoduleKind, ...]
    multiple: tuple[bool, ...]
    risks: tuple[Risk, ...]
    size: Band
    advice: Advice
    first_ct_months: tuple[int, int] | None
    """Earliest and latest month of the first follow-up CT; None when none is advised."""
    lymph_node: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """`row` is None, and `exclusions` says why, when the guideline does not apply."""

    row: Row | None
    exclusions: tuple[Exclusion, ...]
    rule: Rule
    advice: Advice


_TABLE = Source(citation=CITATION, place="Table 1, solid nodules")
_TABLE_SUBSOLID = Source(citation=CITATION, place="Table 1, subsolid nodules")
_LYMPH_NODE = Source(citation=CITATION, place="perifissural nodules")
SCOPE = Source(citation=CITATION, place="scope of the recommendations")
MEASURING = Source(citation=MEASURING_CITATION, place="recommendations on measuring and rounding")

T6 = Threshold(mm=6, mm3=100)
T8 = Threshold(mm=8, mm3=250)
_LT6 = Band(high=T6)
_GE6 = Band(low=T6)
_6TO8 = Band(low=T6, high=T8, high_belongs=True)
_GT8 = Band(low=T8, low_belongs=False)

_SOLID, _PART, _GLASS = ((kind,) for kind in NoduleKind)
_SUBSOLID = (*_PART, *_GLASS)
_ONE, _MANY = (False,), (True,)
_LOW, _HIGH, _ANY_RISK = (Risk.LOW,), (Risk.HIGH,), tuple(Risk)

NO_FOLLOW_UP = Advice(code="no-routine-follow-up", english="No routine follow-up.", chinese="无需常规随访。")
_OPTIONAL_12 = Advice(
    code="optional-ct-12-months", english="Optional CT at 12 months.", chinese="可选择 12 个月后复查 CT。"
)
_6_12_CONSIDER = Advice(
    code="ct-6-12-consider-18-24",
    english="CT at 6 to 12 months, then consider CT at 18 to 24 months.",
    chinese="6–12 个月复查 CT，之后可考虑 18–24 个月再查。",
)
_6_12_THEN = Advice(
    code="ct-6-12-then-18-24",
    english="CT at 6 to 12 months, then CT at 18 to 24 months.",
    chinese="6–12 个月复查 CT，18–24 个月再查。",
)
_3_PET_TISSUE = Advice(
    code="consider-3-month-ct-pet-tissue",
    english="Consider CT at 3 months, PET/CT or tissue sampling.",
    chinese="考虑 3 个月复查 CT、PET/CT 或组织取样。",
)
_3_6_CONSIDER = Advice(
    code="ct-3-6-consider-18-24",
    english="CT at 3 to 6 months, then consider CT at 18 to 24 months.",
    chinese="3–6 个月复查 CT，之后可考虑 18–24 个月再查。",
)
_3_6_THEN = Advice(
    code="ct-3-6-then-18-24",
    english="CT at 3 to 6 months, then CT at 18 to 24 months.",
    chinese="3–6 个月复查 CT，18–24 个月再查。",
)
_GLASS_FOLLOW = Advice(
    code="ct-6-12-then-every-2-years",
    english="CT at 6 to 12 months to see whether it persists, then every 2 years until 5 years.",
    chinese="6–12 个月复查 CT 确认是否持续存在，之后每 2 年一次至满 5 年。",
)
_PART_FOLLOW = Advice(
    code="ct-3-6-then-yearly",
    english=(
        "CT at 3 to 6 months to see whether it persists; if unchanged with a solid component under 6 mm, yearly CT "
        "for 5 years. A persistent solid component of 6 mm or more is highly suspicious."
    ),
    chinese=(
        "3–6 个月复查 CT 确认是否持续存在；若无变化且实性成分 <6 mm，每年复查至满 5 年。"
        "持续存在且实性成分 ≥6 mm 者高度可疑。"
    ),
)
_MANY_SMALL = Advice(
    code="ct-3-6-consider-2-and-4-years",
    english="CT at 3 to 6 months; if stable, consider CT at 2 and 4 years.",
    chinese="3–6 个月复查 CT；若稳定，可考虑 2 年和 4 年时再查。",
)
_MANY_LARGE = Advice(
    code="ct-3-6-most-suspicious",
    english="CT at 3 to 6 months, then according to the most suspicious nodule.",
    chinese="3–6 个月复查 CT，之后按最可疑结节处理。",
)
NOT_APPLICABLE = Advice(
    code="not-applicable",
    english="The Fleischner 2017 recommendations do not apply to this patient.",
    chinese="Fleischner 2017 指南不适用于该患者。",
)


def _row(
    row_id: str,
    kinds: tuple[NoduleKind, ...],
    multiple: tuple[bool, ...],
    risks: tuple[Risk, ...],
    size: Band,
    *,
    advice: Advice,
    first: tuple[int, int] | None,
) -> Row:
    return Row(
        id=row_id,
        source=_TABLE if kinds == _SOLID else _TABLE_SUBSOLID,
        kinds=kinds,
        multiple=multiple,
        risks=risks,
        size=size,
        advice=advice,
        first_ct_months=first,
    )


ROWS: tuple[Row, ...] = (
    Row(
        id="typical-lymph-node",
        source=_LYMPH_NODE,
        kinds=_SOLID,
        multiple=(False, True),
        risks=_ANY_RISK,
        size=ANY_SIZE,
        advice=NO_FOLLOW_UP,
        first_ct_months=None,
        lymph_node=True,
    ),
    _row("solid-single-lt6-low", _SOLID, _ONE, _LOW, _LT6, advice=NO_FOLLOW_UP, first=None),
    _row("solid-single-lt6-high", _SOLID, _ONE, _HIGH, _LT6, advice=_OPTIONAL_12, first=(12, 12)),
    _row("solid-single-6to8-low", _SOLID, _ONE, _LOW, _6TO8, advice=_6_12_CONSIDER, first=(6, 12)),
    _row("solid-single-6to8-high", _SOLID, _ONE, _HIGH, _6TO8, advice=_6_12_THEN, first=(6, 12)),
    _row("solid-single-gt8", _SOLID, _ONE, _ANY_RISK, _GT8, advice=_3_PET_TISSUE, first=(3, 3)),
    _row("solid-multiple-lt6-low", _SOLID, _MANY, _LOW, _LT6, advice=NO_FOLLOW_UP, first=None),
    _row("solid-multiple-lt6-high", _SOLID, _MANY, _HIGH, _LT6, advice=_OPTIONAL_12, first=(12, 12)),
    _row("solid-multiple-6to8-low", _SOLID, _MANY, _LOW, _6TO8, advice=_3_6_CONSIDER, first=(3, 6)),
    _row("solid-multiple-6to8-high", _SOLID, _MANY, _HIGH, _6TO8, advice=_3_6_THEN, first=(3, 6)),
    _row("solid-multiple-gt8-low", _SOLID, _MANY, _LOW, _GT8, advice=_3_6_CONSIDER, first=(3, 6)),
    _row("solid-multiple-gt8-high", _SOLID, _MANY, _HIGH, _GT8, advice=_3_6_THEN, first=(3, 6)),
    _row("ground-glass-single-lt6", _GLASS, _ONE, _ANY_RISK, _LT6, advice=NO_FOLLOW_UP, first=None),
    _row("ground-glass-single-ge6", _GLASS, _ONE, _ANY_RISK, _GE6, advice=_GLASS_FOLLOW, first=(6, 12)),
    _row("part-solid-single-lt6", _PART, _ONE, _ANY_RISK, _LT6, advice=NO_FOLLOW_UP, first=None),
    _row("part-solid-single-ge6", _PART, _ONE, _ANY_RISK, _GE6, advice=_PART_FOLLOW, first=(3, 6)),
    _row("subsolid-multiple-lt6", _SUBSOLID, _MANY, _ANY_RISK, _LT6, advice=_MANY_SMALL, first=(3, 6)),
    _row("subsolid-multiple-ge6", _SUBSOLID, _MANY, _ANY_RISK, _GE6, advice=_MANY_LARGE, first=(3, 6)),
)


def mean_diameter_mm(long_axis_mm: float, short_axis_mm: float) -> float:
    """Mean of long and short axis to the nearest millimetre, rounded once (Bankier 2017)."""
    return round_half_up(round((long_axis_mm + short_axis_mm) / 2, 6), "1")


def size_changed(*, earlier_mm: float, now_mm: float) -> bool:
    """Whether mean diameters differ by at least 2 mm, each to the nearest millimetre (Bankier 2017)."""
    return abs(round_half_up(now_mm, "1") - round_half_up(earlier_mm, "1")) >= SIZE_CHANGE_MM


def fits(row: Row, nodule: Nodule) -> bool:
    """Whether the row is the nodule's row; exactly one is."""
    if row.lymph_node or nodule.typical_lymph_node:
        return row.lymph_node and nodule.typical_lymph_node
    return (
        nodule.kind in row.kinds
        and nodule.multiple in row.multiple
        and nodule.risk in row.risks
        and row.size.contains(nodule.size)
    )


def recommend(nodule: Nodule, patient: Patient) -> Recommendation:
    """The recommended follow-up of one incidental nodule, or why the guideline does not apply."""
    if patient.exclusions:
        rule = SCOPE.rule(f"{ID}.not-applicable", f"not applicable: {', '.join(patient.exclusions)}")
        return Recommendation(row=None, exclusions=patient.exclusions, rule=rule, advice=NOT_APPLICABLE)
    row = next(row for row in ROWS if fits(row, nodule))
    rule = row.source.rule(f"{ID}.{row.id}", row.advice.code)
    return Recommendation(row=row, exclusions=(), rule=rule, advice=row.advice)


PROVENANCE = Provenance(
    title="Fleischner Society 2017",
    citation=f"{CITATION}; measuring: {MEASURING_CITATION}.",
    checked=(
        Checked(
            what="every row of the table, sizes in mm and mm³, low and high risk",
            against=(
                "“Fleischner Society Guidelines for Management of Incidental Pulmonary Nodules” (radiology.ae) and "
                "“Fleischner Society pulmonary nodule recommendations” (Radiopaedia, revision of 2022-11-01), which "
                "agree; also the subsolid table in PMC7177089, Table 2"
            ),
        ),
        Checked(
            what="intervals of the subsolid rows word for word, and the remark on solid components of 6 mm or more",
            against="an open-source audit of the printed table against the journal’s PDF, and two implementations",
        ),
        Checked(
            what="who is excluded",
            against="the same two reproductions and a third summary of the article",
        ),
        Checked(
            what="rounding to whole millimetres, change from 2 mm, perifissural nodules",
            against="two open-source reference texts that state the measuring rules; the lymph-node rule in one of "
            "them",
        ),
        Checked(what="both articles in full", against="**not read** beyond abstract and introduction"),
    ),
    readings=(
        "6 and 8 mm belong to the row “6-8 mm”, so do 100 and 250 mm³.",
        "The mean of both axes is rounded once; rounding the axes first would move nodules across a border by "
        "rounding alone.",
        "A volume is compared as measured; the copies read give no rounding for volumes.",
        "Risk counts only for solid nodules, as in the table.",
        "The row for several nodules is entered with the most suspicious nodule.",
    ),
    left_out=(
        "Selected suspicious subsolid nodules just under 6 mm (optional CT at 2 and 4 years): a reader’s judgement.",
        "Perifissural nodules that are spiculated, displace the fissure or belong to a patient with cancer: not a "
        "lymph node by this table, and with known cancer the guideline does not apply.",
        "What makes a patient high risk: the article names factors, no score; the caller decides.",
        "Nodules on incomplete chest CT (neck, abdomen): other rows of the article, found in one secondary source "
        "only.",
    ),
)

"""What the nodule guidelines say about the nodules that count. Pure; the words are made in `guidance`.

The software does not know why the examination was made, so both results are conditional: Lung-RADS v2022 holds for a
lung cancer screening examination, without an earlier one or compared with it, Fleischner 2017 for an incidental nodule.
What the tables ask for and nobody measured is not guessed: such a nodule stays without category and says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from polyclinic.core import codes
from polyclinic.core.codes import Code
from polyclinic.core.findings import Finding, Rule
from polyclinic.core.guidelines import fleischner_2017 as fleischner
from polyclinic.core.guidelines import lung_rads_v2022 as lung_rads
from polyclinic.core.guidelines.lung_rads_v2022_rows import CITATION, NODULE_ROWS, Category
from polyclinic.core.guidelines.nodule import NoduleKind, kind_of, round_half_up
from polyclinic.core.guidelines.source import Advice, Source
from polyclinic.core.units import MILLIMETRE
from polyclinic.departments.reading.comparison_rules import Since, followed, lung_rads_change


class Gap(StrEnum):
    """Why a nodule has no category."""

    CALCIFIED = "calcified"
    """Only some patterns of calcification are benign, and the pattern is not known."""
    SIZE = "size"
    ATTENUATION = "attenuation"
    SOLID_COMPONENT = "solid-component"
    COMPONENT_CHANGE = "component-change"
    """The nodule was there before; whether its solid component grew is not known."""
    INTERVAL = "interval"
    """It grew over more than the 12 months for which growth is defined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclassified:
    """Nodules that share a gap."""

    gap: Gap
    finding_ids: tuple[str, ...]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryGroup:
    """The nodules of one Lung-RADS category."""

    category: Category
    finding_ids: tuple[str, ...]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreeningAdvice:
    """Lung-RADS v2022: at baseline, or by the change since an earlier study where it was compared."""

    groups: tuple[CategoryGroup, ...]
    """The most suspicious first; the first one decides the exam."""
    category: Category
    at_least: bool
    """Whether a nodule without category could make the exam's category higher."""
    advice: Advice
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentalAdvice:
    """Fleischner 2017; the risk is not known, so there is advice for both. `guiding_id` is the dominant nodule."""

    applies: bool
    finding_ids: tuple[str, ...]
    guiding_id: str
    size_mm: float
    low_risk: Advice
    high_risk: Advice
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoduleAdvice:
    """Results of both guidelines; None where no nodule could be entered."""

    screening: ScreeningAdvice | None
    incidental: IncidentalAdvice | None
    unclassified: tuple[Unclassified, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entered:
    finding_id: str
    assessment: lung_rads.Assessment
    lesion: lung_rads.Nodule

    @property
    def category(self) -> Category:
        """Every row for a nodule gives one."""
        assert self.assessment.category is not None
        return self.assessment.category


_NOT_CLASSIFIED = Source(citation=CITATION, place="assessment table").rule(
    f"{lung_rads.ID}.not-classified", lung_rads.NOT_CLASSIFIED.code
)
_BENIGN_ROW = next(row for row in NODULE_ROWS if row.benign_feature)
_BENIGN_UNKNOWN = _BENIGN_ROW.source.rule(f"{lung_rads.ID}.{_BENIGN_ROW.id}", lung_rads.NOT_CLASSIFIED.code)
_NEVER = (999, 999)
_KINDS_BY_SUSPICION = (NoduleKind.PART_SOLID, NoduleKind.SOLID, NoduleKind.GROUND_GLASS)


def advise(nodules: Sequence[Finding], *, age_years: int | None) -> NoduleAdvice:
    """Both guidelines for all nodules of an examination.

    Parameters
    ----------
    nodules
        Findings of lung nodules that count, in any order.
    age_years
        At the study date; None when it is not known.
    """
    gaps = {f.id: gap for f in nodules if (gap := _gap(f)) is not None}
    return NoduleAdvice(
        screening=_screening(nodules, gaps),
        incidental=_incidental(nodules, age_years),
        unclassified=tuple(
            Unclassified(
                gap=gap,
                finding_ids=tuple(f.id for f in nodules if gaps.get(f.id) is gap),
                rules=(_BENIGN_UNKNOWN if gap is Gap.CALCIFIED else _NOT_CLASSIFIED,),
            )
            for gap in Gap
            if gap in gaps.values()
        ),
    )


def mean_diameter_mm(finding: Finding) -> float | None:
    """Mean of both axes as Lung-RADS v2022 note 4 reports it, else the mean diameter that was measured; to 0.1 mm."""
    mean = _mean_mm(finding, lung_rads.mean_diameter_mm)
    return round_half_up(mean, "0.1") if mean is not None else None


def _mean_mm(finding: Finding, mean_of_axes: Callable[[float, float], float]) -> float | None:
    long_mm, short_mm = _measured_mm(finding, codes.LONG_AXIS), _measured_mm(finding, codes.SHORT_AXIS)
    if long_mm is not None and short_mm is not None:
        return mean_of_axes(long_mm, short_mm) or None
    return _measured_mm(finding, codes.MEAN_DIAMETER)


def _measured_mm(finding: Finding, code: Code) -> float | None:
    measurement = finding.measurement(code)
    if measurement is None or measurement.unit != MILLIMETRE:
        return None
    return measurement.value if math.isfinite(measurement.value) and measurement.value > 0 else None


def _kind(finding: Finding) -> NoduleKind | None:
    attenuation = finding.attribute(codes.NODULE_ATTENUATION)
    return kind_of(attenuation) if attenuation else None


def _calcified(finding: Finding) -> bool:
    attenuation = finding.attribute(codes.NODULE_ATTENUATION)
    return attenuation is not None and attenuation.same_as(codes.CALCIFIED)


def _component_mm(finding: Finding) -> float | None:
    """Mean diameter of the solid component to 0.1 mm; None when it was not measured or is larger than the nodule."""
    component, whole = _measured_mm(finding, codes.SOLID_COMPONENT), mean_diameter_mm(finding)
    if component is None or whole is None:
        return None
    rounded = round_half_up(component, "0.1")
    return rounded if 0 < rounded <= whole else None


def _gap(finding: Finding) -> Gap | None:
    """What keeps a nodule out of Lung-RADS."""
    if _calcified(finding):
        return Gap.CALCIFIED
    if not mean_diameter_mm(finding):
        return Gap.SIZE
    if _kind(finding) is None:
        return Gap.ATTENUATION
    if _kind(finding) is NoduleKind.PART_SOLID and _component_mm(finding) is None:
        return Gap.SOLID_COMPONENT
    return _gap_of_change(finding)


def _gap_of_change(finding: Finding) -> Gap | None:
    size_mm, kind = mean_diameter_mm(finding), _kind(finding)
    past = followed(finding, size_mm)
    if past is None or size_mm is None or kind is None:
        return None
    if kind is NoduleKind.PART_SOLID and past.since is not Since.NEW:
        return Gap.COMPONENT_CHANGE
    return Gap.INTERVAL if lung_rads_change(past, kind, size_mm) is None else None


def _classified(finding: Finding, kind: NoduleKind, component_mm: float | None, *, at_most: bool = False) -> _Entered:
    """`at_most`: what is not known of its past counts as growth."""
    size_mm = mean_diameter_mm(finding)
    change = lung_rads_change(followed(finding, size_mm), kind, size_mm or 0.0) or lung_rads.Change.GROWING
    compared = change not in (lung_rads.Change.BASELINE, lung_rads.Change.NEW)
    lesion = lung_rads.Nodule(
        kind=kind,
        mean_diameter_mm=size_mm,
        solid_component_mm=component_mm if kind is NoduleKind.PART_SOLID else None,
        change=change,
        solid_component_new_or_growing=at_most and compared and kind is NoduleKind.PART_SOLID,
    )
    return _Entered(finding_id=finding.id, assessment=lung_rads.classify(lesion), lesion=lesion)


def _screening(nodules: Sequence[Finding], gaps: dict[str, Gap]) -> ScreeningAdvice | None:
    entered = [
        _classified(f, kind, _component_mm(f)) for f in nodules if f.id not in gaps and (kind := _kind(f)) is not None
    ]
    if not entered:
        return None
    exam = lung_rads.assess_exam(tuple(one.lesion for one in entered))
    reachable = max((_highest(f).rank for f in nodules if f.id in gaps), default=0)
    categories = sorted({one.category for one in entered}, key=lambda category: -category.rank)
    return ScreeningAdvice(
        groups=tuple(_group(category, [e for e in entered if e.category is category]) for category in categories),
        category=exam.category,
        at_least=reachable > exam.category.rank,
        advice=exam.advice,
        rules=exam.rules,
    )


def _group(category: Category, members: Sequence[_Entered]) -> CategoryGroup:
    return CategoryGroup(
        category=category,
        finding_ids=tuple(one.finding_id for one in members),
        rules=tuple(dict.fromkeys(rule for one in members for rule in one.assessment.rules)),
    )


def _highest(finding: Finding) -> Category:
    """The highest category that a nodule with a gap may turn out to have: decides whether the exam's one is certain."""
    size_mm = mean_diameter_mm(finding)
    if not size_mm:
        return Category.VERY_SUSPICIOUS
    kind = _kind(finding)
    # What is calcified, without a benign pattern, is a solid nodule.
    kinds = (NoduleKind.SOLID,) if _calcified(finding) else tuple(NoduleKind) if kind is None else (kind,)
    return max(
        (_classified(finding, kind, size_mm, at_most=True).category for kind in kinds),
        key=lambda category: category.rank,
    )


def _seen_before(finding: Finding) -> bool:
    past = followed(finding, mean_diameter_mm(finding))
    return past is not None and past.since is not Since.NEW


def _incidental(nodules: Sequence[Finding], age_years: int | None) -> IncidentalAdvice | None:
    """The recommendation for the nodule with the earliest follow-up, then the largest.

    Calcified nodules do not count as further nodules, since most are benign; those of unknown type or size do. The
    total size of a part-solid nodule is enough here. A nodule that was there before is no incidental one any more: the
    table is for first detection.
    """
    sizes = {f.id: _mean_mm(f, fleischner.mean_diameter_mm) for f in nodules}
    entered = [f for f in nodules if sizes[f.id] and _kind(f) is not None and not _seen_before(f)]
    if not entered:
        return None
    patient = fleischner.Patient(age_years=fleischner.YOUNGEST_YEARS if age_years is None else age_years)
    several = sum(not _calcified(f) for f in nodules) > 1

    def recommended(finding: Finding, risk: fleischner.Risk) -> fleischner.Recommendation:
        kind = _kind(finding)
        assert kind is not None
        nodule = fleischner.Nodule(kind=kind, risk=risk, mean_diameter_mm=sizes[finding.id], multiple=several)
        return fleischner.recommend(nodule, patient)

    def precedence(finding: Finding) -> tuple[tuple[int, int], float, int, str]:
        row, kind = recommended(finding, fleischner.Risk.HIGH).row, _kind(finding)
        assert kind is not None
        first = (row.first_ct_months if row else None) or _NEVER
        return first, -(sizes[finding.id] or 0.0), _KINDS_BY_SUSPICION.index(kind), finding.id

    guiding = min(entered, key=precedence)
    low, high = recommended(guiding, fleischner.Risk.LOW), recommended(guiding, fleischner.Risk.HIGH)
    return IncidentalAdvice(
        applies=not low.exclusions,
        finding_ids=(guiding.id,) if not low.exclusions else tuple(f.id for f in entered),
        guiding_id=guiding.id,
        size_mm=round_half_up(sizes[guiding.id] or 0.0, "1"),
        low_risk=low.advice,
        high_risk=high.advice,
        rules=tuple(dict.fromkeys((low.rule, high.rule))),
    )

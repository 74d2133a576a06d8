"""ACR Lung-RADS v2022: the category of a lesion on a lung cancer screening CT, and of the exam."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from polyclinic.core.findings import Rule
from polyclinic.core.guidelines.lung_rads_v2022_rows import (
    AIRWAY_ROWS,
    CYST_ROWS,
    FEATURE_SOURCE,
    FOLLOWED_ROWS,
    INCOMPLETE_ROWS,
    MOST_SUSPICIOUS_SOURCE,
    NO_NODULE_SOURCE,
    NODULE_ROWS,
    AirwayChange,
    AirwayLevel,
    BenignFeature,
    Category,
    CystFinding,
    Incomplete,
    NoduleRow,
    Situation,
)
from polyclinic.core.guidelines.nodule import NoduleKind, Size, invalid, round_half_up
from polyclinic.core.guidelines.source import Advice, Source

ID = "lung-rads-v2022"
GROWTH_MM = 1.5
GROWTH_INTERVAL_MONTHS = 12


class Change(StrEnum):
    """How a nodule compares with the exam before; `growth` decides between the middle ones."""

    BASELINE = "baseline"
    NEW = "new"
    GROWING = "growing"
    SLOWLY_GROWING = "slowly-growing"
    """Growth seen over several screening exams, never enough in 12 months (notes 7 and 8)."""
    ENLARGED = "enlarged"
    """Reached a higher size class without growth by definition (note 5)."""
    STABLE = "stable"
    """Stable or decreased."""


class Shape(StrEnum):
    OVAL = "oval"
    LENTIFORM = "lentiform"
    TRIANGULAR = "triangular"
    OTHER = "other"


class SuspiciousFeature(StrEnum):
    """What makes a category 3 or 4 lesion 4X; `OTHER` is a reader's judgement."""

    SPICULATION = "spiculation"
    LYMPHADENOPATHY = "lymphadenopathy"
    METASTATIC_DISEASE = "frank metastatic disease"
    GROUND_GLASS_DOUBLED_IN_A_YEAR = "ground-glass nodule doubled in one year"
    OTHER = "other"


class Growth(StrEnum):
    YES = "yes"
    NO = "no"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """The lesion's category on the exam before, and which follow-up this exam is.

    `follow_up_months` is the interval that was recommended and is now being kept (3, 6, 12), not the days that passed.
    """

    category: Category
    follow_up_months: int
    proven_benign: bool = False
    """A category 4B lesion that diagnostic work-up showed to be benign."""

    def __post_init__(self) -> None:
        allowed = (Category.BENIGN, Category.PROBABLY_BENIGN, Category.SUSPICIOUS, Category.VERY_SUSPICIOUS)
        if self.category not in allowed:
            raise invalid("The earlier category is 2, 3, 4A or 4B; give 4X as the category before its features.")
        if self.follow_up_months < 0:
            raise invalid("Months of follow-up are not negative.")
        if self.proven_benign and self.category is not Category.VERY_SUSPICIOUS:
            raise invalid("Only a lesion of earlier category 4B is reclassified as proven benign.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodule:
    """A nodule in the lung. Mean diameter or volume, exactly one; the same measure for the solid component.

    Raises
    ------
    Rejected
        ``guideline.input`` when sizes are missing, contradict each other, or do not belong to the kind.
    """

    kind: NoduleKind
    mean_diameter_mm: float | None = None
    volume_mm3: float | None = None
    solid_component_mm: float | None = None
    """Mean diameter of the solid component."""
    solid_component_mm3: float | None = None
    change: Change = Change.BASELINE
    solid_component_new_or_growing: bool = False
    """On comparison with an earlier exam on which the nodule was already there."""
    earlier: Earlier | None = None
    benign_feature: BenignFeature | None = None
    juxtapleural: bool = False
    smooth: bool = False
    shape: Shape = Shape.OTHER
    suspicious: frozenset[SuspiciousFeature] = frozenset()

    def __post_init__(self) -> None:
        size = Size.measured(diameter_mm=self.mean_diameter_mm, volume_mm3=self.volume_mm3)
        component = (self.solid_component_mm, self.solid_component_mm3)
        if self.kind is not NoduleKind.PART_SOLID:
            if component != (None, None) or self.solid_component_new_or_growing:
                raise invalid("Only a part-solid nodule has a solid component of its own.")
        else:
            part = Size.measured(diameter_mm=component[0], volume_mm3=component[1])
            if (part.diameter_mm is None) != (size.diameter_mm is None):
                raise invalid("Measure nodule and solid component the same way.")
            if (part.diameter_mm or 0) > (size.diameter_mm or 0) or (part.volume_mm3 or 0) > (size.volume_mm3 or 0):
                raise invalid("The solid component is not larger than the nodule.")
        if self.solid_component_new_or_growing and self.change in (Change.BASELINE, Change.NEW):
            raise invalid("A solid component changes only on comparison with an earlier exam.")
        if self.earlier is not None and self.change in (Change.BASELINE, Change.NEW):
            raise invalid("A nodule seen for the first time has no earlier category.")

    @property
    def size(self) -> Size:
        """The size as reported: diameter to 0.1 mm, volume to 1 mm³ (note 4)."""
        return Size(diameter_mm=self.mean_diameter_mm, volume_mm3=self.volume_mm3).rounded(mm="0.1", mm3="1")

    @property
    def component(self) -> Size | None:
        """The solid component's size as reported; None unless part-solid."""
        if self.kind is not NoduleKind.PART_SOLID:
            return None
        component = Size(diameter_mm=self.solid_component_mm, volume_mm3=self.solid_component_mm3)
        return component.rounded(mm="0.1", mm3="1")

    @property
    def lymph_node_like(self) -> bool:
        """Solid, at the pleura, smooth, and oval, lentiform or triangular."""
        return self.kind is NoduleKind.SOLID and self.juxtapleural and self.smooth and self.shape is not Shape.OTHER

    @property
    def situation(self) -> Situation:
        """Which of the table's cases the nodule's past is."""
        if self.change is Change.STABLE and not self.solid_component_new_or_growing:
            return Situation.STABLE if self.earlier is None else Situation.FOLLOWED
        if self.change is Change.SLOWLY_GROWING:
            return Situation.SLOWLY_GROWING
        if self.solid_component_new_or_growing:
            return Situation.COMPONENT
        return _SITUATION_OF_CHANGE[self.change]


_SITUATION_OF_CHANGE = {
    Change.BASELINE: Situation.BASELINE,
    Change.NEW: Situation.NEW,
    Change.GROWING: Situation.GROWING,
    Change.ENLARGED: Situation.ENLARGED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AirwayNodule:
    """A nodule in the trachea or a bronchus."""

    level: AirwayLevel
    change: AirwayChange = AirwayChange.BASELINE
    suspicious: frozenset[SuspiciousFeature] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cyst:
    """A cyst; where several findings hold, the most concerning one (note 12)."""

    finding: CystFinding
    stable_since: Earlier | None = None
    """Given when the cyst is stable or decreased since an exam that gave it a category."""
    suspicious: frozenset[SuspiciousFeature] = frozenset()


Lesion = Nodule | AirwayNodule | Cyst


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """The category of one lesion. `category` is None where the guideline has no row or does not classify."""

    category: Category | None
    size_category: Category | None
    """The category before suspicious features made it 4X."""
    rules: tuple[Rule, ...]
    advice: Advice


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamAssessment:
    """The category of an exam; `significant_other_finding` adds the modifier S."""

    category: Category
    significant_other_finding: bool
    lesions: tuple[Assessment, ...]
    rules: tuple[Rule, ...]
    advice: Advice

    @property
    def code(self) -> str:
        """What is reported, e.g. ``"4A"`` or ``"2S"``."""
        return self.category + ("S" if self.significant_other_finding else "")


_YEARLY = Advice(
    code="ldct-12-months",
    english="Continue yearly screening: low-dose CT in 12 months.",
    chinese="继续年度筛查：12 个月后行低剂量 CT。",
)
_WORK_UP = Advice(
    code="diagnostic-work-up",
    english=(
        "Further diagnostic work-up: chest CT with or without contrast, tissue sampling and/or clinical referral; "
        "PET/CT may be considered if the solid nodule or solid component measures 8 mm (268 mm³) or more."
    ),
    chinese=(
        "进一步诊断：胸部 CT 平扫或增强、组织取样和/或转诊专科评估；实性结节或实性成分≥8 mm（268 mm³）时可考虑 PET/CT。"
    ),
)
ADVICE: dict[Category, Advice] = {
    Category.NEGATIVE: _YEARLY,
    Category.BENIGN: _YEARLY,
    Category.PROBABLY_BENIGN: Advice(
        code="ldct-6-months", english="Low-dose CT in 6 months.", chinese="6 个月后复查低剂量 CT。"
    ),
    Category.SUSPICIOUS: Advice(
        code="ldct-3-months",
        english=(
            "Low-dose CT in 3 months; PET/CT may be considered if the solid nodule or solid component measures 8 mm "
            "(268 mm³) or more."
        ),
        chinese="3 个月后复查低剂量 CT；实性结节或实性成分≥8 mm（268 mm³）时可考虑 PET/CT。",
    ),
    Category.VERY_SUSPICIOUS: _WORK_UP,
    Category.SUSPICIOUS_FEATURES: _WORK_UP,
}
INCOMPLETE_ADVICE: dict[Incomplete, Advice] = {
    Incomplete.PRIOR_BEING_LOCATED: Advice(
        code="compare-with-prior",
        english="Compare with the earlier chest CT that is being located, then assign a category.",
        chinese="待调取既往胸部 CT 对比后再定分类。",
    ),
    Incomplete.NOT_EVALUABLE: Advice(
        code="additional-screening-ct",
        english="Additional screening CT images are needed.",
        chinese="需补充筛查 CT 扫描。",
    ),
    Incomplete.INFLAMMATORY_OR_INFECTIOUS: Advice(
        code="ldct-1-to-3-months", english="Low-dose CT in 1 to 3 months.", chinese="1–3 个月后复查低剂量 CT。"
    ),
}
NOT_CLASSIFIED = Advice(
    code="not-classified",
    english="Not classified by Lung-RADS v2022; the physician decides.",
    chinese="Lung-RADS v2022 未予分类，由医师判断。",
)


def mean_diameter_mm(long_axis_mm: float, short_axis_mm: float) -> float:
    """Mean of both axes, each taken to 0.1 mm, reported to 0.1 mm (Lung-RADS v2022 note 4)."""
    axes = [round_half_up(axis, "0.1") for axis in (long_axis_mm, short_axis_mm)]
    return round_half_up(round(sum(axes) / 2, 6), "0.1")


def growth(*, earlier_mm: float, now_mm: float, months: float) -> Growth:
    """Whether a mean diameter grew by more than 1.5 mm within 12 months (Lung-RADS v2022 note 6).

    Over a longer interval a larger increase says nothing about any 12 months of it: `UNDETERMINED`.
    """
    if months <= 0:
        raise invalid("The interval between two exams is above zero.")
    increase = round(round_half_up(now_mm, "0.1") - round_half_up(earlier_mm, "0.1"), 6)
    if increase <= GROWTH_MM:
        return Growth.NO
    return Growth.YES if months <= GROWTH_INTERVAL_MONTHS else Growth.UNDETERMINED


def fits(row: NoduleRow, nodule: Nodule) -> bool:
    """Whether one row describes the nodule, precedence aside."""
    earlier = nodule.earlier if nodule.situation is Situation.FOLLOWED else None
    return (
        nodule.kind in row.kinds
        and (not row.benign_feature or nodule.benign_feature is not None)
        and (not row.lymph_node_like or nodule.lymph_node_like)
        and nodule.situation in row.situations
        and row.size.contains(nodule.size)
        and (nodule.component is None or row.component.contains(nodule.component))
        and (not row.earlier or (earlier is not None and _fits_earlier(row, earlier)))
    )


def _fits_earlier(row: NoduleRow, earlier: Earlier) -> bool:
    below = row.follow_up_months_below
    return (
        earlier.category in row.earlier
        and earlier.follow_up_months >= row.follow_up_months_from
        and (below is None or earlier.follow_up_months < below)
        and row.proven_benign in (None, earlier.proven_benign)
    )


def nodule_row(nodule: Nodule) -> NoduleRow:
    """The one row that decides: a benign feature, then lymph-node shape at the pleura, then the size rows."""
    rows = [row for row in NODULE_ROWS if fits(row, nodule)]
    return next((row for row in rows if row.overrides), rows[0])


def _category_and_rule(lesion: Lesion) -> tuple[Category | None, tuple[Rule, ...]]:
    found: tuple[str, Category | None, Source] | None
    match lesion:
        case Nodule():
            row = nodule_row(lesion)
            found = (row.id, row.category, row.source)
        case AirwayNodule():
            found = next(
                (
                    (airway.id, airway.category, airway.source)
                    for airway in AIRWAY_ROWS
                    if airway.level is lesion.level and lesion.change in airway.changes
                ),
                None,
            )
        case Cyst():
            found = _cyst_row(lesion)
    if found is None:
        return None, ()
    row_id, category, source = found
    return category, (source.rule(f"{ID}.{row_id}", category or NOT_CLASSIFIED.code),)


def _cyst_row(cyst: Cyst) -> tuple[str, Category | None, Source]:
    row = next(row for row in CYST_ROWS if row.finding is cyst.finding)
    earlier = cyst.stable_since
    if row.category is None or earlier is None:
        return row.id, row.category, row.source
    step = next(step for step in FOLLOWED_ROWS if _fits_earlier(step, earlier))
    return step.id, step.category, step.source


def classify(lesion: Lesion) -> Assessment:
    """The Lung-RADS v2022 category of one lesion, with the row that says so.

    Returns
    -------
    Assessment
        Without a category for a thin-walled cyst, which is not classified, and for a growing subsegmental airway
        nodule, for which there is no row.
    """
    category, rules = _category_and_rule(lesion)
    if category is None:
        return Assessment(category=None, size_category=None, rules=rules, advice=NOT_CLASSIFIED)
    final = category
    if lesion.suspicious and category.rank >= Category.PROBABLY_BENIGN.rank:
        final = Category.SUSPICIOUS_FEATURES
        rules = (*rules, FEATURE_SOURCE.rule(f"{ID}.suspicious-features", final))
    return Assessment(category=final, size_category=category, rules=rules, advice=ADVICE[final])


def assess_exam(
    lesions: tuple[Lesion, ...], *, incomplete: Incomplete | None = None, significant_other_finding: bool = False
) -> ExamAssessment:
    """The category of a whole exam: 0 while incomplete, else that of the most suspicious lesion, else 1.

    Parameters
    ----------
    lesions
        Everything found, in any order.
    incomplete
        Why no final category can be given yet.
    significant_other_finding
        A clinically significant finding unrelated to lung cancer: modifier S (note 15).
    """
    found = tuple(classify(lesion) for lesion in lesions)
    classified = [one for one in found if one.category is not None]
    category, advice = Category.NEGATIVE, ADVICE[Category.NEGATIVE]
    rules: tuple[Rule, ...] = (NO_NODULE_SOURCE.rule(f"{ID}.no-nodule", Category.NEGATIVE),)
    if incomplete is not None:
        row = next(row for row in INCOMPLETE_ROWS if row.reason is incomplete)
        category, advice = row.category, INCOMPLETE_ADVICE[incomplete]
        rules = (row.source.rule(f"{ID}.{row.id}", category),)
    elif classified:
        worst = max(classified, key=lambda one: one.category.rank if one.category else 0)
        assert worst.category is not None
        category, advice = worst.category, worst.advice
        rules = (*worst.rules, MOST_SUSPICIOUS_SOURCE.rule(f"{ID}.most-suspicious", category))
    return ExamAssessment(
        category=category,
        significant_other_finding=significant_other_finding,
        lesions=found,
        rules=rules,
        advice=advice,
    )

"""Lung-RADS v2022 row by row, at the borders, and its laws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyclinic.core.errors import Rejected
from polyclinic.core.guidelines.lung_rads_v2022 import (
    ADVICE,
    NOT_CLASSIFIED,
    AirwayNodule,
    Change,
    Cyst,
    Earlier,
    Growth,
    Lesion,
    Nodule,
    Shape,
    SuspiciousFeature,
    assess_exam,
    classify,
    fits,
    growth,
    mean_diameter_mm,
    nodule_row,
)
from polyclinic.core.guidelines.lung_rads_v2022_rows import (
    CITATION,
    CYST_ROWS,
    NODULE_ROWS,
    AirwayChange,
    AirwayLevel,
    BenignFeature,
    Category,
    CystFinding,
    Incomplete,
)
from polyclinic.core.guidelines.nodule import NoduleKind

at_any_load = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SOLID, PART, GLASS = NoduleKind.SOLID, NoduleKind.PART_SOLID, NoduleKind.GROUND_GLASS


def solid(mm: float, change: Change = Change.BASELINE, **more: Any) -> Nodule:
    return Nodule(kind=SOLID, mean_diameter_mm=mm, change=change, **more)


def part(mm: float, component_mm: float, change: Change = Change.BASELINE, **more: Any) -> Nodule:
    return Nodule(kind=PART, mean_diameter_mm=mm, solid_component_mm=component_mm, change=change, **more)


def glass(mm: float, change: Change = Change.BASELINE, **more: Any) -> Nodule:
    return Nodule(kind=GLASS, mean_diameter_mm=mm, change=change, **more)


def followed(nodule: Nodule, category: str, months: int, *, proven_benign: bool = False) -> Nodule:
    earlier = Earlier(category=Category(category), follow_up_months=months, proven_benign=proven_benign)
    return replace(nodule, change=Change.STABLE, earlier=earlier)


def lymph_node_like(mm: float, change: Change = Change.BASELINE) -> Nodule:
    return solid(mm, change, juxtapleural=True, smooth=True, shape=Shape.LENTIFORM)


# Written from the ACR's data element RDES267 and the notes, not from the code: nodule, category, row.
ROW_BY_ROW: list[tuple[Nodule, str, str]] = [
    (solid(5.9), "2", "solid-baseline-lt6"),
    (solid(6.0), "3", "solid-baseline-6to8"),
    (solid(7.9), "3", "solid-baseline-6to8"),
    (solid(8.0), "4A", "solid-baseline-8to15"),
    (solid(14.9), "4A", "solid-baseline-8to15"),
    (solid(15.0), "4B", "solid-baseline-ge15"),
    (solid(7.0, Change.STABLE), "3", "solid-baseline-6to8"),
    (solid(8.0, Change.ENLARGED), "4A", "solid-baseline-8to15"),
    (solid(3.9, Change.NEW), "2", "solid-new-lt4"),
    (solid(4.0, Change.NEW), "3", "solid-new-4to6"),
    (solid(5.9, Change.NEW), "3", "solid-new-4to6"),
    (solid(6.0, Change.NEW), "4A", "solid-new-6to8"),
    (solid(7.9, Change.NEW), "4A", "solid-new-6to8"),
    (solid(8.0, Change.NEW), "4B", "solid-new-or-growing-ge8"),
    (solid(3.0, Change.GROWING), "4A", "solid-growing-lt8"),
    (solid(7.9, Change.GROWING), "4A", "solid-growing-lt8"),
    (solid(8.0, Change.GROWING), "4B", "solid-new-or-growing-ge8"),
    (solid(5.0, Change.SLOWLY_GROWING), "4B", "solid-slowly-growing"),
    (part(5.9, 2.0), "2", "part-solid-lt6"),
    (part(6.0, 5.9), "3", "part-solid-ge6-component-lt6"),
    (part(12.0, 5.9), "3", "part-solid-ge6-component-lt6"),
    (part(12.0, 6.0), "4A", "part-solid-ge6-component-6to8"),
    (part(12.0, 7.9), "4A", "part-solid-ge6-component-6to8"),
    (part(12.0, 8.0), "4B", "part-solid-component-ge8"),
    (part(12.0, 5.0, Change.GROWING), "3", "part-solid-ge6-component-lt6"),
    (part(5.9, 3.9, Change.NEW), "3", "part-solid-new-lt6"),
    (part(5.9, 4.0, Change.NEW), "4B", "part-solid-component-new-or-growing-ge4"),
    (part(6.0, 3.9, Change.NEW), "4A", "part-solid-new-component-lt4"),
    (part(6.0, 4.0, Change.NEW), "4B", "part-solid-component-new-or-growing-ge4"),
    (part(10.0, 3.9, Change.STABLE, solid_component_new_or_growing=True), "4A", "part-solid-component-growing-lt4"),
    (
        part(10.0, 4.0, Change.GROWING, solid_component_new_or_growing=True),
        "4B",
        "part-solid-component-new-or-growing-ge4",
    ),
    (part(7.0, 2.0, Change.SLOWLY_GROWING), "4B", "part-solid-slowly-growing"),
    (glass(29.9), "2", "ground-glass-lt30"),
    (glass(29.9, Change.NEW), "2", "ground-glass-lt30"),
    (glass(29.9, Change.GROWING), "2", "ground-glass-lt30"),
    (glass(30.0), "3", "ground-glass-ge30"),
    (glass(30.0, Change.NEW), "3", "ground-glass-ge30"),
    (glass(30.0, Change.STABLE), "2", "ground-glass-stable-or-slow"),
    (glass(30.0, Change.SLOWLY_GROWING), "2", "ground-glass-stable-or-slow"),
    (glass(30.0, Change.GROWING), "3", "ground-glass-grown-ge30"),
    (followed(glass(31.0), "3", 6), "2", "ground-glass-followed-3"),
    (followed(glass(12.0), "2", 12), "2", "ground-glass-followed-2"),
    (followed(solid(7.0), "2", 12), "2", "followed-2"),
    (followed(solid(7.0), "3", 3), "3", "followed-3-early"),
    (followed(solid(7.0), "3", 6), "2", "followed-3-at-6-months"),
    (followed(part(9.0, 6.5), "4A", 1), "4A", "followed-4A-early"),
    (followed(part(9.0, 6.5), "4A", 3), "3", "followed-4A-at-3-months"),
    (followed(solid(16.0), "4B", 12), "4B", "followed-4B"),
    (followed(solid(16.0), "4B", 3, proven_benign=True), "2", "followed-4B-proven-benign"),
    (lymph_node_like(9.9), "2", "juxtapleural-lt10"),
    (lymph_node_like(9.9, Change.NEW), "2", "juxtapleural-lt10"),
    (lymph_node_like(10.0), "4A", "solid-baseline-8to15"),
    (lymph_node_like(9.9, Change.GROWING), "4B", "solid-new-or-growing-ge8"),
    (replace(lymph_node_like(9.9), smooth=False), "4A", "solid-baseline-8to15"),
    (replace(lymph_node_like(9.9), shape=Shape.OTHER), "4A", "solid-baseline-8to15"),
    (solid(20.0, benign_feature=BenignFeature.POPCORN_CALCIFICATION), "1", "benign-feature"),
    (solid(20.0, Change.GROWING, benign_feature=BenignFeature.FAT), "1", "benign-feature"),
]


@pytest.mark.parametrize(("nodule", "category", "row"), ROW_BY_ROW)
def test_row_by_row(nodule: Nodule, category: str, row: str) -> None:
    found = classify(nodule)
    assert (nodule_row(nodule).id, found.category) == (row, category)
    assert found.rules[0].id == f"lung-rads-v2022.{row}"
    assert found.rules[0].result == category
    assert type(found.rules[0].result) is str  # what is stored and sent, not an enumeration
    assert found.rules[0].citation.startswith(CITATION)


def test_every_row_is_tested() -> None:
    assert {row for _, _, row in ROW_BY_ROW} == {row.id for row in NODULE_ROWS}


@pytest.mark.parametrize(
    ("mm3", "category"),
    [(112, "2"), (113, "3"), (267, "3"), (268, "4A"), (1766, "4A"), (1767, "4B")],
)
def test_solid_by_volume(mm3: float, category: str) -> None:
    assert classify(Nodule(kind=SOLID, volume_mm3=mm3)).category == category


@pytest.mark.parametrize(
    ("kind", "change", "mm3", "component_mm3", "category"),
    [
        (SOLID, Change.NEW, 33, None, "2"),
        (SOLID, Change.NEW, 34, None, "3"),
        (SOLID, Change.GROWING, 267, None, "4A"),
        (SOLID, Change.GROWING, 268, None, "4B"),
        (PART, Change.BASELINE, 112, 50, "2"),
        (PART, Change.BASELINE, 113, 112, "3"),
        (PART, Change.BASELINE, 900, 113, "4A"),
        (PART, Change.BASELINE, 900, 268, "4B"),
        (PART, Change.NEW, 900, 33, "4A"),
        (PART, Change.NEW, 900, 34, "4B"),
        (GLASS, Change.BASELINE, 14136, None, "2"),
        (GLASS, Change.BASELINE, 14137, None, "3"),
    ],
)
def test_other_volumes(
    kind: NoduleKind, change: Change, mm3: float, component_mm3: float | None, category: str
) -> None:
    assert classify(Nodule(kind=kind, volume_mm3=mm3, solid_component_mm3=component_mm3, change=change)).category == (
        category
    )


def test_juxtapleural_by_volume() -> None:
    like = Nodule(kind=SOLID, volume_mm3=523, juxtapleural=True, smooth=True, shape=Shape.OVAL)
    assert [classify(replace(like, volume_mm3=v)).category for v in (523, 524)] == ["2", "4A"]


def test_sizes_are_rounded_before_they_are_compared() -> None:
    assert classify(solid(5.94)).category == "2"
    assert classify(solid(5.95)).category == "3"
    assert classify(Nodule(kind=SOLID, volume_mm3=112.4)).category == "2"
    assert classify(Nodule(kind=SOLID, volume_mm3=112.5)).category == "3"


@pytest.mark.parametrize(
    ("long", "short", "mean"), [(7.4, 5.9, 6.7), (6.1, 5.8, 6.0), (8.04, 7.94, 8.0), (6.0, 5.9, 6.0), (5.9, 5.8, 5.9)]
)
def test_mean_diameter_to_one_decimal(long: float, short: float, mean: float) -> None:
    assert mean_diameter_mm(long, short) == mean


@pytest.mark.parametrize(
    ("earlier", "now", "months", "expected"),
    [
        (5.5, 7.0, 12, Growth.NO),
        (5.4, 7.0, 12, Growth.YES),
        (5.4, 7.0, 3, Growth.YES),
        (5.4, 7.0, 13, Growth.UNDETERMINED),
        (5.5, 7.0, 24, Growth.NO),
        (7.0, 5.0, 12, Growth.NO),
    ],
)
def test_growth_is_more_than_one_and_a_half_mm_in_a_year(
    earlier: float, now: float, months: float, expected: Growth
) -> None:
    assert growth(earlier_mm=earlier, now_mm=now, months=months) is expected


@pytest.mark.parametrize(
    ("level", "change", "category"),
    [
        (AirwayLevel.SUBSEGMENTAL, AirwayChange.BASELINE, "2"),
        (AirwayLevel.SUBSEGMENTAL, AirwayChange.NEW, "2"),
        (AirwayLevel.SUBSEGMENTAL, AirwayChange.STABLE, "2"),
        (AirwayLevel.SUBSEGMENTAL, AirwayChange.GROWING, None),
        (AirwayLevel.SEGMENTAL_OR_MORE_PROXIMAL, AirwayChange.BASELINE, "4A"),
        (AirwayLevel.SEGMENTAL_OR_MORE_PROXIMAL, AirwayChange.NEW, "4A"),
        (AirwayLevel.SEGMENTAL_OR_MORE_PROXIMAL, AirwayChange.STABLE, "4B"),
        (AirwayLevel.SEGMENTAL_OR_MORE_PROXIMAL, AirwayChange.GROWING, "4B"),
    ],
)
def test_airways(level: AirwayLevel, change: AirwayChange, category: str | None) -> None:
    found = classify(AirwayNodule(level=level, change=change))
    assert found.category == category
    assert (found.advice is NOT_CLASSIFIED) == (category is None)


@pytest.mark.parametrize(
    ("finding", "category"),
    [
        (CystFinding.THIN_WALLED, None),
        (CystFinding.THICK_WALLED_GROWING_CYST, "3"),
        (CystFinding.THICK_WALLED, "4A"),
        (CystFinding.MULTILOCULAR_BASELINE, "4A"),
        (CystFinding.BECAME_MULTILOCULAR, "4A"),
        (CystFinding.THICK_WALLED_GROWING_WALL, "4B"),
        (CystFinding.MULTILOCULAR_GROWING, "4B"),
        (CystFinding.MULTILOCULAR_DENSER, "4B"),
    ],
)
def test_cysts(finding: CystFinding, category: str | None) -> None:
    assert classify(Cyst(finding=finding)).category == category
    assert [row.finding for row in CYST_ROWS].count(finding) == 1


def test_a_stable_cyst_steps_down() -> None:
    since = Earlier(category=Category.SUSPICIOUS, follow_up_months=3)
    assert classify(Cyst(finding=CystFinding.THICK_WALLED, stable_since=since)).category == "3"
    assert classify(Cyst(finding=CystFinding.THIN_WALLED, stable_since=since)).category is None


@pytest.mark.parametrize(("nodule", "expected"), [(solid(5.0), "2"), (solid(6.0), "4X"), (solid(15.0), "4X")])
def test_suspicious_features_raise_only_categories_3_and_4(nodule: Nodule, expected: str) -> None:
    before = classify(nodule)
    after = classify(replace(nodule, suspicious=frozenset({SuspiciousFeature.SPICULATION})))
    assert after.category == expected
    assert after.size_category == before.category
    assert len(after.rules) == (2 if expected == "4X" else 1)


def test_the_most_suspicious_lesion_decides_the_exam() -> None:
    lesions: tuple[Lesion, ...] = (solid(5.0), part(12.0, 7.0), Cyst(finding=CystFinding.THIN_WALLED))
    exam = assess_exam(lesions, significant_other_finding=True)
    assert (exam.category, exam.code) == ("4A", "4AS")
    assert [one.category for one in exam.lesions] == ["2", "4A", None]
    assert exam.rules[-1].id == "lung-rads-v2022.most-suspicious"
    assert assess_exam(()).code == "1"
    assert assess_exam((Cyst(finding=CystFinding.THIN_WALLED),)).code == "1"


@pytest.mark.parametrize("reason", Incomplete)
def test_an_incomplete_exam_is_category_0(reason: Incomplete) -> None:
    exam = assess_exam((solid(20.0),), incomplete=reason)
    assert exam.code == "0"
    assert exam.rules[0].result == "0"
    assert exam.advice.english != ADVICE[Category.NEGATIVE].english


def test_impossible_inputs_are_rejected() -> None:
    bad: list[dict[str, Any]] = [
        {"kind": SOLID},
        {"kind": SOLID, "mean_diameter_mm": 5.0, "volume_mm3": 65.0},
        {"kind": SOLID, "mean_diameter_mm": 0.0},
        {"kind": SOLID, "mean_diameter_mm": float("nan")},
        {"kind": SOLID, "volume_mm3": float("inf")},
        {"kind": SOLID, "mean_diameter_mm": -1.0},
        {"kind": PART, "volume_mm3": 50.0, "solid_component_mm3": 50.5},
        {"kind": SOLID, "mean_diameter_mm": 5.0, "solid_component_mm": 3.0},
        {"kind": PART, "mean_diameter_mm": 5.0},
        {"kind": PART, "mean_diameter_mm": 5.0, "solid_component_mm": 6.0},
        {"kind": PART, "mean_diameter_mm": 5.0, "solid_component_mm3": 6.0},
        {"kind": PART, "mean_diameter_mm": 5.0, "solid_component_mm": 2.0, "solid_component_new_or_growing": True},
        {
            "kind": SOLID,
            "mean_diameter_mm": 5.0,
            "earlier": Earlier(category=Category.BENIGN, follow_up_months=12),
        },
    ]
    for fields in bad:
        with pytest.raises(Rejected) as refused:
            Nodule(**fields)
        assert refused.value.code == "guideline.input"
    for wrong in (Category.INCOMPLETE, Category.NEGATIVE, Category.SUSPICIOUS_FEATURES):
        with pytest.raises(Rejected):
            Earlier(category=wrong, follow_up_months=6)
    with pytest.raises(Rejected):
        Earlier(category=Category.SUSPICIOUS, follow_up_months=3, proven_benign=True)


borders = st.sampled_from([3.9, 3.95, 4.0, 5.9, 5.95, 6.0, 7.9, 8.0, 9.9, 10.0, 14.9, 15.0, 29.9, 30.0])
diameters = borders | st.floats(0.5, 60)
earlier_exams = st.none() | st.builds(
    Earlier,
    category=st.sampled_from(
        [Category.BENIGN, Category.PROBABLY_BENIGN, Category.SUSPICIOUS, Category.VERY_SUSPICIOUS]
    ),
    follow_up_months=st.integers(0, 24),
)


@st.composite
def nodules(draw: st.DrawFn) -> Nodule:
    kind = draw(st.sampled_from(NoduleKind))
    change = draw(st.sampled_from(Change))
    seen_before = change not in (Change.BASELINE, Change.NEW)
    total = draw(diameters)
    by_volume = draw(st.booleans())
    component = min(total, draw(diameters)) if kind is PART else None
    cube = 0.5236
    return Nodule(
        kind=kind,
        mean_diameter_mm=None if by_volume else total,
        volume_mm3=cube * total**3 if by_volume else None,
        solid_component_mm=None if by_volume or component is None else component,
        solid_component_mm3=cube * component**3 if by_volume and component is not None else None,
        change=change,
        solid_component_new_or_growing=kind is PART and seen_before and draw(st.booleans()),
        earlier=draw(earlier_exams) if seen_before else None,
        benign_feature=draw(st.none() | st.sampled_from(BenignFeature)),
        juxtapleural=draw(st.booleans()),
        smooth=draw(st.booleans()),
        shape=draw(st.sampled_from(Shape)),
        suspicious=draw(st.frozensets(st.sampled_from(SuspiciousFeature), max_size=2)),
    )


@at_any_load
@given(nodules())
def test_exactly_one_row_fits_every_nodule(nodule: Nodule) -> None:
    rows = [row for row in NODULE_ROWS if fits(row, nodule)]
    assert len([row for row in rows if not row.overrides]) == 1
    assert classify(nodule).category is not None


def larger(nodule: Nodule, by: float) -> Nodule:
    if nodule.mean_diameter_mm is not None:
        return replace(nodule, mean_diameter_mm=nodule.mean_diameter_mm * by)
    assert nodule.volume_mm3 is not None
    return replace(nodule, volume_mm3=nodule.volume_mm3 * by)


def denser(nodule: Nodule, by: float) -> Nodule:
    if nodule.solid_component_mm is not None and nodule.mean_diameter_mm is not None:
        return replace(nodule, solid_component_mm=min(nodule.mean_diameter_mm, nodule.solid_component_mm * by))
    if nodule.solid_component_mm3 is not None and nodule.volume_mm3 is not None:
        return replace(nodule, solid_component_mm3=min(nodule.volume_mm3, nodule.solid_component_mm3 * by))
    return nodule


def rank(nodule: Nodule) -> int:
    category = classify(nodule).category
    assert category is not None
    return category.rank


@at_any_load
@given(nodules(), st.floats(1, 4))
def test_a_larger_nodule_is_never_less_suspicious(nodule: Nodule, by: float) -> None:
    assert rank(larger(nodule, by)) >= rank(nodule)


@at_any_load
@given(nodules(), st.floats(1, 4))
def test_a_larger_solid_component_is_never_less_suspicious(nodule: Nodule, by: float) -> None:
    assert rank(denser(nodule, by)) >= rank(nodule)


@at_any_load
@given(nodules())
def test_growth_is_never_less_suspicious_than_first_detection(nodule: Nodule) -> None:
    plain = replace(nodule, earlier=None, solid_component_new_or_growing=False, benign_feature=None, juxtapleural=False)
    assert rank(replace(plain, change=Change.GROWING)) >= rank(replace(plain, change=Change.BASELINE))
    assert rank(replace(plain, change=Change.NEW)) >= rank(replace(plain, change=Change.BASELINE))


@at_any_load
@given(st.lists(nodules(), max_size=4).map(tuple))
def test_one_more_lesion_never_lowers_the_exam(found: tuple[Nodule, ...]) -> None:
    for count in range(len(found)):
        assert assess_exam(found[: count + 1]).category.rank >= assess_exam(found[:count]).category.rank

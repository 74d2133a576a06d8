"""Fleischner Society 2017 row by row, at the borders, and its laws."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyclinic.core.errors import Rejected
from polyclinic.core.guidelines.fleischner_2017 import (
    CITATION,
    ROWS,
    Exclusion,
    Nodule,
    Patient,
    Risk,
    Row,
    fits,
    mean_diameter_mm,
    recommend,
    size_changed,
)
from polyclinic.core.guidelines.nodule import NoduleKind

at_any_load = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SOLID, PART, GLASS = NoduleKind.SOLID, NoduleKind.PART_SOLID, NoduleKind.GROUND_GLASS
LOW, HIGH = Risk.LOW, Risk.HIGH
ADULT = Patient(age_years=60)

# Written from the published table, not from the code: kind, several, risk, mm, mm³, advice, row.
ROW_BY_ROW = [
    (SOLID, False, LOW, 5, 99, "no-routine-follow-up", "solid-single-lt6-low"),
    (SOLID, False, HIGH, 5, 99, "optional-ct-12-months", "solid-single-lt6-high"),
    (SOLID, False, LOW, 6, 100, "ct-6-12-consider-18-24", "solid-single-6to8-low"),
    (SOLID, False, LOW, 8, 250, "ct-6-12-consider-18-24", "solid-single-6to8-low"),
    (SOLID, False, HIGH, 6, 100, "ct-6-12-then-18-24", "solid-single-6to8-high"),
    (SOLID, False, HIGH, 8, 250, "ct-6-12-then-18-24", "solid-single-6to8-high"),
    (SOLID, False, LOW, 9, 251, "consider-3-month-ct-pet-tissue", "solid-single-gt8"),
    (SOLID, False, HIGH, 9, 251, "consider-3-month-ct-pet-tissue", "solid-single-gt8"),
    (SOLID, True, LOW, 5, 99, "no-routine-follow-up", "solid-multiple-lt6-low"),
    (SOLID, True, HIGH, 5, 99, "optional-ct-12-months", "solid-multiple-lt6-high"),
    (SOLID, True, LOW, 6, 100, "ct-3-6-consider-18-24", "solid-multiple-6to8-low"),
    (SOLID, True, HIGH, 8, 250, "ct-3-6-then-18-24", "solid-multiple-6to8-high"),
    (SOLID, True, LOW, 9, 251, "ct-3-6-consider-18-24", "solid-multiple-gt8-low"),
    (SOLID, True, HIGH, 9, 251, "ct-3-6-then-18-24", "solid-multiple-gt8-high"),
    (GLASS, False, HIGH, 5, 99, "no-routine-follow-up", "ground-glass-single-lt6"),
    (GLASS, False, LOW, 6, 100, "ct-6-12-then-every-2-years", "ground-glass-single-ge6"),
    (PART, False, HIGH, 5, 99, "no-routine-follow-up", "part-solid-single-lt6"),
    (PART, False, LOW, 6, 100, "ct-3-6-then-yearly", "part-solid-single-ge6"),
    (GLASS, True, LOW, 5, 99, "ct-3-6-consider-2-and-4-years", "subsolid-multiple-lt6"),
    (PART, True, HIGH, 5, 99, "ct-3-6-consider-2-and-4-years", "subsolid-multiple-lt6"),
    (GLASS, True, HIGH, 6, 100, "ct-3-6-most-suspicious", "subsolid-multiple-ge6"),
    (PART, True, LOW, 6, 100, "ct-3-6-most-suspicious", "subsolid-multiple-ge6"),
]


@pytest.mark.parametrize(("kind", "multiple", "risk", "mm", "mm3", "advice", "row"), ROW_BY_ROW)
def test_row_by_row(kind: NoduleKind, multiple: bool, risk: Risk, mm: float, mm3: float, advice: str, row: str) -> None:
    for nodule in (
        Nodule(kind=kind, mean_diameter_mm=mm, multiple=multiple, risk=risk),
        Nodule(kind=kind, volume_mm3=mm3, multiple=multiple, risk=risk),
    ):
        found = recommend(nodule, ADULT)
        assert found.row is not None
        assert (found.row.id, found.advice.code) == (row, advice)
        assert (found.rule.id, found.rule.result) == (f"fleischner-2017.{row}", advice)
        assert found.rule.citation.startswith(CITATION)


def test_every_row_is_tested() -> None:
    assert {row for *_, row in ROW_BY_ROW} | {"typical-lymph-node"} == {row.id for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.id))
def test_the_first_follow_up_is_the_one_in_the_advice(row: Row) -> None:
    months = re.match(r"(?:optional-ct-|ct-|consider-)(\d+)(?:-(\d+))?", row.advice.code)
    if row.first_ct_months is None:
        assert months is None
    else:
        assert months is not None
        first, last = months.groups()
        assert row.first_ct_months == (int(first), int(last or first))


def test_a_typical_lymph_node_needs_no_follow_up_at_any_size() -> None:
    nodule = Nodule(kind=SOLID, mean_diameter_mm=9, risk=HIGH, typical_lymph_node=True)
    assert recommend(nodule, ADULT).advice.code == "no-routine-follow-up"
    with pytest.raises(Rejected):
        Nodule(kind=GLASS, mean_diameter_mm=9, risk=HIGH, typical_lymph_node=True)


@pytest.mark.parametrize(("mm", "row"), [(5.49, "lt6"), (5.5, "6to8"), (8.49, "6to8"), (8.5, "gt8")])
def test_diameters_are_rounded_to_whole_millimetres(mm: float, row: str) -> None:
    found = recommend(Nodule(kind=SOLID, mean_diameter_mm=mm, risk=HIGH), ADULT)
    assert found.row is not None
    assert row in found.row.id


@pytest.mark.parametrize(("long", "short", "mean"), [(6, 5, 6), (6.4, 5.4, 6), (5.8, 5.1, 5), (9.4, 7.5, 8)])
def test_mean_diameter_is_rounded_once(long: float, short: float, mean: float) -> None:
    assert mean_diameter_mm(long, short) == mean


def test_a_change_counts_from_two_millimetres() -> None:
    assert not size_changed(earlier_mm=6, now_mm=7.4)
    assert size_changed(earlier_mm=6, now_mm=7.5)
    assert size_changed(earlier_mm=8, now_mm=6)


@pytest.mark.parametrize(
    ("patient", "reasons"),
    [
        (Patient(age_years=34.9), (Exclusion.UNDER_35,)),
        (Patient(age_years=35), ()),
        (Patient(age_years=60, known_cancer=True), (Exclusion.KNOWN_CANCER,)),
        (Patient(age_years=60, immunosuppressed=True), (Exclusion.IMMUNOSUPPRESSED,)),
        (Patient(age_years=60, in_screening=True), (Exclusion.SCREENING,)),
        (Patient(age_years=20, in_screening=True), (Exclusion.UNDER_35, Exclusion.SCREENING)),
    ],
)
def test_exclusions(patient: Patient, reasons: tuple[Exclusion, ...]) -> None:
    found = recommend(Nodule(kind=SOLID, mean_diameter_mm=7, risk=LOW), patient)
    assert found.exclusions == reasons
    assert (found.row is None) == bool(reasons)
    assert (found.advice.code == "not-applicable") == bool(reasons)
    assert all(reason in found.rule.result for reason in reasons)


sizes = st.sampled_from([5.4, 5.5, 6.0, 8.0, 8.49, 8.5]) | st.floats(0.6, 60)


@st.composite
def nodules(draw: st.DrawFn) -> Nodule:
    size, by_volume = draw(sizes), draw(st.booleans())
    kind = draw(st.sampled_from(NoduleKind))
    return Nodule(
        kind=kind,
        risk=draw(st.sampled_from(Risk)),
        mean_diameter_mm=None if by_volume else size,
        volume_mm3=0.5236 * size**3 if by_volume else None,
        multiple=draw(st.booleans()),
        typical_lymph_node=kind is SOLID and draw(st.booleans()),
    )


def first_month(nodule: Nodule) -> float:
    row = recommend(nodule, ADULT).row
    assert row is not None
    return row.first_ct_months[0] if row.first_ct_months else float("inf")


@at_any_load
@given(nodules())
def test_exactly_one_row_fits_every_nodule(nodule: Nodule) -> None:
    assert len([row for row in ROWS if fits(row, nodule)]) == 1


@at_any_load
@given(nodules(), st.floats(1, 4))
def test_a_larger_nodule_is_never_seen_later(nodule: Nodule, by: float) -> None:
    if nodule.mean_diameter_mm is not None:
        larger = replace(nodule, mean_diameter_mm=nodule.mean_diameter_mm * by)
    else:
        assert nodule.volume_mm3 is not None
        larger = replace(nodule, volume_mm3=nodule.volume_mm3 * by)
    assert first_month(larger) <= first_month(nodule)


@at_any_load
@given(nodules())
def test_higher_risk_and_more_nodules_are_never_seen_later(nodule: Nodule) -> None:
    assert first_month(replace(nodule, risk=HIGH)) <= first_month(replace(nodule, risk=LOW))
    assert first_month(replace(nodule, multiple=True)) <= first_month(replace(nodule, multiple=False))

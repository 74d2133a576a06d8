"""Brock risk, volume doubling time, CAC-DRS, and the page made from all guideline tables."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from polyclinic.core import codes
from polyclinic.core.errors import Rejected
from polyclinic.core.guidelines import brock, cac_drs
from polyclinic.core.guidelines.cac_drs import Calcium, Visual
from polyclinic.core.guidelines.document import page
from polyclinic.core.guidelines.lung_rads_v2022 import ADVICE
from polyclinic.core.guidelines.nodule import NoduleKind, kind_of, round_half_up
from polyclinic.core.guidelines.source import Language
from polyclinic.core.guidelines.volume_doubling import volume_doubling_days, volume_doubling_days_by_diameter

at_any_load = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

PLAIN = brock.Nodule(
    age_years=62,
    female=False,
    family_history_lung_cancer=False,
    emphysema=False,
    size_mm=4,
    kind=NoduleKind.SOLID,
    upper_lobe=False,
    nodule_count=4,
    spiculated=False,
)


def risk(**changes: Any) -> float:
    return brock.cancer_risk(replace(PLAIN, **changes)).probability


def test_brock_worked_examples() -> None:
    assert round(
        risk(age_years=65, female=True, emphysema=True, size_mm=15, upper_lobe=True, nodule_count=2, spiculated=True), 3
    ) == pytest.approx(0.477)
    assert risk(
        age_years=68, female=True, size_mm=10, upper_lobe=True, nodule_count=2, family_history_lung_cancer=True
    ) == pytest.approx(0.14588653, abs=1e-8)
    assert risk(age_years=55, size_mm=4, nodule_count=4) == pytest.approx(0.00092011, abs=1e-8)
    assert round(risk(age_years=55, size_mm=5, nodule_count=1), 3) == pytest.approx(0.003)


def test_brock_at_its_centre_is_the_constant() -> None:
    assert brock.cancer_risk(PLAIN).log_odds == pytest.approx(-6.7892, abs=1e-7)


ages, sizes, counts = st.floats(20, 95), st.floats(1, 60), st.integers(1, 40)
patients = st.builds(
    brock.Nodule,
    age_years=ages,
    female=st.booleans(),
    family_history_lung_cancer=st.booleans(),
    emphysema=st.booleans(),
    size_mm=sizes,
    kind=st.sampled_from(NoduleKind),
    upper_lobe=st.booleans(),
    nodule_count=counts,
    spiculated=st.booleans(),
)


@at_any_load
@given(patients)
def test_brock_equals_its_uncentred_publication(nodule: brock.Nodule) -> None:
    """Eur Radiol 2019;29:5367, Table 2, column BU, prints the same model uncentred with the constant 0.2761."""
    kind = {NoduleKind.SOLID: 0.0, NoduleKind.PART_SOLID: 0.377, NoduleKind.GROUND_GLASS: -0.1276}[nodule.kind]
    published = (
        0.2761
        + 0.0287 * nodule.age_years
        + 0.6011 * nodule.female
        + 0.2961 * nodule.family_history_lung_cancer
        + 0.2953 * nodule.emphysema
        + 0.6581 * nodule.upper_lobe
        - 5.3854 * (nodule.size_mm / 10) ** -0.5
        + 0.7729 * nodule.spiculated
        + kind
        - 0.0824 * nodule.nodule_count
    )
    found = brock.cancer_risk(nodule)
    assert found.log_odds == pytest.approx(published, abs=1e-4)
    assert 0 < found.probability < 1
    assert sum(term.contribution for term in found.terms) + brock.MODEL_CONSTANT == pytest.approx(found.log_odds)


@at_any_load
@given(patients, st.floats(1, 3))
def test_brock_rises_and_falls_as_published(nodule: brock.Nodule, by: float) -> None:
    here = brock.cancer_risk(nodule).probability
    for change in (
        {"size_mm": nodule.size_mm * by},
        {"age_years": nodule.age_years * by},
        {"female": True},
        {"family_history_lung_cancer": True},
        {"emphysema": True},
        {"upper_lobe": True},
        {"spiculated": True},
    ):
        assert brock.cancer_risk(replace(nodule, **change)).probability >= here
    assert brock.cancer_risk(replace(nodule, nodule_count=nodule.nodule_count + 1)).probability < here


def test_brock_says_what_it_cannot_judge() -> None:
    assert [brock.cancer_risk(replace(PLAIN, age_years=a)).within_cohort_ages for a in (49.9, 50, 75, 75.1)] == [
        False,
        True,
        True,
        False,
    ]
    for wrong in ({"age_years": 0}, {"size_mm": 0}, {"size_mm": math.nan}, {"nodule_count": 0}):
        with pytest.raises(Rejected):
            replace(PLAIN, **wrong)
    rule = brock.cancer_risk(replace(PLAIN, size_mm=15)).rule
    assert "N Engl J Med 2013;369:910" in rule.citation
    assert rule.result == f"{risk(size_mm=15):.1%}"


def test_doubling_time_worked_example() -> None:
    assert round(volume_doubling_days(first_mm3=113.1, second_mm3=268.1, interval_days=90)) == 72
    assert round(volume_doubling_days_by_diameter(first_mm=6, second_mm=8, interval_days=90)) == 72


volumes, days = st.floats(1, 1e5), st.floats(1, 5000)


@at_any_load
@given(volumes, days, st.integers(1, 4))
def test_doubling_n_times_takes_n_doubling_times(volume: float, interval: float, times: int) -> None:
    found = volume_doubling_days(first_mm3=volume, second_mm3=volume * 2**times, interval_days=interval)
    assert found == pytest.approx(interval / times)


@at_any_load
@given(volumes, volumes, days)
def test_shrinking_is_growing_backwards(first: float, second: float, interval: float) -> None:
    assume(first != second)
    there = volume_doubling_days(first_mm3=first, second_mm3=second, interval_days=interval)
    back = volume_doubling_days(first_mm3=second, second_mm3=first, interval_days=interval)
    assert there == -back
    assert (there > 0) == (second > first)


def test_an_unchanged_volume_never_doubles() -> None:
    assert volume_doubling_days(first_mm3=100, second_mm3=100, interval_days=365) == math.inf
    for wrong in ({"first_mm3": 0.0}, {"second_mm3": -1.0}, {"interval_days": 0.0}, {"second_mm3": math.inf}):
        with pytest.raises(Rejected):
            volume_doubling_days(**{"first_mm3": 1.0, "second_mm3": 2.0, "interval_days": 3.0, **wrong})


@pytest.mark.parametrize(
    ("agatston", "code"),
    [
        (0, "A0"),
        (0.5, "A1/N2"),
        (1, "A1/N2"),
        (99, "A1/N2"),
        (99.9, "A1/N2"),
        (100, "A2/N2"),
        (299, "A2/N2"),
        (299.9, "A2/N2"),
        (300, "A3/N2"),
        (4000, "A3/N2"),
    ],
)
def test_calcium_by_score(agatston: float, code: str) -> None:
    found = cac_drs.classify(Calcium(agatston=agatston, vessels=2 if agatston else 0, gated=True))
    assert found.code == code
    assert found.rule.id == f"cac-drs-2018.{code[:2]}"
    assert not found.agatston_equivalent


@pytest.mark.parametrize(("visual", "code"), zip(Visual, ("V0", "V1", "V2", "V3"), strict=True))
def test_calcium_by_eye(visual: Visual, code: str) -> None:
    assert cac_drs.classify(Calcium(visual=visual, gated=False)).code == code


def test_a_score_without_gating_is_marked_as_equivalent() -> None:
    assert cac_drs.classify(Calcium(agatston=150, gated=False)).agatston_equivalent


def test_contradictory_calcium_is_rejected() -> None:
    wrong: list[dict[str, Any]] = [
        {"gated": True},
        {"agatston": 1, "visual": Visual.MILD, "gated": False},
        {"agatston": -1, "gated": True},
        {"agatston": 0, "vessels": 1, "gated": True},
        {"agatston": 5, "vessels": 0, "gated": True},
        {"agatston": 5, "vessels": 5, "gated": True},
        {"visual": Visual.MILD, "gated": True},
    ]
    for fields in wrong:
        with pytest.raises(Rejected):
            Calcium(**fields)


@at_any_load
@given(st.floats(0, 1e5), st.floats(0, 1e5))
def test_more_calcium_is_never_a_lower_class(one: float, other: float) -> None:
    low, high = sorted((one, other))
    grade = [cac_drs.classify(Calcium(agatston=score, gated=True)).grade for score in (low, high)]
    assert grade[0] <= grade[1]
    assert len([row for row in cac_drs.ROWS if row.contains(one)]) == 1


def test_rounding_is_as_people_round() -> None:
    assert [round_half_up(x, "0.1") for x in (6.65, 6.64, 0.05)] == [6.7, 6.6, 0.1]
    assert [round_half_up(x, "1") for x in (5.5, 6.5, 5.49)] == [6.0, 7.0, 5.0]


def test_coded_attenuation_is_a_kind() -> None:
    assert kind_of(codes.PART_SOLID) is NoduleKind.PART_SOLID
    assert kind_of(codes.CALCIFIED) is None


def test_advice_is_in_both_languages() -> None:
    for advice in ADVICE.values():
        assert advice.text(Language.ENGLISH).isascii() or "³" in advice.english
        assert any("\u4e00" <= letter <= "\u9fff" for letter in advice.text(Language.CHINESE))


def test_the_page_is_made_from_the_tables() -> None:
    written = Path(__file__).resolve().parents[2] / "docs" / "guidelines.md"
    assert written.read_text("utf-8") == page(), (
        "Write it again: python -c 'from polyclinic.core.guidelines.document import page; print(page(), end=\"\")' "
        "> docs/guidelines.md"
    )

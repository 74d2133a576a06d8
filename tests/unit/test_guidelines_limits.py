"""Published limits of single measurements: every row at its border, and the order of several."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyclinic.core.errors import Rejected
from polyclinic.core.guidelines.reference_limits import ROWS, UNITS, Quantity, Row, Side, judge, rows_of

sexes = st.sampled_from(["M", "F", ""])
quantities = st.sampled_from(list(Quantity))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_value_just_beyond_passes_and_one_just_within_does_not(row: Row) -> None:
    step = math.inf if row.side is Side.ABOVE else -math.inf
    assert row.passed_by(math.nextafter(row.limit, step))
    assert not row.passed_by(math.nextafter(row.limit, -step))
    assert row.passed_by(row.limit) is row.inclusive


@pytest.mark.parametrize(
    ("quantity", "value", "sex", "expected"),
    [
        (Quantity.L1_TRABECULAR_HU, 110, "F", "bone-l1-110"),
        (Quantity.L1_TRABECULAR_HU, 111, "F", "bone-l1-160"),
        (Quantity.L1_TRABECULAR_HU, 161, "F", None),
        (Quantity.MAIN_PULMONARY_ARTERY_MM, 28, "F", "pulmonary-artery-women"),
        (Quantity.MAIN_PULMONARY_ARTERY_MM, 28, "M", None),
        (Quantity.MAIN_PULMONARY_ARTERY_MM, 29.1, "M", "pulmonary-artery-men"),
        (Quantity.PULMONARY_ARTERY_RATIO, 0.9, "", None),
        (Quantity.ASCENDING_AORTA_MM, 40.5, "", "ascending-aorta"),
        (Quantity.LIVER_HU, 48, "", None),
        (Quantity.LIVER_HU, 47.9, "", "liver-48"),
    ],
)
def test_the_row_that_holds(quantity: Quantity, value: float, sex: str, expected: str | None) -> None:
    row = judge(quantity, value, sex=sex).row
    assert (row.id if row else None) == expected


def test_without_a_sex_no_limit_of_one_sex_applies_and_no_rule_is_cited() -> None:
    judged = judge(Quantity.MAIN_PULMONARY_ARTERY_MM, 40)
    assert judged.compared_with == ()
    assert judged.row is None
    assert judged.rule is None


@given(quantities, st.floats(-1000, 1000), st.floats(-1000, 1000), sexes)
def test_farther_out_is_never_judged_milder(quantity: Quantity, one: float, other: float, sex: str) -> None:
    rows = list(rows_of(quantity, sex))
    if not rows:
        return
    inner, outer = sorted((one, other), reverse=rows[0].side is Side.BELOW)
    ranks = [rows.index(row) if (row := judge(quantity, v, sex=sex).row) else len(rows) for v in (inner, outer)]
    assert ranks[1] <= ranks[0]


@given(quantities, st.floats(-1000, 1000), sexes)
def test_every_comparison_names_its_study(quantity: Quantity, value: float, sex: str) -> None:
    judged = judge(quantity, value, sex=sex)
    assert bool(judged.rule) == bool(judged.compared_with)
    if judged.rule:
        assert any(str(row.source) == judged.rule.citation for row in judged.compared_with)


def test_every_quantity_has_a_unit_and_no_number_is_taken_for_one() -> None:
    assert set(UNITS) == set(Quantity) == {row.quantity for row in ROWS}
    with pytest.raises(Rejected, match=r"guideline\.input"):
        judge(Quantity.LIVER_HU, math.nan)

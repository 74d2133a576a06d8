"""Statistics of the assessment bench against closed forms, published examples and slow but plain computation."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from polyclinic.agentkit.assessment.agreement import bland_altman
from polyclinic.agentkit.assessment.calibration import calibration
from polyclinic.agentkit.assessment.discrimination import auc, compare_aucs
from polyclinic.agentkit.assessment.froc import RATES, ScanMarks, froc
from polyclinic.agentkit.assessment.overlap import overlap
from polyclinic.agentkit.assessment.proportions import confusion, holm, mcnemar, wilson
from polyclinic.agentkit.assessment.subgroups import Item, subgroup_table
from polyclinic.core.errors import Rejected


def test_wilson_is_that_of_newcombe_and_of_its_own_equation() -> None:
    # R. G. Newcombe, Stat Med 1998, table I: 81 of 263 and 15 of 148 by the score method without correction.
    assert wilson(81, 263).low == pytest.approx(0.2553, abs=5e-5)
    assert wilson(81, 263).high == pytest.approx(0.3662, abs=5e-5)
    assert wilson(15, 148).low == pytest.approx(0.0624, abs=5e-5)
    assert wilson(15, 148).high == pytest.approx(0.1605, abs=5e-5)
    z = stats.norm.ppf(0.975)
    for end in (wilson(7, 20).low, wilson(7, 20).high):
        assert (7 / 20 - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / 20)
    assert wilson(0, 10).low == 0.0
    assert wilson(10, 10).high == 1.0
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)
    with pytest.raises(Rejected):
        wilson(3, 2)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.integers(1, 60))
def test_wilson_holds_the_share_and_turns_with_it(hits: int, more: int) -> None:
    count = hits + more
    own, other = wilson(hits, count), wilson(more, count)
    assert 0 <= own.low <= hits / count <= own.high <= 1
    assert own.low == pytest.approx(1 - other.high, abs=1e-12)


def test_four_cells_and_predictive_value() -> None:
    cells = confusion([1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0])
    assert (cells.sensitivity.hits, cells.sensitivity.count) == (2, 3)
    assert cells.specificity.value == pytest.approx(0.8)
    assert cells.ppv(3 / 8) == pytest.approx(2 / 3), "at the prevalence of the sample it is the plain share"
    assert cells.ppv(0.01) == pytest.approx((2 / 3 * 0.01) / (2 / 3 * 0.01 + 0.2 * 0.99))
    assert math.isnan(confusion([1, 0], [0, 0]).ppv(0.5))


def test_holm_and_mcnemar() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert mcnemar(9, 1) == pytest.approx(2 * 11 / 1024)
    assert mcnemar(0, 0) == 1.0


def test_auc_is_the_share_of_pairs_and_delong_is_the_plain_double_sum() -> None:
    rng = np.random.default_rng(5)
    truth = rng.random(60) < 0.4
    first = np.round(truth + rng.normal(0, 1.0, 60), 1)  # rounded, so that there are ties
    second = np.round(truth * 0.5 + rng.normal(0, 1.0, 60), 1)

    def wins(score: np.ndarray) -> np.ndarray:
        a, b = score[truth][:, None], score[~truth][None]
        return (a > b) + 0.5 * (a == b)

    table = wins(first)
    found = auc(truth, first)
    variance = table.mean(axis=1).var(ddof=1) / len(table) + table.mean(axis=0).var(ddof=1) / table.shape[1]
    assert found.value == pytest.approx(table.mean())
    assert found.standard_error == pytest.approx(math.sqrt(variance))
    apart = wins(first) - wins(second)
    spread = apart.mean(axis=1).var(ddof=1) / len(table) + apart.mean(axis=0).var(ddof=1) / table.shape[1]
    difference, p_value = compare_aucs(truth, first, second)
    assert difference == pytest.approx(apart.mean())
    assert p_value == pytest.approx(2 * stats.norm.sf(abs(apart.mean()) / math.sqrt(spread)))
    assert compare_aucs(truth, first, first) == (0.0, 1.0)
    assert (auc([0, 0, 1, 1], [1, 2, 3, 4]).value, auc([0, 1], [2, 2]).value) == (1.0, 0.5)
    with pytest.raises(Rejected):
        auc([1, 1], [0.1, 0.2])


def test_bland_altman_on_the_peak_flow_meters_of_1986() -> None:
    # Bland and Altman, Lancet 1986, table 1, first readings: bias -2.1 L/min, SD 38.8, limits -79.7 and 75.5 with 2 SD.
    wright = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
    mini = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
    found = bland_altman(wright, mini)
    assert found.bias == pytest.approx(-2.1, abs=0.05)
    assert found.deviation == pytest.approx(38.8, abs=0.05)
    assert found.bias_interval.low == pytest.approx(-22.0, abs=0.1)
    assert found.bias_interval.high == pytest.approx(17.8, abs=0.1)
    assert found.limits.high == pytest.approx(-2.118 + 1.95996 * 38.765, abs=0.01)
    assert found.limit_error == pytest.approx(16.3, abs=0.05)
    with pytest.raises(Rejected):
        bland_altman([1.0], [2.0])


def test_calibration_by_hand() -> None:
    found = calibration([0, 0, 1, 1, 1], [0.05, 0.15, 0.15, 0.95, 1.0])
    assert found.brier == pytest.approx((0.05**2 + 0.15**2 + 0.85**2 + 0.05**2) / 5)
    assert [(one.observed.hits, one.observed.count) for one in found.bins] == [(0, 1), (1, 2), (2, 2)]
    assert found.expected_error == pytest.approx((0.05 + 2 * 0.35 + 2 * 0.025) / 5)
    with pytest.raises(Rejected):
        calibration([1], [1.2])


def test_dice_and_surface_distances_of_shifted_and_nested_boxes() -> None:
    first, second = np.zeros((16, 16, 16), bool), np.zeros((16, 16, 16), bool)
    first[3:11, 3:11, 3:11] = second[5:13, 3:11, 3:11] = True
    both = overlap(first, second, (1.5, 1.0, 1.0))
    assert both.dice == pytest.approx(0.75)
    assert both.distance_95_mm == pytest.approx(3.0)
    inner = np.zeros_like(first)
    inner[5:9, 5:9, 5:9] = True
    nested = overlap(first, inner, (1.0, 1.0, 1.0))
    away = [min(math.dist(a, b) for b in shell(inner)) for a in shell(first)]
    away += [min(math.dist(a, b) for b in shell(first)) for a in shell(inner)]
    assert nested.mean_distance_mm == pytest.approx(np.mean(away), rel=1e-5)
    assert nested.distance_95_mm == pytest.approx(np.percentile(away, 95), rel=1e-5)
    assert overlap(first, first, (1.0, 1.0, 1.0)).mean_distance_mm == 0.0
    empty = np.zeros_like(first)
    assert overlap(first, empty, (1.0, 1.0, 1.0)).dice == 0.0
    assert overlap(empty, empty, (1.0, 1.0, 1.0)).dice == 1.0


def shell(mask: np.ndarray) -> list[tuple[int, ...]]:
    steps = [step for step in product((-1, 0, 1), repeat=3) if sum(map(abs, step)) == 1]
    return [tuple(at) for at in np.argwhere(mask) if not all(mask[tuple(at + np.array(step))] for step in steps)]


SCANS = (
    ScanMarks(patient="a", found=(0.9, 0.4), nodules=2, false=(0.8,)),
    ScanMarks(patient="b", found=(0.7,), nodules=2, false=(0.6, 0.4)),
    ScanMarks(patient="c", found=(), nodules=0, false=()),
    ScanMarks(patient="d", found=(0.3,), nodules=1, false=()),
)


def test_froc_by_hand() -> None:
    found = froc(SCANS, resamples=50)
    # From the top: 0.9 finds 1 of 5; 0.8 costs 1/4 a scan; 0.7 finds 2; 0.6 costs 1/2; 0.4 finds 3 and costs 3/4.
    assert [point.sensitivity for point in found.points] == pytest.approx([0.2, 0.4, 0.4, 0.8, 0.8, 0.8, 0.8])
    assert found.cpm == pytest.approx((0.2 + 0.4 + 0.4 + 4 * 0.8) / 7)
    assert [point.threshold for point in found.points] == [0.9, 0.7, 0.6, 0.3, 0.3, 0.3, 0.3]
    assert (found.most_sensitivity, found.most_false_per_scan) == (0.8, 0.75)
    assert [point.rate for point in found.points] == list(RATES)


def test_marks_of_one_confidence_pass_together() -> None:
    tied = [ScanMarks(patient=str(n), found=(0.5,), nodules=1, false=(0.5,)) for n in range(4)]
    found = froc(tied, resamples=10)
    assert [point.sensitivity for point in found.points] == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    assert found.points[0].threshold is None


def test_froc_bootstrap_is_by_patient_and_seeded() -> None:
    assert froc(SCANS, resamples=200, seed=3) == froc(SCANS, resamples=200, seed=3)
    one = [ScanMarks(patient="a", found=s.found, nodules=s.nodules, false=s.false) for s in SCANS]
    alone = froc(one, resamples=50)
    assert alone.cpm_interval.low == alone.cpm_interval.high == alone.cpm, "one patient says nothing of others"
    rng = np.random.default_rng(0)
    many = [
        ScanMarks(patient=str(n), found=(0.9,) if rng.random() < 0.7 else (), nodules=1, false=()) for n in range(300)
    ]
    wide = froc(many, resamples=400)
    share = wide.cpm
    half = 1.96 * math.sqrt(share * (1 - share) / 300)  # of independent patients it is the binomial's
    assert wide.cpm_interval.high - wide.cpm_interval.low == pytest.approx(2 * half, rel=0.15)
    with pytest.raises(Rejected):
        froc([ScanMarks(patient="a", found=(), nodules=0, false=(0.3,))])


@given(
    st.lists(
        st.tuples(st.lists(st.floats(0, 1), max_size=4), st.lists(st.floats(0, 1), max_size=6)), min_size=1, max_size=6
    )
)
def test_froc_never_falls_with_the_rate(drawn: list[tuple[list[float], list[float]]]) -> None:
    scans = [
        ScanMarks(patient=str(n), found=tuple(hits), nodules=len(hits) + 1, false=tuple(false))
        for n, (hits, false) in enumerate(drawn)
    ]
    found = froc(scans, resamples=5)
    values = [point.sensitivity for point in found.points]
    assert values == sorted(values)
    assert values[-1] <= found.most_sensitivity + 1e-12


def test_subgroups_against_the_rest_with_correction() -> None:
    items = [Item(found=n < 18, groups={"kind": "solid", "sex": "FM"[n % 2]}) for n in range(20)]
    items += [Item(found=n < 5, groups={"kind": "ground-glass", "sex": "FM"[n % 2]}) for n in range(20)]
    items += [Item(found=n < 8, groups={"kind": "calcified"}) for n in range(10)]
    rows = subgroup_table(items, {"kind": ("solid", "ground-glass", "part-solid", "calcified"), "sex": ("F", "M")})
    assert [(row.group, row.found.hits, row.found.count) for row in rows] == [
        ("solid", 18, 20), ("ground-glass", 5, 20), ("calcified", 8, 10), ("F", 12, 20), ("M", 11, 20),
    ]  # fmt: skip
    plain = [stats.fisher_exact([[18, 2], [13, 17]])[1], stats.fisher_exact([[5, 15], [26, 4]])[1]]
    assert [row.p_value for row in rows[:2]] == pytest.approx(plain)
    assert rows[3].p_value == rows[4].p_value, "two groups ask one question"
    four = [rows[0].p_value, rows[1].p_value, rows[2].p_value, rows[3].p_value]
    assert [row.p_adjusted for row in rows] == pytest.approx([*holm(four), holm(four)[3]])

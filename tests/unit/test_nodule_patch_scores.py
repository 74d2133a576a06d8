"""The scores and the split that the nodule patch card rests on."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

TRAINING = Path(__file__).resolve().parents[2] / "training" / "nodule_patch"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"nodule_patch_{name}", TRAINING / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


scores = _load("scores")
data = _load("data")

judged = st.lists(st.tuples(st.integers(0, 1), st.integers(-5, 5)), min_size=2, max_size=40).filter(
    lambda pairs: 0 < sum(label for label, _ in pairs) < len(pairs)
)


@given(judged)
def test_auc_counts_pairs_in_the_right_order(pairs: list[tuple[int, int]]) -> None:
    labels, values = (np.asarray(column) for column in zip(*pairs, strict=True))
    positive, negative = values[labels == 1], values[labels == 0]
    wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    assert scores.roc_auc(labels, values.astype(float)) == pytest.approx(wins / (len(positive) * len(negative)))


def test_average_precision_of_a_known_ranking() -> None:
    labels = np.array([1, 0, 1, 0, 0])
    values = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    assert scores.average_precision(labels, values) == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_sensitivity_is_taken_at_the_wanted_specificity() -> None:
    labels = np.array([0] * 100 + [1] * 4)
    values = np.array([*range(100), 50.0, 89.0, 95.0, 200.0])
    assert scores.sensitivity_at(labels, values, 0.9) == pytest.approx(0.5)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.4, 2.5), st.floats(-1.5, 1.5))
def test_platt_finds_the_slope_and_offset_that_made_the_labels(slope: float, offset: float) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0, 2, 60000)
    labels = (rng.random(60000) < 1 / (1 + np.exp(-(slope * values + offset)))).astype(np.int64)
    found = scores.fit_platt(labels, values)
    assert found == pytest.approx((slope, offset), abs=0.12)
    probability = 1 / (1 + np.exp(-(found[0] * values + found[1])))
    assert probability.mean() == pytest.approx(labels.mean(), abs=1e-6)
    assert scores.calibration_error(labels, probability) < 0.02


def test_an_interval_of_whole_blocks_is_wider_when_blocks_differ() -> None:
    rng = np.random.default_rng(0)
    rows = np.arange(400) * 300
    labels = np.tile([0, 1], 200)
    alike = labels + rng.normal(0, 1, 400)
    # In every second block the classifier is blind.
    blind = np.where((rows // 3000) % 2 == 0, rng.normal(0, 1, 400), labels * 4 + rng.normal(0, 1, 400))
    widths = []
    for values in (alike, blind):
        low, high = scores.interval(scores.roc_auc, labels, values, rows, draws=300)
        assert low < scores.roc_auc(labels, values) < high
        widths.append(high - low)
    assert not math.isnan(widths[0])
    assert widths[1] > widths[0]


def test_no_two_blocks_of_the_split_come_nearer_than_the_gap() -> None:
    rows = np.sort(np.random.default_rng(1).choice(440_000, 6500, replace=False))
    block = data.split_by_blocks(rows).block
    kept = block[block >= 0]
    assert (np.diff(kept) >= 0).all(), "blocks are contiguous"
    assert set(kept) == set(range(data.FOLDS + 1))
    for number in range(data.FOLDS):
        assert rows[block == number + 1].min() - rows[block == number].max() >= data.GAP_ROWS
    for number in range(data.FOLDS):
        train, validate = data.split_by_blocks(rows).fold(number)
        test = data.split_by_blocks(rows).test
        assert not (train & validate).any()
        assert not ((train | validate) & test).any()

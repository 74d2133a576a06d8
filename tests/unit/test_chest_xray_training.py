"""Splits, figures and confounding of the chest X-ray models; what needs torch is not run here."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # `training` is a folder of scripts beside the package, not installed

from training.chest_xray import confounding, scores  # noqa: E402
from training.chest_xray.data import FOLDS, fold, is_test, nih, shenzhen  # noqa: E402

from polyclinic.agentkit.manifest import read_manifest  # noqa: E402


def test_area_under_the_curve_counts_pairs() -> None:
    labels = np.array([0, 1, 0, 1, 1])
    values = np.array([0.1, 0.4, 0.4, 0.9, 0.05])
    pairs = [(n, p) for n in values[labels == 0] for p in values[labels == 1]]
    by_hand = sum(1.0 if p > n else 0.5 if p == n else 0.0 for n, p in pairs) / len(pairs)
    assert scores.auc(labels, values) == pytest.approx(by_hand)


def test_bootstrap_draws_patients_not_films() -> None:
    # Two patients: films of one agree, so the interval must span everything although there are 200 films.
    patients = ["a"] * 100 + ["b"] * 100
    values = np.r_[np.zeros(100), np.ones(100)]
    estimate = scores.bootstrap(lambda rows: float(values[rows].mean()), patients, draws=200)
    assert (estimate.low, estimate.value, estimate.high) == (0.0, 0.5, 1.0)


def test_platt_undoes_a_stretched_logit() -> None:
    draw = np.random.default_rng(0)
    logit = draw.normal(0, 2, 4000)
    labels = (draw.random(4000) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    slope, offset = scores.platt(labels, 5 * logit + 3)
    assert slope == pytest.approx(0.2, abs=0.02)
    assert offset == pytest.approx(-0.6, abs=0.15)
    good = 1 / (1 + np.exp(-logit))
    assert scores.calibration_error(labels, good) < 0.04 < scores.calibration_error(labels, good**3)


def test_threshold_keeps_the_wanted_sensitivity() -> None:
    draw = np.random.default_rng(1)
    labels = draw.integers(0, 2, 300)
    values = draw.random(300) + 0.3 * labels
    for wanted in (0.5, 0.9, 0.95, 1.0):
        threshold = scores.threshold_for_sensitivity(labels, values, wanted)
        assert scores.sensitivity(labels, values >= threshold) >= wanted
        assert scores.sensitivity(labels, values > threshold) < wanted


@pytest.mark.data
def test_no_patient_is_on_two_sides(shared_data: Path) -> None:
    examples = nih(shared_data / "cxr")
    test = {e.patient for e in examples if is_test(e)}
    train = {e.patient for e in examples if not is_test(e)}
    assert not test & train
    assert 0.1 < len(test) / (len(test) + len(train)) < 0.3
    for part in (examples, shenzhen(shared_data / "cxr")):
        assert all(len({fold(e) for e in part if e.patient == p}) == 1 for p in {e.patient for e in part[:200]})
        assert {fold(e) for e in part} == set(range(FOLDS))


@pytest.mark.data
def test_the_source_alone_tells_covid_films_from_normal_ones(shared_data: Path) -> None:
    """So a COVID output would mostly say which archive a film is from, and none is offered."""
    question = confounding.NORMAL_OR_COVID
    row = confounding.table(shared_data / "cxr", limit=60, asked=[question])[question]
    assert row["border only"].value > 0.75
    assert row["grey levels only"].value > 0.75
    assert row["lung fields, evened out"].value < min(row["whole film"].value, row["grey levels only"].value)
    manifest = read_manifest(ROOT / "src" / "polyclinic_agents" / "chest_xray")
    assert not any("covid" in (o.code + o.display).lower() for o in manifest.outputs)

"""Figures of a score against labels, with intervals from drawing patients, not images, with replacement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.stats import rankdata

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
DRAWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def plain(self) -> list[float]:
        """Value, low, high, rounded for a record."""
        return [round(self.value, 4), round(self.low, 4), round(self.high, 4)]


def auc(labels: IntArray, scores: FloatArray) -> float:
    """Area under the ROC curve; ties count half. NaN when only one class is there."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def roc(labels: IntArray, scores: FloatArray) -> list[tuple[float, float]]:
    """(1 - specificity, sensitivity) at each threshold, from the strictest."""
    thresholds = np.unique(scores)[::-1]
    called = [scores >= t for t in thresholds]
    points = [(round(1 - specificity(labels, c), 4), round(sensitivity(labels, c), 4)) for c in called]
    return [(0.0, 0.0), *points]


def sensitivity(labels: IntArray, called: npt.NDArray[np.bool_]) -> float:
    """Share of the positives that are called."""
    return float(called[labels == 1].mean()) if (labels == 1).any() else float("nan")


def specificity(labels: IntArray, called: npt.NDArray[np.bool_]) -> float:
    """Share of the negatives that are not called."""
    return float((~called[labels == 0]).mean()) if (labels == 0).any() else float("nan")


def bootstrap(
    figure: Callable[[IntArray], float], patients: Sequence[str], *, seed: int = 0, draws: int = DRAWS
) -> Estimate:
    """`figure` takes row numbers; patients are drawn with all their rows."""
    names = sorted(set(patients))
    rows_of: dict[str, list[int]] = {name: [] for name in names}
    for row, name in enumerate(patients):
        rows_of[name].append(row)
    groups = [np.asarray(rows_of[name]) for name in names]
    draw = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        rows = np.concatenate([groups[i] for i in draw.integers(0, len(groups), len(groups))])
        values.append(figure(rows))
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return Estimate(value=figure(np.arange(len(patients))), low=float(low), high=float(high))


def calibration_error(labels: IntArray, probabilities: FloatArray, bins: int = 10) -> float:
    """Expected calibration error over `bins` bins of equal count."""
    order = np.argsort(probabilities)
    parts = np.array_split(order, bins)
    gaps = [abs(labels[p].mean() - probabilities[p].mean()) * len(p) for p in parts if len(p)]
    return float(sum(gaps) / len(labels))


def reliability(labels: IntArray, probabilities: FloatArray, bins: int = 5) -> list[tuple[float, float, int]]:
    """Mean probability, share of positives and count in bins of equal count, lowest first."""
    parts = np.array_split(np.argsort(probabilities), bins)
    return [(float(probabilities[p].mean()), float(labels[p].mean()), len(p)) for p in parts]


def platt(labels: IntArray, logits: FloatArray) -> tuple[float, float]:
    """Slope and offset of the sigmoid with the least log loss, targets softened as Platt (1999) does."""
    positives, negatives = int(labels.sum()), int((1 - labels).sum())
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(x: FloatArray) -> float:
        z = x[0] * logits + x[1]
        return float(np.mean(np.logaddexp(0, z) - target * z))

    found = minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead")
    return float(found.x[0]), float(found.x[1])


def threshold_for_sensitivity(labels: IntArray, scores: FloatArray, wanted: float) -> float:
    """Highest threshold at which at least `wanted` of the positives score it or more."""
    positives = np.sort(scores[labels == 1])[::-1]
    return float(positives[int(np.ceil(wanted * len(positives))) - 1])


def youden_threshold(labels: IntArray, scores: FloatArray) -> float:
    """Threshold with the largest sum of sensitivity and specificity."""
    candidates = np.unique(scores)
    sums = [sensitivity(labels, scores >= t) + specificity(labels, scores >= t) for t in candidates]
    return float(candidates[int(np.argmax(sums))])

"""Scores of a binary classifier, and their intervals by resampling blocks of neighbouring patches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


def roc_auc(labels: Labels, values: Values) -> float:
    """Area under the ROC curve: the share of (nodule, other) pairs in the right order, ties counting half."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    _, first, counts = np.unique(ranked, return_index=True, return_counts=True)
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(first + (counts + 1) / 2, counts)
    positive = labels == 1
    n, m = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def average_precision(labels: Labels, values: Values) -> float:
    """Mean precision at each nodule, from the highest value down."""
    hits = labels[np.argsort(-values, kind="stable")] == 1
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def sensitivity_at(labels: Labels, values: Values, specificity: float) -> float:
    """Share of nodules above the threshold that `specificity` of the others stay at or below."""
    threshold = np.quantile(values[labels == 0], specificity)
    return float((values[labels == 1] > threshold).mean())


def brier(labels: Labels, probabilities: Values) -> float:
    """Mean squared error of the probability."""
    return float(np.mean((probabilities - labels) ** 2))


def reliability(labels: Labels, probabilities: Values, bins: int = 8) -> list[dict[str, float]]:
    """Mean probability and share of nodules in bins of equal width; empty bins are left out."""
    which = np.minimum((probabilities * bins).astype(int), bins - 1)
    return [
        {
            "mean_probability": round(float(probabilities[which == b].mean()), 4),
            "share_of_nodules": round(float(labels[which == b].mean()), 4),
            "count": int((which == b).sum()),
        }
        for b in range(bins)
        if (which == b).any()
    ]


def calibration_error(labels: Labels, probabilities: Values, bins: int = 8) -> float:
    """Expected calibration error over bins of equal width."""
    table = reliability(labels, probabilities, bins)
    return float(
        sum(abs(row["mean_probability"] - row["share_of_nodules"]) * row["count"] for row in table) / len(labels)
    )


def fit_platt(labels: Labels, values: Values) -> tuple[float, float]:
    """Slope and offset that maximise the likelihood of sigmoid(slope * value + offset), by Newton's method."""
    design = np.stack([values, np.ones_like(values)], axis=1)
    weights = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-(design @ weights)))
        gradient = design.T @ (p - labels)
        curvature = (design * (p * (1 - p))[:, None]).T @ design
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return float(weights[0]), float(weights[1])


def interval(
    score: Callable[[Labels, Values], float],
    labels: Labels,
    values: Values,
    rows: npt.NDArray[np.int64],
    *,
    draws: int = 1000,
    block_rows: int = 3000,
    seed: int = 5,
) -> tuple[float, float]:
    """95 % interval of `score` by drawing blocks of `block_rows` candidate rows (about five scans) with replacement."""
    rng = np.random.default_rng(seed)
    blocks = [np.flatnonzero(rows // block_rows == b) for b in np.unique(rows // block_rows)]
    found = []
    for _ in range(draws):
        chosen = np.concatenate([blocks[b] for b in rng.integers(0, len(blocks), len(blocks))])
        if 0 < labels[chosen].sum() < len(chosen):
            found.append(score(labels[chosen], values[chosen]))
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)

"""Area under the ROC curve with DeLong's variance, and the paired comparison of two scores.

E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, Biometrics 1988; computed by mid-ranks (X. Sun and W. Xu, IEEE
Signal Process Lett 2014).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from polyclinic.agentkit.assessment.proportions import LEVEL, Interval
from polyclinic.core.errors import Rejected

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Auc:
    """Area, its standard error, and the Wald interval cut to [0, 1]."""

    value: float
    standard_error: float
    interval: Interval
    positives: int
    negatives: int


def auc(truth: npt.ArrayLike, score: npt.ArrayLike) -> Auc:
    """Area under the ROC curve; ties count a half.

    Parameters
    ----------
    truth, score
        Shape (n,); true where ill, higher score means more likely ill.

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``assessment.one-class`` unless both classes are present.
    """
    ill, values = _checked(truth, score)
    of_ill, of_well = _components(ill, values)
    variance = _variance(of_ill) / len(of_ill) + _variance(of_well) / len(of_well)
    error = math.sqrt(max(variance, 0.0))
    area = float(of_ill.mean())
    z = float(stats.norm.ppf(0.5 + LEVEL / 2))
    return Auc(
        value=area,
        standard_error=error,
        interval=Interval(low=max(0.0, area - z * error), high=min(1.0, area + z * error)),
        positives=len(of_ill),
        negatives=len(of_well),
    )


def compare_aucs(truth: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[float, float]:
    """Difference first minus second on the same cases, and its two-sided p value by DeLong's covariance."""
    ill, one = _checked(truth, first)
    _, two = _checked(truth, second)
    a, b = _components(ill, one), _components(ill, two)
    difference = float(a[0].mean() - b[0].mean())
    variance = sum(_variance(x - y) / len(x) for x, y in zip(a, b, strict=True))
    if variance <= 0:
        return difference, 1.0 if difference == 0 else 0.0
    return difference, float(2 * stats.norm.sf(abs(difference) / math.sqrt(variance)))


def _checked(truth: npt.ArrayLike, score: npt.ArrayLike) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    ill, values = np.asarray(truth, dtype=bool), np.asarray(score, dtype=np.float64)
    if ill.shape != values.shape or ill.ndim != 1 or ill.all() or not ill.any():
        raise Rejected("assessment.one-class", "An area under the curve needs ill and well cases, one score each")
    return ill, values


def _components(ill: npt.NDArray[np.bool_], score: FloatArray) -> tuple[FloatArray, FloatArray]:
    """DeLong's structural components of the ill and of the well."""
    positive, negative = score[ill], score[~ill]
    m, n = len(positive), len(negative)
    together = stats.rankdata(np.concatenate([positive, negative]))
    of_ill = (together[:m] - stats.rankdata(positive)) / n
    of_well = 1.0 - (together[m:] - stats.rankdata(negative)) / m
    return np.asarray(of_ill), np.asarray(of_well)


def _variance(values: FloatArray) -> float:
    return float(np.var(values, ddof=1)) if len(values) > 1 else 0.0

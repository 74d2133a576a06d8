"""Agreement of two measurements: bias and limits (J. M. Bland and D. G. Altman, Lancet 1986)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from polyclinic.agentkit.assessment.proportions import LEVEL, Interval
from polyclinic.core.errors import Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Measured minus true."""

    count: int
    bias: float
    bias_interval: Interval
    deviation: float
    """Standard deviation of the differences, n - 1."""
    limits: Interval
    """Bias minus and plus 1.96 standard deviations: where 95 % of the differences lie if they are normal."""
    limit_error: float
    """Standard error of either limit, about sqrt(3 / n) standard deviations."""
    largest: float
    """Largest absolute difference."""


def bland_altman(measured: npt.ArrayLike, true: npt.ArrayLike) -> Agreement:
    """Bias, limits of agreement and their uncertainty, of paired values of shape (n,).

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``assessment.pairs`` unless there are at least two pairs.
    """
    difference = np.asarray(measured, dtype=np.float64) - np.asarray(true, dtype=np.float64)
    count = difference.size
    if difference.ndim != 1 or count < 2:
        raise Rejected("assessment.pairs", "Agreement needs at least two pairs")
    bias, deviation = float(difference.mean()), float(difference.std(ddof=1))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, count - 1)) * deviation / math.sqrt(count)
    spread = float(stats.norm.ppf(0.5 + LEVEL / 2)) * deviation
    return Agreement(
        count=count,
        bias=bias,
        bias_interval=Interval(low=bias - half, high=bias + half),
        deviation=deviation,
        limits=Interval(low=bias - spread, high=bias + spread),
        limit_error=deviation * math.sqrt(3 / count),
        largest=float(np.abs(difference).max()),
    )

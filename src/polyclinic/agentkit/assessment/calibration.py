"""Whether a stated probability is the share that comes true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polyclinic.agentkit.assessment.proportions import Proportion
from polyclinic.core.errors import Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Cases whose probability lies in [low, high); the last bin holds its upper end too."""

    low: float
    high: float
    mean_probability: float
    observed: Proportion


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    brier: float
    """Mean squared difference of probability and truth; 0 is perfect."""
    expected_error: float
    """ECE: mean over cases of |observed share - mean probability| of the case's bin."""
    bins: tuple[ReliabilityBin, ...]
    """Bins that hold a case, lowest first."""


def calibration(truth: npt.ArrayLike, probability: npt.ArrayLike, bins: int = 10) -> Calibration:
    """Brier score, expected calibration error and reliability bins of equal width.

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``assessment.probabilities`` without cases or for a value outside [0, 1].
    """
    came, stated = np.asarray(truth, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    if came.shape != stated.shape or stated.size == 0 or stated.min() < 0 or stated.max() > 1:
        raise Rejected("assessment.probabilities", "Calibration needs one probability in [0, 1] for each case")
    place = np.minimum((stated * bins).astype(int), bins - 1)
    rows, error = [], 0.0
    for index in range(bins):
        own = place == index
        count = int(own.sum())
        if count:
            hits, mean = int(came[own].sum()), float(stated[own].mean())
            error += abs(hits - mean * count)
            observed = Proportion(hits=hits, count=count)
            rows.append(
                ReliabilityBin(low=index / bins, high=(index + 1) / bins, mean_probability=mean, observed=observed)
            )
    return Calibration(brier=float(np.mean((stated - came) ** 2)), expected_error=error / stated.size, bins=tuple(rows))

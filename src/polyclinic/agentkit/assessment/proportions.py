"""Shares with their intervals, and p values corrected for many questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from polyclinic.core.errors import Rejected

LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Lower and upper end; NaN where nothing can be said."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportion:
    """`hits` of `count`."""

    hits: int
    count: int

    @property
    def value(self) -> float:
        """The share; NaN of nothing."""
        return self.hits / self.count if self.count else math.nan

    @property
    def interval(self) -> Interval:
        """95 % Wilson score interval."""
        return wilson(self.hits, self.count)


def wilson(hits: int, count: int, level: float = LEVEL) -> Interval:
    """Wilson score interval of a binomial share (E. B. Wilson, J Am Stat Assoc 1927).

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``assessment.counts`` unless 0 <= hits <= count.
    """
    if not 0 <= hits <= count:
        raise Rejected("assessment.counts", "Hits must lie between 0 and the count")
    if count == 0:
        return Interval(low=0.0, high=1.0)
    z = float(stats.norm.ppf(0.5 + level / 2))
    share, z2 = hits / count, z * z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    low = 0.0 if hits == 0 else max(0.0, middle - half)
    return Interval(low=low, high=1.0 if hits == count else min(1.0, middle + half))


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Two by two table of truth and call."""

    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int

    @property
    def sensitivity(self) -> Proportion:
        return Proportion(hits=self.true_positive, count=self.true_positive + self.false_negative)

    @property
    def specificity(self) -> Proportion:
        return Proportion(hits=self.true_negative, count=self.true_negative + self.false_positive)

    def ppv(self, prevalence: float) -> float:
        """Share of the called that are ill where `prevalence` of all are (Bayes); NaN when nobody is called."""
        true = self.sensitivity.value * prevalence
        called = true + (1 - self.specificity.value) * (1 - prevalence)
        return true / called if called > 0 else math.nan


def confusion(truth: npt.ArrayLike, called: npt.ArrayLike) -> Confusion:
    """Count the four cells from two equally long rows of booleans."""
    ill, yes = np.asarray(truth, dtype=bool), np.asarray(called, dtype=bool)
    return Confusion(
        true_positive=int(np.sum(ill & yes)),
        false_negative=int(np.sum(ill & ~yes)),
        true_negative=int(np.sum(~ill & ~yes)),
        false_positive=int(np.sum(~ill & yes)),
    )


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P values adjusted by Holm's step-down method (S. Holm, Scand J Statist 1979), in the order given."""
    count = len(p_values)
    adjusted = [1.0] * count
    highest = 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = highest
    return tuple(adjusted)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p value that two paired readers err equally often, from the discordant pairs."""
    count = only_first + only_second
    return 1.0 if count == 0 else float(stats.binomtest(only_first, count, 0.5).pvalue)

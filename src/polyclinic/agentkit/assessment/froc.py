"""Free-response ROC: sensitivity against false positives per scan, CPM, and a bootstrap by patient.

A nodule is found when a mark lies within its radius, the rule of LUNA16 (A. Setio et al., Med Image Anal 2017); the CPM
is the mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan. Only operating points that a threshold
reaches count: where the agent shows no further marks the last sensitivity is held, and nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polyclinic.agentkit.assessment.proportions import LEVEL, Interval
from polyclinic.core.errors import Rejected

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanMarks:
    """What a free-response judgement of one scan comes to."""

    patient: str
    found: tuple[float, ...]
    """Confidence of the best mark on each nodule that has one."""
    nodules: int
    """Nodules that count, found or not."""
    false: tuple[float, ...]
    """Confidence of each mark on nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrocPoint:
    rate: float
    """False positives per scan allowed."""
    sensitivity: float
    interval: Interval
    threshold: float | None
    """Confidence that reaches it, None when even the highest gives more false positives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Froc:
    scans: int
    nodules: int
    patients: int
    points: tuple[FrocPoint, ...]
    cpm: float
    cpm_interval: Interval
    most_sensitivity: float
    """With every mark that was shown."""
    most_false_per_scan: float
    resamples: int
    seed: int


def froc(scans: Sequence[ScanMarks], *, resamples: int = 2000, seed: int = 0) -> Froc:
    """FROC of `scans`, with 95 % percentile intervals from drawing patients with replacement.

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``assessment.no-nodules`` when no scan has a nodule.
    """
    if sum(scan.nodules for scan in scans) == 0:
        raise Rejected("assessment.no-nodules", "A FROC needs at least one nodule")
    marks = _Marks(scans)
    every = np.ones(len(marks.patients))
    sensitivity, thresholds = marks.at_rates(every)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        picked = np.bincount(rng.integers(0, len(every), len(every)), minlength=len(every)).astype(np.float64)
        if picked @ marks.nodules > 0:
            drawn.append(marks.at_rates(picked)[0])
    draws = np.asarray(drawn) if drawn else sensitivity[None]
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(draws, (tail, 100 - tail), axis=0)
    means = np.percentile(draws.mean(axis=1), (tail, 100 - tail))
    last_found, last_false = marks.totals(every)
    return Froc(
        scans=len(scans),
        nodules=int(marks.nodules.sum()),
        patients=len(every),
        points=tuple(
            FrocPoint(
                rate=rate,
                sensitivity=float(sensitivity[n]),
                interval=Interval(low=float(low[n]), high=float(high[n])),
                threshold=thresholds[n],
            )
            for n, rate in enumerate(RATES)
        ),
        cpm=float(sensitivity.mean()),
        cpm_interval=Interval(low=float(means[0]), high=float(means[1])),
        most_sensitivity=last_found,
        most_false_per_scan=last_false,
        resamples=resamples,
        seed=seed,
    )


class _Marks:
    """All marks in order of confidence; a resample is a weight for each patient."""

    def __init__(self, scans: Sequence[ScanMarks]) -> None:
        self.patients = sorted({scan.patient for scan in scans})
        number = {patient: n for n, patient in enumerate(self.patients)}
        owners = np.asarray([number[scan.patient] for scan in scans])
        self.nodules = np.bincount(owners, [scan.nodules for scan in scans], len(self.patients))
        self.scans = np.bincount(owners, minlength=len(self.patients)).astype(np.float64)
        rows = [(c, number[s.patient], True) for s in scans for c in s.found]
        rows += [(c, number[s.patient], False) for s in scans for c in s.false]
        rows.sort(key=lambda row: -row[0])
        self.confidence = np.asarray([row[0] for row in rows], dtype=np.float64)
        self.owner = np.asarray([row[1] for row in rows], dtype=np.int64)
        self.hit = np.asarray([row[2] for row in rows], dtype=bool)
        # Equal confidences pass a threshold together: only the last of them is an operating point.
        self.ends = np.flatnonzero(np.append(np.diff(self.confidence) != 0, True)) if rows else np.empty(0, np.int64)

    def curve(self, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Sensitivity and false positives per scan at each operating point, the strictest first."""
        own = weight[self.owner]
        found = np.cumsum(own * self.hit)[self.ends] / (weight @ self.nodules)
        false = np.cumsum(own * ~self.hit)[self.ends] / (weight @ self.scans)
        return found, false

    def at_rates(self, weight: FloatArray) -> tuple[FloatArray, list[float | None]]:
        found, false = self.curve(weight)
        last = np.searchsorted(false, np.asarray(RATES) + 1e-12, side="right") - 1
        values = np.where(last >= 0, found[np.maximum(last, 0)] if len(found) else 0.0, 0.0)
        limits = [float(self.confidence[self.ends[n]]) if n >= 0 else None for n in last]
        return np.asarray(values, dtype=np.float64), limits

    def totals(self, weight: FloatArray) -> tuple[float, float]:
        found, false = self.curve(weight)
        return (float(found[-1]), float(false[-1])) if len(found) else (0.0, 0.0)

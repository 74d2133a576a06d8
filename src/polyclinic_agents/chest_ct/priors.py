"""Comparison with an earlier chest CT: read it, bring it together with this scan, look at the place of each nodule.

Nothing here may cost the study its own result: every stage has an end in time, and whatever is wrong with an earlier
study becomes a fact of the run. The earlier study is measured anew with the same code, so that both sizes err alike.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import overload

from pydicom.dataset import Dataset

from polyclinic.agentkit.case import Case, CasePrior
from polyclinic.agentkit.outcome import Fact
from polyclinic.core.errors import PolyclinicError
from polyclinic.dicom.volume import read_volume
from polyclinic_agents.chest_ct.earlier import Earlier, Followed, Gone, Now
from polyclinic_agents.chest_ct.lungs import find_lungs
from polyclinic_agents.chest_ct.registration import Unregistered, register
from polyclinic_agents.chest_ct.scan import Scan, turn
from polyclinic_agents.chest_ct.series_choice import THICK_MM, choose
from polyclinic_agents.chest_ct.suitability import Unsuitable, check_lungs, check_volume

log = logging.getLogger(__name__)

LIMIT_S = 45.0
"""For all earlier studies together; the usual cost is a few seconds."""


class NotCompared(Exception):
    """An earlier study cannot be compared with; `reason` completes a sentence, without patient data."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """This scan beside an earlier one."""

    study_date: date | None
    interval_days: int | None
    residual_mm: float
    agreement: float
    spacing_mm: float
    """Between the slices of the earlier scan."""
    thickness_mm: float
    followed: tuple[Followed, ...]
    """In the order of the nodules given."""
    gone: tuple[Gone, ...]

    def facts(self) -> tuple[Fact, ...]:
        days = "" if self.interval_days is None else str(self.interval_days)
        return (
            Fact(name="compared with", value=_day(self.study_date)),
            Fact(name="comparison interval", value=f"{days} d" if days else "not stated"),
            Fact(name="comparison residual", value=f"{self.residual_mm:.1f} mm"),
            Fact(name="comparison agreement", value=f"{self.agreement:.2f}"),
        )


def compare(case: Case, study_date: date | None, now: Now) -> tuple[Comparison | None, tuple[Fact, ...]]:
    """Compare with the newest earlier study that allows it; facts say with which, and why not with others."""
    facts: list[Fact] = []
    until = time.monotonic() + LIMIT_S
    for prior in case.priors:
        try:
            made = _Comparer(prior, study_date, now, until).compared()
            return made, (*facts, *made.facts())
        except (NotCompared, Unsuitable, Unregistered) as unfit:
            reason = unfit.reason
        except PolyclinicError as error:
            reason = f"it could not be read ({error.code})"
        except Exception as error:  # noqa: BLE001 - an earlier study must not cost this one its result
            log.warning("comparison with an earlier study stopped: %s", type(error).__name__)
            reason = f"it could not be compared ({type(error).__name__})"
        facts.append(Fact(name="not compared", value=f"{_day(prior.study_date)}: {reason.rstrip('.')}"))
    return None, tuple(facts)


def _day(value: date | None) -> str:
    return "not stated" if value is None else value.isoformat()


class _InTime(Sequence[Dataset]):
    """Datasets that are read only while there is time."""

    def __init__(self, datasets: Sequence[Dataset], check: Callable[[], None]) -> None:
        self._datasets = datasets
        self._check = check

    def __len__(self) -> int:
        return len(self._datasets)

    @overload
    def __getitem__(self, index: int) -> Dataset: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Dataset]: ...
    def __getitem__(self, index: int | slice) -> Dataset | Sequence[Dataset]:
        self._check()
        if isinstance(index, slice):
            return _InTime(self._datasets[index], self._check)
        return self._datasets[index]


class _Comparer:
    """One earlier study through all stages."""

    def __init__(self, prior: CasePrior, study_date: date | None, now: Now, until: float) -> None:
        self._prior = prior
        self._now = now
        self._until = until
        known = prior.study_date is not None and study_date is not None
        self._interval_days = (study_date - prior.study_date).days if known else None  # type: ignore[operator]

    def compared(self) -> Comparison:
        """Raises `NotCompared`, `Unsuitable` or `Unregistered`."""
        if self._interval_days is not None and self._interval_days <= 0:
            raise NotCompared("it is not older than this study")
        scan = self._read()
        self._in_time()
        lungs = check_lungs(scan, find_lungs(scan))
        self._in_time()
        registration = register(self._now.scan, self._now.lungs, scan, lungs)
        earlier = Earlier(self._prior, registration, self._now, self._in_time)
        followed = earlier.follow()
        gone = earlier.gone(followed)
        facts = scan.volume.facts
        return Comparison(
            study_date=self._prior.study_date,
            interval_days=self._interval_days,
            residual_mm=registration.residual_mm,
            agreement=registration.agreement,
            spacing_mm=scan.spacing_mm[0],
            thickness_mm=max(facts.slice_thickness_mm or 0.0, scan.spacing_mm[0]),
            followed=followed,
            gone=gone,
        )

    def _read(self) -> Scan:
        as_case = Case(study_instance_uid=self._prior.study_instance_uid, revision=1, series=self._prior.series)
        choices, _passed = choose(as_case)
        if not choices:
            raise NotCompared("it has no axial CT series that can be judged")
        self._in_time()
        volume = read_volume(_InTime(choices[0].series.datasets, self._in_time))
        check_volume(volume)
        scan = turn(volume)
        if max(volume.facts.slice_thickness_mm or 0.0, scan.spacing_mm[0]) > THICK_MM:
            raise NotCompared("its slices are thicker than 5 mm")
        return scan

    def _in_time(self) -> None:
        if time.monotonic() > self._until:
            raise NotCompared("comparing took too long")

"""What an agent is given: one study, read-only, and the few tools it may use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from polyclinic.core.findings import Finding

MAX_PRIORS = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CaseSeries:
    """One series of the frozen study snapshot.

    `datasets` may read lazily: indexing it can cost a file read, and the pixel data are still encoded.
    """

    series_instance_uid: str
    modality: str
    description: str
    datasets: Sequence[Dataset]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CasePrior:
    """An earlier study of the same patient that shows the same part of the body, to compare with."""

    study_instance_uid: str
    study_date: date | None
    series: tuple[CaseSeries, ...]
    """Lazy, as those of the case: what is never asked for is never read. Empty when they cannot be had."""
    signed: bool = False
    """Whether its report was signed: then what is not among `findings` was looked at and not kept."""
    findings: tuple[Finding, ...] = ()
    """Those that stand in its signed report."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One study at one revision, with what the record says about it."""

    study_instance_uid: str
    revision: int
    series: tuple[CaseSeries, ...]
    context: Mapping[str, str] = field(default_factory=dict)
    """Frozen clinical context: ``indication``, ``sex``, ``age_years`` where known."""
    priors: tuple[CasePrior, ...] = ()
    """Newest first, at most `MAX_PRIORS`. What is wrong with them must not cost the case its own result."""


class Model(Protocol):
    """A network ready to run; see the inference port."""

    def run(self, inputs: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
        """Named arrays in, named arrays out; batch is the first axis."""


class Tools(Protocol):
    """Everything of the outside world that an agent may touch."""

    def progress(self, step: str, fraction: float) -> None:
        """Say which step runs and how much of the whole, in [0, 1], is done. Cheap; call it at each step."""

    def model(self, name: str) -> Model:
        """The model that the manifest lists under `name`, its sha256 checked, kept warm between runs.

        Raises
        ------
        polyclinic.core.errors.Unavailable
            ``inference.model-missing`` when the weights are not installed or their hash differs.
        """


class SilentTools:
    """Tools for tests and scripts: progress goes nowhere, models come from the given mapping."""

    def __init__(self, models: Mapping[str, Model] | None = None) -> None:
        self._models = dict(models or {})

    def progress(self, step: str, fraction: float) -> None:
        """Ignore the progress."""

    def model(self, name: str) -> Model:
        """The model given at construction; KeyError when there is none."""
        return self._models[name]

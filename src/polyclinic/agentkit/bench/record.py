"""What one run of an agent came to, small enough to be sent between processes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import orjson

from polyclinic.agentkit.bench.outcome_faults import Fault, outcome_faults
from polyclinic.agentkit.case import Case
from polyclinic.agentkit.manifest import Manifest
from polyclinic.agentkit.outcome import Abstained, Assessed
from polyclinic.core.plain import to_plain


class End(StrEnum):
    """How a run ended."""

    ASSESSED = "assessed"
    ABSTAINED = "abstained"
    FAILED = "failed"
    """It raised, or returned something that is no Outcome."""
    STOPPED = "stopped"
    """It took more than its limits, or its process died."""
    NOT_RUN = "not run"
    """The probe means nothing for this study, or the bench stopped before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A measurement of a finding, or its confidence."""

    name: str
    unit: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run. `exact` and `free` are hashes of the outcome, the second without its UIDs and ids."""

    end: End
    reason_code: str = ""
    reason: str = ""
    faults: tuple[Fault, ...] = ()
    exact: str = ""
    free: str = ""
    findings: int = 0
    values: tuple[Value, ...] = ()
    trespasses: tuple[str, ...] = ()
    """Files written, sockets opened and processes started, as the guard saw them."""
    elapsed_s: float = 0.0
    peak_memory_mb: float = 0.0


def record_of(outcome: object, case: Case, manifest: Manifest) -> RunRecord:
    """Judge an outcome by itself; `case` is the study that was given."""
    if isinstance(outcome, Abstained):
        silent = not outcome.reason_code.strip() or not outcome.reason.strip()
        faults = [Fault(rule="abstains", text="it abstained without a reason")] if silent else []
        if outcome.agent != manifest.source:
            faults.append(Fault(rule="codes", text="the outcome does not name the agent and version of the manifest"))
        plain = to_plain(outcome)
        return RunRecord(
            end=End.ABSTAINED,
            reason_code=outcome.reason_code,
            reason=outcome.reason,
            faults=tuple(faults),
            exact=_digest(plain),
            free=_digest(_without_names(plain, _names(case, {}))),
        )
    if not isinstance(outcome, Assessed):
        return RunRecord(end=End.FAILED, reason=f"it returned {type(outcome).__name__}, not Assessed or Abstained")
    plain = to_plain(replace(outcome, masks=(), seconds=()))
    plain["masks"] = [
        to_plain(replace(mask, voxels=np.zeros(0, np.uint8)))
        | {"voxels": hashlib.sha256(np.ascontiguousarray(mask.voxels).tobytes()).hexdigest()}
        for mask in outcome.masks
    ]
    ids = {finding.id: f"finding-{number}" for number, finding in enumerate(outcome.findings)}
    return RunRecord(
        end=End.ASSESSED,
        faults=outcome_faults(outcome, manifest, case),
        exact=_digest(plain),
        free=_digest(_without_names(plain, _names(case, ids))),
        findings=len(outcome.findings),
        values=_values(outcome),
    )


def _values(outcome: Assessed) -> tuple[Value, ...]:
    found = [
        Value(name=m.code.display, unit=m.unit, value=float(m.value)) for f in outcome.findings for m in f.measurements
    ]
    found += [
        Value(name=f"confidence of {f.code.display}", unit="1", value=float(f.confidence))
        for f in outcome.findings
        if f.confidence is not None
    ]
    return tuple(value for value in found if math.isfinite(value.value))


def _names(case: Case, ids: Mapping[str, str]) -> dict[str, str]:
    """Every UID of the study and id of a finding -> the same word whatever the UIDs are."""
    names = dict(ids)
    names[case.study_instance_uid] = "study"
    for number, series in enumerate(sorted(case.series, key=lambda one: len(one.datasets))):
        names[series.series_instance_uid] = f"series-{number}"
        placed = []
        for index in range(len(series.datasets)):
            image = series.datasets[index]
            place = [float(v) for v in image.get("ImagePositionPatient") or ()]
            placed.append((place, str(image.get("InstanceNumber", "")), str(image.get("SOPInstanceUID", ""))))
            names[str(image.get("FrameOfReferenceUID", ""))] = "frame"
        for index, (_, _, uid) in enumerate(sorted(placed)):
            names[uid] = f"image-{number}-{index}"
    return names


def _without_names(plain: Any, names: Mapping[str, str]) -> Any:
    if isinstance(plain, dict):
        return {key: _without_names(value, names) for key, value in plain.items()}
    if isinstance(plain, list):
        return [_without_names(value, names) for value in plain]
    if isinstance(plain, str):
        return names.get(plain, plain)
    return plain


def _digest(plain: Any) -> str:
    return hashlib.sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)).hexdigest()

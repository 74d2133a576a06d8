"""The machine-readable record of an assessment: a topic sheet in the manner of the WHO/ITU focus group's data sheets.

Fields: what was assessed (agent, version, hashes), on what (dataset with provenance, licence, split and hash), with
what result (figures with intervals, and every case), when, where and by which code. Written with sorted keys, its
SHA-256 beside it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyclinic.agentkit.assessment.bench import CaseResult, Figures
from polyclinic.core.errors import Rejected
from polyclinic.core.plain import to_plain

SCHEMA_VERSION = "1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSheet:
    id: str
    version: str
    stage: str
    intended_use: str
    population: str
    weights_sha256: Mapping[str, str]
    code_sha256: str
    """Of the agent package's Python files: a change without a new version shows here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSheet:
    name: str
    version: str
    provenance: str
    licence: str
    truth: str
    proves: str
    split: str
    listing_sha256: str
    independence: str
    figures: Figures
    cases: tuple[CaseResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSheet:
    system: str
    processor: str
    cores: int
    load: tuple[float, ...]
    """Load averages over 1, 5 and 15 minutes when the run began; times depend on it."""
    python: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    schema_version: str
    topic: str
    agent: AgentSheet
    datasets: tuple[DatasetSheet, ...]
    hit_rule: str
    bootstrap: str
    made_at: str
    """ISO 8601, UTC."""
    seconds: float
    peak_memory_mb: float
    machine: MachineSheet


def to_json(record: Assessment) -> bytes:
    """Stable bytes: sorted keys, six digits, null for what is not a number."""
    return (json.dumps(_tidy(to_plain(record)), indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _tidy(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _tidy(inner) for key, inner in value.items()}
    return [_tidy(inner) for inner in value] if isinstance(value, list) else value


def write_record(record: Assessment, path: Path) -> dict[str, Any]:
    """Write the record and, beside it, its SHA-256 in the manner of sha256sum; returns what was written."""
    data = to_json(record)
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    path.with_suffix(path.suffix + ".sha256").write_text(f"{digest}  {path.name}\n", "utf-8")
    return read_record(path)


def read_record(path: Path) -> dict[str, Any]:
    """Read a record as plain values, when it is the one that was written.

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``assessment.record`` when it was changed or cannot be read.
    """
    try:
        data = path.read_bytes()
        stated = path.with_suffix(path.suffix + ".sha256").read_text("utf-8").split()
        found: dict[str, Any] = json.loads(data)
    except (OSError, ValueError) as error:
        raise Rejected("assessment.record", f"The record {path.name} cannot be read with its hash") from error
    if stated[:1] != [hashlib.sha256(data).hexdigest()]:
        raise Rejected("assessment.record", f"The record {path.name} is not the one that was written: its hash differs")
    return found

"""The nouns of `findings.json`, which programs outside read and write. Schema in docs/findings.schema.json."""

from __future__ import annotations

from dataclasses import dataclass

from polyclinic.agentkit.outcome import Fact
from polyclinic.core.codes import Code
from polyclinic.core.findings import Finding, Source

SCHEMA_VERSION = "1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Abstention:
    """Why an agent did not judge the study."""

    reason_code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRun:
    """What one agent made of the study: findings, or an abstention."""

    agent: Source
    series_instance_uid: str
    abstained: Abstention | None
    facts: tuple[Fact, ...]
    normal: tuple[Code, ...]
    not_assessed: tuple[str, ...]
    seconds: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingsDocument:
    """One study. Positions are patient space in mm, LPS; `state` is ``proposed`` until a physician decides."""

    schema_version: str
    study_instance_uid: str
    runs: tuple[AgentRun, ...]
    findings: tuple[Finding, ...]

"""`findings.json`: what `polyclinic analyse` writes for other programs. Schema in docs/findings.schema.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from polyclinic.agentkit.outcome import Abstained, Assessed, Fact, Outcome
from polyclinic.core.codes import Code
from polyclinic.core.findings import Finding, Source
from polyclinic.core.plain import to_plain

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


def findings_document(study_instance_uid: str, outcomes: tuple[Outcome, ...]) -> FindingsDocument:
    """Document of all outcomes, findings in the order in which the agents gave them."""
    return FindingsDocument(
        schema_version=SCHEMA_VERSION,
        study_instance_uid=study_instance_uid,
        runs=tuple(_run(outcome) for outcome in outcomes),
        findings=tuple(f for outcome in outcomes if isinstance(outcome, Assessed) for f in outcome.findings),
    )


def _run(outcome: Outcome) -> AgentRun:
    if isinstance(outcome, Abstained):
        return AgentRun(
            agent=outcome.agent,
            series_instance_uid=outcome.series_instance_uid,
            abstained=Abstention(reason_code=outcome.reason_code, reason=outcome.reason),
            facts=outcome.facts,
            normal=(),
            not_assessed=(),
            seconds=(),
        )
    return AgentRun(
        agent=outcome.agent,
        series_instance_uid=outcome.series_instance_uid,
        abstained=None,
        facts=outcome.facts,
        normal=outcome.normal,
        not_assessed=outcome.not_assessed,
        seconds=outcome.seconds,
    )


def write_findings(document: FindingsDocument, path: Path) -> None:
    """Write as UTF-8 JSON, stable key order, one trailing newline."""
    path.write_text(json.dumps(to_plain(document), ensure_ascii=False, indent=1) + "\n", "utf-8")


def findings_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the document, made from the nouns themselves."""
    schema: dict[str, Any] = TypeAdapter(FindingsDocument).json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Polyclinic findings document"
    return schema

"""`findings.json`: what `polyclinic analyse` writes for other programs. Schema in docs/findings.schema.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from polyclinic.agentkit.findings_json import SCHEMA_VERSION, Abstention, AgentRun, FindingsDocument
from polyclinic.agentkit.outcome import Abstained, Assessed, Outcome
from polyclinic.core.plain import to_plain


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

"""How the reading room's nouns look in JSON. `docs` of the API say the rest; keys are the field names of the nouns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polyclinic.core import codes
from polyclinic.core.findings import Finding
from polyclinic.core.plain import to_plain
from polyclinic.departments.reading.contracts import (
    AgentRun,
    DecidedFinding,
    Delivery,
    DerivedObject,
    Language,
    StudyStatus,
)
from polyclinic.departments.reading.description import WORDINGS, Describer, capital, term
from polyclinic.departments.reading.desk import ShownReport


def _describer(language: Language) -> Describer:
    return Describer(words=WORDINGS[language], language=language, instance_numbers={})


def finding_view(item: DecidedFinding, language: Language) -> dict[str, Any]:
    """One finding with its decisions counted; `limits` are those of the finding in the reader's language."""
    say = _describer(language)
    return {
        "finding": to_plain(item.finding),
        "limits": [say.phrase(limit) for limit in item.finding.limits],
        "version": item.version,
        "title": _title(item.finding, say),
        "decided_by": item.decided_by,
        "decided_at": to_plain(item.decided_at),
        "reason": item.reason,
    }


def _title(finding: Finding, say: Describer) -> str:
    """What it is; of an organ's measure also where, since one measure is made at several places."""
    name = term(finding.code, say.language)
    return name if finding.attribute(codes.INTERPRETATION) is None else f"{capital(say.site(finding))} · {name}"


def run_view(run: AgentRun, language: Language) -> dict[str, Any]:
    """One agent run in the reader's language; `withheld` are findings that did not pass the checks."""
    say = _describer(language)
    return {
        "id": run.run_id,
        "agent_id": run.task.agent_id,
        "agent_version": run.task.agent_version,
        "agent_title": say.phrase(run.task.agent_title),
        "state": run.state,
        "step": run.step,
        "fraction": run.fraction,
        "attempt": run.attempt,
        "reason": say.phrase(run.reason),
        "series_instance_uid": run.series_instance_uid,
        "facts": [{"name": say.phrase(fact.name), "value": say.phrase(str(fact.value))} for fact in run.facts],
        "not_assessed": [say.phrase(part) for part in run.not_assessed],
        "seconds": to_plain(run.seconds),
        "withheld": [
            {"finding_id": w.finding_id, "title": term(w.code, language), "reason": w.reason} for w in run.withheld
        ],
    }


def report_view(shown: ShownReport) -> dict[str, Any]:
    """A report, draft or final."""
    report = shown.report
    return {
        "state": "final" if report.signature else "draft",
        "revision": report.revision,
        "language": report.language,
        "translation_of": shown.translation_of,
        "undecided": report.undecided,
        "sections": to_plain(report.sections),
        "signature": to_plain(report.signature),
        "content_sha256": shown.sha256,
    }


def status_view(status: StudyStatus) -> dict[str, Any]:
    """Where a study stands."""
    keys = ("study_instance_uid", "revision", "state", "step", "fraction", "reason")
    return {key: to_plain(getattr(status, key)) for key in keys}


def object_views(objects: Sequence[DerivedObject]) -> list[dict[str, Any]]:
    """Derived objects."""
    return [to_plain(item) for item in objects]


def delivery_views(deliveries: Sequence[Delivery]) -> list[dict[str, Any]]:
    """Deliveries; `key` names one where it is tried again."""
    keys = ("key", "destination", "kind", "state", "attempts", "reason")
    return [{key: to_plain(getattr(item, key)) for key in keys} for item in deliveries]

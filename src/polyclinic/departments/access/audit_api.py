"""The ledger over HTTP, for administrators: who saw this study, who saw this patient, what did this person do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC
from typing import Any

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from polyclinic.core.audit import AgentKind, KeptEntry
from polyclinic.core.people import Person
from polyclinic.departments.access.audit_store import Ledger, Question

Allow = Callable[[str], Callable[..., Person]]
Patients = Callable[[str, str], tuple[str, ...]]
"""Study Instance UIDs that belong to a patient id and issuer now."""
Names = Callable[[Iterable[str]], Mapping[str, str]]
"""Display names of person ids."""


class AuditQuestion(BaseModel):
    """Which entries are wanted. A patient's number stands in the body, never in an address."""

    model_config = ConfigDict(extra="forbid")

    study_instance_uid: str = Field(default="", max_length=64)
    patient_id: str = Field(default="", max_length=64)
    issuer: str = Field(default="", max_length=64)
    agent_id: str = Field(default="", max_length=64)
    action: str = Field(default="", max_length=40)
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    cursor: int | None = Field(default=None, ge=1, lt=2**63)
    limit: int = Field(default=100, ge=1, le=1000)


def audit_router(ledger: Ledger, allow: Allow, *, studies_of: Patients, names_of: Names) -> APIRouter:
    """``/audit/search`` and ``/audit/studies/{study_instance_uid}``."""
    router = APIRouter(prefix="/audit", tags=["audit"])
    may_read = Depends(allow("audit.read"))

    @router.post("/search", operation_id="searchAudit")
    def search(question: AuditQuestion, _: Person = may_read) -> dict[str, Any]:
        studies = [question.study_instance_uid] if question.study_instance_uid else []
        patients = []
        if question.patient_id:
            patients = [(question.patient_id, question.issuer)]
            studies += studies_of(question.patient_id, question.issuer)
        asked = Question(
            study_instance_uids=tuple(studies),
            patients=tuple(patients),
            agent_id=question.agent_id,
            action=question.action,
            since=question.since,
            until=question.until,
            before_sequence=question.cursor,
            limit=question.limit,
        )
        return _page(ledger.find(asked), question.limit, names_of)

    @router.get("/studies/{study_instance_uid}", operation_id="getStudyAudit")
    def of_study(study_instance_uid: str, _: Person = may_read) -> dict[str, Any]:
        limit = 1000
        return _page(ledger.find(Question(study_instance_uids=(study_instance_uid,), limit=limit)), limit, names_of)

    return router


def _page(found: tuple[KeptEntry, ...], limit: int, names_of: Names) -> dict[str, Any]:
    names = names_of({kept.entry.agent_id for kept in found if kept.entry.agent_kind is AgentKind.PERSON})
    rows = [_plain(kept, names) for kept in found]
    return {"rows": rows, "next_cursor": found[-1].sequence if len(found) == limit else None}


def _plain(kept: KeptEntry, names: Mapping[str, str]) -> dict[str, Any]:
    entry = kept.entry
    return {
        "sequence": kept.sequence,
        "at": entry.at.astimezone(UTC).isoformat(),
        "action": entry.action,
        "outcome": entry.outcome,
        "agent_kind": entry.agent_kind,
        "agent_id": entry.agent_id,
        "agent_name": names.get(entry.agent_id, ""),
        "roles": list(entry.roles),
        "address": entry.address,
        "study_instance_uid": entry.study_instance_uid,
        "patient_id": entry.patient_id,
        "issuer": entry.issuer,
        "detail": dict(entry.detail),
    }

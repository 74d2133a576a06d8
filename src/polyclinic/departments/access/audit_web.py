"""Requests as audit entries: what the gate lets pass or refuses, recorded in one place."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

from starlette.requests import HTTPConnection

from polyclinic.core.audit import AgentKind, AuditEntry, AuditOutcome
from polyclinic.departments.access.audit_window import LIST_WINDOW_S, READ_WINDOW_S, Recorder
from polyclinic.departments.access.contracts import Action, Actor
from polyclinic.departments.access.rules import OPEN_TO_ALL

UNRECORDED = OPEN_TO_ALL | {Action.METRICS_READ}
"""Actions that touch no patient's data; signing in and out is recorded where it is done."""
COUNTED = frozenset({Action.DICOM_SEARCH, Action.DICOM_STORE})
"""Counted like the actions whose name ends in ``.read``: a search shows a list, and what is stored shows itself. Every
other action is a change, in the ledger before it is done."""


class Audit(Protocol):
    """What the gate tells."""

    def passed(self, request: HTTPConnection, action: Action, actor: Actor | None, study_instance_uid: str) -> None:
        """The request may do this."""

    def refused(self, request: HTTPConnection, action: Action, actor: Actor | None, study: str, *, code: str) -> None:
        """The request may not; `code` is that of the error it gets."""

    def session(
        self, request: HTTPConnection, action: str, *, person_id: str, roles: frozenset[str], code: str = ""
    ) -> None:
        """Somebody signed in or out, or, with a `code`, was refused."""


class WebAudit:
    """Records what passes the gate."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def passed(self, request: HTTPConnection, action: Action, actor: Actor | None, study_instance_uid: str) -> None:
        """See `Audit.passed`."""
        if action in UNRECORDED:
            return
        about = _resource(request)
        entry = web_entry(request, action, actor, study_instance_uid, detail={"resource": about} if about else None)
        if action not in COUNTED and not action.value.endswith(".read"):
            self._recorder.record(entry)
            return
        key = (session_mark(request), entry.agent_id, entry.address, action, study_instance_uid, about)
        window_s = READ_WINDOW_S if study_instance_uid or about else LIST_WINDOW_S
        self._recorder.observe(entry, key=key, window_s=window_s)

    def refused(self, request: HTTPConnection, action: Action, actor: Actor | None, study: str, *, code: str) -> None:
        """See `Audit.refused`."""
        entry = web_entry(request, action, actor, study, outcome=AuditOutcome.DENIED, detail={"code": code})
        # Whoever is not signed in can name as many studies as there are numbers: one count for all of them.
        about = study if actor is not None else ""
        self._recorder.refuse(entry, key=("refused", entry.agent_id, entry.address, action, about, code))

    def session(
        self, request: HTTPConnection, action: str, *, person_id: str, roles: frozenset[str], code: str = ""
    ) -> None:
        """See `Audit.session`."""
        self._recorder.record(
            AuditEntry(
                at=datetime.now(UTC),
                action=action,
                outcome=AuditOutcome.DENIED if code else AuditOutcome.ALLOWED,
                agent_kind=AgentKind.PERSON if person_id else AgentKind.NOBODY,
                agent_id=person_id,
                roles=tuple(sorted(roles)),
                address=address_of(request),
                detail={"code": code} if code else {},
            )
        )


class NoAudit:
    """Records nothing; for tests of single parts."""

    def passed(self, request: HTTPConnection, action: Action, actor: Actor | None, study_instance_uid: str) -> None:
        """See `Audit.passed`."""

    def refused(self, request: HTTPConnection, action: Action, actor: Actor | None, study: str, *, code: str) -> None:
        """See `Audit.refused`."""

    def session(
        self, request: HTTPConnection, action: str, *, person_id: str, roles: frozenset[str], code: str = ""
    ) -> None:
        """See `Audit.session`."""


def web_entry(
    request: HTTPConnection,
    action: Action,
    actor: Actor | None,
    study_instance_uid: str = "",
    *,
    outcome: AuditOutcome = AuditOutcome.ALLOWED,
    detail: Mapping[str, str] | None = None,
) -> AuditEntry:
    """The entry of a request, as of now."""
    person = actor.person if actor else None
    return AuditEntry(
        at=datetime.now(UTC),
        action=action.value,
        outcome=outcome,
        agent_kind=AgentKind.PERSON if person else AgentKind.NOBODY,
        agent_id=person.person_id if person else "",
        roles=tuple(sorted(person.roles)) if person else (),
        address=address_of(request),
        study_instance_uid=study_instance_uid[:64],
        detail=detail or {},
    )


def _resource(request: HTTPConnection) -> str:
    """FHIR's ``type/id`` and a workitem's UID; what is searched for stands in the query, which is not looked at."""
    path = str(request.scope.get("path", ""))
    for prefix in ("/fhir/", "/dicom-web/workitems/"):
        if path.startswith(prefix):
            return path.removeprefix(prefix)[:100]
    return ""


def address_of(request: HTTPConnection) -> str:
    """Network address of the other side."""
    return request.client.host if request.client else ""


def session_mark(request: HTTPConnection) -> str:
    """Tells sessions apart without being of use to anybody who reads it."""
    secret = request.headers.get("Authorization") or request.headers.get("Cookie") or ""
    return hashlib.sha256(secret.encode()).hexdigest()[:16]

"""Who may do what: one table, one function."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from polyclinic.departments.access.contracts import (
    EVERY_SITE,
    AccessDecision,
    Action,
    Actor,
    Resource,
    Role,
)

OPEN_TO_ALL: frozenset[Action] = frozenset(
    {Action.SESSION_USE, Action.HEALTH_READ, Action.PAGE_READ, Action.FHIR_METADATA}
)

_STAFF = frozenset({Role.RADIOLOGIST, Role.TECHNICIAN, Role.ADMINISTRATOR})

ALLOWED_ROLES: Mapping[Action, frozenset[Role]] = {
    Action.METRICS_READ: frozenset({Role.ADMINISTRATOR}),
    Action.WORKLIST_READ: _STAFF,
    Action.STUDY_READ: _STAFF,
    Action.FINDING_DECIDE: frozenset({Role.RADIOLOGIST}),
    Action.REPORT_SIGN: frozenset({Role.RADIOLOGIST}),
    Action.RUN_RETRY: _STAFF,
    Action.DICOM_SEARCH: _STAFF | {Role.DEVICE},
    Action.DICOM_READ: _STAFF | {Role.DEVICE},
    Action.DICOM_STORE: frozenset({Role.TECHNICIAN, Role.ADMINISTRATOR, Role.DEVICE}),
    Action.DICOM_DELETE: frozenset({Role.ADMINISTRATOR}),
    Action.WORKITEM_READ: _STAFF | {Role.DEVICE},
    Action.WORKITEM_WORK: frozenset({Role.TECHNICIAN, Role.ADMINISTRATOR, Role.DEVICE}),
    Action.AUDIT_READ: frozenset({Role.ADMINISTRATOR}),
    Action.FHIR_READ: _STAFF | {Role.DEVICE},
    Action.FHIR_WRITE: frozenset({Role.TECHNICIAN, Role.ADMINISTRATOR, Role.DEVICE}),
}
"""An action that stands neither here nor in `OPEN_TO_ALL` is allowed to nobody."""


def decide(actor: Actor | None, action: Action, resource: Resource) -> AccessDecision:
    """Whether the actor may do this to the resource; `actor` is None where nobody is signed in."""
    if action in OPEN_TO_ALL:
        return AccessDecision(allowed=True, reason="open to everybody")
    if actor is None:
        return AccessDecision(allowed=False, reason="nobody is signed in")
    roles = ALLOWED_ROLES.get(action, frozenset())
    if not roles & actor.person.roles:
        wanted = " or ".join(sorted(roles)) or "nobody"
        return AccessDecision(allowed=False, reason=f"{action} needs the role {wanted}")
    if resource.site and not {EVERY_SITE, resource.site} & actor.sites:
        return AccessDecision(allowed=False, reason="the study belongs to a site that is not yours")
    return AccessDecision(allowed=True, reason=f"{action} is given to the role")


def csrf_token(secret: bytes, session_token: str) -> str:
    """The value that a page proves with that a change comes from itself; bound to its session."""
    return hmac.new(secret, session_token.encode(), hashlib.sha256).hexdigest()


def same_token(given: str, wanted: str) -> bool:
    """Compare without telling by the time it takes how much was right."""
    return hmac.compare_digest(given.encode(), wanted.encode())


def lock_s(failures: int) -> float:
    """Seconds for which an account is closed after so many wrong passwords in a row."""
    return 0.0 if failures < 5 else min(900.0, 30.0 * 2 ** (failures - 5))

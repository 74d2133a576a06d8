"""Deleting over DICOMweb: not in PS3.18, but the addresses are its own, as other archives offer it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fastapi import APIRouter, Depends, Request
from starlette.requests import HTTPConnection

from polyclinic.core.errors import PolyclinicError, Rejected
from polyclinic.core.people import Person
from polyclinic.departments.archive.contracts import Removed

REASON_HEADER = "X-Reason"
LONGEST_REASON = 200
Note = Callable[[HTTPConnection, Person, str, dict[str, str]], None]
"""Records a deletion: request, person, Study Instance UID, facts; raises when it cannot be recorded."""


class Delete(Protocol):
    """Takes away a study, one of its series or one instance; see `polyclinic.departments.archive.ports.Archive`."""

    def __call__(
        self,
        study_instance_uid: str,
        *,
        series_instance_uid: str | None,
        sop_instance_uid: str | None,
        reason: str,
        by: str,
    ) -> Removed:
        """Raises `NotFound` and `Conflict`."""


def deletion_router(delete: Delete, note: Note, may_delete: Callable[..., Person]) -> APIRouter:
    """``DELETE`` of studies, series and instances, each noted before and after it is done.

    Parameters
    ----------
    may_delete
        The gate's dependency; it notes refusals only, since what passes is noted here together with its reason.
    """
    router = APIRouter(tags=["DICOMweb"])
    person = Depends(may_delete)

    def remove(
        request: Request, who: Person, study: str, series: str | None = None, sop: str | None = None
    ) -> dict[str, int]:
        facts = {"reason": _reason(request), "series": series or "", "instance": sop or ""}
        facts = {name: value[:64] if name != "reason" else value for name, value in facts.items() if value}
        note(request, who, study, {**facts, "phase": "before"})
        try:
            removed = delete(
                study, series_instance_uid=series, sop_instance_uid=sop, reason=facts["reason"], by=who.person_id
            )
        except PolyclinicError as error:
            note(request, who, study, {**facts, "phase": "not done", "code": error.code})
            raise
        note(request, who, study, {**facts, "phase": "done", "instances": str(removed.instances)})
        return {"instances": removed.instances, "size_bytes": removed.size_bytes}

    @router.delete("/studies/{study_instance_uid}")
    def delete_study(request: Request, study_instance_uid: str, who: Person = person) -> dict[str, int]:
        return remove(request, who, study_instance_uid)

    @router.delete("/studies/{study_instance_uid}/series/{series}")
    def delete_series(request: Request, study_instance_uid: str, series: str, who: Person = person) -> dict[str, int]:
        return remove(request, who, study_instance_uid, series)

    @router.delete("/studies/{study_instance_uid}/series/{series}/instances/{sop}")
    def delete_instance(
        request: Request, study_instance_uid: str, series: str, sop: str, who: Person = person
    ) -> dict[str, int]:
        return remove(request, who, study_instance_uid, series, sop)

    return router


def _reason(request: Request) -> str:
    reason = (request.headers.get(REASON_HEADER) or request.query_params.get("reason", "")).strip()
    if not 3 <= len(reason) <= LONGEST_REASON or not reason.isprintable():
        text = f"Say why in the header {REASON_HEADER} or as ?reason=, in one line without patient data"
        raise Rejected("dicomweb.no-reason", text)
    return reason

"""Deleting over the web: only what no signed report stands on, and never unrecorded."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import HTTPConnection

from polyclinic.app.audit import Auditing
from polyclinic.core.errors import Conflict
from polyclinic.core.people import Person
from polyclinic.departments.access.api import Gate
from polyclinic.departments.access.audit_web import web_entry
from polyclinic.departments.access.contracts import Action, Actor
from polyclinic.departments.archive.contracts import Removed
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.reading.store import ReadingStore
from polyclinic.edges.dicomweb.deletion import deletion_router


def deletion_routes(archive: SqlArchive, reading: ReadingStore, gate: Gate, audit: Auditing) -> APIRouter:
    """Routes of `polyclinic.edges.dicomweb.deletion` on this house's archive."""

    def note(request: HTTPConnection, person: Person, study: str, facts: dict[str, str]) -> None:
        entry = web_entry(request, Action.DICOM_DELETE, Actor(person=person), study, detail=facts)
        audit.recorder.record(entry)

    def delete(
        study_instance_uid: str,
        *,
        series_instance_uid: str | None,
        sop_instance_uid: str | None,
        reason: str,
        by: str,
    ) -> Removed:
        if reading.signatures(study_instance_uid):
            text = "A signed report stands on this study; retention rules or `polyclinic archive delete` may delete it"
            raise Conflict("archive.signed", text)
        return archive.delete(
            study_instance_uid,
            series_instance_uid=series_instance_uid,
            sop_instance_uid=sop_instance_uid,
            reason=reason,
            by=by,
        )

    return deletion_router(delete, note, gate.allow(Action.DICOM_DELETE, outer=True))

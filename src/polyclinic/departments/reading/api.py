"""The reading room over HTTP: decide, measure, read the report, sign, follow what is delivered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from polyclinic.core.findings import ImageReference
from polyclinic.core.people import Person
from polyclinic.departments.reading.contracts import DecisionKind, FindingEdit, Language
from polyclinic.departments.reading.desk import Desk
from polyclinic.departments.reading.outbox import Outbox
from polyclinic.departments.reading.rules import ATTENUATION
from polyclinic.departments.reading.views import (
    delivery_views,
    finding_view,
    object_views,
    report_view,
    run_view,
    status_view,
)

Attenuation = Literal["solid", "part-solid", "ground-glass", "calcified"]
Coordinates = tuple[float, float, float]
Revision = Annotated[int | None, Query(ge=1, le=1_000_000)]
"""One that was signed; without it the newest."""
Allow = Callable[[str], Callable[..., Person]]
"""Gives the dependency that lets a request pass for the named action."""


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class EditForm(_Form):
    """New values of a finding."""

    long_axis_mm: float | None = None
    short_axis_mm: float | None = None
    attenuation: Attenuation | None = None
    note: str | None = Field(default=None, max_length=2000)


class DecisionForm(_Form):
    """A decision, made on `version` of the finding."""

    decision: DecisionKind
    version: int = Field(ge=0)
    reason: str = Field(default="", max_length=2000)
    edit: EditForm | None = None


class ImageForm(_Form):
    """One frame of one instance."""

    series_instance_uid: str = Field(default="", max_length=64)
    sop_class_uid: str = Field(default="", max_length=64)
    sop_instance_uid: str = Field(min_length=1, max_length=64)
    frame: int = Field(default=1, ge=1, le=1_000_000)


class RulerForm(_Form):
    """Two points in patient space (LPS, mm) on one image."""

    image: ImageForm | None = None
    points_mm: tuple[Coordinates, Coordinates]


class LongAxisForm(RulerForm):
    """The ruler that says which image was measured."""

    image: ImageForm


class OwnFindingForm(_Form):
    """A nodule that the reader measured."""

    long_axis: LongAxisForm
    short_axis: RulerForm | None = None
    attenuation: Attenuation | None = None
    note: str = Field(default="", max_length=2000)


class SignForm(_Form):
    """What the signer saw."""

    lang: Language = Language.ENGLISH
    content_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


def reading_router(desk: Desk, outbox: Outbox, allow: Allow) -> APIRouter:
    """Routes below ``/studies/{study_instance_uid}``."""
    router = APIRouter(prefix="/studies/{study_instance_uid}", tags=["reading"])
    may_read, may_decide = Depends(allow("study.read")), Depends(allow("finding.decide"))
    may_sign, may_retry = Depends(allow("report.sign")), Depends(allow("run.retry"))

    @router.post("/findings/{finding_id}/decision", operation_id="decideFinding")
    def decide(
        study_instance_uid: str,
        finding_id: str,
        form: DecisionForm,
        lang: Language = Language.ENGLISH,
        person: Person = may_decide,
    ) -> dict[str, Any]:
        decided = desk.store.decide(
            study_instance_uid,
            finding_id,
            kind=form.decision,
            version=form.version,
            person=person,
            at=datetime.now(UTC),
            reason=form.reason,
            edit=_edit(form.edit),
        )
        return finding_view(decided, lang)

    @router.post("/findings", operation_id="addFinding")
    def add_finding(
        study_instance_uid: str,
        form: OwnFindingForm,
        lang: Language = Language.ENGLISH,
        person: Person = may_decide,
    ) -> dict[str, Any]:
        added = desk.add_nodule(
            study_instance_uid,
            image=ImageReference(**form.long_axis.image.model_dump()),
            long_axis=form.long_axis.points_mm,
            short_axis=form.short_axis.points_mm if form.short_axis else None,
            attenuation=ATTENUATION[form.attenuation] if form.attenuation else None,
            note=form.note,
            person=person,
        )
        return finding_view(added, lang)

    @router.get("/report", operation_id="getReport")
    def get_report(
        study_instance_uid: str,
        lang: Language = Language.ENGLISH,
        revision: Revision = None,
        _: Person = may_read,
    ) -> dict[str, Any]:
        return report_view(desk.report(study_instance_uid, lang, revision))

    @router.get("/report.pdf", operation_id="getReportPdf", response_class=Response)
    def get_pdf(
        study_instance_uid: str,
        lang: Language = Language.ENGLISH,
        revision: Revision = None,
        _: Person = may_read,
    ) -> Response:
        return Response(desk.pdf(study_instance_uid, lang, revision), media_type="application/pdf")

    @router.post("/report/sign", operation_id="signReport")
    def sign(study_instance_uid: str, form: SignForm, person: Person = may_sign) -> dict[str, Any]:
        return report_view(desk.sign(study_instance_uid, form.lang, form.content_sha256, person))

    @router.get("/objects", operation_id="listObjects")
    def objects(study_instance_uid: str, _: Person = may_read) -> list[dict[str, Any]]:
        return object_views(outbox.objects(study_instance_uid))

    @router.get("/deliveries", operation_id="listDeliveries")
    def deliveries(study_instance_uid: str, _: Person = may_read) -> list[dict[str, Any]]:
        return delivery_views(outbox.deliveries(study_instance_uid))

    @router.post("/runs/{run_id}/retry", operation_id="retryRun")
    def retry(
        study_instance_uid: str,
        run_id: str,
        lang: Language = Language.ENGLISH,
        _: Person = may_retry,
    ) -> dict[str, Any]:
        return run_view(desk.retry(study_instance_uid, run_id), lang)

    @router.post("/retry", operation_id="retryStudy")
    def retry_study(study_instance_uid: str, _: Person = may_retry) -> dict[str, Any]:
        return status_view(desk.take_up(study_instance_uid))

    @router.post("/deliveries/{key}/retry", operation_id="retryDelivery")
    def retry_delivery(study_instance_uid: str, key: str, _: Person = may_retry) -> dict[str, Any]:
        queued = outbox.retry(study_instance_uid, key, now=datetime.now(UTC).timestamp())
        return delivery_views([queued])[0]

    return router


def _edit(form: EditForm | None) -> FindingEdit | None:
    if form is None:
        return None
    return FindingEdit(
        long_axis_mm=form.long_axis_mm,
        short_axis_mm=form.short_axis_mm,
        attenuation=ATTENUATION[form.attenuation] if form.attenuation else None,
        note=form.note,
    )

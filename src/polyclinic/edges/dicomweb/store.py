"""STOW-RS (PS3.18 10.5): parts are taken from the network one by one and kept while the next one arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from polyclinic.core.errors import PolyclinicError, Rejected, Unavailable
from polyclinic.departments.archive.contracts import Receipt
from polyclinic.departments.archive.intake import examine_file
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dicomweb.addresses import service_url, study_url
from polyclinic.edges.dicomweb.model import Json
from polyclinic.edges.dicomweb.multipart import MultipartReader, Part, parse_media_type

Authorize = Callable[[Request, str, str | None], None]
SOURCE = "STOW-RS"
DICOM = "application/dicom"
JSON_TYPE = "application/dicom+json"

# Failure and warning reasons (PS3.18 table I.2-2, PS3.4 table B.2-1)
OUT_OF_RESOURCES = 0xA700
OTHER_STUDY = 0xA900
CANNOT_UNDERSTAND = 0xC000
PROCESSING_FAILURE = 0x0110
KEPT_ASIDE = 0xB000


@dataclass(slots=True)
class Outcome:
    """What became of the instances of one request."""

    kept: list[Json] = field(default_factory=list)
    failed: list[Json] = field(default_factory=list)
    warned: bool = False
    out_of_resources: bool = False
    studies: set[str] = field(default_factory=set)

    @property
    def status(self) -> int:
        """HTTP status (PS3.18 table 10.5.3-1)."""
        if self.failed and not self.kept:
            return 503 if self.out_of_resources else 409
        return 202 if self.failed or self.warned else 200


def add_store_routes(router: APIRouter, archive: SqlArchive, authorize: Authorize) -> None:
    """``POST /studies`` and ``POST /studies/{study}``."""

    async def store(request: Request, study: str | None) -> Response:
        await run_in_threadpool(authorize, request, "store", study)
        root = service_url(request)
        outcome = Outcome()
        async for part in _parts(request):
            try:
                await run_in_threadpool(keep, archive, part, study, root, outcome)
            finally:
                part.close()
        for uid in outcome.studies - {study}:
            # Which studies came is only known now; the gate records each.
            await run_in_threadpool(authorize, request, "store", uid)
        if not outcome.kept and not outcome.failed:
            raise Rejected("dicomweb.nothing-sent", "The request holds no instances: send application/dicom parts")
        return Response(orjson.dumps(answer(outcome, root)), outcome.status, media_type=JSON_TYPE)

    @router.post("/studies")
    async def store_instances(request: Request) -> Response:
        return await store(request, None)

    @router.post("/studies/{study}")
    async def store_instances_of_study(request: Request, study: str) -> Response:
        return await store(request, study)


async def _parts(request: Request) -> AsyncIterator[Part]:
    media_type, parameters = parse_media_type(request.headers.get("content-type", ""))
    if media_type == DICOM:
        part = Part(DICOM)
        async for chunk in request.stream():
            part.write(chunk)
        yield part
        return
    boundary = parameters.get("boundary", "")
    if media_type != "multipart/related" or parameters.get("type", DICOM).lower() != DICOM or not boundary:
        raise Rejected("dicomweb.media-type", 'Send multipart/related; type="application/dicom"; boundary=...')
    reader = MultipartReader(boundary)
    async for chunk in request.stream():
        for part in reader.feed(chunk):
            yield part
    reader.finish()


def keep(archive: SqlArchive, part: Part, study: str | None, root: str, outcome: Outcome) -> None:
    """Keep one part and note what became of it."""
    uids: Json = {}
    view = part.view()
    try:
        if parse_media_type(part.content_type)[0] != DICOM:
            raise Rejected("dicomweb.media-type", "A body part is not application/dicom")
        facts = examine_file(view)[1]
        uids = _reference(facts.sop_class_uid, facts.sop_instance_uid)
        if study is not None and facts.study_instance_uid != study:
            raise Rejected("dicomweb.other-study", "The instance belongs to another study than the address says")
        receipt = archive.store(view, source=SOURCE)
    except PolyclinicError as error:
        outcome.out_of_resources |= isinstance(error, Unavailable)
        outcome.failed.append(uids | {"00081197": {"vr": "US", "Value": [_reason(error)]}})
        return
    outcome.studies.add(facts.study_instance_uid)
    url = f"{study_url(root, facts.study_instance_uid)}/series/{facts.series_instance_uid}"
    kept = uids | {"00081190": {"vr": "UR", "Value": [f"{url}/instances/{facts.sop_instance_uid}"]}}
    if receipt is Receipt.KEPT_ASIDE:
        outcome.warned = True
        kept["00081196"] = {"vr": "US", "Value": [KEPT_ASIDE]}
    outcome.kept.append(kept)


def _reason(error: PolyclinicError) -> int:
    if error.code == "archive.out-of-space":
        return OUT_OF_RESOURCES
    if isinstance(error, Unavailable):
        return PROCESSING_FAILURE
    return OTHER_STUDY if error.code == "dicomweb.other-study" else CANNOT_UNDERSTAND


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Json:
    return {
        "00081150": {"vr": "UI", "Value": [sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [sop_instance_uid]},
    }


def answer(outcome: Outcome, root: str) -> Json:
    """The Store Instances Response (PS3.18 table 10.5.3-2, I.2-1)."""
    out: Json = {}
    if len(outcome.studies) == 1:
        (study,) = outcome.studies
        out["00081190"] = {"vr": "UR", "Value": [study_url(root, study)]}
    if outcome.kept:
        out["00081199"] = {"vr": "SQ", "Value": outcome.kept}
    if outcome.failed:
        out["00081198"] = {"vr": "SQ", "Value": outcome.failed}
    return out

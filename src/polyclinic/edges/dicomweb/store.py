"""STOW-RS (PS3.18 10.5): parts are taken from the network one by one and kept while the next ones arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from polyclinic.core.errors import Rejected
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dicomweb.addresses import service_url
from polyclinic.edges.dicomweb.metadata import JSON_TYPE, XML_TYPE
from polyclinic.edges.dicomweb.multipart import SPOOL_BYTES, MultipartReader, Part, parse_media_type
from polyclinic.edges.dicomweb.native_xml import native_xml
from polyclinic.edges.dicomweb.negotiation import DICOM, MULTIPART, acceptable, choose
from polyclinic.edges.dicomweb.store_described import DESCRIBED_SPOOL_BYTES, MAX_PARTS, keep_described
from polyclinic.edges.dicomweb.store_outcome import Outcome, answer, keep_file, not_dicom, together

Authorize = Callable[[Request, str, str | None], None]
_AT_ONCE = 4
"""Parts of one request that are kept at the same time; as many are in memory, or in temporary files when large."""


def add_store_routes(router: APIRouter, archive: SqlArchive, authorize: Authorize) -> None:
    """``POST /studies`` and ``POST /studies/{study}``."""

    async def store(request: Request, study: str | None) -> Response:
        await run_in_threadpool(authorize, request, "store", study)
        root = service_url(request)
        media_type, parameters = parse_media_type(request.headers.get("content-type", ""))
        if media_type == MULTIPART and parameters.get("type", "").lower() == JSON_TYPE:
            described: list[Part] = []
            async for part in _parts(request, media_type, parameters):
                described.append(part)
                if len(described) > MAX_PARTS:
                    raise Rejected("dicomweb.too-many-parts", f"Send at most {MAX_PARTS} parts in a request")
            outcomes = await run_in_threadpool(keep_described, archive, described, study, root)
        else:
            outcomes = await _keep_all(archive, _parts(request, media_type, parameters), study, root)
        if not outcomes:
            raise Rejected("dicomweb.nothing-sent", "The request holds no instances: send application/dicom parts")
        outcome = together(outcomes)
        for uid in outcome.studies - {study}:
            # Which studies came is only known now; the gate records each.
            await run_in_threadpool(authorize, request, "store", uid)
        body = answer(outcome, root)
        if choose(acceptable(request), (JSON_TYPE, "application/json", XML_TYPE)) == XML_TYPE:
            return Response(native_xml(body), outcome.status, media_type=XML_TYPE)
        return Response(orjson.dumps(body), outcome.status, media_type=JSON_TYPE)

    @router.post("/studies")
    async def store_instances(request: Request) -> Response:
        return await store(request, None)

    @router.post("/studies/{study}")
    async def store_instances_of_study(request: Request, study: str) -> Response:
        return await store(request, study)


async def _keep_all(archive: SqlArchive, parts: AsyncIterator[Part], study: str | None, root: str) -> list[Outcome]:
    """Keep parts while the next ones arrive, a few at a time so that memory is bounded and syncs are shared."""
    keeping: list[asyncio.Future[Outcome]] = []
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(part: Part) -> Outcome:
        try:
            return await run_in_threadpool(keep, archive, part, study, root)
        finally:
            part.close()
            places.release()

    try:
        await places.acquire()
        async for part in parts:
            keeping.append(asyncio.ensure_future(one(part)))
            await places.acquire()
    finally:
        await asyncio.wait(keeping) if keeping else None
    return [task.result() for task in keeping]


async def _parts(request: Request, media_type: str, parameters: dict[str, str]) -> AsyncIterator[Part]:
    if media_type == DICOM:
        part = Part(DICOM)
        async for chunk in request.stream():
            part.write(chunk)
        yield part
        return
    kind = parameters.get("type", DICOM).lower()
    if media_type != MULTIPART or kind not in (DICOM, JSON_TYPE) or not parameters.get("boundary"):
        raise Rejected(
            "dicomweb.media-type",
            f'Send {MULTIPART}; type="{DICOM}"; boundary=..., or type="{JSON_TYPE}" with bulk data as further parts',
        )
    spool_bytes = SPOOL_BYTES if kind == DICOM else DESCRIBED_SPOOL_BYTES
    reader = MultipartReader(parameters["boundary"], spool_bytes)
    async for chunk in request.stream():
        for part in reader.feed(chunk):
            yield part
    reader.finish()


def keep(archive: SqlArchive, part: Part, study: str | None, root: str) -> Outcome:
    """Keep one part and tell what became of it."""
    if parse_media_type(part.content_type)[0] != DICOM:
        return not_dicom()
    return keep_file(archive, part.view(), study, root)

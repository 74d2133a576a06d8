"""STOW-RS (PS3.18 10.5): parts are taken from the network one by one and kept while the next ones arrive."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from polyclinic.core.errors import Rejected
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dicomweb.addresses import service_url
from polyclinic.edges.dicomweb.metadata import JSON_TYPE, XML_TYPE
from polyclinic.edges.dicomweb.multipart import SPOOL_BYTES, MultipartReader, Part, parse_media_type
from polyclinic.edges.dicomweb.multipart_in_place import Buffers, PartSink
from polyclinic.edges.dicomweb.native_xml import native_xml
from polyclinic.edges.dicomweb.negotiation import DICOM, MULTIPART, acceptable, choose
from polyclinic.edges.dicomweb.store_described import DESCRIBED_SPOOL_BYTES, MAX_PARTS, keep_described
from polyclinic.edges.dicomweb.store_outcome import Outcome, answer, keep_file, not_dicom, together
from polyclinic.edges.dicomweb.streams_protocol import Direct, direct_of

Authorize = Callable[[Request, str, str | None], None]
_WORKERS = 4
"""Threads that keep the parts of all requests: one for each lane of the archive, more would only wait for those."""
_AT_ONCE = 4
"""Parts of one request that are kept at the same time; as many are in memory, or in temporary files when large."""


def add_store_routes(router: APIRouter, archive: SqlArchive, authorize: Authorize) -> None:
    """``POST /studies`` and ``POST /studies/{study}``."""
    buffers, workers = Buffers(), ThreadPoolExecutor(_WORKERS, thread_name_prefix="stow")

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
            kept = functools.partial(keep, archive, study=study, root=root)
            direct = direct_of(request.scope)
            boundary = parameters.get("boundary", "")
            length = request.headers.get("content-length", "")
            is_dicom = media_type == MULTIPART and parameters.get("type", DICOM).lower() == DICOM
            if direct and is_dicom and boundary and length.isdecimal() and direct.can_receive(int(length)):
                keeping = Keeping(kept, workers, direct.resume, _AT_ONCE)
                sink = PartSink(boundary, keeping.add, keeping.takes_more, buffers)
                outcomes = await _keep_direct(direct, int(length), sink, keeping)
            else:
                outcomes = await _keep_all(_parts(request, media_type, parameters), kept)
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


async def _keep_direct(direct: Direct, length_bytes: int, sink: PartSink, keeping: Keeping) -> list[Outcome]:
    """Keep parts where they were received, while the next ones arrive."""
    try:
        await direct.receive(sink, length_bytes)
        sink.finish()
    finally:
        sink.close()
        await keeping.end()
    return keeping.outcomes()


class Keeping:
    """Parts that are being kept in threads.

    Parameters
    ----------
    kept
        Keeps one part.
    resume
        Called in the event loop when more parts may come, after `takes_more` has said no.
    at_once
        How many may be kept at the same time before no more are wanted.
    """

    def __init__(
        self, kept: Callable[[Part], Outcome], workers: Executor, resume: Callable[[], None], at_once: int
    ) -> None:
        self._kept = kept
        self._workers = workers
        self._resume = resume
        self._at_once = at_once
        self._loop = asyncio.get_running_loop()
        self._futures: list[Future[Outcome]] = []
        self._lock = threading.Lock()
        self._unfinished = 0
        self._is_waited_for = False

    def add(self, part: Part) -> None:
        """Keep a part."""
        with self._lock:
            self._unfinished += 1
        self._futures.append(self._workers.submit(self._keep, part))

    def takes_more(self) -> bool:
        """Whether another part may come now; if not, `resume` is called later."""
        with self._lock:
            self._is_waited_for = self._unfinished >= self._at_once
            return not self._is_waited_for

    async def end(self) -> None:
        """Wait until none is being kept."""
        if self._futures:
            await asyncio.wait([asyncio.wrap_future(future) for future in self._futures])

    def outcomes(self) -> list[Outcome]:
        """What became of the parts, in their order; raises what keeping one has raised."""
        return [future.result() for future in self._futures]

    def _keep(self, part: Part) -> Outcome:
        try:
            return self._kept(part)
        finally:
            part.close()
            with self._lock:
                self._unfinished -= 1
                wake, self._is_waited_for = self._is_waited_for, False
            if wake:
                self._loop.call_soon_threadsafe(self._resume)


async def _keep_all(parts: AsyncIterator[Part], kept: Callable[[Part], Outcome]) -> list[Outcome]:
    """Keep parts while the next ones arrive, a few at a time so that memory is bounded and syncs are shared."""
    keeping: list[asyncio.Future[Outcome]] = []
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(part: Part) -> Outcome:
        try:
            return await run_in_threadpool(kept, part)
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


def keep(archive: SqlArchive, part: Part, *, study: str | None, root: str) -> Outcome:
    """Keep one part and tell what became of it."""
    if parse_media_type(part.content_type)[0] != DICOM:
        return not_dicom()
    return keep_file(archive, part.view(), study, root)

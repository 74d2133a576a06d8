"""WADO-RS (PS3.18 10.4): whole instances, metadata, frames, bulk data and rendered images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from polyclinic.core.errors import NotFound, Rejected
from polyclinic.departments.archive.ports import KeptFile
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dicomweb.addresses import instance_url, service_url
from polyclinic.edges.dicomweb.frames import Frames
from polyclinic.edges.dicomweb.model import Json, to_json
from polyclinic.edges.dicomweb.multipart import new_boundary, write_parts
from polyclinic.edges.dicomweb.negotiation import frame_answer, wants_single_part
from polyclinic.edges.dicomweb.rendered import rendered_frame
from polyclinic.edges.dicomweb.stored import bulk_value, decoded_frames, header_of

Authorize = Callable[[Request, str, str | None], None]
JSON_TYPE = "application/dicom+json"
MAX_FRAMES_IN_A_REQUEST = 10_000


def metadata_of(archive: SqlArchive, kept: KeptFile, url: str) -> Json:
    """DICOM JSON of one instance, with its stored transfer syntax as (0008,3002)."""
    out = to_json(header_of(archive, kept), f"{url}/bulkdata")
    out["00083002"] = {"vr": "UI", "Value": [kept.record.transfer_syntax_uid]}
    return out


def add_retrieve_routes(router: APIRouter, archive: SqlArchive, authorize: Authorize) -> None:
    """Retrieval of studies, series, instances and their parts."""
    reader = Frames(archive)

    def files(request: Request, study: str, series: str | None = None) -> tuple[KeptFile, ...]:
        authorize(request, "read", study)
        found = archive.kept_files(study, series)
        if not found:
            raise NotFound("archive.no-study", "There is no such study or series: check its UID")
        return found

    def one(request: Request, study: str, series: str, sop: str) -> KeptFile:
        authorize(request, "read", study)
        kept = archive.kept_file(sop)
        if (kept.record.study_instance_uid, kept.record.series_instance_uid) != (study, series):
            raise NotFound("archive.no-instance", "There is no such instance in this series: check its UIDs")
        return kept

    def metadata(request: Request, kept_files: Iterable[KeptFile]) -> Response:
        root = service_url(request)
        parts = (orjson.dumps(metadata_of(archive, kept, instance_url(root, _uids(kept)))) for kept in kept_files)
        return Response(b"[" + b",".join(parts) + b"]", media_type=JSON_TYPE)

    @router.get("/studies/{study}")
    def retrieve_study(request: Request, study: str) -> Response:
        return instances_answer(archive, files(request, study))

    @router.get("/studies/{study}/metadata")
    def study_metadata(request: Request, study: str) -> Response:
        return metadata(request, files(request, study))

    @router.get("/studies/{study}/series/{series}")
    def retrieve_series(request: Request, study: str, series: str) -> Response:
        return instances_answer(archive, files(request, study, series))

    @router.get("/studies/{study}/series/{series}/metadata")
    def series_metadata(request: Request, study: str, series: str) -> Response:
        return metadata(request, files(request, study, series))

    @router.get("/studies/{study}/series/{series}/instances/{sop}")
    def retrieve_instance(request: Request, study: str, series: str, sop: str) -> Response:
        kept = one(request, study, series, sop)
        if wants_single_part(request.headers.get("accept", ""), "application/dicom"):
            headers = {"Content-Length": str(kept.record.size_bytes)}
            return StreamingResponse(archive.stream(kept), media_type="application/dicom", headers=headers)
        return instances_answer(archive, (kept,))

    @router.get("/studies/{study}/series/{series}/instances/{sop}/metadata")
    def instance_metadata(request: Request, study: str, series: str, sop: str) -> Response:
        return metadata(request, (one(request, study, series, sop),))

    @router.get("/studies/{study}/series/{series}/instances/{sop}/frames/{frames}")
    def retrieve_frames(request: Request, study: str, series: str, sop: str, frames: str) -> Response:
        kept = one(request, study, series, sop)
        numbers = frame_numbers(frames)
        how = frame_answer(request.headers.get("accept", ""), kept.record.transfer_syntax_uid)
        pieces = decoded_frames(archive, kept, numbers) if how.decode else reader.stored(kept, numbers)
        if how.single_part and len(numbers) == 1:
            return Response(next(iter(pieces)), media_type=how.content_type)
        return multipart(((how.content_type, (piece,)) for piece in pieces), how.media_type, gather=len(numbers) == 1)

    @router.get("/studies/{study}/series/{series}/instances/{sop}/bulkdata/{path:path}")
    def retrieve_bulk_data(request: Request, study: str, series: str, sop: str, path: str) -> Response:
        value = bulk_value(archive, one(request, study, series, sop), path)
        if wants_single_part(request.headers.get("accept", ""), "application/octet-stream"):
            return Response(value, media_type="application/octet-stream")
        return multipart([("application/octet-stream", (value,))], "application/octet-stream", gather=True)

    @router.get("/studies/{study}/series/{series}/instances/{sop}/rendered")
    def rendered(request: Request, study: str, series: str, sop: str) -> Response:
        return rendered_frame(archive, one(request, study, series, sop), 1, request)

    @router.get("/studies/{study}/series/{series}/instances/{sop}/frames/{frame}/rendered")
    def rendered_one_frame(request: Request, study: str, series: str, sop: str, frame: int) -> Response:
        return rendered_frame(archive, one(request, study, series, sop), frame, request)

    @router.get("/studies/{study}/series/{series}/instances/{sop}/thumbnail")
    def instance_thumbnail(request: Request, study: str, series: str, sop: str) -> Response:
        return rendered_frame(archive, one(request, study, series, sop), 1, request, longest_edge=192)

    @router.get("/studies/{study}/series/{series}/thumbnail")
    def series_thumbnail(request: Request, study: str, series: str) -> Response:
        found = files(request, study, series)
        return rendered_frame(archive, found[len(found) // 2], 1, request, longest_edge=192)


def _uids(kept: KeptFile) -> dict[str, str]:
    record = kept.record
    return {
        "study_instance_uid": record.study_instance_uid,
        "series_instance_uid": record.series_instance_uid,
        "sop_instance_uid": record.sop_instance_uid,
    }


def frame_numbers(text: str) -> list[int]:
    """Frame numbers of a request, e.g. ``1,2,5``."""
    numbers = text.split(",")
    if len(numbers) > MAX_FRAMES_IN_A_REQUEST or not all(n.isdigit() and len(n) < 10 for n in numbers):
        raise Rejected("dicomweb.bad-frames", "Frames are numbers from 1, separated by commas")
    return [int(n) for n in numbers]


def instances_answer(archive: SqlArchive, kept_files: Iterable[KeptFile]) -> Response:
    """Whole instances as they are kept, streamed from the segments."""
    return multipart(
        (
            (f"application/dicom; transfer-syntax={kept.record.transfer_syntax_uid}", archive.stream(kept))
            for kept in kept_files
        ),
        "application/dicom",
    )


def multipart(parts: Iterable[tuple[str, Iterable[bytes]]], media_type: str, *, gather: bool = False) -> Response:
    """A multipart/related answer; `gather` sends it in one piece, which is faster when it is small."""
    boundary = new_boundary()
    content_type = f'multipart/related; type="{media_type}"; boundary={boundary}'
    body: Iterator[bytes] = write_parts(parts, boundary)
    if gather:
        return Response(b"".join(body), headers={"Content-Type": content_type})
    return StreamingResponse(body, headers={"Content-Type": content_type})

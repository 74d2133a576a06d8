"""WADO-RS rendered resources and thumbnails (PS3.18 10.4.1.1.3, 10.4.1.1.4)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from fastapi import APIRouter, Request, Response

from polyclinic.core.errors import NotFound, PolyclinicError, Rejected
from polyclinic.departments.archive.ports import KeptFile
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dicomweb.addresses import instance_url, service_url
from polyclinic.edges.dicomweb.bulk import Element, frame_numbers, parts_answer
from polyclinic.edges.dicomweb.lookup import Lookup, uids_of
from polyclinic.edges.dicomweb.negotiation import acceptable, choose, not_acceptable
from polyclinic.edges.dicomweb.rendering import PICTURES, Rendering, parse_rendering, rendered_frame
from polyclinic.edges.dicomweb.stored import bulk_value
from polyclinic.edges.dicomweb.streams import Whole

THUMBNAIL_EDGE = 192
_ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
_PDF = "application/pdf"


def add_picture_routes(router: APIRouter, archive: SqlArchive, lookup: Lookup) -> None:
    """Rendered studies, series, instances and frames, and a thumbnail of each."""

    def how(request: Request, *, thumbnail: bool = False) -> Rendering:
        media_type = choose(acceptable(request), PICTURES)
        if media_type is None:
            raise not_acceptable(f"Pictures are sent as {', '.join(PICTURES)}")
        parameters = dict(request.query_params)
        if thumbnail:
            parameters.setdefault("viewport", f"{THUMBNAIL_EDGE},{THUMBNAIL_EDGE}")
        return parse_rendering(parameters, media_type, thumbnail=thumbnail)

    def picture(request: Request, kept: KeptFile, frame: int, rendering: Rendering) -> Response:
        body = rendered_frame(archive, kept, frame, rendering)
        return Whole([body], content_type=rendering.media_type, headers=_warnings(request, rendering))

    def gallery(request: Request, files: tuple[KeptFile, ...]) -> Response:
        rendering, root = how(request), service_url(request)
        shown = [kept for kept in files if kept.record.rows is not None]
        if not shown:
            raise _nothing_to_show()
        pictures = _pictures(archive, shown, root, rendering)
        first = next(pictures, None)  # a refusal is still possible before the first is sent
        if first is None:
            raise _nothing_to_show()
        answer = parts_answer(chain((first,), pictures), rendering.media_type)
        answer.headers.update(_warnings(request, rendering))
        return answer

    @router.get("/studies/{study}/rendered")
    def rendered_study(request: Request, study: str) -> Response:
        return gallery(request, lookup.files(request, study))

    @router.get("/studies/{study}/series/{series}/rendered")
    def rendered_series(request: Request, study: str, series: str) -> Response:
        return gallery(request, lookup.files(request, study, series))

    @router.get("/studies/{study}/series/{series}/instances/{sop}/rendered")
    def rendered_instance(request: Request, study: str, series: str, sop: str) -> Response:
        kept = lookup.one(request, study, series, sop)
        if kept.record.sop_class_uid == _ENCAPSULATED_PDF:
            if choose(acceptable(request), (_PDF,)) is None:
                raise not_acceptable(f"This document is sent as {_PDF}")
            return Whole([bulk_value(archive, kept, "00420011")], content_type=_PDF)
        if kept.record.rows is None:
            raise _nothing_to_show()
        return picture(request, kept, 1, how(request))

    @router.get("/studies/{study}/series/{series}/instances/{sop}/frames/{frame}/rendered")
    def rendered_frames(request: Request, study: str, series: str, sop: str, frame: str) -> Response:
        kept, numbers, rendering = lookup.one(request, study, series, sop), frame_numbers(frame), how(request)
        if len(numbers) == 1:
            return picture(request, kept, numbers[0], rendering)
        _check_frames(kept, numbers)
        url = instance_url(service_url(request), uids_of(kept))
        elements = (
            Element(rendering.media_type, f"{url}/frames/{n}/rendered", (rendered_frame(archive, kept, n, rendering),))
            for n in numbers
        )
        answer = parts_answer(elements, rendering.media_type)
        answer.headers.update(_warnings(request, rendering))
        return answer

    def middle(request: Request, files: tuple[KeptFile, ...]) -> Response:
        """The middle image stands for all: the first slice of a scan seldom shows anything."""
        rendering = how(request, thumbnail=True)
        shown = [kept for kept in files if kept.record.rows is not None]
        if not shown:
            raise _nothing_to_show()
        kept = shown[len(shown) // 2]
        return picture(request, kept, (kept.record.number_of_frames + 1) // 2, rendering)

    @router.get("/studies/{study}/thumbnail")
    def study_thumbnail(request: Request, study: str) -> Response:
        return middle(request, lookup.files(request, study))

    @router.get("/studies/{study}/series/{series}/thumbnail")
    def series_thumbnail(request: Request, study: str, series: str) -> Response:
        return middle(request, lookup.files(request, study, series))

    @router.get("/studies/{study}/series/{series}/instances/{sop}/thumbnail")
    def instance_thumbnail(request: Request, study: str, series: str, sop: str) -> Response:
        return middle(request, (lookup.one(request, study, series, sop),))

    @router.get("/studies/{study}/series/{series}/instances/{sop}/frames/{frame}/thumbnail")
    def frame_thumbnail(request: Request, study: str, series: str, sop: str, frame: str) -> Response:
        kept, numbers = lookup.one(request, study, series, sop), frame_numbers(frame)
        return picture(request, kept, numbers[0], how(request, thumbnail=True))


def _pictures(archive: SqlArchive, files: list[KeptFile], root: str, rendering: Rendering) -> Iterator[Element]:
    for kept in files:
        try:
            body = rendered_frame(archive, kept, 1, rendering)
        except PolyclinicError:
            continue  # one broken image does not hide the others
        yield Element(rendering.media_type, f"{instance_url(root, uids_of(kept))}/rendered", (body,))


def _check_frames(kept: KeptFile, numbers: list[int]) -> None:
    count = kept.record.number_of_frames
    if kept.record.rows is None or any(not 1 <= number <= count for number in numbers):
        raise NotFound("dicomweb.no-frame", f"The instance has no such frame: it has {count}")


def _warnings(request: Request, rendering: Rendering) -> dict[str, str]:
    if not rendering.warnings:
        return {}
    root = service_url(request)
    return {"Warning": ", ".join(f'299 {root}: "{text}"' for text in rendering.warnings)}


def _nothing_to_show() -> Rejected:
    return not_acceptable("Nothing here is an image: fetch the metadata or the instances instead")

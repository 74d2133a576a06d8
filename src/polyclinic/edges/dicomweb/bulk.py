"""WADO-RS frames and bulk data (PS3.18 10.4.1.1.5, 10.4.1.1.6)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fastapi import APIRouter, Request, Response

from polyclinic.core.errors import NotFound, Rejected
from polyclinic.departments.archive.ports import KeptFile
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.dicom.header import EXPLICIT_BE, NATIVE, HeaderError
from polyclinic.edges.dicomweb.addresses import instance_url, service_url
from polyclinic.edges.dicomweb.frames import Frames
from polyclinic.edges.dicomweb.lookup import Lookup, uids_of
from polyclinic.edges.dicomweb.model import Json, to_json
from polyclinic.edges.dicomweb.multipart import new_boundary, part_head, part_tail
from polyclinic.edges.dicomweb.negotiation import (
    MULTIPART,
    OCTETS,
    MediaRange,
    acceptable,
    frame_answer,
    not_acceptable,
)
from polyclinic.edges.dicomweb.stored import bulk_value, decoded_frames, etag_of, header_of, pixel_span, stretch
from polyclinic.edges.dicomweb.streams import Streamed, Whole, batched, ranged

MAX_FRAMES_IN_A_REQUEST = 10_000
_PIXELS = frozenset({"7FE00010", "7FE00008", "7FE00009"})


class Element(NamedTuple):
    """One part of an answer: its media type, its address, its content."""

    content_type: str
    location: str
    content: Iterable[bytes]


def add_bulk_routes(router: APIRouter, archive: SqlArchive, lookup: Lookup) -> None:
    """Frames, single values, and all large values of an instance, series or study."""
    reader = Frames(archive)

    @router.get("/studies/{study}/series/{series}/instances/{sop}/frames/{frames}")
    def retrieve_frames(request: Request, study: str, series: str, sop: str, frames: str) -> Response:
        kept = lookup.one(request, study, series, sop)
        return frames_answer(archive, reader, request, kept, frame_numbers(frames))

    @router.get("/studies/{study}/series/{series}/instances/{sop}/bulkdata/{path:path}")
    def retrieve_bulk_data(request: Request, study: str, series: str, sop: str, path: str) -> Response:
        kept = lookup.one(request, study, series, sop)
        if path in _PIXELS and kept.record.transfer_syntax_uid not in NATIVE:
            return frames_answer(archive, reader, request, kept, _all_frames(kept))
        return value_answer(archive, reader, request, kept, path)

    @router.get("/studies/{study}/series/{series}/instances/{sop}/bulkdata")
    def instance_bulk_data(request: Request, study: str, series: str, sop: str) -> Response:
        return everything(request, (lookup.one(request, study, series, sop),))

    @router.get("/studies/{study}/series/{series}/bulkdata")
    def series_bulk_data(request: Request, study: str, series: str) -> Response:
        return everything(request, lookup.files(request, study, series))

    @router.get("/studies/{study}/bulkdata")
    def study_bulk_data(request: Request, study: str) -> Response:
        return everything(request, lookup.files(request, study))

    def everything(request: Request, files: tuple[KeptFile, ...]) -> Response:
        if not any(one.is_multipart and one.takes(OCTETS) for one in acceptable(request)):
            raise not_acceptable(f'All bulk data together are sent as {MULTIPART}; type="{OCTETS}"')
        root = service_url(request)
        return parts_answer(_every_value(archive, reader, root, files), OCTETS)


def frames_answer(
    archive: SqlArchive, reader: Frames, request: Request, kept: KeptFile, numbers: list[int]
) -> Response:
    """Frames in the form that the client takes."""
    how = frame_answer(acceptable(request), kept.record.transfer_syntax_uid)
    pieces = decoded_frames(archive, kept, numbers) if how.decode else reader.stored(kept, numbers)
    if how.single_part:
        if len(numbers) == 1:
            return Whole([next(iter(pieces))], content_type=how.content_type)
        raise not_acceptable(f'Several frames are sent as {MULTIPART}; type="{how.media_type}"')
    url = instance_url(service_url(request), uids_of(kept))
    if len(numbers) == 1:
        boundary = new_boundary()
        head = part_head(boundary, how.content_type, f"{url}/frames/{numbers[0]}")
        content_type = f'{MULTIPART}; type="{how.media_type}"; boundary={boundary}'
        return Whole([head, next(iter(pieces)), part_tail(boundary)], content_type=content_type)
    elements = (
        Element(how.content_type, f"{url}/frames/{number}", (piece,))
        for number, piece in zip(numbers, pieces, strict=True)
    )
    return parts_answer(elements, how.media_type)


def value_answer(archive: SqlArchive, reader: Frames, request: Request, kept: KeptFile, path: str) -> Response:
    """One large value: alone with byte ranges, or as the only part of a multipart answer."""
    form = next((one for one in acceptable(request) if one.takes(OCTETS) and _little_endian(one)), None)
    if form is None:
        raise not_acceptable(f'Bulk data are sent as {OCTETS}, alone or as {MULTIPART}; type="{OCTETS}"')
    url = f"{instance_url(service_url(request), uids_of(kept))}/bulkdata/{path}"
    span = pixel_span(archive, kept) if path in _PIXELS else None
    if form.is_multipart:
        return parts_answer([Element(OCTETS, url, _value(archive, reader, kept, path))], OCTETS)
    if span is not None and kept.record.transfer_syntax_uid != EXPLICIT_BE:
        start, stop = span

        def read(first: int, last: int) -> Iterator[bytes]:
            return stretch(archive, kept, start + first, start + last)

        return ranged(request, read, stop - start, content_type=OCTETS, etag=_etag(kept, path))
    value = b"".join(_value(archive, reader, kept, path))

    def cut(first: int, last: int) -> Iterator[bytes]:
        yield value[first:last]

    return ranged(request, cut, len(value), content_type=OCTETS, etag=_etag(kept, path))


def _little_endian(form: MediaRange) -> bool:
    return form.transfer_syntax in ("", "*", "1.2.840.10008.1.2.1")


def _etag(kept: KeptFile, path: str) -> str:
    return f'{etag_of(kept)[:-1]}-{path.replace("/", ".")[:200]}"'


def _value(archive: SqlArchive, reader: Frames, kept: KeptFile, path: str) -> Iterator[bytes]:
    """Little endian bytes of a value (PS3.18 8.7.3.3.1)."""
    if path in _PIXELS:
        syntax = kept.record.transfer_syntax_uid
        span = pixel_span(archive, kept)
        if span is not None and syntax in NATIVE and syntax != EXPLICIT_BE:
            yield from stretch(archive, kept, *span)
            return
        if syntax not in NATIVE:
            yield from decoded_frames(archive, kept, _all_frames(kept))
            return
        if syntax == EXPLICIT_BE:
            yield from reader.stored(kept, _all_frames(kept))
            return
    yield bulk_value(archive, kept, path)


def _every_value(archive: SqlArchive, reader: Frames, root: str, files: Iterable[KeptFile]) -> Iterator[Element]:
    for kept in files:
        url = instance_url(root, uids_of(kept))
        try:
            addresses = list(_addresses(to_json(header_of(archive, kept), f"{url}/bulkdata")))
        except HeaderError:
            continue  # whole, it can still be had
        for address in addresses:
            content = _value(archive, reader, kept, address.removeprefix(f"{url}/bulkdata/"))
            yield Element(OCTETS, address, content)


def _addresses(dataset: Json) -> Iterator[str]:
    for element in dataset.values():
        if "BulkDataURI" in element:
            yield element["BulkDataURI"]
        elif element["vr"] == "SQ":
            for item in element.get("Value", ()):
                yield from _addresses(item)


def parts_answer(elements: Iterable[Element], media_type: str) -> Response:
    """A multipart answer, part by part."""
    boundary = new_boundary()

    def body() -> Iterator[bytes]:
        for content_type, location, content in elements:
            yield part_head(boundary, content_type, location)
            yield from content
        yield part_tail(boundary)

    return Streamed(batched(body()), content_type=f'{MULTIPART}; type="{media_type}"; boundary={boundary}')


def _all_frames(kept: KeptFile) -> list[int]:
    if kept.record.rows is None:
        raise NotFound("dicomweb.no-frame", "The instance has no pixel data")
    return list(range(1, kept.record.number_of_frames + 1))


def frame_numbers(text: str) -> list[int]:
    """Frame numbers of a request, e.g. ``1,2,5``."""
    numbers = text.split(",")
    if len(numbers) > MAX_FRAMES_IN_A_REQUEST or not all(re.fullmatch("[0-9]{1,9}", n) for n in numbers):
        raise Rejected("dicomweb.bad-frames", "Frames are numbers from 1, separated by commas")
    return [int(n) for n in numbers]

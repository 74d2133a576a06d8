"""WADO-RS (PS3.18 10.4.1.1.1): whole instances of studies and series, as they are kept or decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial

from fastapi import APIRouter, Request, Response

from polyclinic.core.errors import NotFound, Rejected
from polyclinic.departments.archive.ports import KeptFile
from polyclinic.departments.archive.segments import Place
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.dicom.header import EXPLICIT_LE
from polyclinic.edges.dicomweb.addresses import instance_url, service_url
from polyclinic.edges.dicomweb.lookup import Lookup, uids_of
from polyclinic.edges.dicomweb.multipart import new_boundary, part_head, part_tail
from polyclinic.edges.dicomweb.negotiation import DICOM, MULTIPART, acceptable, instance_answer, not_acceptable
from polyclinic.edges.dicomweb.stored import etag_of, stretch
from polyclinic.edges.dicomweb.streams import Piece, Pieces, Streamed, batched, ranged
from polyclinic.edges.dicomweb.streams_protocol import FileStretch, direct_of
from polyclinic.edges.dicomweb.transcode import explicit_little_endian

Chosen = tuple[KeptFile, bool]
"""An instance, and whether it is decoded."""
_MOST_OPEN = 64
"""Segments that one answer keeps open."""


def add_retrieve_routes(router: APIRouter, archive: SqlArchive, lookup: Lookup) -> None:
    """Instances at all three levels."""

    @router.get("/studies/{study}")
    def retrieve_study(request: Request, study: str) -> Response:
        return several(archive, request, lookup.files(request, study))

    @router.get("/studies/{study}/series/{series}")
    def retrieve_series(request: Request, study: str, series: str) -> Response:
        return several(archive, request, lookup.files(request, study, series))

    @router.get("/studies/{study}/series/{series}/instances/{sop}")
    def retrieve_instance(request: Request, study: str, series: str, sop: str) -> Response:
        kept = lookup.one(request, study, series, sop)
        how = instance_answer(acceptable(request), may_be_single=True)
        if not how.single_part:
            return several(archive, request, (kept,))
        decode = how.decode(kept.record.transfer_syntax_uid)
        if decode is None:
            raise _no_such_syntax((kept,))
        if decode and kept.record.transfer_syntax_uid != EXPLICIT_LE:
            content_type = f"{DICOM}; transfer-syntax={EXPLICIT_LE}"
            return Streamed(batched(explicit_little_endian(archive, kept)), content_type=content_type)
        content_type = f"{DICOM}; transfer-syntax={kept.record.transfer_syntax_uid}"
        read = partial(stretch, archive, kept)
        size_bytes, _ = archive.given_out(kept)
        headers = {"Cache-Control": "private, no-cache", "Vary": "Accept"}
        return ranged(request, read, size_bytes, content_type=content_type, etag=etag_of(kept), headers=headers)


def several(archive: SqlArchive, request: Request, files: Sequence[KeptFile]) -> Response:
    """Instances one after the other as multipart; those that have no acceptable form are left out (206).

    Raises
    ------
    Rejected
        ``dicomweb.not-acceptable`` (HTTP 406) when none has.
    """
    how = instance_answer(acceptable(request), may_be_single=False)
    forms = [(kept, how.decode(kept.record.transfer_syntax_uid)) for kept in files]
    chosen: list[Chosen] = [(kept, decode) for kept, decode in forms if decode is not None]
    if not chosen:
        raise _no_such_syntax(files)
    boundary, root = new_boundary(), service_url(request)
    heads = [_head(boundary, root, kept, decode) for kept, decode in chosen]
    length: int | None = None
    if not any(_changes(kept, decode) for kept, decode in chosen):
        sizes = sum(kept.record.size_bytes for kept, _ in chosen)
        length = sum(map(len, heads)) + sizes + len(part_tail(boundary))
    direct = direct_of(request.scope)
    from_files = length is not None and direct is not None and direct.sends_files
    body = (
        _from_files(archive, boundary, heads, chosen)
        if from_files
        else batched(_body(archive, boundary, heads, chosen))
    )
    return Streamed(
        body,
        content_type=f'{MULTIPART}; type="{DICOM}"; boundary={boundary}',
        length_bytes=length,
        status_code=206 if len(chosen) < len(files) else 200,
    )


def _changes(kept: KeptFile, decode: bool) -> bool:
    """Whether the bytes that go out are others than those on the disk."""
    return bool(kept.corrected) or (decode and kept.record.transfer_syntax_uid != EXPLICIT_LE)


def _head(boundary: str, root: str, kept: KeptFile, decode: bool) -> bytes:
    syntax = EXPLICIT_LE if decode else kept.record.transfer_syntax_uid
    return part_head(boundary, f"{DICOM}; transfer-syntax={syntax}", instance_url(root, uids_of(kept)))


def _body(archive: SqlArchive, boundary: str, heads: list[bytes], chosen: list[Chosen]) -> Iterator[bytes]:
    for head, (kept, decode) in zip(heads, chosen, strict=True):
        yield head
        yield from explicit_little_endian(archive, kept) if decode else archive.stream(kept)
    yield part_tail(boundary)


def _from_files(archive: SqlArchive, boundary: str, heads: list[bytes], chosen: list[Chosen]) -> Iterator[Pieces]:
    """As `_body`, where all go out as they lie there: the bytes stay in their files, open until they are sent."""
    with ExitStack() as opened:
        yield from batched(_stretches(archive, boundary, heads, chosen, opened))


def _stretches(
    archive: SqlArchive, boundary: str, heads: list[bytes], chosen: list[Chosen], opened: ExitStack
) -> Iterator[Piece]:
    known: dict[str, int] = {}
    for head, (kept, _) in zip(heads, chosen, strict=True):
        yield head
        if kept.segment not in known and len(known) < _MOST_OPEN:
            place = Place(segment=kept.segment, offset_bytes=kept.offset_bytes, size_bytes=kept.record.size_bytes)
            with suppress(NotFound):  # compaction has moved it: `stream` knows where to
                known[kept.segment] = descriptor = archive.segments.open(place)
                opened.callback(os.close, descriptor)
        if kept.segment in known:
            yield FileStretch(known[kept.segment], kept.offset_bytes, kept.record.size_bytes)
        else:
            yield from archive.stream(kept)
    yield part_tail(boundary)


def _no_such_syntax(files: Sequence[KeptFile]) -> Rejected:
    stored = ", ".join(sorted({kept.record.transfer_syntax_uid for kept in files}))
    return not_acceptable(f"These instances are stored as {stored}; ask for that, {EXPLICIT_LE}, or transfer-syntax=*")

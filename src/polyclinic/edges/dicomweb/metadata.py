"""Metadata of studies, series and instances (PS3.18 10.4.1.1.2), as DICOM JSON or Native DICOM Model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

import orjson
from fastapi import APIRouter, Request, Response

from polyclinic.departments.archive.ports import KeptFile
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dicomweb.addresses import instance_url, service_url
from polyclinic.edges.dicomweb.lookup import Lookup, uids_of
from polyclinic.edges.dicomweb.metadata_texts import MetadataTexts
from polyclinic.edges.dicomweb.multipart import new_boundary, part_head, part_tail
from polyclinic.edges.dicomweb.native_xml import native_xml
from polyclinic.edges.dicomweb.negotiation import MULTIPART, acceptable, choose, not_acceptable
from polyclinic.edges.dicomweb.stored import etag_of
from polyclinic.edges.dicomweb.streams import Streamed, batched, unchanged

JSON_TYPE, XML_TYPE = "application/dicom+json", "application/dicom+xml"
_AT_ONCE = 50
"""Up to so many instances are answered in one piece."""
_FORM_VERSION = b"1"


def add_metadata_routes(router: APIRouter, archive: SqlArchive, lookup: Lookup) -> None:
    """Metadata at all three levels."""
    texts = MetadataTexts(archive)

    def answer(request: Request, files: tuple[KeptFile, ...]) -> Response:
        form = choose_metadata_form(request)
        root = service_url(request)
        digest = hashlib.sha256(_FORM_VERSION + form.encode() + root.encode())
        for kept in files:
            digest.update(etag_of(kept).encode())
        etag = f'"{digest.hexdigest()[:32]}"'
        headers = {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Accept"}
        if unchanged(request, etag):
            return Response(status_code=304, headers=headers)

        def one(kept: KeptFile) -> bytes:
            return texts.text(kept, instance_url(root, uids_of(kept)))

        parts: Iterable[bytes] = map(one, files)
        if len(files) <= _AT_ONCE:
            parts = list(parts)
        return in_form(form, parts, headers)

    @router.get("/studies/{study}/metadata")
    def study_metadata(request: Request, study: str) -> Response:
        return answer(request, lookup.files(request, study))

    @router.get("/studies/{study}/series/{series}/metadata")
    def series_metadata(request: Request, study: str, series: str) -> Response:
        return answer(request, lookup.files(request, study, series))

    @router.get("/studies/{study}/series/{series}/instances/{sop}/metadata")
    def instance_metadata(request: Request, study: str, series: str, sop: str) -> Response:
        return answer(request, (lookup.one(request, study, series, sop),))


def choose_metadata_form(request: Request) -> str:
    """Media type of DICOM JSON or of Native DICOM Model documents (PS3.18 8.7.3.2).

    Raises
    ------
    Rejected
        ``dicomweb.not-acceptable`` (HTTP 406).
    """
    ranges = acceptable(request)
    form = choose(ranges, (JSON_TYPE, "application/json", XML_TYPE))
    if form is None:
        raise not_acceptable(f'Attributes are sent as {JSON_TYPE}, or as {MULTIPART}; type="{XML_TYPE}"')
    return XML_TYPE if form == XML_TYPE else JSON_TYPE


def in_form(form: str, datasets: Iterable[bytes], headers: Mapping[str, str]) -> Response:
    """Datasets, each as the text of a DICOM JSON object; streamed unless they come as a list."""
    if form == XML_TYPE:
        boundary = new_boundary()
        pieces = (part_head(boundary, XML_TYPE) + native_xml(orjson.loads(one)) for one in datasets)
        body = chain(pieces, (part_tail(boundary),))
        return Streamed(
            batched(body), content_type=f'{MULTIPART}; type="{XML_TYPE}"; boundary={boundary}', headers=headers
        )
    if isinstance(datasets, list):
        return Response(b"[" + b",".join(datasets) + b"]", media_type=JSON_TYPE, headers=dict(headers))
    return Streamed(batched(_array(iter(datasets))), content_type=JSON_TYPE, headers=headers)


def _array(datasets: Iterator[bytes]) -> Iterator[bytes]:
    """A JSON array in groups of some hundred kilobytes: sending one object costs more than making it."""
    group = [b"["]
    size = 0
    first = True
    for one in datasets:
        if not first:
            group.append(b",")
        first = False
        group.append(one)
        size += len(one)
        if size > 256 * 1024:
            yield b"".join(group)
            group, size = [], 0
    yield b"".join([*group, b"]"])

"""QIDO-RS (PS3.18 10.6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from polyclinic.departments.archive.search import find_instances, find_series, find_studies
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dicomweb.addresses import instance_url, service_url, study_url
from polyclinic.edges.dicomweb.model import Json
from polyclinic.edges.dicomweb.results import instance_json, parse_query, series_json, study_json
from polyclinic.edges.dicomweb.retrieve import JSON_TYPE, metadata_of

Authorize = Callable[[Request, str, str | None], None]


def add_search_routes(router: APIRouter, archive: SqlArchive, authorize: Authorize) -> None:
    """Studies, series and instances, each at every level above it."""

    @router.get("/studies")
    def search_studies(request: Request) -> Response:
        authorize(request, "search", None)
        query, _ = parse_query(request.query_params.multi_items(), {})
        root = service_url(request)
        rows = find_studies(archive.engine, query)
        return answer([study_json(row, study_url(root, row["study_instance_uid"])) for row in rows])

    def series(request: Request, fixed: Mapping[str, str]) -> Response:
        authorize(request, "search", fixed.get("StudyInstanceUID"))
        query, _ = parse_query(request.query_params.multi_items(), fixed)
        root = service_url(request)
        return answer(
            [
                series_json(row, f"{study_url(root, row['study_instance_uid'])}/series/{row['series_instance_uid']}")
                for row in find_series(archive.engine, query)
            ]
        )

    def instances(request: Request, fixed: Mapping[str, str]) -> Response:
        authorize(request, "search", fixed.get("StudyInstanceUID"))
        query, include = parse_query(request.query_params.multi_items(), fixed)
        root = service_url(request)
        rows = find_instances(archive.engine, query)
        out: list[Json] = []
        for row in rows:
            url = instance_url(root, row)
            found = instance_json(row, url)
            if include:
                found = _with_fields(
                    metadata_of(archive, archive.kept_file(row["sop_instance_uid"]), url), found, include
                )
            out.append(found)
        return answer(out)

    @router.get("/series")
    def search_series(request: Request) -> Response:
        return series(request, {})

    @router.get("/instances")
    def search_instances(request: Request) -> Response:
        return instances(request, {})

    @router.get("/studies/{study}/series")
    def search_series_of_study(request: Request, study: str) -> Response:
        return series(request, {"StudyInstanceUID": study})

    @router.get("/studies/{study}/instances")
    def search_instances_of_study(request: Request, study: str) -> Response:
        return instances(request, {"StudyInstanceUID": study})

    @router.get("/studies/{study}/series/{series_uid}/instances")
    def search_instances_of_series(request: Request, study: str, series_uid: str) -> Response:
        return instances(request, {"StudyInstanceUID": study, "SeriesInstanceUID": series_uid})


def _with_fields(metadata: Json, found: Json, include: frozenset[str]) -> Json:
    from pydicom.datadict import tag_for_keyword  # noqa: PLC0415 - only when fields are asked for

    if "all" in include:
        return {k: v for k, v in metadata.items() if "BulkDataURI" not in v} | found
    wanted = set()
    for field in include:
        tag = tag_for_keyword(field)
        wanted.add(field.upper() if tag is None else f"{tag:08X}")
    return {k: v for k, v in metadata.items() if k in wanted} | found


def answer(body: list[dict[str, Any]]) -> Response:
    """A DICOM JSON answer."""
    return Response(orjson.dumps(body), media_type=JSON_TYPE)

"""QIDO-RS (PS3.18 10.6): searches of studies, series and instances, answered from the index where it knows enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import NamedTuple

import orjson
from fastapi import APIRouter, Request, Response
from sqlalchemy import Engine, RowMapping

from polyclinic.core.errors import Rejected
from polyclinic.departments.archive.ports import KeptFile
from polyclinic.departments.archive.search import Level, Query, find_instances, find_series, find_studies
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.dicom.header import HeaderError
from polyclinic.edges.dicomweb.addresses import instance_url, series_url, service_url, study_url
from polyclinic.edges.dicomweb.field_matching import has
from polyclinic.edges.dicomweb.levels import REQUIRED_OF_INSTANCE, REQUIRED_OF_SERIES, belongs_to
from polyclinic.edges.dicomweb.metadata import choose_metadata_form, in_form
from polyclinic.edges.dicomweb.model import Json, some_to_json
from polyclinic.edges.dicomweb.query import Path, Search, parse_search
from polyclinic.edges.dicomweb.results import instance_json, series_json, study_json
from polyclinic.edges.dicomweb.stored import header_of

Authorize = Callable[[Request, str, str | None], None]
MAX_SCANNED = 5000
"""How many candidates are opened to match what the index does not hold; a search that needs more is refused."""
_BATCH = 200


class _Level(NamedTuple):
    find: Callable[[Engine, Query], list[RowMapping]]
    as_json: Callable[[RowMapping, str], Json]
    required: frozenset[int]
    """Attributes of every result that the index does not hold."""


_LEVELS = {
    Level.STUDY: _Level(find_studies, study_json, frozenset()),
    Level.SERIES: _Level(find_series, series_json, REQUIRED_OF_SERIES),
    Level.IMAGE: _Level(find_instances, instance_json, REQUIRED_OF_INSTANCE),
}


def add_search_routes(router: APIRouter, archive: SqlArchive, authorize: Authorize) -> None:
    """Studies, series and instances, each at every level above it."""

    def answer(request: Request, level: Level, fixed: Mapping[str, str]) -> Response:
        authorize(request, "search", fixed.get("StudyInstanceUID"))
        form = choose_metadata_form(request)
        search = parse_search(request.query_params.multi_items(), level, fixed)
        root = service_url(request)
        found, more = results(archive, level, search, root)
        warnings = [f'299 {root}: "{text}"' for text in search.warnings]
        if more:
            after = search.offset + search.limit
            warnings.append(f'299 {root}: "There are additional results that can be requested, from offset={after}"')
        headers = {"Warning": ", ".join(warnings)} if warnings else {}
        if not found:
            return Response(status_code=204, headers=headers)
        return in_form(form, map(orjson.dumps, found), headers)

    @router.get("/studies")
    def search_studies(request: Request) -> Response:
        return answer(request, Level.STUDY, {})

    @router.get("/series")
    def search_series(request: Request) -> Response:
        return answer(request, Level.SERIES, {})

    @router.get("/instances")
    def search_instances(request: Request) -> Response:
        return answer(request, Level.IMAGE, {})

    @router.get("/studies/{study}/series")
    def search_series_of_study(request: Request, study: str) -> Response:
        return answer(request, Level.SERIES, {"StudyInstanceUID": study})

    @router.get("/studies/{study}/instances")
    def search_instances_of_study(request: Request, study: str) -> Response:
        return answer(request, Level.IMAGE, {"StudyInstanceUID": study})

    @router.get("/studies/{study}/series/{series_uid}/instances")
    def search_instances_of_series(request: Request, study: str, series_uid: str) -> Response:
        return answer(request, Level.IMAGE, {"StudyInstanceUID": study, "SeriesInstanceUID": series_uid})


def results(archive: SqlArchive, level: Level, search: Search, root: str) -> tuple[list[Json], bool]:
    """The results that were asked for, and whether our own limit kept others back.

    Raises
    ------
    Rejected
        ``dicomweb.too-broad`` (HTTP 413).
    """
    wanted = search.limit + search.capped  # one more tells that there are more
    if search.keys:
        matching = islice(_matching(archive, level, search, root), search.offset, search.offset + wanted)
        found = list(matching)
    else:
        rows = _LEVELS[level].find(archive.engine, search.page(wanted, search.offset)) if wanted else []
        files = _representatives(archive, level, rows)
        found = [_result(archive, level, row, partial(files, row), search, root) for row in rows]
    return found[: search.limit], len(found) > search.limit


def _matching(archive: SqlArchive, level: Level, search: Search, root: str) -> Iterator[Json]:
    for start in range(0, MAX_SCANNED, _BATCH):
        rows = _LEVELS[level].find(archive.engine, search.page(_BATCH, start))
        files, tags = _representatives(archive, level, rows), {key.path[0] for key in search.keys}
        for row in rows:
            instance = _of_instance(archive, files(row), tags)
            if all(has(instance, key) for key in search.keys):
                yield _result(archive, level, row, partial(files, row), search, root)
        if len(rows) < _BATCH:
            return
    raise Rejected(
        "dicomweb.too-broad",
        "Too many objects would have to be opened for this search: add an attribute that is indexed, e.g. StudyDate",
    )


def _result(  # noqa: PLR0917 - all of what a result is made of
    archive: SqlArchive, level: Level, row: RowMapping, file: Callable[[], KeptFile | None], search: Search, root: str
) -> Json:
    url = _url(level, row, root)
    of_level = _LEVELS[level]
    out = of_level.as_json(row, url)
    if search.everything:
        whole = _of_instance(archive, file(), None, f"{url}/bulkdata")
        return {tag: element for tag, element in whole.items() if belongs_to(int(tag, 16), level)} | out
    asked = {path for path in search.fields if belongs_to(path[0], level) and f"{path[0]:08X}" not in out}
    tags = of_level.required | {path[0] for path in asked}
    if tags:
        there = _of_instance(archive, file(), tags, f"{url}/bulkdata")
        whole_fields = {path[0] for path in asked if len(path) == 1} | of_level.required
        for tag, element in there.items():
            number = int(tag, 16)
            inner = [path[1:] for path in asked if len(path) > 1 and path[0] == number]
            out[tag] = element if number in whole_fields else _pruned(element, inner)
        out = dict(sorted(out.items()))
    return out


def _pruned(sequence: Json, paths: list[Path]) -> Json:
    """A sequence with only the attributes that were asked for in its items."""
    items = []
    for item in sequence.get("Value", ()):
        kept: Json = {}
        for path in paths:
            tag = f"{path[0]:08X}"
            if tag in item:
                kept[tag] = item[tag] if len(path) == 1 else _pruned(item[tag], [path[1:]])
        items.append(kept)
    return {"vr": "SQ", "Value": items}


def _of_instance(
    archive: SqlArchive, kept: KeptFile | None, tags: set[int] | frozenset[int] | None, bulk_url: str = ""
) -> Json:
    """Attributes of the instance that stands for a row; all of them for None. Nothing when it cannot be read."""
    if kept is None:
        return {}
    try:
        return some_to_json(header_of(archive, kept), bulk_url, tags)
    except HeaderError:
        return {}  # what the index knows is still an answer


def _representatives(
    archive: SqlArchive, level: Level, rows: list[RowMapping]
) -> Callable[[RowMapping], KeptFile | None]:
    """The instance that stands for each row: the first of a study or series."""
    if level is Level.IMAGE:
        here = archive.kept_of([row["sop_instance_uid"] for row in rows])
        return lambda row: here.get(row["sop_instance_uid"])

    def first(row: RowMapping) -> KeptFile | None:
        series = row["series_instance_uid"] if level is Level.SERIES else None
        return next(iter(archive.kept_files(row["study_instance_uid"], series, limit=1)), None)

    return first


def _url(level: Level, row: RowMapping, root: str) -> str:
    if level is Level.STUDY:
        return study_url(root, row["study_instance_uid"])
    return series_url(root, row) if level is Level.SERIES else instance_url(root, row)

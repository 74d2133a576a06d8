"""The addresses of FHIR R4 under one prefix. Every answer, errors too, is FHIR JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl

import orjson
from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from polyclinic.core.errors import NotFound, PolyclinicError, Rejected
from polyclinic.core.people import Person
from polyclinic.edges.fhir_http.answers import (
    answer,
    history,
    one_resource,
    refusal,
    searchset,
    written_answer,
)
from polyclinic.edges.fhir_http.bundles import Bundles
from polyclinic.edges.fhir_http.capability import capability_statement
from polyclinic.edges.fhir_http.negotiation import (
    check_accept,
    check_content_type,
    preference,
    version_of_etag,
)
from polyclinic.edges.fhir_http.outcomes import issue, outcome
from polyclinic.edges.fhir_http.parameters import PARAMETERS
from polyclinic.edges.fhir_http.query import parse_search
from polyclinic.edges.fhir_http.search import Library
from polyclinic.edges.fhir_http.writes import OpenUnit, Unit, Writer
from polyclinic.fhir.json_text import Json, parse_json

READ, WRITE, METADATA = "fhir.read", "fhir.write", "fhir.metadata"
"""Actions that the routes declare."""
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_FORM = "application/x-www-form-urlencoded"
_MAX_FIELDS = 200
_TOO_LARGE = 413
Pairs = Sequence[tuple[str, str]]


class _FhirRoute(APIRoute):
    """Checks the formats and answers the platform's errors as OperationOutcome."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except PolyclinicError as error:
                return refusal(error, next(iter(getattr(error, "__notes__", [])), ""))
            except HTTPException as error:
                kind = "too-long" if error.status_code == _TOO_LARGE else "processing"
                return answer(outcome([issue(kind, str(error.detail))]), error.status_code)

        return handled


async def _body(request: Request) -> bytes:
    return await request.body()


Body = Annotated[bytes, Depends(_body)]


def _negotiate(request: Request) -> None:
    check_accept(request.headers.get("accept", ""), request.query_params.get("_format", ""))


class Service:
    """What the routes do, in plain calls. Every method may be called from any thread."""

    def __init__(self, *, library: Library, open_unit: OpenUnit) -> None:
        self.library = library
        self.open_unit = open_unit

    def search(
        self, resource_type: str, pairs: Pairs, *, person: Person, root: str, strict: bool, library: Library
    ) -> Json:
        """A first page, or the one that ``_page`` names, as Bundle."""
        cursor = None
        token = dict(pairs).get("_page")
        if token is not None:
            kept = library.ids.resources.load_page(token, person_id=person.person_id, at=datetime.now(UTC))
            state = orjson.loads(kept)
            if state["type"] != resource_type:
                raise NotFound("records.no-page", "This page has gone; start the search again")
            pairs, cursor = [(name, value) for name, value in state["query"]], state["cursor"]
        search = parse_search(resource_type, pairs, strict=strict)
        page = library.page(search, cursor)
        following = ""
        if page.cursor is not None:
            state = {"type": resource_type, "query": list(search.used), "cursor": page.cursor}
            following = library.ids.resources.keep_page(
                orjson.dumps(state).decode(), person_id=person.person_id, at=datetime.now(UTC)
            )
        return searchset(search, page, root, following)

    def bundle(self, body: Json, *, person: Person, root: str, strict: bool) -> Json:
        """The answer to a transaction or batch."""

        def searched(unit: Unit, resource_type: str, pairs: Pairs) -> Json:
            return self.search(resource_type, pairs, person=person, root=root, strict=strict, library=unit.library)

        return Bundles(open_unit=self.open_unit, searched=searched, person=person, strict=strict).carry_out(body)


def fhir_router(
    service: Service, allow: Callable[[str], Callable[..., Person]], *, version: str, extra: Sequence[Json] = ()
) -> APIRouter:
    """FHIR R4; include it under ``/fhir``, behind routes of other resource types.

    Parameters
    ----------
    allow
        Gives the dependency for an action: `READ`, `WRITE` or `METADATA`.
    version
        Of the software, for the capability statement.
    extra
        ``rest.resource`` entries of types that other routes under the prefix serve.
    """
    router = APIRouter(route_class=_FhirRoute, tags=["FHIR"], dependencies=[])
    published = datetime.now(UTC).date().isoformat()

    @router.get("/metadata", dependencies=[Depends(allow(METADATA)), Depends(_negotiate)])
    def metadata(request: Request) -> Response:
        return answer(capability_statement(version=version, published=published, url=root_of(request), extra=extra))

    _add_reading(router, service, allow)
    _add_writing(router, service, allow)
    _add_rest(router, allow)
    return router


def _add_reading(router: APIRouter, service: Service, allow: Callable[[str], Callable[..., Person]]) -> None:
    may_read = Depends(allow(READ))
    library = service.library

    def searched(request: Request, resource_type: str, pairs: Pairs, person: Person) -> Response:
        _known(resource_type)
        strict = preference(request.headers).strict
        root = root_of(request)
        return answer(service.search(resource_type, pairs, person=person, root=root, strict=strict, library=library))

    @router.get("/{resource_type}")
    def search(request: Request, resource_type: str, person: Person = may_read) -> Response:
        _negotiate(request)
        return searched(request, resource_type, request.query_params.multi_items(), person)

    @router.post("/{resource_type}/_search")
    def post_search(request: Request, resource_type: str, body: Body, person: Person = may_read) -> Response:
        _negotiate(request)
        pairs = [*request.query_params.multi_items(), *_form(request, body)]
        return searched(request, resource_type, pairs, person)

    @router.get("/{resource_type}/{resource_id}", dependencies=[may_read, Depends(_negotiate)])
    def read(request: Request, resource_type: str, resource_id: str) -> Response:
        _known(resource_type, resource_id)
        found = library.read(resource_type, resource_id)
        return one_resource(found, root_of(request), if_none_match=request.headers.get("if-none-match", ""))

    @router.get("/{resource_type}/{resource_id}/_history", dependencies=[may_read, Depends(_negotiate)])
    def read_history(request: Request, resource_type: str, resource_id: str) -> Response:
        _known(resource_type, resource_id)
        return answer(history(library.versions(resource_type, resource_id), root_of(request)))

    @router.get("/{resource_type}/{resource_id}/_history/{version_id}", dependencies=[may_read, Depends(_negotiate)])
    def read_version(request: Request, resource_type: str, resource_id: str, version_id: str) -> Response:
        _known(resource_type, resource_id)
        return one_resource(library.version(resource_type, resource_id, version_id), root_of(request))


def _add_writing(router: APIRouter, service: Service, allow: Callable[[str], Callable[..., Person]]) -> None:
    may_write = Depends(allow(WRITE))

    def bundle(request: Request, body: Body, person: Person = may_write) -> Response:
        resource = _resource(request, body)
        strict = preference(request.headers).strict
        return answer(service.bundle(resource, person=person, root=root_of(request), strict=strict))

    router.add_api_route("", bundle, methods=["POST"])
    router.add_api_route("/", bundle, methods=["POST"])

    @router.post("/{resource_type}")
    def create(request: Request, resource_type: str, body: Body, person: Person = may_write) -> Response:
        resource = _resource(request, body)
        _known(resource_type)
        wish = preference(request.headers)
        condition = request.headers.get("if-none-exist", "")
        with service.open_unit(person) as unit:
            writer = Writer(unit=unit, person=person, strict=wish.strict)
            written = writer.create(resource_type, resource, if_none_exist=condition)
        return written_answer(written, root_of(request), wish)

    @router.put("/{resource_type}/{resource_id}")
    def update(
        request: Request,
        resource_type: str,
        resource_id: str,
        body: Body,
        person: Person = may_write,
    ) -> Response:
        resource = _resource(request, body)
        _known(resource_type, resource_id)
        wish = preference(request.headers)
        etag = request.headers.get("if-match", "")
        with service.open_unit(person) as unit:
            writer = Writer(unit=unit, person=person, strict=wish.strict)
            seen = version_of_etag(etag) if etag else ""
            written = writer.update(resource_type, resource_id, resource, if_match=seen)
        return written_answer(written, root_of(request), wish)


def _add_rest(router: APIRouter, allow: Callable[[str], Callable[..., Person]]) -> None:
    def other(request: Request, path: str) -> Response:
        if request.method == "GET":
            raise NotFound("fhir.no-address", "There is nothing at this address; /fhir/metadata says what there is")
        raise Rejected("fhir.not-offered", "This interaction is not offered; /fhir/metadata says which are")

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    router.add_api_route("/{path:path}", other, methods=methods, dependencies=[Depends(allow(READ))])


def root_of(request: Request) -> str:
    """The base address of this service, as the client reaches it."""
    return f"{str(request.base_url).rstrip('/')}/fhir"


def _known(resource_type: str, resource_id: str = "") -> None:
    if resource_type not in PARAMETERS:
        raise NotFound("fhir.no-type", "This resource type is not here; /fhir/metadata lists those that are")
    if resource_id and not _ID.fullmatch(resource_id):
        raise NotFound("fhir.no-resource", "There is no such resource; check its address")


def _resource(request: Request, body: bytes) -> Json:
    _negotiate(request)
    check_content_type(request.headers.get("content-type", ""))
    return parse_json(body)


def _form(request: Request, body: bytes) -> list[tuple[str, str]]:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and media != _FORM:
        raise Rejected("fhir.media-type", f"Send the parameters of a search as {_FORM}")
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise Rejected("fhir.bad-search", "The form cannot be read; send fewer parameters, in UTF-8") from error

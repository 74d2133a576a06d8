"""The addresses of DICOMweb under one prefix, and who may ask for what."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from polyclinic.core.errors import Conflict, Forbidden, NotFound, PolyclinicError, Unavailable
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.dicom.header import HeaderError
from polyclinic.edges.dicomweb.bulk import add_bulk_routes
from polyclinic.edges.dicomweb.lookup import Lookup
from polyclinic.edges.dicomweb.metadata import add_metadata_routes
from polyclinic.edges.dicomweb.pictures import add_picture_routes
from polyclinic.edges.dicomweb.retrieve import add_retrieve_routes
from polyclinic.edges.dicomweb.router_plain import plain_handler
from polyclinic.edges.dicomweb.search import add_search_routes
from polyclinic.edges.dicomweb.store import add_store_routes

Authorize = Callable[[Request, str, str | None], None]
"""Called with the request, ``"search"``, ``"read"`` or ``"store"``, and the Study Instance UID when one is named;
raises `Forbidden` or `NotFound`."""

_STATUS: tuple[tuple[type[PolyclinicError], int], ...] = (
    (NotFound, 404),
    (Forbidden, 403),
    (Conflict, 409),
    (Unavailable, 503),
    (PolyclinicError, 400),
)


class _Route(APIRoute):
    """Answers the platform's errors as ``{"code", "message"}``, so that the router works in any application."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = plain_handler(self, super().get_route_handler())

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except PolyclinicError as error:
                status = _OVERRIDES.get(error.code) or next(s for kind, s in _STATUS if isinstance(error, kind))
                return JSONResponse({"code": error.code, "message": error.message}, status)
            except HeaderError:
                body = {"code": "dicomweb.unreadable", "message": "The kept instance cannot be read: fetch it whole"}
                return JSONResponse(body, 422)

        return handled


_OVERRIDES = {
    "dicomweb.not-acceptable": 406,
    "dicomweb.no-decoder": 406,  # what the client asked for cannot be made, what is stored can be had
    "dicomweb.media-type": 415,
    "dicomweb.too-broad": 413,
    "dicomweb.range": 416,
    "access.sign-in": 401,
}


def dicomweb_router(archive: SqlArchive, authorize: Authorize) -> APIRouter:
    """STOW-RS, QIDO-RS and WADO-RS; include it under a prefix such as ``/dicom-web``."""
    router = APIRouter(route_class=_Route, tags=["DICOMweb"])
    lookup = Lookup(archive, authorize)
    add_bulk_routes(router, archive, lookup)  # first: frames are asked for most, and routes are tried in order
    add_search_routes(router, archive, authorize)
    add_metadata_routes(router, archive, lookup)
    add_picture_routes(router, archive, lookup)
    add_retrieve_routes(router, archive, lookup)
    add_store_routes(router, archive, authorize)
    return router

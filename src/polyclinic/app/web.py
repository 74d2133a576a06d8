"""The web server: JSON API, DICOMweb, the stream of events and the page, behind one gate."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

import polyclinic
from polyclinic.app.settings import is_loopback
from polyclinic.core.errors import (
    Conflict,
    Forbidden,
    NotFound,
    PolyclinicError,
    Rejected,
    Unavailable,
)
from polyclinic.departments.access.api import Gate
from polyclinic.departments.access.contracts import Action

log = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[PolyclinicError], int], ...] = (
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (Rejected, 422),
    (Unavailable, 503),
)
_STATUS_OF_CODE = {"access.sign-in": 401, "access.wrong-password": 401, "access.locked": 429}

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        # Decoders of compressed images are WebAssembly.
        "script-src 'self' 'wasm-unsafe-eval'",
        "worker-src 'self' blob:",
        "img-src 'self' blob: data:",
        # The page's components set styles on elements.
        "style-src 'self' 'unsafe-inline'",
        "font-src 'self' data:",
        "connect-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_JSON_LIMIT_BYTES = 1_000_000
_FHIR_LIMIT_BYTES = 8_000_000
"""Bundles, and reports of other systems with their printed form inside."""
_POLICY_VIOLATION = 1008
_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:@/]+))(?::\d{1,5})?")


class Guarded:
    """Middleware: security headers on every answer, a bound on the size of every request, and whom it is for."""

    def __init__(self, app: ASGIApp, *, upload_limit_bytes: int, loopback_only: bool) -> None:
        self._app = app
        self._upload_limit_bytes = upload_limit_bytes
        self._loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = _FHIR_LIMIT_BYTES if scope["path"].startswith("/fhir") else _JSON_LIMIT_BYTES
        if scope["path"].startswith("/dicom-web"):
            limit = self._upload_limit_bytes
        taken, started = 0, False

        async def bounded() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise HTTPException(413, "The request is larger than allowed")
            return message

        async def with_headers(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(h for h in _HEADERS if h[0] not in present)]
                if scope["path"].startswith("/api/") and b"cache-control" not in present:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        if self._loopback_only and not _is_for_loopback(scope):
            text = "This demo answers under localhost or 127.0.0.1 only; open it there"
            await _problem(421, "http.wrong-host", text)(scope, receive, with_headers)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            answer = _problem(413, "http.too-large", "The request is larger than allowed; send less at once")
            await answer(scope, receive, with_headers)
            return
        if scope["method"] == "HEAD" and not scope["path"].startswith("/api/"):
            # The server leaves the body away by itself; only a stream of events would never come to its end.
            scope = {**scope, "method": "GET"}
        try:
            await self._app(scope, bounded, with_headers)
        except Exception as error:  # noqa: BLE001 - what went further out would be logged with the error's own text
            _log_unexpected(scope, error)
            if started:
                raise Interrupted from None
            text, status, code = "Something unexpected went wrong; the server log says what", 500, "server.error"
            if isinstance(error, OperationalError):
                text = "The database cannot be used now; check that its disk has space, then try again"
                status, code = 503, "server.database"
            await _problem(status, code, text)(scope, receive, with_headers)


class Interrupted(Exception):
    """An answer broke off in the middle; the log says why, without the text of the error."""


def _log_unexpected(scope: Scope, error: Exception) -> None:
    """Where it failed, without the error's own text and the address, which may hold what is about a patient."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    route = getattr(scope.get("route"), "path", "?")
    log.error("%s %s: %s\n%s", scope["method"], route, type(error).__name__, frames)


def _is_for_loopback(scope: Scope) -> bool:
    """Whether the one Host header names this machine itself.

    A page elsewhere can have its own name resolve to 127.0.0.1; the browser then sends that name.
    """
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    return match is not None and is_loopback((match["v6"] or match["name"]).lower())


def create_app(
    gate: Gate,
    *,
    routers: Iterable[tuple[str, APIRouter, Action | None]],
    page: Path,
    upload_limit_mb: int,
    ready: Callable[[], bool],
    metrics: CollectorRegistry,
    loopback_only: bool = False,
) -> FastAPI:
    """The application.

    Parameters
    ----------
    routers
        (prefix, router, action) of every part; the action is None where each route declares its own at `gate`.
    page
        Folder of the built page; a text says how to build it where it is missing.
    ready
        Whether everything that answers need is up.
    loopback_only
        Answer only requests to ``localhost`` or a loopback address, where people are signed in by themselves.
    """
    app = FastAPI(
        title="Polyclinic",
        version=polyclinic.__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Guarded, upload_limit_bytes=upload_limit_mb * 1_000_000, loopback_only=loopback_only)
    _add_error_handlers(app)
    for prefix, router, action in routers:
        # DICOMweb's routes ask the gate once more, with what they do to which study: that is what is recorded.
        first = [Depends(gate.allow(action, outer=prefix == "/dicom-web"))] if action else []
        app.include_router(router, prefix=prefix, dependencies=first)
    _add_health(app, gate, ready, metrics)
    _add_page(app, gate, page.resolve())
    return app


def _problem(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"code": code, "message": message}, status_code=status)


def status_of(error: PolyclinicError) -> int:
    """The HTTP status of one of our errors."""
    if error.code in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[error.code]
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(PolyclinicError)
    async def on_own(asked: HTTPConnection, error: PolyclinicError) -> JSONResponse | None:
        if isinstance(asked, WebSocket):
            await asked.close(_POLICY_VIOLATION, error.code)
            return None
        return _problem(status_of(error), error.code, error.message)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _problem(422, "http.invalid", f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException) -> JSONResponse:
        return _problem(error.status_code, f"http.{error.status_code}", str(error.detail))


def _add_health(app: FastAPI, gate: Gate, ready: Callable[[], bool], metrics: CollectorRegistry) -> None:
    may_ask = Depends(gate.allow(Action.HEALTH_READ))

    @app.get("/health", operation_id="getHealth", tags=["health"], dependencies=[may_ask])
    def health() -> dict[str, str]:
        return {"status": "up", "version": polyclinic.__version__}

    @app.get("/ready", operation_id="getReady", tags=["health"], dependencies=[may_ask])
    def get_ready() -> JSONResponse:
        up = ready()
        return JSONResponse({"status": "ready" if up else "starting"}, 200 if up else 503)

    @app.get("/metrics", operation_id="getMetrics", tags=["health"], response_class=Response)
    def get_metrics(_: object = Depends(gate.allow(Action.METRICS_READ))) -> Response:
        return Response(generate_latest(metrics), media_type=CONTENT_TYPE_LATEST)

    @app.get(
        "/api/v1/openapi.json",
        include_in_schema=False,
        # The schema tells nothing that the page's own files do not tell.
        dependencies=[Depends(gate.allow(Action.PAGE_READ))],
    )
    def get_schema() -> dict[str, Any]:
        return app.openapi()


def _add_page(app: FastAPI, gate: Gate, page: Path) -> None:
    """The page's files; every other address is the page itself, which finds its own way."""

    @app.get(
        "/{path:path}",
        include_in_schema=False,
        dependencies=[Depends(gate.allow(Action.PAGE_READ))],
    )
    def get_page(path: str) -> Response:
        nothing = _problem(404, "http.404", "There is nothing at this address")
        if path.partition("/")[0] in {"api", "dicom-web"}:
            return nothing
        found = _file(page, path)
        if found is not None:
            # Names of built files carry a hash of their content.
            cache = "public, max-age=31536000, immutable" if path.startswith("assets/") else "no-cache"
            return FileResponse(found, headers={"Cache-Control": cache})
        if path.startswith("assets/"):
            return nothing
        index = page / "index.html"
        if not index.is_file():
            text = "The page is not built; run: npm --prefix web ci && npm --prefix web run build"
            return Response(text, status_code=404, media_type="text/plain")
        return FileResponse(index, headers={"Cache-Control": "no-cache"})


def _file(page: Path, path: str) -> Path | None:
    """The file of that name below the page's folder; None where there is none, or none can have such a name."""
    try:
        found = (page / path).resolve()
        return found if found.is_relative_to(page) and found.is_file() else None
    except (OSError, ValueError):
        return None

"""DICOMweb routes called without FastAPI's own machinery still ask whoever was put before them."""

from __future__ import annotations

import threading

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from starlette.requests import HTTPConnection

from polyclinic.core.errors import Forbidden
from polyclinic.edges.dicomweb import router as under_test
from polyclinic.edges.dicomweb.router import dicomweb_router
from polyclinic.edges.dicomweb.router_plain import Handler, plain_handler


class Door:
    def __init__(self, *, opens: bool) -> None:
        self.opens = opens
        self.asked: list[tuple[str, int]] = []

    def __call__(self, request: HTTPConnection) -> str:
        self.asked.append((request.url.path, threading.get_ident()))
        if not self.opens:
            raise Forbidden("test.closed", "closed")
        return "somebody"


class _Route(APIRoute):
    def get_route_handler(self) -> Handler:
        return plain_handler(self, super().get_route_handler())


def application(door: Door) -> FastAPI:
    router = APIRouter(route_class=_Route)

    @router.get("/plain/{one}/{rest:path}")
    def plain(request: Request, one: str, rest: str) -> Response:
        return Response(f"{one} {rest} {threading.get_ident()} {request.url.query}")

    @router.get("/number/{one}")
    def number(request: Request, one: int) -> Response:
        return Response(f"{one + 1} {request.method}")

    app = FastAPI()
    app.include_router(router, prefix="/a", dependencies=[Depends(door)])
    return app


def test_the_dependency_of_an_inclusion_is_asked_in_the_same_thread() -> None:
    door = Door(opens=True)
    answer = TestClient(application(door)).get("/a/plain/x/y/z?q").text.split()
    (asked,) = door.asked
    assert answer == ["x", "y/z", str(asked[1]), "q"]
    assert asked[0] == "/a/plain/x/y/z"


def test_what_it_refuses_is_not_answered() -> None:
    client = TestClient(application(Door(opens=False)))
    for path in ("/a/plain/x/y", "/a/number/1"):
        with pytest.raises(Forbidden):
            client.get(path)


def test_a_route_that_needs_more_keeps_the_ways_of_fastapi() -> None:
    client = TestClient(application(Door(opens=True)))
    assert client.get("/a/number/41").text == "42 GET"
    assert client.get("/a/number/x").status_code == 422


def test_an_override_is_kept_to() -> None:
    door = Door(opens=False)
    app = application(door)
    client = TestClient(app)
    app.dependency_overrides[door] = lambda: "somebody else"
    assert client.get("/a/plain/x/y").status_code == 200
    app.dependency_overrides.clear()
    with pytest.raises(Forbidden):
        client.get("/a/plain/x/y")


def test_every_reading_route_of_dicomweb_is_called_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a route that grows a parameter is seen to lose its speed."""
    slow: set[str] = set()
    seen: set[str] = set()

    def spied(route: APIRoute, of_fastapi: Handler) -> Handler:
        handler = plain_handler(route, of_fastapi)
        seen.add(route.path)
        if handler is of_fastapi and "GET" in (route.methods or ()):
            slow.add(route.path)
        return handler

    monkeypatch.setattr(under_test, "plain_handler", spied)
    app = FastAPI()
    nothing: object = None
    app.include_router(dicomweb_router(nothing, lambda *_: None), dependencies=[Depends(Door(opens=True))])  # type: ignore[arg-type]
    TestClient(app).get("/nothing")
    assert "/studies/{study}" in seen
    assert not slow

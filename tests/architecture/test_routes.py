"""Every route names its action at the gate, and nobody passes who is not signed in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from fastapi.testclient import TestClient

from polyclinic.app.settings import Settings
from polyclinic.app.wiring import build, build_app
from polyclinic.departments.access.api import Allow
from polyclinic.departments.access.contracts import Action
from polyclinic.departments.access.rules import ALLOWED_ROLES, OPEN_TO_ALL


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    services = build(Settings(data=tmp_path_factory.mktemp("routes") / "data"))
    yield build_app(services, ready=lambda: True)
    services.close()


def action_of(route: RouteContext) -> Action | None:
    """What the route declares at the gate."""
    dependant = getattr(route, "dependant", None)
    declared = [d.call.action for d in dependant.dependencies if isinstance(d.call, Allow)] if dependant else []
    return declared[0] if declared else None


def undeclared(app: FastAPI) -> list[str]:
    """Routes without an action: anything that is no API route counts too."""
    return [route.path for route in iter_route_contexts(app.routes) if action_of(route) is None]


def test_every_route_declares_its_action(app: FastAPI) -> None:
    assert len(list(iter_route_contexts(app.routes))) > 30
    assert undeclared(app) == []


def test_a_route_that_forgets_is_found() -> None:
    bare = FastAPI(openapi_url=None)

    @bare.get("/forgotten")
    def forgotten() -> str:
        return ""

    assert undeclared(bare) == ["/forgotten"]


def requests_of(app: FastAPI) -> Iterator[tuple[str, str, Action | None]]:
    for route in iter_route_contexts(app.routes):
        path = re.sub(r"\{path:path\}", "", route.path)
        path = re.sub(r"\{[^}]+\}", "1", path)
        for method in route.methods or ():  # a WebSocket has none; its own tests knock
            yield method, path, action_of(route)


def test_nobody_passes_without_signing_in(app: FastAPI) -> None:
    client: Any = TestClient(app, base_url="http://127.0.0.1")
    passed = [
        (method, path)
        for method, path, action in requests_of(app)
        if action not in OPEN_TO_ALL and client.request(method, path).status_code not in (401, 403)
    ]
    assert passed == []


def test_every_action_is_in_the_table() -> None:
    assert set(Action) == set(ALLOWED_ROLES) | OPEN_TO_ALL


def test_the_page_is_looked_for_inside_its_folder_only(app: FastAPI) -> None:
    client = TestClient(app, base_url="http://127.0.0.1")
    marker = Path(__file__).name
    for path in ("/../pyproject.toml", "/%2e%2e/%2e%2e/pyproject.toml", f"/..%2f..%2f{marker}", "//etc/passwd"):
        answer = client.get(path)
        assert "[project]" not in answer.text
        assert "root:" not in answer.text

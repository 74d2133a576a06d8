"""docs/interfaces.md names every port and every route, and no others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from polyclinic.app.settings import Settings
from polyclinic.app.wiring import build, build_app

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "interfaces.md").read_text("utf-8")


def ports() -> set[str]:
    """Every Protocol of the source tree as ``module.Class``."""
    found = set()
    for path in (ROOT / "src" / "polyclinic").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                isinstance(b, ast.Name) and b.id == "Protocol" for b in node.bases
            ):
                found.add(f"{module}.{node.name}")
    return found


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    services = build(Settings(data=tmp_path_factory.mktemp("documented") / "data"))
    yield build_app(services, ready=lambda: True)
    services.close()


def test_every_port_is_documented() -> None:
    documented = set(re.findall(r"^\| `(polyclinic\.[\w.]+)` \|", PAGE, flags=re.MULTILINE))
    assert documented == ports()


def test_every_route_is_documented(app: FastAPI) -> None:
    there = {
        f"{method} {route.path}"
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }
    documented = set(re.findall(r"^\| `((?:GET|POST|PUT|DELETE|PATCH) /[^`]*)` \|", PAGE, flags=re.MULTILINE))
    assert documented == there

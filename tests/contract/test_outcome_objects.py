"""What the journeys ask of the place where outcomes are kept, of every place."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyclinic.agentkit.outcome import Abstained
from polyclinic.core.errors import NotFound, Rejected
from polyclinic.core.findings import Source, SourceKind
from polyclinic.departments.reading.ports import Objects
from polyclinic.edges.blobs.outcomes import open_outcomes
from polyclinic.journeys.outcomes import has_outcome, keep_outcome, load_outcome


@pytest.fixture(params=["folder", "url", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    places = {"folder": str(tmp_path / "o"), "url": f"file://{tmp_path / 'o'}", "memory": "memory://"}
    return open_outcomes(places[request.param])


def test_what_is_put_is_got(objects: Objects) -> None:
    assert not objects.exists("outcomes/r/outcome.json")
    objects.put("outcomes/r/outcome.json", b"one")
    assert objects.exists("outcomes/r/outcome.json")
    assert objects.get("outcomes/r/outcome.json") == b"one"


def test_a_second_put_leaves_one_whole_object(objects: Objects) -> None:
    objects.put("k", b"one")
    objects.put("k", b"another")
    assert objects.get("k") in (b"one", b"another")


def test_what_is_not_there(objects: Objects) -> None:
    with pytest.raises(NotFound):
        objects.get("absent")


@pytest.mark.parametrize("key", ["../up", "/etc/passwd", "a/../../b", "", "a//b", ".hidden"])
def test_a_key_stays_in_its_place(objects: Objects, key: str) -> None:
    with pytest.raises(Rejected):
        objects.put(key, b"x")


def test_an_outcome_is_there_once_all_of_it_is(objects: Objects) -> None:
    agent = Source(kind=SourceKind.AGENT, id="aa", version="1.0.0")
    made = Abstained(agent=agent, reason_code="c", reason="r")
    assert not has_outcome(objects, "run-1")
    keep_outcome(objects, "run-1", made)
    assert has_outcome(objects, "run-1")
    assert load_outcome(objects, "run-1") == made

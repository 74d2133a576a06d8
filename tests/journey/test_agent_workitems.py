"""Agent runs show as UPS workitems and move along with the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from house import images, settings_in, study_uid
from sqlalchemy import update

from polyclinic.app.wiring import Services, build
from polyclinic.departments.reading.contracts import RunState, Task
from polyclinic.departments.reading.tables import agent_run
from polyclinic.departments.workitems.contracts import State, WorkitemQuery
from polyclinic.departments.workitems.store import Refused, as_dataset

UID = study_uid("one")
RUN = "run-1"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    built = build(settings_in(tmp_path))
    for image in images("one"):
        built.archive.store(image, source="TEST")
    built.workitems.agent_work.turn()  # from now on runs are taken up
    series = built.archive.series(UID)[0].series_instance_uid
    task = Task(
        agent_id="quick_agent",
        agent_version="1.2.3",
        agent_title="Quick agent",
        queue="cpu",
        time_limit_s=10.0,
        memory_limit_mb=100,
        series_instance_uids=(series,),
    )
    built.rooms.runs.enqueue(UID, 1, [(RUN, task)], now=built.rooms.now())
    yield built
    built.close()


def run_is(services: Services, state: RunState, **values: Any) -> None:
    with services.engine.begin() as connection:
        connection.execute(update(agent_run).where(agent_run.c.run_id == RUN).values(state=state, **values))


def only(services: Services) -> dict[str, Any]:
    """The only workitem, after a turn."""
    services.workitems.agent_work.turn()
    (found,) = services.workitems.store.search(WorkitemQuery())
    return as_dataset(found)


def first(dataset: dict[str, Any], *tags: str) -> Any:
    for tag in tags:
        dataset = dataset[tag]["Value"][0]
    return dataset


def test_from_queue_to_completion(services: Services) -> None:
    seen = only(services)
    assert first(seen, "00741000") == "SCHEDULED"
    assert first(seen, "00741204") == "Quick agent 1.2.3"
    assert first(seen, "00404018", "00080100") == "quick_agent"
    assert first(seen, "00100020") == "P1"
    assert first(seen, "00404021", "0020000E") == services.archive.series(UID)[0].series_instance_uid
    run_is(services, RunState.RUNNING, step="segment", fraction=0.4)
    seen = only(services)
    assert first(seen, "00741000") == "IN PROGRESS"
    assert (first(seen, "00741002", "00741004"), first(seen, "00741002", "00741006")) == (40.0, "segment")
    changed_at = first(seen, "00404010")
    assert first(only(services), "00404010") == changed_at, "nothing new was told"
    run_is(services, RunState.DONE, step="", fraction=1.0)
    seen = only(services)
    assert first(seen, "00741000") == "COMPLETED"
    assert first(seen, "00741216", "00404019", "00080100") == "quick_agent"
    assert services.workitems.store.open_of_platform() == []


def test_a_run_that_ended_between_two_looks_is_shown_all_the_same(services: Services) -> None:
    run_is(services, RunState.ABSTAINED, reason="chest-ct.incomplete-lungs", fraction=1.0)
    seen = only(services)
    assert first(seen, "00741000") == "COMPLETED"
    assert "incomplete-lungs" in first(seen, "00741216", "00400280")


def test_a_failed_run_is_canceled_and_its_retry_is_new_work(services: Services) -> None:
    run_is(services, RunState.FAILED, reason="The worker stopped in the middle 3 times")
    seen = only(services)
    assert first(seen, "00741000") == "CANCELED"
    assert first(seen, "00741002", "00741238").startswith("The worker")
    services.rooms.runs.retry(RUN, now=services.rooms.now() + 5)
    services.workitems.agent_work.turn()
    newest, before = services.workitems.store.search(WorkitemQuery())
    assert (newest.state, before.state) == (State.SCHEDULED, State.CANCELED)


def test_nobody_else_moves_the_platforms_work(services: Services) -> None:
    uid = first(only(services), "00080018")
    with pytest.raises(Refused):
        services.workitems.store.change_state(uid, State.IN_PROGRESS, "1.2.3")
    with pytest.raises(Refused):
        services.workitems.store.request_cancel(uid, {})
    assert first(only(services), "00741000") == "SCHEDULED"

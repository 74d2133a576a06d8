"""What makes a journey durable: DBOS keeps which steps of it are done, and goes on after a crash where it stopped.

A step may run twice (a crash can fall between its work and the note of it), so every step is idempotent. Only
identifiers and counts pass between steps; what is about a patient stays in the departments.
"""

from __future__ import annotations

import functools
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from polyclinic.core.errors import Unavailable
from polyclinic.journeys.rooms import Rooms

P = ParamSpec("P")
R = TypeVar("R")

PATH_VERSION = "2"
"""Changes when the order of steps changes: journeys begun on another order start again from their first step."""


class Stopping(BaseException):
    """The process is about to stop: the journey stays unfinished and goes on at the next start.

    Not an `Exception`, because DBOS writes those down as the end of the journey.
    """


class _Bound:
    """The rooms of this process; one, as there is one DBOS a process."""

    rooms: Rooms | None = None


def bound() -> Rooms:
    """The rooms that `launch` was given."""
    if _Bound.rooms is None:
        raise Unavailable("journeys.not-started", "The journeys are not started; start the server first")
    return _Bound.rooms


def step(name: str) -> Callable[[Callable[Concatenate[Rooms, P], R]], Callable[P, R]]:
    """Make a function of the rooms and some identifiers a step; what may pass by itself is tried again."""

    def decorate(function: Callable[Concatenate[Rooms, P], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def observed(*args: P.args, **kwargs: P.kwargs) -> R:
            rooms = bound()
            rooms.observe("before", name)
            result = function(rooms, *args, **kwargs)
            rooms.observe("after", name)
            return result

        return DBOS.step(
            name=name,
            retries_allowed=True,
            max_attempts=5,
            interval_seconds=0.5,
            backoff_rate=2.0,
            should_retry=_may_pass_by_itself,
        )(observed)

    return decorate


def _may_pass_by_itself(error: BaseException) -> bool:
    return isinstance(error, (Unavailable, OperationalError))


def start(workflow: Callable[..., None], workflow_id: str, *args: str | int | list[str]) -> None:
    """Start a journey under a fixed id; if it was started before, nothing happens."""
    if DBOS.get_workflow_status(workflow_id) is not None:
        return
    with SetWorkflowID(workflow_id):
        DBOS.start_workflow(workflow, *args)


def start_again(workflow: Callable[..., None], base_id: str, *args: str | int | list[str]) -> bool:
    """Start a journey that came to its end before once more, under the next id ``BASE:N``.

    Of several who ask at once one starts it: all of them count to the same id. While one of that base is on its way,
    or will be taken up after a crash, nothing happens.

    Returns
    -------
    bool
        Whether one was started.
    """
    begun = _begun(base_id)
    if any(status in _UNFINISHED for status in begun):
        return False
    start(workflow, f"{base_id}:{len(begun) + 1}" if begun else base_id, *args)
    return True


_UNFINISHED = frozenset({"PENDING", "ENQUEUED"})


def _begun(base_id: str) -> list[str]:
    """The status of every journey of that base; one of another order of steps will not be taken up and counts as ended.

    ``study:1.2:r1`` is not the base of ``study:1.2:r10``.
    """
    found = DBOS.list_workflows(workflow_id_prefix=base_id, load_input=False, load_output=False)
    return [
        one.status if one.app_version == f"path-{PATH_VERSION}" else "ENDED"
        for one in found
        if one.workflow_id == base_id or one.workflow_id.startswith(f"{base_id}:")
    ]


def launch(rooms: Rooms, database_url: str) -> None:
    """Begin: unfinished journeys go on, new ones may start.

    Parameters
    ----------
    database_url
        Of the journeys' own database; with SQLite, one that no other process opens.
    """
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        # The mode is kept in the file, so it must be set before DBOS opens its own connections.
        connection = sqlite3.connect(url.database)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
    config: DBOSConfig = {
        "name": "polyclinic",
        "system_database_url": database_url,
        "application_version": f"path-{PATH_VERSION}",
        "executor_id": "polyclinic",
        "serializer": DBOSPortableJSONSerializer(),
        "log_level": "WARNING",
        "use_listen_notify": False,
        "enable_otlp": False,
    }
    logging.getLogger("dbos").setLevel(logging.WARNING)
    _Bound.rooms = rooms
    DBOS(config=config)
    DBOS.launch()


def stop() -> None:
    """Let go: journeys that wait are left for the next start."""
    if _Bound.rooms is not None:
        _Bound.rooms.stopping.set()
    DBOS.destroy()
    _Bound.rooms = None

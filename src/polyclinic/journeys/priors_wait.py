"""A study waits a bounded time for the priors that are being fetched from other archives."""

from __future__ import annotations

from polyclinic.journeys import durable
from polyclinic.journeys.rooms import Rooms

_LOOK_EVERY_S = 0.1


def want_priors(rooms: Rooms, study_instance_uid: str) -> float | None:
    """Ask the other archives, once; until when (seconds since 1970) the study waits, None where nobody is asked."""
    neighbours = rooms.neighbours
    if neighbours is None or not neighbours.priors_from or not neighbours.table.priors.most_recent:
        return None
    names = [destination.name for destination in neighbours.priors_from]
    neighbours.prior_searches.want(study_instance_uid, names, now=rooms.now())
    asked_at = neighbours.prior_searches.asked_at(study_instance_uid)
    return asked_at + neighbours.table.priors.wait_s


@durable.step("priors")
def await_priors(rooms: Rooms, study_instance_uid: str) -> None:
    """Wait until every archive was asked once and has sent what it has, but never longer than is set."""
    until = want_priors(rooms, study_instance_uid)
    while until is not None and rooms.now() < until and rooms.neighbours is not None:
        if not rooms.neighbours.prior_searches.untried(study_instance_uid):
            return
        if rooms.stopping.wait(_LOOK_EVERY_S):
            raise durable.Stopping

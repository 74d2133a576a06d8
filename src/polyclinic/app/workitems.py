"""Builds the worklist: its store, its web service, and the loop that shows the platform's own work in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter
from sqlalchemy import Engine

from polyclinic.core.people import Person
from polyclinic.departments.workitems.store import WorkitemStore
from polyclinic.departments.workitems.subscriptions import Subscriptions
from polyclinic.edges.dicomweb.workitem_events import channels_router
from polyclinic.edges.dicomweb.workitems import workitems_router
from polyclinic.edges.sql.engine import writing
from polyclinic.journeys.rooms import Rooms
from polyclinic.journeys.watchers import Loop
from polyclinic.journeys.workitems import AgentWork

_FOLLOW_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Worklist:
    """The worklist of a house."""

    store: WorkitemStore
    subscriptions: Subscriptions
    agent_work: AgentWork

    def routers(self, allow: Callable[[str], Callable[..., Person]]) -> tuple[tuple[str, APIRouter, None], ...]:
        """UPS-RS and its channel of events, beside the other services of DICOMweb."""
        return (
            ("/dicom-web", workitems_router(self.store, self.subscriptions, allow), None),
            ("/dicom-web", channels_router(self.subscriptions, allow), None),
        )

    def loop(self) -> Loop:
        """Shows agent runs as workitems."""
        return Loop("workitems", self.agent_work.turn, every_s=_FOLLOW_EVERY_S)


def open_worklist(engine: Engine, rooms: Rooms, *, ae_title: str) -> Worklist:
    """The worklist in the main database."""
    store = WorkitemStore(engine, writing)
    work = AgentWork(engine, runs=rooms.runs, archive=rooms.archive, store=store, ae_title=ae_title)
    return Worklist(store=store, subscriptions=Subscriptions(engine, writing), agent_work=work)

"""Builds the house: every department, edge and journey, from the settings; and runs it as a server."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn

from polyclinic.agentkit.manifest import installed_agents
from polyclinic.app.logs import start_logging
from polyclinic.app.outlets import print_report, sender
from polyclinic.app.scenarios import load_scenarios
from polyclinic.app.settings import Settings
from polyclinic.app.worker import worker_command, worker_environment
from polyclinic.app.workroom import lasting, segments_folder
from polyclinic.core.errors import Unavailable
from polyclinic.core.people import Person
from polyclinic.departments.access import store as access_store
from polyclinic.departments.access.contracts import Role
from polyclinic.departments.access.store import AccessStore
from polyclinic.departments.archive import schema as archive_schema
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.reading import store as reading_store
from polyclinic.departments.reading.outbox import Outbox
from polyclinic.departments.reading.runs import RunStore
from polyclinic.departments.reading.store import ReadingStore
from polyclinic.departments.records import store as records_store
from polyclinic.departments.records.store import RecordsStore
from polyclinic.edges.blobs.folder import FolderObjects
from polyclinic.edges.sql.engine import open_engine
from polyclinic.journeys import durable
from polyclinic.journeys.rooms import Rooms, unobserved
from polyclinic.journeys.study import Departures, resume
from polyclinic.journeys.watchers import Loop, OutboxSender, SettlingWatcher

log = logging.getLogger(__name__)

DEMO_NAME = "demo-radiologist"
_DEMO_DISPLAY = "Demo Radiologist"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Services:
    """The built house."""

    settings: Settings
    archive: SqlArchive
    rooms: Rooms
    access: AccessStore
    departures: Departures

    def close(self) -> None:
        """Finish what is being written."""
        self.archive.close()


def build(settings: Settings, *, observe: Callable[[str, str], None] = unobserved) -> Services:
    """Open or create everything under the data folder; starts nothing.

    Parameters
    ----------
    observe
        Called around each step of a journey, see `polyclinic.journeys.rooms.Rooms`.
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    archive_engine = open_engine(settings.database_url)
    engine = lasting(open_engine(settings.database_url))
    archive_schema.metadata.create_all(archive_engine)
    reading_store.create_tables(engine)
    records_store.create_tables(engine)
    access_store.create_tables(engine)
    archive = SqlArchive(archive_engine, segments_folder(settings))
    rooms = Rooms(
        archive=archive,
        reading=ReadingStore(engine),
        runs=RunStore(engine),
        outbox=Outbox(engine),
        records=RecordsStore(engine),
        objects=FolderObjects(settings.objects_folder),
        agents=installed_agents(settings.agents_extra, settings.agents),
        scenarios=load_scenarios(settings.scenarios),
        render_pdf=print_report,
        send=sender(settings.dicom_ae_title),
        destinations=settings.destinations,
        observe=observe,
    )
    return Services(
        settings=settings,
        archive=archive,
        rooms=rooms,
        access=AccessStore(engine),
        departures=Departures(rooms),
    )

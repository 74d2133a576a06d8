"""Builds the house: every department, edge and journey, from the settings."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Set
from dataclasses import dataclass

from fastapi import FastAPI, Request
from sqlalchemy import Engine

import polyclinic
from polyclinic.agentkit.manifest import installed_agents
from polyclinic.app.archive_care import open_archive
from polyclinic.app.audit import Auditing, open_audit, recorded_sender
from polyclinic.app.deletion import deletion_routes
from polyclinic.app.fhir import fhir_routes
from polyclinic.app.hl7 import result_sender, results_to
from polyclinic.app.metrics import house_metrics
from polyclinic.app.outlets import print_report, sender
from polyclinic.app.routing import build_neighbours
from polyclinic.app.scenarios import load_scenarios
from polyclinic.app.settings import Settings
from polyclinic.app.web import create_app
from polyclinic.app.workitems import Worklist, open_worklist
from polyclinic.app.workroom import lasting
from polyclinic.core.people import Person
from polyclinic.departments.access.api import Gate, session_router
from polyclinic.departments.access.contracts import Action, Actor, Role
from polyclinic.departments.access.store import AccessStore
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.reading.api import reading_router
from polyclinic.departments.reading.desk import Desk
from polyclinic.departments.reading.outbox import Outbox
from polyclinic.departments.reading.runs import RunStore
from polyclinic.departments.reading.store import ReadingStore
from polyclinic.departments.records.store import RecordsStore, SqlRecord
from polyclinic.edges.blobs.outcomes import open_outcomes
from polyclinic.edges.dicomweb.router import dicomweb_router
from polyclinic.edges.sql.engine import open_engine
from polyclinic.edges.sql.migrations import migrate
from polyclinic.journeys.facts import RoomFacts
from polyclinic.journeys.rooms import Rooms, unobserved
from polyclinic.journeys.study import Departures
from polyclinic.screens.api import screens_router
from polyclinic.screens.feed import Feed
from polyclinic.screens.study_page import StudyScreen
from polyclinic.screens.worklist import WorklistScreen

DEMO_NAME = "demo-radiologist"
_DEMO_DISPLAY = "Demo Radiologist"

_DICOM_ACTIONS = {"search": Action.DICOM_SEARCH, "read": Action.DICOM_READ, "store": Action.DICOM_STORE}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Services:
    """The built house; nothing of it runs yet."""

    settings: Settings
    engine: Engine
    archive: SqlArchive
    rooms: Rooms
    record: SqlRecord
    access: AccessStore
    audit: Auditing
    gate: Gate
    desk: Desk
    workitems: Worklist
    worklist: WorklistScreen
    feed: Feed

    def close(self) -> None:
        """Finish what is being written and let go of the database."""
        self.archive.close()
        self.audit.close()
        self.archive.engine.dispose()
        self.engine.dispose()


def build(settings: Settings, *, observe: Callable[[str, str], None] = unobserved) -> Services:
    """Open or create everything under the data folder.

    Parameters
    ----------
    observe
        Called around each step of a journey, see `polyclinic.journeys.rooms.Rooms`.
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    archive_engine = open_engine(settings.database_url)
    engine = lasting(open_engine(settings.database_url))
    migrate(engine)
    archive = open_archive(settings, archive_engine)
    audit = open_audit(engine, settings)
    record = SqlRecord(engine)
    stopping = threading.Event()
    rooms = Rooms(
        archive=archive,
        reading=ReadingStore(engine),
        runs=RunStore(engine),
        outbox=Outbox(engine),
        records=RecordsStore(engine),
        objects=open_outcomes(settings.objects_place),
        agents=installed_agents(settings.agents_extra, settings.agents),
        scenarios=load_scenarios(settings.scenarios),
        render_pdf=print_report,
        send=recorded_sender(sender(settings.dicom_ae_title), audit.recorder),
        destinations=settings.destinations,
        record=record,
        send_result=result_sender(settings, audit.recorder),
        results_to=results_to(settings),
        neighbours=build_neighbours(
            settings, engine, archive, record=record, recorder=audit.recorder, stopping=stopping
        ),
        stopping=stopping,
        observe=observe,
    )
    access = AccessStore(engine)
    worklist = WorklistScreen(engine, archive.arrivals)
    return Services(
        settings=settings,
        engine=engine,
        archive=archive,
        rooms=rooms,
        record=record,
        access=access,
        audit=audit,
        gate=Gate(
            access,
            secret=settings.session_secret(),
            lasting_s=settings.session_hours * 3600,
            secure_cookie=settings.session_secure,
            audit=audit.web,
        ),
        desk=Desk(store=rooms.reading, runs=rooms.runs, facts=RoomFacts(rooms), journeys=Departures(rooms)),
        workitems=open_worklist(engine, rooms, ae_title=settings.dicom_ae_title),
        worklist=worklist,
        feed=Feed(worklist.on_their_way),
    )


def build_app(services: Services, *, ready: Callable[[], bool]) -> FastAPI:
    """The web application of a built house."""
    gate, rooms, settings = services.gate, services.rooms, services.settings

    def allow(action: str) -> Callable[..., Person]:
        return gate.allow(Action(action))

    def authorize(request: Request, action: str, study_instance_uid: str | None) -> None:
        gate.check(request, _DICOM_ACTIONS[action], study_instance_uid or "")

    study_screen = StudyScreen(
        worklist=services.worklist, archive=services.archive, reading=rooms.reading, runs=rooms.runs
    )
    demo = demo_reader(services) if settings.demo else None
    issuer = settings.patient_id_issuer
    return create_app(
        gate,
        routers=(
            ("/api/v1", session_router(gate, version=polyclinic.__version__, demo_reader=demo), None),
            ("/api/v1", screens_router(services.worklist, study_screen, services.feed, allow), None),
            ("/api/v1", reading_router(services.desk, rooms.outbox, allow), None),
            ("/api/v1", services.audit.router(allow), None),
            *services.workitems.routers(allow),
            ("/dicom-web", deletion_routes(services.archive, rooms.reading, gate, services.audit), None),
            ("/dicom-web", dicomweb_router(services.archive, authorize), Action.DICOM_SEARCH),
            ("/fhir", fhir_routes(services.engine, services.desk, rooms.agents, allow, site_issuer=issuer), None),
        ),
        page=settings.page,
        upload_limit_mb=settings.upload_limit_mb,
        ready=ready,
        metrics=house_metrics(services.engine),
        loopback_only=settings.demo,
    )


def demo_reader(services: Services) -> Actor:
    """The radiologist of the demo; made on first use, with a password that nobody knows."""
    known = services.access.person_named(DEMO_NAME)
    if known is not None:
        return known
    person = services.access.add_person(
        name=DEMO_NAME,
        display=_DEMO_DISPLAY,
        roles=frozenset({Role.RADIOLOGIST, Role.TECHNICIAN}),
        password=secrets.token_urlsafe(24),
    )
    return Actor(person=person)


def add_person(settings: Settings, *, name: str, display: str, roles: Set[str], password: str) -> Person:
    """Make a local account, whether the server runs or not.

    Raises
    ------
    polyclinic.core.errors.PolyclinicError
        See `AccessStore.add_person`.
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    engine = lasting(open_engine(settings.database_url, pool_size=1))
    try:
        migrate(engine)
        return AccessStore(engine).add_person(name=name, display=display, roles=roles, password=password)
    finally:
        engine.dispose()


def serve(settings: Settings) -> None:
    """Run the platform until SIGTERM or SIGINT; see `polyclinic.app.server`."""
    from polyclinic.app.server import run_server  # noqa: PLC0415 - the server builds with this module

    run_server(settings)

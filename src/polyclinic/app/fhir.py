"""Builds FHIR R4 from the record, the archive and the reading room."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import orjson
from fastapi import APIRouter
from sqlalchemy import Engine, select

import polyclinic
from polyclinic.agentkit.manifest import Agent
from polyclinic.app.record_changes import noted_transaction
from polyclinic.core.people import Person
from polyclinic.core.plain import from_plain
from polyclinic.departments.reading.contracts import Task
from polyclinic.departments.reading.desk import Desk
from polyclinic.departments.reading.tables import agent_run
from polyclinic.departments.records.resource_store import ResourceStore
from polyclinic.departments.records.store import SqlRecord
from polyclinic.edges.fhir_http.device_source import agent_devices, endpoints
from polyclinic.edges.fhir_http.foreign_source import ForeignSource
from polyclinic.edges.fhir_http.order_source import OrderSource
from polyclinic.edges.fhir_http.patient_source import ImagedPatients, RecordedPatients
from polyclinic.edges.fhir_http.reading_source import FindingSource, ReportSource
from polyclinic.edges.fhir_http.router import Service, fhir_router
from polyclinic.edges.fhir_http.search import Library
from polyclinic.edges.fhir_http.sources import PatientIds, Source
from polyclinic.edges.fhir_http.studies import Studies, StudySource
from polyclinic.edges.fhir_http.writes import Unit
from polyclinic.fhir.json_text import Json


def fhir_library(
    engine: Engine, desk: Desk, agents: Mapping[str, Agent], versions: AgentVersions, site_issuer: str = ""
) -> Library:
    """Everything that FHIR can read, on one engine."""
    record, resources = SqlRecord(engine), ResourceStore(engine)
    ids = PatientIds(engine, record, resources, site_issuer=site_issuer)
    orders = OrderSource(engine, record, ids)
    studies = Studies(engine, ids)
    manifests = [agent.manifest for agent in agents.values()]
    own: dict[str, list[Source]] = {
        "Patient": [RecordedPatients(ids), ImagedPatients(engine, ids)],
        "ServiceRequest": [orders],
        "ImagingStudy": [StudySource(studies, orders), ForeignSource("ImagingStudy", resources)],
        "Observation": [FindingSource(engine, studies, desk), ForeignSource("Observation", resources)],
        "DiagnosticReport": [
            ReportSource(engine, studies, desk, orders),
            ForeignSource("DiagnosticReport", resources),
        ],
        "Device": [agent_devices(manifests, versions), ForeignSource("Device", resources)],
        "Endpoint": [endpoints(), ForeignSource("Endpoint", resources)],
    }
    return Library(own, ids)


_REMEMBERED_S = 60.0


class AgentVersions:
    """(id, version, title) of every agent version that ran here; looked up anew once a minute.

    Installed versions are known by their manifests, so only those that were taken away have to be found here.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._known: tuple[tuple[str, str, str], ...] = ()
        self._looked_at = -_REMEMBERED_S

    def __call__(self) -> Sequence[tuple[str, str, str]]:
        """See the class."""
        with self._lock:
            if time.monotonic() - self._looked_at >= _REMEMBERED_S:
                self._known = self._look()
                self._looked_at = time.monotonic()
            return self._known

    def _look(self) -> tuple[tuple[str, str, str], ...]:
        with self._engine.connect() as connection:
            found = connection.execute(select(agent_run.c.task).distinct()).scalars().all()
        tasks = [from_plain(Task, orjson.loads(text)) for text in found]
        return tuple(sorted({(task.agent_id, task.agent_version, task.agent_title) for task in tasks}))


def fhir_service(engine: Engine, desk: Desk, agents: Mapping[str, Agent], site_issuer: str = "") -> Service:
    """FHIR's interactions on the main database."""

    versions = AgentVersions(engine)

    @contextmanager
    def open_unit(person: Person) -> Iterator[Unit]:
        with noted_transaction(engine, person=person) as (joined, record):
            library = fhir_library(joined, desk, agents, versions, site_issuer)
            yield Unit(record=record, resources=library.ids.resources, library=library)

    return Service(library=fhir_library(engine, desk, agents, versions, site_issuer), open_unit=open_unit)


def fhir_routes(
    engine: Engine,
    desk: Desk,
    agents: Mapping[str, Agent],
    allow: Callable[[str], Callable[..., Person]],
    extra: Sequence[Json] = (),
    *,
    site_issuer: str = "",
) -> APIRouter:
    """The routes under ``/fhir``.

    Parameters
    ----------
    extra
        Describes resource types that routes before these serve.
    site_issuer
        Issuer of the site's own patient identifiers, which images may leave out.
    """
    service = fhir_service(engine, desk, agents, site_issuer)
    return fhir_router(service, allow, version=polyclinic.__version__, extra=extra)

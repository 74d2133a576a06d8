"""Builds FHIR R4 from the record, the archive and the reading room."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import orjson
from fastapi import APIRouter
from sqlalchemy import Engine, select

import polyclinic
from polyclinic.agentkit.manifest import InstalledAgent
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
from polyclinic.edges.sql.joined import one_transaction
from polyclinic.fhir.json_text import Json


def fhir_library(engine: Engine, desk: Desk, agents: Mapping[str, InstalledAgent]) -> Library:
    """Everything that FHIR can read, on one engine."""
    record, resources = SqlRecord(engine), ResourceStore(engine)
    ids = PatientIds(engine, record, resources)
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
        "Device": [agent_devices(manifests, lambda: agent_versions(engine)), ForeignSource("Device", resources)],
        "Endpoint": [endpoints(), ForeignSource("Endpoint", resources)],
    }
    return Library(own, ids)


def agent_versions(engine: Engine) -> Sequence[tuple[str, str, str]]:
    """(id, version, title) of every agent version that ran here."""
    with engine.connect() as connection:
        found = connection.execute(select(agent_run.c.task).distinct()).scalars().all()
    tasks = [from_plain(Task, orjson.loads(text)) for text in found]
    return sorted({(task.agent_id, task.agent_version, task.agent_title) for task in tasks})


def fhir_service(engine: Engine, desk: Desk, agents: Mapping[str, InstalledAgent]) -> Service:
    """FHIR's interactions on the main database."""

    @contextmanager
    def open_unit() -> Iterator[Unit]:
        with one_transaction(engine) as joined:
            library = fhir_library(joined, desk, agents)
            yield Unit(record=SqlRecord(joined), resources=library.ids.resources, library=library)

    return Service(library=fhir_library(engine, desk, agents), open_unit=open_unit)


def fhir_routes(
    engine: Engine,
    desk: Desk,
    agents: Mapping[str, InstalledAgent],
    allow: Callable[[str], Callable[..., Person]],
    extra: Sequence[Json] = (),
) -> APIRouter:
    """The routes under ``/fhir``; `extra` describes resource types that routes before these serve."""
    return fhir_router(fhir_service(engine, desk, agents), allow, version=polyclinic.__version__, extra=extra)

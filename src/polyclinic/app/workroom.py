"""What a worker process needs: the run table, the images, the agents, their models, and where outcomes go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection

from polyclinic.agentkit.manifest import InstalledAgent, installed_agents
from polyclinic.app.settings import Settings
from polyclinic.departments.archive.arrivals import Arrivals
from polyclinic.departments.archive.reads import ArchiveReads
from polyclinic.departments.archive.segments import Segments
from polyclinic.departments.reading.ports import Objects
from polyclinic.departments.reading.runs import RunStore
from polyclinic.departments.reading.store import ReadingStore
from polyclinic.departments.records.store import RecordsStore
from polyclinic.edges.blobs.outcomes import open_outcomes
from polyclinic.edges.inference import ModelShelf
from polyclinic.edges.sql.engine import open_engine


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Workroom:
    """Shared by the supervisor, which uses the run table and the outcomes, and its child, which uses the rest."""

    archive: ArchiveReads
    runs: RunStore
    reading: ReadingStore
    """Read only: what was signed of earlier studies."""
    records: RecordsStore
    objects: Objects
    agents: Mapping[str, InstalledAgent]
    shelf: ModelShelf


def open_workroom(settings: Settings) -> Workroom:
    """Open everything for reading; tables and folders are there already, `serve` makes them."""
    engine = open_engine(settings.database_url, pool_size=4)
    return Workroom(
        archive=ArchiveReads(engine, Segments(segments_folder(settings)), Arrivals()),
        runs=RunStore(engine),
        reading=ReadingStore(engine),
        records=RecordsStore(engine),
        objects=open_outcomes(settings.objects_place),
        agents=installed_agents(settings.agents_extra, settings.agents),
        shelf=ModelShelf(settings.models),
    )


def segments_folder(settings: Settings) -> Path:
    """Where the archive keeps the bytes of images."""
    return settings.data / "segments"


def lasting(engine: Engine) -> Engine:
    """Have commits on this engine survive a power cut: decisions and signatures are not taken back."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _full_synchronous)
    return engine


def _full_synchronous(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()

"""Builds what speaks with other archives, from ``routing.toml`` and the settings; `polyclinic routing` for people."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from polyclinic.app.audit import system_entry
from polyclinic.app.settings import Settings
from polyclinic.app.workroom import segments_folder
from polyclinic.core.errors import NotFound, Rejected
from polyclinic.core.people import Patient
from polyclinic.departments.access.audit_window import Recorder
from polyclinic.departments.archive.arrivals import Arrivals
from polyclinic.departments.archive.reads import ArchiveReads
from polyclinic.departments.archive.segments import Segments
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.reading.store import ReadingStore
from polyclinic.departments.records.patients import PatientKey
from polyclinic.departments.records.ports import Patients
from polyclinic.departments.records.store import SqlRecord
from polyclinic.departments.routing.contracts import Delivery, DestinationKind, Job, RoutingTable, Trigger
from polyclinic.departments.routing.document import read_routing
from polyclinic.departments.routing.prior_store import PriorStore
from polyclinic.departments.routing.rules import Verdict, judge, route
from polyclinic.departments.routing.store import RoutingStore
from polyclinic.edges.dicomweb.forwarding import DicomwebOutlets
from polyclinic.edges.dimse.commitment_asking import DicomResponsibility
from polyclinic.edges.dimse.commitment_store import Commitments
from polyclinic.edges.dimse.forwarding import DicomOutlets
from polyclinic.edges.dimse.remote_archive import DicomRemoteArchive
from polyclinic.edges.sql.engine import open_engine
from polyclinic.edges.sql.migrations import migrate
from polyclinic.journeys.neighbours import Neighbours
from polyclinic.journeys.priors_fetch import fetchers
from polyclinic.journeys.priors_intake import PriorIntake
from polyclinic.journeys.rooms import Rooms
from polyclinic.journeys.routing import facts_of
from polyclinic.journeys.routing_forward import forwarders, take_up
from polyclinic.journeys.watchers import Loop

_LONGEST_FILE_BYTES = 1024 * 1024


def load_routing(path: Path | None) -> RoutingTable:
    """The table in a file; an empty one without a file.

    Raises
    ------
    Rejected
        ``routing.no-file`` or ``routing.invalid``, naming line and rule.
    """
    if path is None or path == Path():
        return RoutingTable()
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_FILE_BYTES + 1)
        text = content.decode("utf-8")
    except OSError as error:
        raise Rejected("routing.no-file", f"POLYCLINIC_ROUTING: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Rejected("routing.invalid", f"{path} is not UTF-8: save it as such") from error
    if len(content) > _LONGEST_FILE_BYTES:
        raise Rejected("routing.invalid", f"{path} has more than 1 MB: it is no routing table")
    return read_routing(text)


def build_neighbours(
    settings: Settings,
    engine: Engine,
    archive: SqlArchive,
    *,
    record: Patients,
    recorder: Recorder,
    stopping: threading.Event,
) -> Neighbours:
    """Everything around the house.

    Raises
    ------
    Rejected
        As `load_routing`, and ``settings.invalid`` when priors come from a destination that cannot be asked.
    """
    table = load_routing(settings.routing)
    for name in settings.priors_from:
        destination = table.destination(name)
        if destination is None or destination.kind is not DestinationKind.DICOM:
            raise Rejected(
                "settings.invalid",
                f"POLYCLINIC_PRIORS_FROM: {name!r} is no DICOM destination of POLYCLINIC_ROUTING; add it or correct it",
            )

    def note(action: str, study_instance_uid: str, detail: Mapping[str, str]) -> None:
        recorder.later(system_entry(action, study_instance_uid=study_instance_uid, detail=detail))

    return Neighbours(
        table=table,
        jobs=RoutingStore(engine),
        prior_searches=PriorStore(engine),
        outlets={
            DestinationKind.DICOM: DicomOutlets(archive, ae_title=settings.dicom_ae_title),
            DestinationKind.DICOMWEB: DicomwebOutlets(archive),
        },
        responsibility=DicomResponsibility(Commitments(engine), ae_title=settings.dicom_ae_title),
        remote=DicomRemoteArchive(ae_title=settings.dicom_ae_title, stopping=stopping),
        intake=PriorIntake(archive, ae_title=settings.dicom_ae_title),
        priors_from=tuple(d for name in settings.priors_from if (d := table.destination(name)) is not None),
        patient_class=_patient_class(record, settings.patient_id_issuer),
        note=note,
    )


def _patient_class(record: Patients, site_issuer: str) -> Callable[[Patient], str]:
    def told(patient: Patient) -> str:
        try:
            issuer = patient.issuer or site_issuer  # images may leave the site's own out
            key = record.surviving(PatientKey(patient_id=patient.patient_id, issuer=issuer))
            return record.patient(key).patient_class
        except NotFound:
            return ""

    return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What the rules say to one study as it stands now."""

    verdicts: tuple[Verdict, ...]
    deliveries: tuple[Delivery, ...]
    jobs: tuple[Job, ...]
    """What was queued for it before, newest first."""


def explained(settings: Settings, study_instance_uid: str) -> Explained:
    """Look at the rules without queuing anything, whether the server runs or not.

    Raises
    ------
    Rejected
        ``routing.not-settled``, or as `load_routing`.
    """
    table = load_routing(settings.routing)
    engine = open_engine(settings.database_url, pool_size=2)
    try:
        migrate(engine)
        archive = ArchiveReads(engine, Segments(segments_folder(settings)), Arrivals())
        reading = ReadingStore(engine)
        found = reading.statuses([study_instance_uid])
        if not found or not found[0].revision:
            raise Rejected("routing.not-settled", "This study has not settled here; rules are looked at when it has")
        told = _patient_class(SqlRecord(engine), settings.patient_id_issuer)
        at = datetime.now(UTC)
        verdicts: list[Verdict] = []
        deliveries: list[Delivery] = []
        for trigger in Trigger:
            facts = facts_of(archive, reading, study_instance_uid, found[0].revision, trigger, patient_class=told)
            verdicts += [judge(facts, rule) for rule in table.rules if rule.when is trigger]
            deliveries += route(facts, table.rules, at, table.destinations)
        jobs = RoutingStore(engine).jobs(study_instance_uid=study_instance_uid)
    finally:
        engine.dispose()
    return Explained(verdicts=tuple(verdicts), deliveries=tuple(deliveries), jobs=jobs)


def neighbour_loops(rooms: Rooms) -> tuple[Loop, ...]:
    """What sends and fetches beside the journeys; once a process, as it frees what an earlier one held."""
    if rooms.neighbours is None:
        return ()
    take_up(rooms.neighbours)
    return (*(one.loop() for one in forwarders(rooms)), *(one.loop() for one in fetchers(rooms)))

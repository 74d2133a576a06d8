"""Builds the audit ledger and the ways into it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import APIRouter
from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

from polyclinic.app.settings import Settings
from polyclinic.core.audit import AgentKind, AuditEntry, AuditOutcome
from polyclinic.core.errors import PolyclinicError
from polyclinic.core.people import Person
from polyclinic.departments.access import store as access
from polyclinic.departments.access.audit_anchor import Anchorage
from polyclinic.departments.access.audit_api import audit_router
from polyclinic.departments.access.audit_store import Ledger
from polyclinic.departments.access.audit_web import WebAudit
from polyclinic.departments.access.audit_window import Recorder
from polyclinic.departments.archive import schema
from polyclinic.edges.sql.engine import writing
from polyclinic.journeys.rooms import Sender

log = logging.getLogger(__name__)

_PATIENT_KNOWN_S = 60.0
_MOST_PATIENTS = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Auditing:
    """The ledger of a house and what writes to it."""

    ledger: Ledger
    recorder: Recorder
    anchorage: Anchorage
    web: WebAudit
    engine: Engine

    def router(self, allow: Callable[[str], Callable[..., Person]]) -> APIRouter:
        """Routes for administrators."""
        return audit_router(self.ledger, allow, studies_of=self._studies_of, names_of=self._names_of)

    def close(self) -> None:
        """Write what waits, then a last anchor; a database that is gone does not keep the house from closing."""
        try:
            self.recorder.close()
            self.anchorage.write()
        except (SQLAlchemyError, PolyclinicError, OSError) as error:
            log.error("the end of the audit ledger could not be written: %s", type(error).__name__)

    def _studies_of(self, patient_id: str, issuer: str) -> tuple[str, ...]:
        study = schema.study.c
        query = select(study.study_instance_uid).where(study.patient_id == patient_id, study.issuer == issuer)
        with self.engine.connect() as connection:
            return tuple(connection.execute(query).scalars())

    def _names_of(self, person_ids: Iterable[str]) -> Mapping[str, str]:
        account = access.account.c
        query = select(account.person_id, account.display).where(account.person_id.in_(list(person_ids)))
        with self.engine.connect() as connection:
            return {row.person_id: row.display for row in connection.execute(query)}


def open_audit(engine: Engine, settings: Settings) -> Auditing:
    """The ledger in the main database, anchored in the data folder."""
    ledger = Ledger(engine, writing)
    anchorage = Anchorage(ledger, settings.data, every_s=settings.audit_anchor_s)
    recorder = Recorder(ledger.append, patient_of=_PatientsOfStudies(engine), after_flush=anchorage.turn)
    return Auditing(ledger=ledger, recorder=recorder, anchorage=anchorage, web=WebAudit(recorder), engine=engine)


class _PatientsOfStudies:
    """Whose study it is, remembered for a minute: a merge or correction is then seen."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, tuple[float, tuple[str, str] | None]] = {}

    def __call__(self, study_instance_uid: str) -> tuple[str, str] | None:
        now = time.monotonic()
        known = self._known.get(study_instance_uid)
        if known is not None and now - known[0] < _PATIENT_KNOWN_S:
            return known[1]
        study = schema.study.c
        query = select(study.patient_id, study.issuer).where(study.study_instance_uid == study_instance_uid)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        patient = (row.patient_id, row.issuer) if row else None
        if len(self._known) >= _MOST_PATIENTS:
            self._known.clear()
        self._known[study_instance_uid] = (now, patient)
        return patient


def system_entry(
    action: str,
    *,
    study_instance_uid: str = "",
    outcome: AuditOutcome = AuditOutcome.ALLOWED,
    peer: str = "",
    address: str = "",
    detail: Mapping[str, str] | None = None,
) -> AuditEntry:
    """An entry of something that came over no web session: a DICOM peer's doing, or the platform's own."""
    return AuditEntry(
        at=datetime.now(UTC),
        action=action,
        outcome=outcome,
        agent_kind=AgentKind.PEER if peer else AgentKind.SYSTEM,
        agent_id=peer,
        address=address,
        study_instance_uid=study_instance_uid,
        detail=detail or {},
    )


def recorded_sender(send: Sender, recorder: Recorder) -> Sender:
    """A port `polyclinic.journeys.rooms.Sender` that notes each object that has left the house."""

    def send_one(destination: str, part10: bytes) -> None:
        from polyclinic.departments.archive.intake import examine_file  # noqa: PLC0415 - only where something is sent

        study = examine_file(memoryview(part10))[1].study_instance_uid
        detail = {"destination": destination, "size_bytes": str(len(part10))}
        try:
            send(destination, part10)
        except PolyclinicError as error:
            detail["failed"] = error.code
            raise
        finally:
            recorder.later(system_entry("study.deliver", study_instance_uid=study, detail=detail))

    return send_one


def exported(ledger: Ledger, since: datetime | None, observer: str) -> Iterator[bytes]:
    """The ledger as FHIR NDJSON, one AuditEvent a line."""
    import orjson  # noqa: PLC0415

    from polyclinic.fhir.audit_event import audit_event  # noqa: PLC0415

    for kept in ledger.entries(since=since):
        yield orjson.dumps(audit_event(kept, observer=observer)) + b"\n"

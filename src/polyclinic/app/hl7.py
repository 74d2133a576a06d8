"""HL7 v2 in the house: the listener, the ways out for results, and the loop by which the archive follows the record."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from polyclinic.app.audit import system_entry
from polyclinic.app.record_changes import LedgeredRecord, record_entry
from polyclinic.app.settings import Settings, is_loopback
from polyclinic.core.errors import PolyclinicError, Rejected
from polyclinic.departments.access.audit_window import Recorder
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.records.inbox import SqlInbox
from polyclinic.departments.records.patients import PatientChange, PatientChangeKind
from polyclinic.departments.records.store import SqlRecord
from polyclinic.edges.hl7v2.inbound import Inbound
from polyclinic.edges.hl7v2.listener import MllpListener, server_tls
from polyclinic.edges.hl7v2.oru import ResultAddress, control_id_of, result_message
from polyclinic.edges.hl7v2.sender import client_tls, parse_hl7_peer, send_message
from polyclinic.journeys.identity import followed
from polyclinic.journeys.rooms import Result, ResultSender, Rooms
from polyclinic.journeys.watchers import Loop

log = logging.getLogger(__name__)

_HL7 = "hl7:"
_MB = 1_000_000
_LOOK_EVERY_S = 0.25
"""One read of an index that is empty nearly always."""


def results_to(settings: Settings) -> tuple[str, ...]:
    """Receivers of results as the outbox names them."""
    return tuple(f"{_HL7}{receiver}" for receiver in settings.hl7_results_to)


def result_sender(settings: Settings, recorder: Recorder) -> ResultSender:
    """Port `polyclinic.journeys.rooms.ResultSender` by ORU^R01 over MLLP.

    Raises
    ------
    Rejected
        ``hl7.bad-tls``.
    """
    tls = client_tls(
        _path(settings.hl7_results_tls_authorities),
        certificate=_path(settings.hl7_tls_certificate),
        key=_path(settings.hl7_tls_key),
    )
    address = ResultAddress(facility=settings.patient_id_issuer, page_url=settings.public_url.rstrip("/"))

    def send(destination: str, result: Result) -> None:
        if not destination.startswith(_HL7):
            raise Rejected("hl7.bad-receiver", "The receiver of results is none of HL7; check the settings")
        message = result_message(
            key=result.key,
            report=result.report,
            findings=result.findings,
            study=result.study,
            patient=result.patient,
            order=result.order,
            corrects=result.corrects,
            at=datetime.now(UTC),
            address=address,
        )
        peer = parse_hl7_peer(destination.removeprefix(_HL7), tls)
        detail = {"destination": destination, "size_bytes": str(len(message))}
        try:
            send_message(message, peer, control_id=control_id_of(result.key))
        except PolyclinicError as error:
            detail["failed"] = error.code
            raise
        finally:
            study = result.study.study_instance_uid
            recorder.later(system_entry("study.deliver", study_instance_uid=study, detail=detail))

    return send


class Hl7:
    """The listener, when a port is set, and the loop that takes changes of identity to the archive.

    Raises
    ------
    Rejected
        ``hl7.bad-tls``.
    """

    def __init__(
        self, settings: Settings, engine: Engine, rooms: Rooms, archive: SqlArchive, recorder: Recorder
    ) -> None:
        record = SqlRecord(engine)

        inbound = Inbound(
            record=LedgeredRecord(engine),
            inbox=SqlInbox(engine),
            site_issuer=settings.patient_id_issuer,
            charset=settings.hl7_charset,
        )
        self.listener = _listener(settings, inbound)

        def tell(change: PatientChange, study_instance_uids: Sequence[str]) -> None:
            action = "patient.merge" if change.kind is PatientChangeKind.MERGED else "patient.correct"
            for uid in study_instance_uids:
                recorder.record(record_entry(action, change.key, change.source, uid))
            if study_instance_uids:
                rooms.reading.touched(study_instance_uids, now=rooms.now())

        def turn() -> None:
            followed(record, archive, site_issuer=settings.patient_id_issuer, tell=tell)

        self._loop = Loop("identities", turn, every_s=_LOOK_EVERY_S)

    def start(self) -> None:
        """Begin; changes that a crash left behind are followed first of all."""
        self._loop.start()
        if self.listener is not None:
            self.listener.start()

    def stop(self) -> None:
        """Take no more messages, then let go."""
        if self.listener is not None:
            self.listener.stop()
        self._loop.stop()


def _listener(settings: Settings, inbound: Inbound) -> MllpListener | None:
    if settings.hl7_port is None:
        return None
    if not is_loopback(settings.hl7_host) and not settings.hl7_peers and not settings.hl7_tls_authorities:
        log.warning("everybody may send HL7: name those that may in POLYCLINIC_HL7_PEERS")
    tls = server_tls(
        _path(settings.hl7_tls_certificate), _path(settings.hl7_tls_key), _path(settings.hl7_tls_authorities)
    )
    return MllpListener(
        inbound,
        host=settings.hl7_host,
        port=settings.hl7_port,
        peers=settings.hl7_peers,
        tls=tls,
        limit_bytes=settings.hl7_limit_mb * _MB,
    )


def _path(text: str) -> Path | None:
    return Path(text) if text else None

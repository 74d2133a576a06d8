"""HL7 v2 in the house: the listener, the ways out for results, and the loop by which the archive follows the record."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from polyclinic.app.settings import Settings
from polyclinic.core.errors import Rejected
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.records.inbox import SqlInbox
from polyclinic.departments.records.store import SqlRecord
from polyclinic.edges.hl7v2.inbound import Inbound
from polyclinic.edges.hl7v2.listener import MllpListener, server_tls
from polyclinic.edges.hl7v2.oru import ResultAddress, control_id_of, result_message
from polyclinic.edges.hl7v2.sender import client_tls, parse_hl7_peer, send_message
from polyclinic.journeys.identity import followed
from polyclinic.journeys.rooms import Result, ResultSender, Rooms
from polyclinic.journeys.watchers import Loop

_HL7 = "hl7:"
_MB = 1_000_000
_LOOK_EVERY_S = 0.25
"""One read of an index that is empty nearly always."""


def results_to(settings: Settings) -> tuple[str, ...]:
    """Receivers of results as the outbox names them."""
    return tuple(f"{_HL7}{receiver}" for receiver in settings.hl7_results_to)


def result_sender(settings: Settings) -> ResultSender:
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
        send_message(message, peer, control_id=control_id_of(result.key))

    return send


class Hl7:
    """The listener, when a port is set, and the loop that takes changes of identity to the archive.

    Raises
    ------
    Rejected
        ``hl7.bad-tls``.
    """

    def __init__(self, settings: Settings, engine: Engine, rooms: Rooms, archive: SqlArchive) -> None:
        record = SqlRecord(engine)
        self.listener = _listener(settings, record, SqlInbox(engine))

        def tell(study_instance_uids: Sequence[str]) -> None:
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


def _listener(settings: Settings, record: SqlRecord, inbox: SqlInbox) -> MllpListener | None:
    if settings.hl7_port is None:
        return None
    inbound = Inbound(record=record, inbox=inbox, site_issuer=settings.patient_id_issuer, charset=settings.hl7_charset)
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

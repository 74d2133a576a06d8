"""A thread that reports storage commitments whose association has ended, on associations of our own (PS3.4 J.3.3)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from polyclinic.core.errors import PolyclinicError
from polyclinic.edges.dimse import commitment
from polyclinic.edges.dimse.commitment_link import CommitmentLink
from polyclinic.edges.dimse.commitment_store import Commitments
from polyclinic.edges.dimse.peers import Peer
from polyclinic.edges.dimse.sources import Sources
from polyclinic.edges.dimse.wire import Aborted

if TYPE_CHECKING:
    from polyclinic.edges.dimse.association import Policy

log = structlog.get_logger(__name__)

_EVERY_S = 1.0
_FORGET_EVERY = 3600
"""Rounds between two looks for what may be forgotten."""
_STOP_S = 10.0


class CommitmentReporter:
    """A thread that delivers results whose association has ended; it tries again until the peer takes them."""

    def __init__(self, sources: Sources, policy: Policy) -> None:
        self._sources = sources
        self._policy = policy
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dimse-commitments", daemon=True)

    def start(self) -> None:
        """Begin, when there is a table of commitments."""
        if self._sources.commitments is not None:
            self._thread.start()

    def stop(self) -> None:
        """End; what was not delivered is kept."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        assert self._sources.commitments is not None
        rounds = 0
        while not self._stopping.wait(_EVERY_S):
            try:
                for peer, transaction_uid in self._sources.commitments.due():
                    if self._stopping.is_set():
                        return
                    self._deliver(self._sources.commitments, peer, transaction_uid)
                if rounds % _FORGET_EVERY == 0:
                    self._sources.commitments.forget_old()
                rounds += 1
            except (PolyclinicError, SQLAlchemyError) as error:
                log.warning("dimse.commitments-unavailable", error=type(error).__name__)

    def _deliver(self, commitments: Commitments, ae_title: str, transaction_uid: str) -> None:
        peer = self._address(ae_title)
        if peer is None:
            log.warning("dimse.commitment-peer-without-address", peer=ae_title)
            commitments.postpone(ae_title, transaction_uid)
            return
        report = commitments.judged(ae_title, transaction_uid, self._sources.archive)
        if report is None:
            return
        try:
            with CommitmentLink(peer, ae_title=self._policy.ae_title, serving=True) as link:
                commitment.send_report(
                    link.wire,
                    link.context_id,
                    link.context,
                    report,
                    ae_title=self._policy.ae_title,
                    fragment_bytes=link.fragment_bytes,
                )
                commitments.told(report)
        except (PolyclinicError, Aborted) as error:
            code = error.code if isinstance(error, PolyclinicError) else "dimse.peer-lost"
            log.warning("dimse.commitment-not-reported", peer=ae_title, code=code)
            commitments.postpone(ae_title, transaction_uid)

    def _address(self, ae_title: str) -> Peer | None:
        known = (self._policy.known_peers or {}).get(ae_title)
        if known is not None and known.address is not None:
            return known.address
        return self._policy.move_destinations.get(ae_title)

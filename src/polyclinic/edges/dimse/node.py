"""The listening side: accepts connections and gives each association a thread."""

from __future__ import annotations

import contextlib
import socket
import threading

import structlog

from polyclinic.core.errors import Unavailable
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse.association import Association, Policy

log = structlog.get_logger(__name__)
_STOP_S = 10.0
_CROWD = 16
"""So many associations beyond the limit are told that it is reached; more are not even answered."""


class DimseNode:
    """A DICOM node for C-ECHO, C-STORE, C-FIND, C-GET and C-MOVE.

    Parameters
    ----------
    archive
        Where instances go.
    ae_title, host, port
        Own AE title and address; port 0 takes a free one, see `port`.
    policy
        Who may connect, limits and time-outs; holds the AE title then, and `ae_title` is not looked at.
    """

    def __init__(
        self,
        archive: SqlArchive,
        *,
        ae_title: str = "POLYCLINIC",
        host: str = "127.0.0.1",
        port: int = 11112,
        policy: Policy | None = None,
    ) -> None:
        self._archive = archive
        self._policy = policy or Policy(ae_title=ae_title)
        self._address = (host, port)
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._lock = threading.Lock()
        self._running: dict[Association, threading.Thread] = {}
        self._stopping = False

    @property
    def port(self) -> int:
        """The port the node listens on."""
        return self._address[1] if self._listener is None else int(self._listener.getsockname()[1])

    @property
    def open_associations(self) -> int:
        """How many peers are connected."""
        with self._lock:
            return len(self._running)

    def start(self) -> None:
        """Listen; raises `Unavailable` (``dimse.port-taken``) when the address cannot be had."""
        try:
            self._listener = socket.create_server(self._address, backlog=128)
        except OSError as error:
            host, port = self._address
            raise Unavailable("dimse.port-taken", f"Cannot listen on {host}:{port}: choose another port") from error
        self._acceptor = threading.Thread(target=self._accept, name="dimse-acceptor", daemon=True)
        self._acceptor.start()
        log.info("dimse.listening", ae_title=self._policy.ae_title, host=self._address[0], port=self.port)

    def stop(self) -> None:
        """Stop listening and end every association; what was answered with success is kept."""
        self._stopping = True
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        with self._lock:
            running = dict(self._running)
        for association in running:
            association.close()
        for thread in [*running.values(), *filter(None, [self._acceptor])]:
            thread.join(_STOP_S)

    def _accept(self) -> None:
        assert self._listener is not None
        while not self._stopping:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if self._stopping:
                    return
                log.warning("dimse.accept-failed", errno=error.errno)
                threading.Event().wait(0.1)  # out of descriptors: associations that end give some back
                continue
            self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        with self._lock:
            count = len(self._running)
            if count >= self._policy.max_associations + _CROWD or self._stopping:
                connection.close()
                return
            crowded = count >= self._policy.max_associations
            try:
                association = Association(connection, self._archive, self._policy, crowded=crowded)
            except OSError:  # the peer has hung up again
                connection.close()
                return
            thread = threading.Thread(target=self._run, args=(association,), name="dimse-association", daemon=True)
            self._running[association] = thread
            thread.start()

    def _run(self, association: Association) -> None:
        try:
            association.run()
        finally:
            with self._lock:
                del self._running[association]

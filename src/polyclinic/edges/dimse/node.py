"""The listening side: accepts connections, plain and by TLS, and gives each association a thread."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

import structlog

from polyclinic.core.errors import Unavailable
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse.association import Association, Policy
from polyclinic.edges.dimse.commitment_reporter import CommitmentReporter
from polyclinic.edges.dimse.sources import Sources
from polyclinic.edges.dimse.tls import TlsConnection, TlsSettings, server_context

log = structlog.get_logger(__name__)
_STOP_S = 10.0
_CROWD = 16
"""So many associations beyond the limit are told that it is reached; more are not even answered."""


class DimseNode:
    """A DICOM node with every service that `sources` has something for.

    Parameters
    ----------
    sources
        What the services work on; an archive alone gives C-ECHO, C-STORE, C-FIND, C-GET and C-MOVE.
    ae_title, host, port
        Own AE title and address; port 0 takes a free one, see `port`; None listens by TLS only.
    policy
        Who may connect, limits and time-outs; holds the AE title then, and `ae_title` is not looked at.
    tls, tls_port
        Certificates of a second listener that speaks TLS only, and its port, see `tls_port`.
    """

    def __init__(
        self,
        sources: Sources | SqlArchive,
        *,
        ae_title: str = "POLYCLINIC",
        host: str = "127.0.0.1",
        port: int | None = 11112,
        policy: Policy | None = None,
        tls: TlsSettings | None = None,
        tls_port: int = 2762,
    ) -> None:
        self._sources = sources if isinstance(sources, Sources) else Sources(archive=sources)
        self._policy = policy or Policy(ae_title=ae_title)
        self._host = host
        self._tls = None if tls is None else server_context(tls)
        self._ports = {False: port, True: None if tls is None else tls_port}
        """By whether it is for TLS; None for no such listener."""
        self._listeners: dict[bool, socket.socket] = {}
        self._acceptors: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._running: dict[Association, threading.Thread] = {}
        self._stopping = False
        self._reporter = CommitmentReporter(self._sources, self._policy)

    @property
    def port(self) -> int:
        """The port the node listens on; 0 when it has no listener without TLS."""
        return self._port(secure=False)

    @property
    def tls_port(self) -> int:
        """The port for TLS; 0 when it has none."""
        return self._port(secure=True)

    @property
    def open_associations(self) -> int:
        """How many peers are connected."""
        with self._lock:
            return len(self._running)

    def start(self) -> None:
        """Listen; raises `Unavailable` (``dimse.port-taken``) when an address cannot be had."""
        for secure, port in self._ports.items():
            if port is None:
                continue
            try:
                listener = socket.create_server((self._host, port), family=_family(self._host), backlog=128)
            except OSError as error:
                self.stop()
                raise Unavailable(
                    "dimse.port-taken", f"Cannot listen on {self._host}:{port}: choose another port"
                ) from error
            self._listeners[secure] = listener
            context = self._tls if secure else None
            acceptor = threading.Thread(
                target=self._accept, args=(listener, context), name="dimse-acceptor", daemon=True
            )
            self._acceptors.append(acceptor)
            acceptor.start()
        self._reporter.start()
        log.info(
            "dimse.listening",
            ae_title=self._policy.ae_title,
            host=self._host,
            port=self.port,
            tls_port=self.tls_port,
            services=sorted(str(one) for one in self._sources.services),
        )

    def stop(self) -> None:
        """Stop listening and end every association; what was answered with success is kept."""
        self._stopping = True
        for listener in self._listeners.values():
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            running = dict(self._running)
        for association in running:
            association.close()
        for thread in [*running.values(), *self._acceptors]:
            thread.join(_STOP_S)
        self._reporter.stop()

    def _port(self, *, secure: bool) -> int:
        listener = self._listeners.get(secure)
        return (self._ports[secure] or 0) if listener is None else int(listener.getsockname()[1])

    def _accept(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        while not self._stopping:
            try:
                connection, address = listener.accept()
            except OSError as error:
                if self._stopping:
                    return
                log.warning("dimse.accept-failed", errno=error.errno)
                threading.Event().wait(0.1)  # out of descriptors: associations that end give some back
                continue
            self._begin(connection, str(address[0]), context)

    def _begin(self, connection: socket.socket, host: str, context: ssl.SSLContext | None) -> None:
        with self._lock:
            count = len(self._running)
            if count >= self._policy.max_associations + _CROWD or self._stopping:
                connection.close()
                return
            crowded = count >= self._policy.max_associations
            try:
                wrapped = connection if context is None else TlsConnection(connection, context)
                association = Association(wrapped, self._sources, self._policy, host=host, crowded=crowded)
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


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET

"""The MLLP listener: one thread a connection, a limit of them, bounded messages and waits."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from polyclinic.core.errors import Rejected, Unavailable
from polyclinic.edges.hl7v2.inbound import Inbound
from polyclinic.edges.hl7v2.mllp import FrameReader, FrameTooLarge, NotFramed, frame

log = logging.getLogger(__name__)

_CHUNK_BYTES = 65_536
_LOOK_S = 0.5
_STOP_S = 5.0
_ACCEPT_PAUSE_S = 0.2
_DRAINED_BYTES = 1_000_000


class MllpListener:
    """Accepts connections and answers each message in order.

    Parameters
    ----------
    inbound
        What is done with a message.
    host, port
        Address; port 0 takes a free one, see `port`.
    peers
        Addresses or networks that may connect; empty lets everybody in.
    tls
        Context for TLS; None for plain TCP.
    limit_bytes
        Longest message.
    connections
        Most at a time; further ones are closed at once.
    message_s
        Longest time between the first and the last byte of a message, and for writing an answer.
    idle_s
        Longest time without any byte.
    """

    def __init__(
        self,
        inbound: Inbound,
        *,
        host: str,
        port: int,
        peers: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
        limit_bytes: int = 4_000_000,
        connections: int = 64,
        message_s: float = 30.0,
        idle_s: float = 3600.0,
    ) -> None:
        self._inbound = inbound
        self._address = (host, port)
        self._peers = [ipaddress.ip_network(peer, strict=False) for peer in peers]
        self._tls = tls
        self._limit_bytes = limit_bytes
        self._message_s = message_s
        self._idle_s = idle_s
        self._places = threading.BoundedSemaphore(connections)
        self._stopping = threading.Event()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._acceptor = threading.Thread(target=self._accept, name="hl7", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._socket.getsockname()[1]) if self._socket else self._address[1]

    @property
    def connection_count(self) -> int:
        """How many connections are open."""
        with self._lock:
            return len(self._threads)

    def start(self) -> None:
        """Begin to listen. Raises `Unavailable` (``hl7.port-taken``)."""
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(self._address)
        except OSError as error:
            listening.close()
            host, port = self._address
            text = f"The HL7 address {host}:{port} cannot be used; free it or set POLYCLINIC_HL7_PORT"
            raise Unavailable("hl7.port-taken", text) from error
        listening.listen(64)
        listening.settimeout(_LOOK_S)
        self._socket = listening
        self._acceptor.start()

    def stop(self) -> None:
        """Take no more messages; one in hand is answered first."""
        self._stopping.set()
        if self._socket is None:
            return
        self._acceptor.join(_STOP_S)
        self._socket.close()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(_STOP_S)

    def _accept(self) -> None:
        assert self._socket is not None
        while not self._stopping.is_set():
            try:
                connection, address = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:
                # Out of file descriptors, most likely: wait until some connection ends
                self._stopping.wait(_ACCEPT_PAUSE_S)
                continue
            if not self._may_connect(address[0]):
                log.warning("HL7: %s may not connect; name it in POLYCLINIC_HL7_PEERS", address[0])
                connection.close()
            elif not self._places.acquire(blocking=False):
                log.warning("HL7: too many connections; closing one from %s", address[0])
                connection.close()
            else:
                thread = threading.Thread(target=self._serve, args=(connection,), name="hl7 peer", daemon=True)
                with self._lock:
                    self._threads.add(thread)
                thread.start()

    def _may_connect(self, host: str) -> bool:
        address = ipaddress.ip_address(host.split("%", 1)[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        return not self._peers or any(mapped in network for network in self._peers)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(self._message_s)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                if self._tls is None:
                    self._converse(connection)
                else:
                    with self._tls.wrap_socket(connection, server_side=True) as secured:
                        self._converse(secured)
        except (OSError, NotFramed) as error:
            log.info("HL7: a connection ended: %s", type(error).__name__)
        finally:
            self._places.release()
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _converse(self, connection: socket.socket) -> None:
        reader = FrameReader(self._limit_bytes)
        last = began = time.monotonic()
        while not self._stopping.is_set():
            connection.settimeout(_LOOK_S)
            try:
                chunk = connection.recv(_CHUNK_BYTES)
            except TimeoutError:
                now = time.monotonic()
                if now - last > self._idle_s or (reader.inside and now - began > self._message_s):
                    return
                continue
            if not chunk:
                return
            last, was_inside = time.monotonic(), reader.inside
            connection.settimeout(self._message_s)
            try:
                messages = reader.feed(chunk)
            except FrameTooLarge as error:
                connection.sendall(frame(self._inbound.too_large(error.head)))
                _drain(connection)
                return
            for message in messages:
                connection.sendall(frame(self._inbound.answer(message)))
            if reader.inside and (messages or not was_inside):
                began = last
            if reader.inside and last - began > self._message_s:
                return


def _drain(connection: socket.socket) -> None:
    """Let the peer read the answer: closing with unread bytes would reset the connection under it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(1.0)
        until, left_bytes = time.monotonic() + 2.0, _DRAINED_BYTES
        while time.monotonic() < until and left_bytes > 0 and (chunk := connection.recv(_CHUNK_BYTES)):
            left_bytes -= len(chunk)


def server_tls(certificate: Path | None, key: Path | None, authorities: Path | None) -> ssl.SSLContext | None:
    """TLS for the listener (at least 1.2); clients must show a certificate when `authorities` are given.

    Raises
    ------
    Rejected
        ``hl7.bad-tls``.
    """
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        if authorities is not None:
            context.load_verify_locations(authorities)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise Rejected("hl7.bad-tls", "POLYCLINIC_HL7_TLS_* name files that hold no certificate and key") from error
    return context

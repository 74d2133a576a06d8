"""A connection to a peer, with TLS or without."""

from __future__ import annotations

import socket
import ssl

from polyclinic.core.errors import Unavailable
from polyclinic.edges.dimse.peers import Peer
from polyclinic.edges.dimse.tls import TlsConnection, client_context


def connect(peer: Peer, *, timeout_s: float) -> socket.socket | TlsConnection:
    """Connect to a peer.

    Raises
    ------
    Unavailable
        ``dimse.peer-unreachable``, or ``dimse.peer-not-trusted`` when TLS fails.
    Rejected
        ``dimse.bad-certificate`` when our own files are wrong.
    """
    context = None if peer.tls is None else client_context(peer.tls)
    try:
        plain = socket.create_connection((peer.host, peer.port), timeout_s)
    except OSError as error:
        raise Unavailable(
            "dimse.peer-unreachable",
            f"{peer.host}:{peer.port} does not accept connections: check address and network",
        ) from error
    if context is None:
        return plain
    connection = TlsConnection(plain, context, server_host=peer.host)
    try:
        connection.handshake(timeout_s)
    except OSError as error:
        connection.close()
        why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else "the handshake failed"
        raise Unavailable(
            "dimse.peer-not-trusted",
            f"No TLS connection with {peer.host}:{peer.port} ({why}): check the certificates of both sides",
        ) from error
    return connection

"""DICOM over TLS (PS3.15 B.12 and B.10): TLS 1.2 or 1.3 with forward secrecy, both sides with certificates."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from polyclinic.core.errors import Rejected

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""TLS 1.2 suites: authenticated encryption with forward secrecy only (RFC 9325 4.2); TLS 1.3 has no others."""
_TIME = Struct("@ll")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """Own certificate, and whom to trust. As listener the certificate must be there, as caller it may be."""

    certificate: Path | None = None
    """PEM file with the own certificate and those between it and its authority."""
    key: Path | None = None
    """PEM file of its private key; None when the certificate's file holds it."""
    authorities: Path | None = None
    """PEM file of the authorities that sign the other side's certificates.

    A listener without takes clients without certificate; a caller without trusts those of the system.
    """
    check_host: bool = True
    """Whether a caller compares the host name with the certificate's."""


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """Context of a listener; raises `Rejected` (``dimse.bad-certificate``) when a file is not what it should be."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if settings.certificate is None:
        raise Rejected("dimse.bad-certificate", "A DICOM listener with TLS needs a certificate and its key")
    _prepare(context, settings)
    if settings.authorities is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


def client_context(settings: TlsSettings) -> ssl.SSLContext:
    """Context of a caller; raises `Rejected` (``dimse.bad-certificate``)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = settings.check_host
    if settings.authorities is None:
        context.load_default_certs()
    _prepare(context, settings)
    return context


def _prepare(context: ssl.SSLContext, settings: TlsSettings) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    try:
        if settings.certificate is not None:
            context.load_cert_chain(settings.certificate, settings.key)
        if settings.authorities is not None:
            context.load_verify_locations(settings.authorities)
    except (OSError, ValueError) as error:
        raise Rejected(
            "dimse.bad-certificate",
            "A TLS certificate, key or authority of the DICOM node cannot be read: give PEM files that belong together",
        ) from error


class TlsConnection:
    """A TLS connection that is used like a plain socket by `polyclinic.edges.dimse.wire.Wire`.

    Time-outs are set by the same socket options; nothing is read ahead of the handshake, which the thread of the
    association does.
    """

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, *, server_host: str | None = None) -> None:
        self._tls = context.wrap_socket(
            connection,
            server_side=server_host is None,
            server_hostname=server_host,
            do_handshake_on_connect=False,
        )
        self._receive_s: float | None = None
        self._send_s: float | None = None

    def handshake(self, timeout_s: float) -> None:
        """Agree on keys and check certificates; raises OSError when that fails or takes longer."""
        self._tls.settimeout(timeout_s)
        self._tls.do_handshake()

    @property
    def certificate_sha256(self) -> str | None:
        """Fingerprint of the other side's certificate, None when it showed none."""
        certificate = self._tls.getpeercert(binary_form=True)
        return hashlib.sha256(certificate).hexdigest() if certificate else None

    def settimeout(self, seconds: float | None) -> None:
        """Time-outs of reading and writing differ here: see `setsockopt`."""

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        """As of a socket."""
        if level == socket.SOL_SOCKET and name in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO) and isinstance(value, bytes):
            whole, micro = _TIME.unpack(value)
            seconds = whole + micro / 1_000_000
            if name == socket.SO_RCVTIMEO:
                self._receive_s = seconds
            else:
                self._send_s = seconds
            return
        self._tls.setsockopt(level, name, value)

    def recv_into(self, target: memoryview, size: int = 0, _flags: int = 0) -> int:
        """As of a socket with SO_RCVTIMEO; gives what is there, even where all was asked for."""
        self._tls.settimeout(self._receive_s)
        try:
            return self._tls.recv_into(target, size or None)
        except TimeoutError as error:
            raise BlockingIOError from error

    def sendall(self, data: bytes | memoryview) -> None:
        """As of a socket with SO_SNDTIMEO."""
        self._tls.settimeout(self._send_s)
        self._tls.sendall(data)

    def sendmsg(self, buffers: Sequence[bytes | memoryview]) -> int:
        """As of a socket, all at once."""
        data = b"".join(buffers)
        self.sendall(data)
        return len(data)

    def pending(self) -> int:
        """How many bytes are decrypted and not read."""
        return self._tls.pending()

    def fileno(self) -> int:
        """As of a socket."""
        return self._tls.fileno()

    def shutdown(self, how: int) -> None:
        """As of a socket; safe while another thread reads, which `SSLSocket.shutdown` is not."""
        socket.socket.shutdown(self._tls, how)

    def close(self) -> None:
        """As of a socket."""
        self._tls.close()

"""Sends one message over MLLP and judges its answer."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from polyclinic.core.errors import PolyclinicError, Rejected, Unavailable
from polyclinic.edges.hl7v2.er7 import parse
from polyclinic.edges.hl7v2.mllp import FrameReader, frame

_ANSWER_BYTES = 256_000
_CHUNK_BYTES = 65_536
_COME_BACK = ("206", "207")
"""Errors (HL7 table 0357) that pass by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HL7Peer:
    """Where messages go. `tls` is None for plain TCP."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


def parse_hl7_peer(destination: str, tls: ssl.SSLContext | None = None) -> HL7Peer:
    """The peer of ``host:port``."""
    host, _, port = destination.rpartition(":")
    return HL7Peer(host=host.strip("[]"), port=int(port), tls=tls)


def client_tls(
    authorities: Path | None, *, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext | None:
    """TLS towards receivers whose certificate `authorities` have signed; None without them.

    Raises
    ------
    Rejected
        ``hl7.bad-tls``.
    """
    if authorities is None:
        return None
    try:
        context = ssl.create_default_context(cafile=str(authorities))
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise Rejected("hl7.bad-tls", "POLYCLINIC_HL7_TLS_* name files that hold no certificate and key") from error
    return context


def send_message(message: bytes, peer: HL7Peer, *, control_id: str, limit_s: float = 20.0) -> None:
    """Send and wait for the acknowledgment.

    Raises
    ------
    Unavailable
        ``hl7.no-answer`` or ``hl7.not-now``: trying later may help.
    Rejected
        ``hl7.refused``: the receiver does not take this message.
    """
    try:
        answer = _exchange(message, peer, limit_s)
    except OSError as error:
        raise Unavailable("hl7.no-answer", "The receiver of results could not be reached or did not answer") from error
    try:
        read = parse(answer)
    except PolyclinicError as error:
        raise Unavailable("hl7.no-answer", "The receiver of results gave an answer that is no message") from error
    said = read.first("MSA")
    if said is None or said.text_of(2) != control_id:
        raise Unavailable("hl7.no-answer", "The receiver of results answered another message")
    verdict = said.text_of(1).upper()
    if verdict in ("AA", "CA"):
        return
    error_segment = read.first("ERR")
    code = error_segment.text_of(3) or error_segment.text_of(1, 4) if error_segment else ""
    if verdict in ("AR", "CR") or code in _COME_BACK:
        raise Unavailable(
            "hl7.not-now", f"The receiver of results did not take the message ({verdict} {code})".rstrip()
        )
    raise Rejected("hl7.refused", f"The receiver of results refused the message ({verdict} {code})".replace(" )", ")"))


def _exchange(message: bytes, peer: HL7Peer, limit_s: float) -> bytes:
    until = time.monotonic() + limit_s
    plain = socket.create_connection((peer.host, peer.port), timeout=limit_s)
    try:
        connection = peer.tls.wrap_socket(plain, server_hostname=peer.host) if peer.tls else plain
    except BaseException:
        plain.close()
        raise
    with closing(connection):
        connection.sendall(frame(message))
        reader = FrameReader(_ANSWER_BYTES)
        while (left := until - time.monotonic()) > 0:
            connection.settimeout(left)
            chunk = connection.recv(_CHUNK_BYTES)
            if not chunk:
                raise ConnectionError("closed before the answer")
            try:
                answers = reader.feed(chunk)
            except PolyclinicError as error:
                raise ConnectionError("the answer is not framed") from error
            if answers:
                return answers[0]
    raise TimeoutError

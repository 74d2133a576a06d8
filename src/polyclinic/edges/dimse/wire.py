"""PDUs on a socket (PS3.8 9.3). P-DATA goes from the kernel straight to where the dataset is gathered.

Two receive calls take a PDU, one for its header and one for its data, so an instance of 512 KB costs about eight.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from struct import Struct, pack
from typing import Protocol

from polyclinic.core.errors import PolyclinicError
from polyclinic.edges.dimse.spool import Spool
from polyclinic.edges.dimse.tls import TlsConnection

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ = 0x01, 0x02, 0x03
P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = 0x04, 0x05, 0x06, 0x07
RELEASE_RP_PDU = b"\x06\0\0\0\0\4\0\0\0\0"
RELEASE_RQ_PDU = b"\x05\0\0\0\0\4\0\0\0\0"
LONGEST_CONTROL_BYTES = 1024 * 1024
LONGEST_COMMAND_BYTES = 64 * 1024

# Reasons of an abort by the service provider (PS3.8 table 9-26)
NOT_SPECIFIED, UNRECOGNISED_PDU, UNEXPECTED_PDU, INVALID_PARAMETER = 0, 1, 2, 6

_PDU = Struct(">BBL")
_PDV = Struct(">LBB")
FRAGMENT_BYTES = 128 * 1024
"""Longest value that is sent in one PDU, whatever the peer would take."""
_PREFIX = 12
_BUFFERS_IN_A_CALL = 64
_TIME = Struct("@ll")
_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)


class Take(Protocol):
    """Who looks at the fragments of a dataset while they arrive."""

    def __call__(self, piece: memoryview, *, last: bool) -> None: ...


class Aborted(Exception):
    """The association cannot go on. `reason` is sent to the peer, None when it is gone or has aborted itself."""

    def __init__(self, what: str, reason: int | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.reason = reason


class Wire:
    """One TCP connection.

    Parameters
    ----------
    connection
        Connected socket; switched to blocking mode with time-outs of its own.
    max_pdu_bytes
        Longest P-DATA PDU that was announced to the peer.
    idle_s, pdu_s
        How long to wait for the next message, and for the rest of one that has begun.
    """

    def __init__(
        self, connection: socket.socket | TlsConnection, *, max_pdu_bytes: int, idle_s: float, pdu_s: float
    ) -> None:
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._max_pdu_bytes = max_pdu_bytes
        self._idle_s = idle_s
        self._pdu_s = pdu_s
        self._timeout_s = -1.0
        self._prefix = memoryview(bytearray(_PREFIX))
        self._ready = 0
        """How many bytes of the next PDU are in `_prefix` already."""
        self._set_timeout(pdu_s)
        seconds = _TIME.pack(int(pdu_s), 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)

    def send(self, data: bytes) -> None:
        """Write everything at once."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Aborted("the peer does not read") from error

    def send_parts(self, buffers: list[bytes | memoryview]) -> None:
        """Write several buffers in one call where the kernel takes them."""
        pending = [memoryview(buffer) for buffer in buffers]
        try:
            while pending:
                sent = self._socket.sendmsg(pending)
                while pending and sent >= len(pending[0]):
                    sent -= len(pending.pop(0))
                if pending and sent:
                    pending[0] = pending[0][sent:]
        except OSError as error:
            raise Aborted("the peer does not read") from error

    def send_dataset(
        self, context_id: int, command: bytes, pieces: Iterable[bytes | memoryview], *, size: int, longest_bytes: int
    ) -> None:
        """A command set and its dataset of `size` bytes, in values of at most `longest_bytes`.

        What `pieces` raises comes out as it is while nothing is sent, later as `Aborted`: half a dataset is on its way.
        """
        buffers: list[bytes | memoryview] = [data_pdu(context_id, command=True, last=True, size=len(command)) + command]
        sent, begun = 0, False
        try:
            for piece in pieces:
                view = memoryview(piece)
                for start in range(0, len(view), longest_bytes):
                    part = view[start : start + longest_bytes]
                    sent += len(part)
                    buffers += [data_pdu(context_id, command=False, last=sent == size, size=len(part)), part]
                    if len(buffers) >= _BUFFERS_IN_A_CALL:
                        begun = True
                        self.send_parts(buffers)
                        buffers = []
        except PolyclinicError as error:
            if begun:
                raise Aborted("an instance that cannot be read on", NOT_SPECIFIED) from error
            raise
        self.send_parts(buffers)

    def has_input(self) -> bool:
        """Whether the peer has sent something that was not read."""
        return self.waits_for_input(0)

    def waits_for_input(self, seconds: float) -> bool:
        """Whether something to be read is there, or comes within the time."""
        if self._ready or (isinstance(self._socket, TlsConnection) and self._socket.pending()):
            return True
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def abort(self, reason: int) -> None:
        """Tell the peer that the provider ends the association; failures do not matter any more."""
        try:
            self._socket.sendall(b"\x07\0\0\0\0\4\0\0\2" + bytes([reason]))
        except OSError:
            return

    def finish(self, seconds: float) -> None:
        """Wait for the peer to close, as PS3.8 9.2 (state 13) asks, then close; what it still sends is thrown away.

        A connection that is closed with unread input is reset, and the peer may lose what it was told last.
        """
        deadline = time.monotonic() + seconds
        scrap = memoryview(bytearray(4096))
        with suppress(OSError):
            while (left := deadline - time.monotonic()) > 0:
                self._set_timeout(max(left, 0.001))
                if not self._socket.recv_into(scrap):
                    break
        self.close()

    def interrupt(self) -> None:
        """End whatever wait another thread is in; that thread closes the connection."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self.interrupt()
        self._socket.close()

    def next_pdu(self, *, idle: bool) -> tuple[int, int]:
        """Type and length of the next PDU.

        Raises
        ------
        Aborted
            When nothing came in time, the peer closed or aborted, or the PDU is longer than allowed.
        """
        self._set_timeout(self._idle_s if idle else self._pdu_s)
        if idle and _QUICK_ACK is not None:
            # A peer with Nagle's algorithm holds its second small packet back until the first is acknowledged
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        while self._ready < 6:
            self._receive_prefix(_PREFIX)
            if idle:
                idle = False
                self._set_timeout(self._pdu_s)
        kind, _, length = _PDU.unpack_from(self._prefix)
        longest = self._max_pdu_bytes if kind == P_DATA else LONGEST_CONTROL_BYTES
        if not ASSOCIATE_RQ <= kind <= ABORT:
            raise Aborted("unrecognised PDU", UNRECOGNISED_PDU)
        if length > longest:
            raise Aborted("over-long PDU", INVALID_PARAMETER)
        if kind == P_DATA and length < _PDV.size:
            raise Aborted("a P-DATA PDU without a value", INVALID_PARAMETER)
        if kind == ABORT:
            raise Aborted("aborted by the peer")
        return kind, length

    def control(self, kind: int, length: int) -> bytes:
        """The whole of a PDU that is no P-DATA."""
        body = bytearray(length)
        have = min(self._ready - 6, length)
        body[:have] = self._prefix[6 : 6 + have]
        if self._ready - 6 > have:
            raise Aborted("unexpected bytes after a PDU", UNEXPECTED_PDU)
        self._ready = 0
        self._receive_exactly(memoryview(body)[have:])
        return _PDU.pack(kind, 0, length) + bytes(body)

    def command(self, length: int) -> tuple[int, bytearray, int]:
        """Presentation context and command set that begin with the current P-DATA PDU of `length` bytes.

        The third value is how many bytes of the PDU are still unread; the dataset may begin there.
        """
        command = bytearray()
        context_id: int | None = None
        while True:
            left = length
            while left:
                context, control, size, left = self._next_value(left)
                if not control & 1 or (context_id is not None and context != context_id):
                    raise Aborted("a dataset where a command is due", UNEXPECTED_PDU)
                context_id = context
                if len(command) + size > LONGEST_COMMAND_BYTES:
                    raise Aborted("over-long command", INVALID_PARAMETER)
                start = len(command)
                command.extend(bytes(size))
                with memoryview(command) as view:
                    self._receive_exactly(view[start:])
                if control & 2:
                    return context, command, left
            length = self._next_data()

    def dataset(self, context_id: int, spool: Spool, left: int, take: Take | None = None) -> None:
        """Gather a dataset in `spool`; `left` bytes of the PDU with its command are still unread.

        Each fragment is shown to `take` too, with whether it is the last one.
        """
        while True:
            if not left:
                left = self._next_data()
            while left:
                context, control, size, left = self._next_value(left)
                if control & 1 or context != context_id:
                    raise Aborted("a command inside a dataset", UNEXPECTED_PDU)
                last = bool(control & 2)
                target = spool.room(size)
                self._receive_exactly(target)
                if take is not None:
                    take(target, last=last)
                target.release()
                spool.filled(size)
                if last:
                    if left:
                        raise Aborted("bytes after the last fragment", UNEXPECTED_PDU)
                    return

    def _next_data(self) -> int:
        kind, length = self.next_pdu(idle=False)
        if kind != P_DATA:
            raise Aborted("another PDU inside a message", UNEXPECTED_PDU)
        return length

    def _next_value(self, left: int) -> tuple[int, int, int, int]:
        """Context, control header and data length of the next PDV, and what the PDU holds behind it."""
        if left < 6:
            raise Aborted("malformed P-DATA", INVALID_PARAMETER)
        if self._ready < _PREFIX:
            if self._ready == 0:  # a further value of the same PDU
                self._ready = 6
            while self._ready < _PREFIX:
                self._receive_prefix(_PREFIX)
        length, context, control = _PDV.unpack_from(self._prefix, 6)
        self._ready = 0
        if length < 2 or length + 4 > left:
            raise Aborted("malformed P-DATA", INVALID_PARAMETER)
        return context, control, length - 2, left - 4 - length

    def _receive_prefix(self, upto: int) -> None:
        try:
            count = self._socket.recv_into(self._prefix[self._ready : upto])
        except BlockingIOError as error:
            raise Aborted("nothing came in time", NOT_SPECIFIED) from error
        except OSError as error:
            raise Aborted("connection lost") from error
        if count == 0:
            raise Aborted("closed by the peer")
        self._ready += count

    def _receive_exactly(self, target: memoryview) -> None:
        deadline = 0.0
        while len(target):
            try:
                count = self._socket.recv_into(target, 0, socket.MSG_WAITALL)
            except BlockingIOError as error:
                raise Aborted("nothing came in time", NOT_SPECIFIED) from error
            except OSError as error:
                raise Aborted("connection lost") from error
            if count == 0:
                raise Aborted("closed by the peer in a message")
            target = target[count:]
            if len(target):  # a peer that trickles must not stretch the time-out of each read into hours
                now = time.monotonic()
                deadline = deadline or now + self._pdu_s
                if now > deadline:
                    raise Aborted("too slow", NOT_SPECIFIED)

    def _set_timeout(self, seconds: float) -> None:
        if seconds != self._timeout_s:
            whole = int(seconds)
            value = _TIME.pack(whole, int((seconds - whole) * 1_000_000))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            self._timeout_s = seconds


def fragment_bytes(max_pdu_bytes: int) -> int:
    """Longest even value for a peer that takes P-DATA PDUs of `max_pdu_bytes`, 0 meaning any (PS3.8 D.1)."""
    return max(min((max_pdu_bytes or FRAGMENT_BYTES) - 6, FRAGMENT_BYTES) & ~1, 2)


def data_pdu(context_id: int, *, command: bool, last: bool, size: int) -> bytes:
    """Header of a P-DATA PDU with one value of `size` bytes, which follow."""
    control = (1 if command else 0) | (2 if last else 0)
    return _PDU.pack(P_DATA, 0, size + 6) + _PDV.pack(size + 2, context_id, control)


def reject_pdu(result: int, source: int, diagnostic: int) -> bytes:
    """An A-ASSOCIATE-RJ PDU (PS3.8 9.3.4)."""
    return b"\x03\0" + pack(">L", 4) + bytes([0, result, source, diagnostic])

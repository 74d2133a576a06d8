"""HTTP on uvicorn with two shortcuts for large bodies: received into our own buffers, and sent from files.

Through ASGI a received byte is copied five times before anything looks at it, and a sent one is read into memory first.
Neither matters for a message; both are most of what a server does for an image. An application finds a `Direct` in the
scope where a shortcut is there, and uses ``receive`` and ``send`` where it is not: under TLS, for bodies of unknown
length, under another server.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

import httptools
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

_DIRECT = "polyclinic.direct"
_PATIENCE_MS = 10
"""So long a thread waits for a client; one that is slower is waited for without a thread."""
_BUFFER_BYTES = 256 * 1024
_EMPTYING_S = 0.0005
_GONE = (BrokenPipeError, ConnectionError)


class FileStretch(NamedTuple):
    """Bytes of an open file."""

    descriptor: int
    offset_bytes: int
    size_bytes: int


class Sink(Protocol):
    """Takes a body."""

    def space(self) -> memoryview:
        """Where the next bytes go; never empty."""

    def took(self, count: int) -> bool:
        """So many bytes are there now; whether more may come. `Direct.resume` says when they may."""


class DirectProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with a `Direct` in the scope of each request."""

    body_bytes = 0
    """Received of the body of the request that is being received."""

    def on_headers_complete(self) -> None:
        """See httptools."""
        before = self.cycle
        super().on_headers_complete()
        self.body_bytes = 0
        if self.cycle is not before and _is_plain_socket(self.transport):
            self.scope["extensions"] = {_DIRECT: {"direct": Direct(self, self.cycle)}}

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self.body_bytes += len(body)
        super().on_body(body)

    def body_was_taken(self) -> None:
        """The body of this request has come on another way: the parser begins with the next one."""
        self.parser = httptools.HttpRequestParser(self)
        with suppress(AttributeError):
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.on_message_complete()
        if self.cycle.response_complete:  # it was refused before its end
            self.still_receiving()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def still_receiving(self) -> None:
        """The connection is not idle, whatever was answered already."""
        self._unset_keepalive_if_required()


class Direct:
    """The shortcuts of one request."""

    def __init__(self, protocol: DirectProtocol, cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._body: _Body | None = None

    @property
    def sends_files(self) -> bool:
        """Whether `send` may be used: not for answers without a body."""
        return self._cycle.scope["method"] != "HEAD"

    def can_receive(self, length_bytes: int) -> bool:
        """Whether the rest of a body of that length can be received directly."""
        return (
            self._protocol.cycle is self._cycle
            and self._cycle.more_body
            and not self._cycle.disconnected
            and length_bytes > self._protocol.body_bytes
        )

    async def receive(self, sink: Sink, length_bytes: int) -> None:
        """Give a body of that length to a sink, instead of ``receive``.

        Raises
        ------
        ClientDisconnect
            The client has gone before the end.
        Exception
            What the sink raises; the rest of the body is then thrown away as it comes.
        """
        cycle, protocol = self._cycle, self._protocol
        loop = asyncio.get_running_loop()
        if cycle.waiting_for_100_continue:
            cycle.waiting_for_100_continue = False
            protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        begun, cycle.body = bytes(cycle.body), bytearray()
        body = self._body = _Body(protocol, sink, length_bytes - protocol.body_bytes, loop.create_future())
        protocol.flow.pause_reading()
        protocol.transport.set_protocol(body)
        try:
            body.feed(begun)
            body.resume()
            await body.done
        finally:
            body.forget_sink()

    def resume(self) -> None:
        """The sink takes more."""
        if self._body is not None:
            self._body.resume()

    async def send(self, pieces: Sequence[bytes | FileStretch]) -> None:
        """Send a part of an answer whose length was announced, instead of ``send``."""
        cycle, transport = self._cycle, self._protocol.transport
        await asyncio.sleep(0)  # what was written in this turn of the loop goes out at its end
        while transport.get_write_buffer_size() and not cycle.disconnected:
            await asyncio.sleep(_EMPTYING_S)
        total = sum(piece.size_bytes if isinstance(piece, FileStretch) else len(piece) for piece in pieces)
        if cycle.disconnected:
            return
        if total > cycle.expected_content_length:
            raise RuntimeError("more is sent than was announced")
        with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as connection:
            outgoing = _Outgoing(connection, pieces)
            while not cycle.disconnected and not await run_in_threadpool(outgoing.push):
                await _writable(connection.fileno())
        if outgoing.is_cut:
            raise RuntimeError("a file ends before it should")
        if outgoing.gone:
            transport.abort()
        while outgoing.gone and not cycle.disconnected:
            await asyncio.sleep(_EMPTYING_S)
        cycle.expected_content_length -= total


def direct_of(scope: Scope) -> Direct | None:
    """The shortcuts of a request, where there are any."""
    found = scope.get("extensions", {}).get(_DIRECT, {}).get("direct")
    return found if isinstance(found, Direct) else None


class _Body(asyncio.BufferedProtocol):
    """Stands in for the HTTP protocol until the body is here."""

    def __init__(self, http: DirectProtocol, sink: Sink, left_bytes: int, done: asyncio.Future[None]) -> None:
        self.done = done
        self._http = http
        self._sink: Sink | None = sink
        self._left_bytes = left_bytes
        self._waste = memoryview(bytearray(0))
        self._paused = True

    def feed(self, data: bytes) -> None:
        """What had come before."""
        rest = memoryview(data)
        while rest and self._sink is not None:
            space = self._sink.space()
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            rest = rest[count:]
            self._took(count)

    def forget_sink(self) -> None:
        """Throw away what still comes."""
        self._sink = None
        self.resume()

    def resume(self) -> None:
        """Receive on."""
        if self._paused and self._left_bytes:
            self._paused = False
            self._http.flow.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio."""
        if self._sink is not None:
            return self._sink.space()[: self._left_bytes]
        self._waste = self._waste or memoryview(bytearray(64 * 1024))
        return self._waste[: self._left_bytes]

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio."""
        self._left_bytes -= nbytes
        self._http.still_receiving()
        if not self._left_bytes:
            self._http.transport.set_protocol(self._http)
        self._took(nbytes)
        if not self._left_bytes:
            self._http.body_was_taken()
            if not self.done.done():
                self.done.set_result(None)

    def _took(self, count: int) -> None:
        if self._sink is None:
            return
        try:
            more = self._sink.took(count)
        except Exception as error:  # noqa: BLE001 - it goes to whoever waits for the body
            self._sink = None
            if not self.done.done():
                self.done.set_exception(error)
            return
        if not more and not self._paused:
            self._paused = True
            self._http.flow.pause_reading()

    def eof_received(self) -> bool | None:
        """See asyncio."""
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._sink = None
        self._http.connection_lost(exc)
        if not self.done.done():
            self.done.set_exception(ClientDisconnect())

    def pause_writing(self) -> None:
        """See asyncio."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio."""
        self._http.resume_writing()


class _Outgoing:
    """Pieces on their way into a socket that does not block."""

    def __init__(self, connection: socket.socket, pieces: Sequence[bytes | FileStretch]) -> None:
        self._connection = connection
        self._pieces = list(reversed(pieces))
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self.gone = False
        self.is_cut = False
        """Whether a file was shorter than was said: the answer must not look whole then."""

    def push(self) -> bool:
        """Send as much as the client takes; whether nothing is left."""
        connection = self._connection.fileno()
        poll = select.poll()
        poll.register(connection, select.POLLOUT)
        while self._pieces:
            piece = self._pieces.pop()
            try:
                rest = self._push(connection, piece)
            except BlockingIOError:
                rest = piece
                self._pieces.append(piece)
                if not poll.poll(_PATIENCE_MS):
                    return False
                continue
            except _GONE:
                self.gone = True
                return True
            if rest is not None:
                self._pieces.append(rest)
        return True

    def _push(self, connection: int, piece: bytes | FileStretch) -> bytes | FileStretch | None:
        """What is left of a piece.

        Files go through a buffer that is used again: measured on loopback, ``sendfile`` costs as much here and makes
        the receiver copy page by page, so that it took twice the time.
        """
        if not isinstance(piece, FileStretch):
            sent = self._connection.send(piece, socket.MSG_MORE if self._pieces else 0)
            return piece[sent:] or None
        count = os.preadv(piece.descriptor, [self._buffer[: piece.size_bytes]], piece.offset_bytes)
        sent = self._connection.send(self._buffer[:count]) if count else 0
        if not sent and piece.size_bytes:
            self.is_cut = True
            raise ConnectionAbortedError
        rest = FileStretch(piece.descriptor, piece.offset_bytes + sent, piece.size_bytes - sent)
        return rest if rest.size_bytes else None


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def on_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(descriptor, on_ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _is_plain_socket(transport: asyncio.Transport) -> bool:
    return transport.get_extra_info("sslcontext") is None and transport.get_extra_info("socket") is not None

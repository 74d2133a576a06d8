"""The shortcuts for large bodies over real sockets: what ASGI would have done, and what clients do to them."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from polyclinic.core.errors import Rejected
from polyclinic.edges.dicomweb.streams_protocol import DirectProtocol, FileStretch, direct_of

SIZE = 5_000_000


class Collected:
    """A sink that keeps all, and refuses what begins with ``no``."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._space = memoryview(bytearray(100_000))

    def space(self) -> memoryview:
        return self._space

    def took(self, count: int) -> bool:
        self.data += self._space[:count]
        if self.data.startswith(b"no"):
            raise Rejected("test.no", "no")
        return True


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[socket.socket]:
    """To a server that answers a POST with the length and sum of its body, and a GET with a file."""
    file = tmp_path / "file"
    file.write_bytes(bytes(range(250)) * (SIZE // 250))
    descriptor = os.open(file, os.O_RDONLY)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        direct = direct_of(scope)
        assert direct is not None
        length = int(dict(scope["headers"]).get(b"content-length", b"0"))
        if scope["method"] == "POST":
            body = bytearray()
            if direct.can_receive(length):
                sink = Collected()
                try:
                    await direct.receive(sink, length)
                    body = sink.data
                except Rejected:
                    body = bytearray(b"refused")
            else:
                body += (await receive())["body"]
            answer = b"%d %d" % (len(body), sum(body))
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]}
            )
            await send({"type": "http.response.body", "body": answer})
            return
        headers = [(b"content-length", b"%d" % (SIZE + 7))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if direct.sends_files:
            await direct.send([b"<<<", FileStretch(descriptor, 0, SIZE - 1000)])
            await direct.send([FileStretch(descriptor, SIZE - 1000, int(scope["path"][1:] or 1000)), b">>>>"])
        await send({"type": "http.response.body", "body": b""})

    server = uvicorn.Server(uvicorn.Config(app, port=0, http=DirectProtocol, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    with socket.create_connection(server.servers[0].sockets[0].getsockname()) as connected:
        connected.settimeout(10)
        yield connected
    server.should_exit = True
    thread.join(10)
    os.close(descriptor)


def post(body: bytes, *headers: bytes) -> bytes:
    more = b"".join(header + b"\r\n" for header in headers)
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%s\r\n" % (len(body), more) + body


def answer(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        got = connection.recv(1 << 16)
        assert got, "closed"
        head += got
    head, _, body = head.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        got = connection.recv(1 << 20)
        assert got, f"closed after {len(body)} of {length}"
        body += got
    assert len(body) == length
    return body


def test_a_connection_goes_on_after_bodies_of_all_sizes(connection: socket.socket) -> None:
    for size in (3_000_000, 10, 300_000, 70_000, 1, 200_000):
        body = os.urandom(size)
        connection.sendall(post(body))
        assert answer(connection) == b"%d %d" % (size, sum(body))


def test_requests_sent_behind_a_large_body_are_answered_in_turn(connection: socket.socket) -> None:
    bodies = [bytes([number]) * 700_000 for number in range(1, 4)]
    sender = threading.Thread(target=lambda: connection.sendall(b"".join(map(post, bodies))))
    sender.start()
    for body in bodies:
        head_and_body, expected = b"", b"%d %d" % (len(body), sum(body))
        while not head_and_body.endswith(expected):
            head_and_body += connection.recv(1)
    sender.join()


def test_a_client_that_waits_to_be_asked_is_asked(connection: socket.socket) -> None:
    request = post(b"x" * 500_000, b"Expect: 100-continue")
    head, _, body = request.partition(b"\r\n\r\n")
    connection.sendall(head + b"\r\n\r\n")
    assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
    connection.sendall(body)
    assert answer(connection) == b"500000 %d" % sum(body)


def test_what_is_refused_is_thrown_away_and_the_next_request_answered(connection: socket.socket) -> None:
    connection.sendall(post(b"no" + bytes(2_000_000)))
    assert answer(connection) == b"7 %d" % sum(b"refused")
    connection.sendall(post(b"yes"))
    assert answer(connection) == b"3 %d" % sum(b"yes")


def test_a_client_that_goes_in_the_middle_stops_nothing(connection: socket.socket) -> None:
    address = connection.getpeername()
    with socket.create_connection(address) as going:
        going.sendall(post(bytes(900_000))[:400_000])
    with socket.create_connection(address) as going:
        going.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        going.recv(1000)
    connection.sendall(post(bytes(900_000)))
    assert answer(connection) == b"900000 0"


def test_files_arrive_whole_even_at_a_slow_reader(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    for pause_s in (0.0, 0.3):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(pause_s)
        assert answer(connection) == b"<<<" + bytes(range(250)) * (SIZE // 250) + b">>>>"


def test_a_head_request_gets_no_body_and_a_file_cut_short_no_whole_answer(connection: socket.socket) -> None:
    connection.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + post(b"next"))
    head = b""
    while not head.endswith(b"4 %d" % sum(b"next")):
        head += connection.recv(1)
    assert b"<<<" not in head
    connection.sendall(b"GET /1001 HTTP/1.1\r\nHost: a\r\n\r\n")
    with pytest.raises((AssertionError, ConnectionError)):
        answer(connection)

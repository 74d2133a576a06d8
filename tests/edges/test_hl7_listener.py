"""The MLLP listener and sender over real sockets, and their framing."""

from __future__ import annotations

import datetime
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyclinic.core.errors import Rejected, Unavailable
from polyclinic.departments.records.patients import PatientKey
from polyclinic.edges.hl7v2.inbound import Inbound
from polyclinic.edges.hl7v2.listener import MllpListener, server_tls
from polyclinic.edges.hl7v2.mllp import FrameReader, FrameTooLarge, NotFramed, frame
from polyclinic.edges.hl7v2.sender import HL7Peer, client_tls, send_message
from polyclinic.edges.memory_records import InMemoryInbox, InMemoryRecord

Start = Callable[..., MllpListener]


def message(control_id: str = "M1", name: str = "王^小东") -> bytes:
    header = f"MSH|^~\\&|HIS|H|||20260101||ADT^A04|{control_id}|P|2.5.1||||||UNICODE UTF-8"
    return f"{header}\rPID|||P-{control_id}||{name}".encode()


@pytest.fixture
def record() -> InMemoryRecord:
    return InMemoryRecord()


@pytest.fixture
def start(record: InMemoryRecord) -> Iterator[Start]:
    with ExitStack() as stack:

        def begin(**named: object) -> MllpListener:
            inbound = Inbound(record=record, inbox=InMemoryInbox())
            listener = MllpListener(inbound, host="127.0.0.1", port=0, **named)  # type: ignore[arg-type]
            listener.start()
            stack.callback(listener.stop)
            return listener

        yield begin


def connect(listener: MllpListener) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", listener.port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_answers(connection: socket.socket, count: int) -> list[bytes]:
    reader, answers = FrameReader(1_000_000), list[bytes]()
    while len(answers) < count and (chunk := connection.recv(65536)):
        answers += reader.feed(chunk)
    return answers


def test_several_messages_on_one_connection_are_answered_in_order(start: Start, record: InMemoryRecord) -> None:
    with connect(start()) as connection:
        connection.sendall(b"\r\n" + b"".join(frame(message(f"M{n}")) for n in range(20)))
        answers = read_answers(connection, 20)
    assert [f"MSA|AA|M{n}\r".encode() in answer for n, answer in enumerate(answers)] == [True] * 20
    assert record.patient(PatientKey(patient_id="P-M7")).name == "王^小东"


def test_a_message_in_pieces_is_one_message(start: Start) -> None:
    with connect(start()) as connection:
        for byte in frame(message()):
            connection.sendall(bytes([byte]))
        (answer,) = read_answers(connection, 1)
    assert b"MSA|AA|M1" in answer


def test_many_connections_at_once_are_served_and_end_without_threads(start: Start) -> None:
    listener = start(connections=40)
    failed: list[str] = []

    def talk(number: int) -> None:
        with connect(listener) as connection:
            for turn in range(5):
                connection.sendall(frame(message(f"{number}-{turn}")))
                (answer,) = read_answers(connection, 1)
                if f"MSA|AA|{number}-{turn}\r".encode() not in answer:
                    failed.append(f"{number}-{turn}")

    threads = [threading.Thread(target=talk, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    wait_until(lambda: listener.connection_count == 0)


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_message_beyond_the_limit_is_refused_and_the_next_connection_works(start: Start) -> None:
    listener = start(limit_bytes=10_000)
    with connect(listener) as connection:
        connection.sendall(b"\x0b" + message() + b"\rNTE|" + b"x" * 200_000)
        (answer,) = read_answers(connection, 1)
        assert b"MSA|AR|M1" in answer
        assert connection.recv(10) == b""
    with connect(listener) as connection:
        connection.sendall(frame(message("M2")))
        assert b"MSA|AA|M2" in read_answers(connection, 1)[0]


def test_fifty_megabytes_are_never_held(start: Start) -> None:
    listener = start()
    sent = 0
    with connect(listener) as connection, suppress(OSError):
        connection.sendall(b"\x0b")
        for _ in range(400):
            connection.sendall(b"MSH|^~\\&" * 15_625)
            sent += 1
    assert sent < 400, "the connection ends long before 50 MB"
    wait_until(lambda: listener.connection_count == 0)


def test_a_peer_that_stops_in_mid_message_or_speaks_http_is_let_go(start: Start) -> None:
    listener = start(message_s=0.3)
    with connect(listener) as silent, connect(listener) as web:
        silent.sendall(frame(message())[:30])
        web.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 5000)
        assert web.recv(100) == b""
        assert silent.recv(100) == b""
    wait_until(lambda: listener.connection_count == 0)


def test_a_peer_that_drips_cannot_hold_a_message_open(start: Start) -> None:
    listener = start(message_s=0.5)
    sent, whole = 0, b"\x0b" + b"x" * 1000
    with connect(listener) as slow, suppress(OSError):
        for byte in whole:
            slow.sendall(bytes([byte]))
            sent += 1
            time.sleep(0.02)
    assert sent < len(whole)
    wait_until(lambda: listener.connection_count == 0)


def test_one_connection_too_many_is_closed_at_once(start: Start) -> None:
    listener = start(connections=1)
    with connect(listener) as first:
        first.sendall(frame(message()))
        read_answers(first, 1)
        with connect(listener) as second:
            assert second.recv(10) == b""
        first.sendall(frame(message("M2")))
        assert b"MSA|AA|M2" in read_answers(first, 1)[0]


def test_only_named_peers_may_connect(start: Start) -> None:
    with connect(start(peers=("10.1.2.0/24",))) as connection:
        assert connection.recv(10) == b""
    with connect(start(peers=("127.0.0.1",))) as connection:
        connection.sendall(frame(message()))
        assert b"MSA|AA" in read_answers(connection, 1)[0]


def test_the_sender_hears_acceptance_and_refusal(start: Start, record: InMemoryRecord) -> None:
    peer = HL7Peer(host="127.0.0.1", port=start().port)
    send_message(message("M1"), peer, control_id="M1")
    assert record.patient(PatientKey(patient_id="P-M1")).version == 1
    with pytest.raises(Rejected, match=r"hl7\.refused"):
        send_message(message("M2").replace(b"P-M2", b""), peer, control_id="M2")
    with pytest.raises(Unavailable, match=r"hl7\.not-now"):
        send_message(message("M3").replace(b"A04", b"A99"), peer, control_id="M3")
    with pytest.raises(Unavailable, match=r"hl7\.no-answer"):
        send_message(message("M4"), peer, control_id="other")


@pytest.mark.parametrize("answer", [b"", b"\x0bMSH|^~\\&|\x1c\r", b"garbage" * 2000, b"\x0bhello\x1c\r"])
def test_a_receiver_that_answers_nonsense_may_be_tried_again(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=talk)
        thread.start()
        peer = HL7Peer(host="127.0.0.1", port=server.getsockname()[1])
        with pytest.raises(Unavailable, match=r"hl7\.no-answer"):
            send_message(message(), peer, control_id="M1", limit_s=5)
        thread.join()
    with pytest.raises(Unavailable, match=r"hl7\.no-answer"):
        send_message(message(), peer, control_id="M1", limit_s=1)


def test_tls_asks_both_sides_for_their_certificates(start: Start, tmp_path: Path) -> None:
    pair = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(pair[0]), "-out", str(pair[1])]
    subprocess.run(command, check=True, capture_output=True)
    listener = start(tls=server_tls(pair[1], pair[0], pair[1]))
    trusted = client_tls(pair[1], certificate=pair[1], key=pair[0])
    send_message(message(), HL7Peer(host="127.0.0.1", port=listener.port, tls=trusted), control_id="M1")
    for wrong in (None, client_tls(pair[1])):
        peer = HL7Peer(host="127.0.0.1", port=listener.port, tls=wrong)
        with pytest.raises(Unavailable, match=r"hl7\.no-answer"):
            send_message(message(), peer, control_id="M1", limit_s=3)
    with pytest.raises(Rejected, match=r"hl7\.bad-tls"):
        server_tls(tmp_path / "nothing.pem", None, None)
    assert trusted is not None
    assert trusted.verify_mode is ssl.CERT_REQUIRED


def test_a_taken_port_is_said_to_be(start: Start) -> None:
    taken = start()
    inbound = Inbound(record=InMemoryRecord(), inbox=InMemoryInbox(), now=lambda: datetime.datetime.now(datetime.UTC))
    with pytest.raises(Unavailable, match=r"hl7\.port-taken"):
        MllpListener(inbound, host="127.0.0.1", port=taken.port).start()


texts = st.binary(max_size=60).map(lambda b: b.replace(b"\x0b", b"").replace(b"\x1c", b""))


@given(st.lists(texts, max_size=8), st.lists(st.integers(1, 40), max_size=40))
def test_framing_gives_what_was_framed_however_it_is_cut(messages: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(frame(one) for one in messages)
    reader, got, position = FrameReader(100), list[bytes](), 0
    for size in [*cuts, len(wire)]:
        got += reader.feed(wire[position : position + size])
        position += size
    assert got == messages
    assert not reader.inside


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_framing_holds_no_more_than_its_limit(chunks: list[bytes]) -> None:
    reader = FrameReader(300)
    for chunk in chunks:
        try:
            for whole in reader.feed(chunk):
                assert len(whole) <= 300
        except (FrameTooLarge, NotFramed):
            return


def test_a_start_inside_a_message_begins_it_anew() -> None:
    assert FrameReader(100).feed(b"\x0bhalf a mess\x0bwhole\x1c\x0bnext\x1c\r") == [b"whole", b"next"]

"""Peers that break the protocol: the right end for each, bounded memory, and the node goes on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import pack

import pydicom.data
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyclinic.core.errors import PolyclinicError
from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.contracts import Receipt
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse import commands, negotiation, wire
from polyclinic.edges.dimse.association import Policy
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.dimse.sender import Peer, Sender, send

Make = Callable[..., bytes]
CT = "1.2.840.10008.5.1.4.1.1.2"
LITTLE = "1.2.840.10008.1.2.1"
POLICY = Policy(ae_title="POLYCLINIC", max_associations=40, idle_s=0.5, pdu_s=0.5, artim_s=0.1)


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., SqlArchive]) -> SqlArchive:
    return open_archive(tmp_path)


@pytest.fixture
def node(archive: SqlArchive) -> Iterator[DimseNode]:
    node = DimseNode(archive, port=0, policy=POLICY)
    node.start()
    yield node
    node.stop()
    assert node.open_associations == 0


def to(node: DimseNode) -> Peer:
    return Peer(ae_title="POLYCLINIC", host="127.0.0.1", port=node.port)


class RawPeer:
    """A peer that can be made to do anything wrong."""

    def __init__(self, node: DimseNode) -> None:
        self.socket = socket.create_connection(("127.0.0.1", node.port), 5)

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def associate(self) -> None:
        request = negotiation.request_pdu(
            calling_ae_title="RAW",
            called_ae_title="POLYCLINIC",
            proposed=[(1, CT, LITTLE), (3, "1.2.840.10008.1.1", LITTLE)],
            max_pdu_bytes=16384,
        )
        self.socket.sendall(request)
        assert self.pdu()[0] == wire.ASSOCIATE_AC

    def pdu(self) -> bytes:
        head = self.exactly(6)
        return head + self.exactly(int.from_bytes(head[2:], "big"))

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                return data
            data += piece
        return data

    def status(self) -> int | None:
        return commands.decode(self.pdu()[12:]).number(commands.STATUS)

    def rest(self) -> bytes:
        """What the node still says until it closes."""
        self.socket.settimeout(5)
        data = b""
        try:
            while piece := self.socket.recv(65536):
                data += piece
        except ConnectionResetError:
            pass
        return data


def store_request(message_id: int = 1, uid: str = "1.2.3") -> bytes:
    return commands.encode(
        {
            commands.AFFECTED_SOP_CLASS_UID: CT,
            commands.COMMAND_FIELD: commands.C_STORE_RQ,
            commands.MESSAGE_ID: message_id,
            commands.PRIORITY: 0,
            commands.DATA_SET_TYPE: 1,
            commands.AFFECTED_SOP_INSTANCE_UID: uid,
        }
    )


def message(context_id: int, command: bytes) -> bytes:
    return wire.data_pdu(context_id, command=True, last=True, size=len(command)) + command


def value(context_id: int, control: int, data: bytes) -> bytes:
    return pack(">LBB", len(data) + 2, context_id, control) + data


def p_data(*values: bytes) -> bytes:
    body = b"".join(values)
    return b"\x04\0" + pack(">L", len(body)) + body


def is_abort(answer: bytes) -> bool:
    return len(answer) == 10 and answer[0] == wire.ABORT


BAD = {
    "an unknown PDU": b"\x09\0\0\0\0\4\0\0\0\0",
    "an over-long PDU": b"\x04\0\xff\xff\xff\xff" + bytes(64),
    "no PDU at all": b"GET / HTTP/1.1\r\n\r\n",
    "a second A-ASSOCIATE-RQ": b"\x01\0\0\0\0\4\0\0\0\0",
    "a value that is longer than its PDU": b"\x04\0\0\0\0\x08" + pack(">LBB", 500, 1, 3) + bytes(2),
    "a P-DATA PDU without a value": b"\x04\0\0\0\0\0" + bytes(6),
    "a P-DATA PDU without a value, inside a message": message(1, store_request()) + b"\x04\0\0\0\0\0" + bytes(6),
    "a value without room for its header": b"\x04\0\0\0\0\x02\0\0" + bytes(4),
    "a value of negative size": p_data(pack(">LBB", 0, 1, 3)),
    "a context that was not accepted": message(99, store_request()),
    "a command that is none": message(1, b"not a command set at all"),
    "a dataset first": p_data(value(1, 2, b"abcd")),
    "a command inside a dataset": message(1, store_request()) + p_data(value(1, 0, b"ab"), value(1, 3, b"cd")),
    "a dataset in another context": message(1, store_request()) + p_data(value(3, 2, b"ab")),
    "a release inside a message": message(1, store_request()) + b"\x05\0\0\0\0\4\0\0\0\0",
    "a response": message(
        1, commands.encode({commands.COMMAND_FIELD: 0x8001, commands.MESSAGE_ID: 1, commands.DATA_SET_TYPE: 0x0101})
    ),
    "an endless command": b"".join(p_data(value(1, 1, bytes(16000))) for _ in range(8)),
}


@pytest.mark.parametrize("what", BAD)
def test_protocol_errors_are_aborted_and_the_node_goes_on(what: str, node: DimseNode, part10: Make) -> None:
    with RawPeer(node) as peer:
        peer.associate()
        peer.socket.sendall(BAD[what])
        assert is_abort(peer.rest()), what
    assert send([part10()], to(node))[0].status == 0


@pytest.mark.parametrize(
    "request_bytes", [b"\x01\0\0\0\0\4\0\0\0\0", b"\x01\0\0\0\x10\0" + b"\xff" * 4096, b"\x06" * 30]
)
def test_requests_that_make_no_sense_are_refused(request_bytes: bytes, node: DimseNode) -> None:
    with RawPeer(node) as peer:
        peer.socket.sendall(request_bytes)
        answer = peer.rest()
        assert is_abort(answer) or answer[:1] == b"\x03"


@pytest.mark.parametrize("sent", [1, 5, 6, 11, 12, 100, 5000])
def test_a_peer_that_stops_in_mid_pdu_is_let_go(sent: int, node: DimseNode, archive: SqlArchive) -> None:
    with RawPeer(node) as peer:
        peer.associate()
        whole = message(1, store_request()) + p_data(value(1, 0, bytes(8000)))
        peer.socket.sendall(whole[:sent])
        start = time.monotonic()
        assert is_abort(peer.rest())
        assert time.monotonic() - start < 4
    assert archive.studies() == ()


def test_a_silent_peer_is_let_go(node: DimseNode) -> None:
    with RawPeer(node) as peer:
        peer.associate()
        assert is_abort(peer.rest())


def test_a_peer_that_vanishes_leaves_nothing(node: DimseNode, archive: SqlArchive, part10: Make) -> None:
    data = part10()
    with RawPeer(node) as peer:
        peer.associate()
        peer.socket.sendall(message(1, store_request()) + p_data(value(1, 0, data[400:600])))
    end = time.monotonic() + 5
    while node.open_associations and time.monotonic() < end:
        time.sleep(0.02)
    assert node.open_associations == 0
    assert archive.studies() == ()


def test_abort_and_release_end_the_association(node: DimseNode) -> None:
    with RawPeer(node) as peer:
        peer.associate()
        peer.socket.sendall(b"\x05\0\0\0\0\4\0\0\0\0")
        assert peer.rest() == wire.RELEASE_RP_PDU
    with RawPeer(node) as peer:
        peer.associate()
        peer.socket.sendall(message(1, store_request()) + p_data(value(1, 0, bytes(5000))) + b"\x07\0\0\0\0\4\0\0\0\0")
        assert peer.rest() == b""


def test_fragments_of_any_shape_make_the_same_instance(node: DimseNode, archive: SqlArchive, part10: Make) -> None:
    data = part10()
    dataset = data[144 + int.from_bytes(data[140:144], "little") :]
    uid = stable_uid("instance", "1", "1", 1)
    request = store_request(uid=uid)
    shapes = [
        message(1, request) + p_data(value(1, 2, dataset)),
        p_data(value(1, 3, request), value(1, 0, dataset[:10]), value(1, 2, dataset[10:])),
        p_data(value(1, 1, request[:7]))
        + p_data(value(1, 3, request[7:]), value(1, 0, dataset[:3]))
        + b"".join(p_data(value(1, 0, dataset[i : i + 1])) for i in range(3, len(dataset) - 1))
        + p_data(value(1, 2, dataset[-1:])),
        message(1, request) + p_data(value(1, 0, dataset)) + p_data(value(1, 2, b"")),
        message(1, request) + p_data(value(1, 0, b""), value(1, 0, dataset[:50])) + p_data(value(1, 2, dataset[50:])),
    ]
    with RawPeer(node) as peer:
        peer.associate()
        for shape in shapes:
            peer.socket.sendall(shape)
            assert peer.status() == 0
        slow = shapes[0]
        for start in range(0, len(slow), 37):
            peer.socket.sendall(slow[start : start + 37])
        assert peer.status() == 0
    assert archive.study(stable_uid("study", "1")).instance_count == 1
    assert archive.study(stable_uid("study", "1")).kept_aside_count == 0


def test_unknown_operations_are_answered_and_the_association_stays(node: DimseNode, part10: Make) -> None:
    def request(field: int) -> bytes:
        values: dict[int, int | str] = {
            commands.COMMAND_FIELD: field,
            commands.MESSAGE_ID: 7,
            commands.DATA_SET_TYPE: 0x0101,
            commands.AFFECTED_SOP_CLASS_UID: CT,
        }
        return message(1, commands.encode(values))

    with RawPeer(node) as peer:
        peer.associate()
        peer.socket.sendall(request(0x0110))  # N-GET
        assert peer.status() == 0x0211
        for field in (0x0020, 0x0010, 0x0021):  # C-FIND, C-GET and C-MOVE in a storage context
            peer.socket.sendall(request(field))
            assert peer.status() == 0x0118
        peer.socket.sendall(request(0x0030))  # C-ECHO in a storage context
        assert peer.status() == 0x0118
        peer.socket.sendall(request(0x0001))  # C-STORE without a dataset
        assert peer.status() == 0x0212


def test_idle_associations_cost_little_and_too_many_are_told_so(archive: SqlArchive, part10: Make) -> None:
    policy = Policy(ae_title="POLYCLINIC", max_associations=200, idle_s=20)
    node = DimseNode(archive, port=0, policy=policy)
    node.start()
    threads = threading.active_count()
    peers = []
    try:
        for _ in range(200):
            peer = RawPeer(node)
            peer.associate()
            peers.append(peer)
        with pytest.raises(PolyclinicError, match=r"dimse\.peer-rejected"), Sender(to(node)) as sender:
            sender.echo()
        peers.pop().socket.close()
        end = time.monotonic() + 5
        while node.open_associations > 199 and time.monotonic() < end:
            time.sleep(0.02)
        assert send([part10()], to(node))[0].status == 0
    finally:
        node.stop()
        for peer in peers:
            peer.socket.close()
    assert node.open_associations == 0
    assert threading.active_count() <= threads


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.binary(min_size=1, max_size=300), begun=st.booleans())
def test_garbage_never_stops_the_node(node: DimseNode, garbage: bytes, begun: bool) -> None:
    with RawPeer(node) as peer:
        if begun:
            peer.associate()
        peer.socket.sendall(garbage)
    with Sender(to(node)) as sender:
        sender.echo()


FILES = sorted(p for p in (Path(pydicom.data.__file__).parent / "test_files").rglob("*") if p.is_file())


def test_the_files_that_pydicom_is_tested_with_get_a_receipt_or_a_reason(archive: SqlArchive) -> None:
    receipts: dict[str, int] = {}
    for path in FILES:
        data = path.read_bytes()
        for damaged in (data, data[: len(data) * 2 // 3], data + b"\1"):
            try:
                outcome = str(archive.store(damaged, source="TEST"))
            except PolyclinicError as error:
                outcome = error.code
            receipts[outcome] = receipts.get(outcome, 0) + 1
    assert receipts[Receipt.NEW] > 60
    assert receipts["archive.truncated"] > 60
    assert "archive.storage-failed" not in receipts
    assert "archive.index-failed" not in receipts
    for study in archive.studies(limit=1000):
        for record in archive.instances(study.study_instance_uid):
            assert len(archive.read(record.sop_instance_uid)) == record.size_bytes

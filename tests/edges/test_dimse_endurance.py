"""Peers that are slow, many, in the way of each other or out of their mind: bounded time and memory, and an answer."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import pack
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC

from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse import commands, commitment, negotiation, wire
from polyclinic.edges.dimse.association import Policy
from polyclinic.edges.dimse.commitment_store import Commitments, Reference, metadata
from polyclinic.edges.dimse.identifier import encode_identifier
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.dimse.sender import Peer, Sender
from polyclinic.edges.dimse.sources import Sources
from polyclinic.edges.dimse.syntaxes import (
    COMMITMENT_PUSH,
    COMMITMENT_PUSH_INSTANCE,
    PERFORMED_STEP,
    STUDY_ROOT_FIND,
    VERIFICATION,
    WORKLIST_FIND,
)
from polyclinic.edges.memory_records import InMemoryRecord

Make = Callable[..., bytes]
CT = "1.2.840.10008.5.1.4.1.1.2"
LITTLE = "1.2.840.10008.1.2.1"
CLASSES = (VERIFICATION, CT, STUDY_ROOT_FIND, WORKLIST_FIND, PERFORMED_STEP, COMMITMENT_PUSH)
RELEASE_RQ = wire.RELEASE_RQ_PDU


@pytest.fixture
def sources(tmp_path: Path, open_archive: Callable[..., SqlArchive], part10: Make) -> Sources:
    archive, record = open_archive(tmp_path / "archive"), InMemoryRecord()
    metadata.create_all(archive.engine)
    archive.store(part10(), source="TEST")
    return Sources(archive=archive, orders=record, patients=record, commitments=Commitments(archive.engine))


@contextmanager
def served(sources: Sources, **policy: Any) -> Iterator[DimseNode]:
    policy = {"idle_s": 1.0, "pdu_s": 0.5, "artim_s": 0.1, "report_after_s": 0.1, "max_associations": 40, **policy}
    node = DimseNode(sources, port=0, policy=Policy(ae_title="POLYCLINIC", **policy))
    node.start()
    try:
        yield node
    finally:
        node.stop()
        assert node.open_associations == 0


def echo(node: DimseNode) -> None:
    with Sender(Peer(ae_title="POLYCLINIC", host="127.0.0.1", port=node.port)) as sender:
        sender.echo()


def proposal(*classes: str) -> bytes:
    return negotiation.request_pdu(
        calling_ae_title="RAW",
        called_ae_title="POLYCLINIC",
        proposed=[(2 * place + 1, one, LITTLE) for place, one in enumerate(classes or CLASSES)],
        max_pdu_bytes=16384,
    )


class Raw:
    """A connection on which anything is said."""

    def __init__(self, node: DimseNode, timeout_s: float = 5.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", node.port), timeout_s)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def pdu(self) -> bytes:
        head = self.exactly(6)
        return head + self.exactly(int.from_bytes(head[2:6], "big"))

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                break
            data += piece
        return data

    def rest(self) -> bytes:
        data = b""
        try:
            while piece := self.socket.recv(65536):
                data += piece
        except ConnectionResetError:
            pass
        return data


def message(context_id: int, values: dict[int, int | str], dataset: bytes = b"") -> bytes:
    kind = commands.HAS_DATA_SET if dataset else commands.NO_DATA_SET
    command = commands.encode({commands.MESSAGE_ID: 1, commands.DATA_SET_TYPE: kind, **values})
    out = wire.data_pdu(context_id, command=True, last=True, size=len(command)) + command
    if dataset:
        out += wire.data_pdu(context_id, command=False, last=True, size=len(dataset)) + dataset
    return out


ECHO = message(1, {commands.AFFECTED_SOP_CLASS_UID: VERIFICATION, commands.COMMAND_FIELD: commands.C_ECHO_RQ})
FIND = message(
    5,
    {
        commands.AFFECTED_SOP_CLASS_UID: STUDY_ROOT_FIND,
        commands.COMMAND_FIELD: commands.C_FIND_RQ,
        commands.PRIORITY: 0,
    },
    encode_identifier([("QueryRetrieveLevel", "STUDY"), ("PatientName", "王*"), ("StudyInstanceUID", "")], LITTLE),
)
WORKLIST = message(
    7,
    {commands.AFFECTED_SOP_CLASS_UID: WORKLIST_FIND, commands.COMMAND_FIELD: commands.C_FIND_RQ},
    encode_identifier([("PatientName", "*"), ("ScheduledProcedureStepSequence", [[("Modality", "CT")]])], LITTLE),
)
BEGIN = message(
    9,
    {
        commands.AFFECTED_SOP_CLASS_UID: PERFORMED_STEP,
        commands.COMMAND_FIELD: commands.N_CREATE_RQ,
        commands.AFFECTED_SOP_INSTANCE_UID: "1.2.3",
    },
    encode_identifier(
        [
            ("Modality", "CT"),
            ("PatientName", "Wang^XiaoDong=王^小东"),
            ("PerformedProcedureStepStatus", "IN PROGRESS"),
            ("ScheduledStepAttributesSequence", [[("StudyInstanceUID", "1.2"), ("AccessionNumber", "")]]),
        ],
        LITTLE,
    ),
)


def commit(instance: str, transaction: str = "1.2.7") -> bytes:
    return message(
        11,
        {
            commands.REQUESTED_SOP_CLASS_UID: COMMITMENT_PUSH,
            commands.COMMAND_FIELD: commands.N_ACTION_RQ,
            commands.REQUESTED_SOP_INSTANCE_UID: COMMITMENT_PUSH_INSTANCE,
            commands.ACTION_TYPE_ID: 1,
        },
        commitment.action_information(transaction, [Reference(sop_class_uid=CT, sop_instance_uid=instance)], LITTLE),
    )


COMMIT = commit(stable_uid("instance", "1", "1", 1))


def test_as_many_contexts_as_there_can_be(sources: Sources) -> None:
    classes = [f"1.2.840.10008.5.1.4.1.1.{n}" for n in range(1, 129)]
    with served(sources) as node, Raw(node) as raw:
        raw.socket.sendall(proposal(*classes))
        answer = A_ASSOCIATE_AC()
        answer.decode(raw.pdu())
        contexts = answer.to_primitive().presentation_context_definition_results_list
        assert [one.context_id for one in contexts] == list(range(1, 257, 2))
        assert {one.result for one in contexts} == {0}
        raw.socket.sendall(RELEASE_RQ)
        assert raw.rest() == wire.RELEASE_RP_PDU


def test_hundreds_of_transfer_syntaxes_in_one_context(sources: Sources) -> None:
    syntaxes = [UID(f"1.2.3.{n}") for n in range(1500)] + [UID(LITTLE)]
    item = b"".join(b"\x40\0" + pack(">H", len(one)) + one.encode() for one in syntaxes)
    abstract = b"\x30\0" + pack(">H", len(CT)) + CT.encode()
    context = b"\x20\0" + pack(">H", 4 + len(abstract) + len(item)) + b"\1\0\0\0" + abstract + item
    whole = proposal(CT)
    start = whole.index(b"\x20\0", 74)
    end = start + 4 + int.from_bytes(whole[start + 2 : start + 4], "big")
    body = whole[6:start] + context + whole[end:]
    with served(sources) as node, Raw(node) as raw:
        raw.socket.sendall(whole[:2] + pack(">L", len(body)) + body)
        answer = A_ASSOCIATE_AC()
        answer.decode(raw.pdu())
        (one,) = answer.to_primitive().presentation_context_definition_results_list
    assert (one.result, one.transfer_syntax) == (0, [LITTLE])


def trickled(raw: Raw, data: bytes) -> int:
    """How many bytes could be sent one by one before the node hung up."""
    for sent, byte in enumerate(data):
        try:
            raw.socket.sendall(bytes([byte]))
        except OSError:
            return sent
        time.sleep(0.05)
    return len(data)


@pytest.mark.parametrize("place", ["in the request", "in a value"])
def test_a_peer_that_trickles_is_let_go(sources: Sources, place: str) -> None:
    with served(sources) as node, Raw(node) as raw:
        if place == "in a value":
            raw.socket.sendall(proposal())
            raw.pdu()
            trickle = message(3, {commands.COMMAND_FIELD: commands.C_STORE_RQ}, bytes(4000))
            raw.socket.sendall(trickle[:200])
            trickle = trickle[200:]
        else:
            trickle = proposal()
        begun = time.monotonic()
        sent = trickled(raw, trickle)
        assert sent < len(trickle)
        assert time.monotonic() - begun < 4
        echo(node)


def test_a_release_that_crosses_the_report_is_answered(sources: Sources) -> None:
    with served(sources) as node, Raw(node) as raw:
        raw.socket.sendall(proposal())
        raw.pdu()
        raw.socket.sendall(COMMIT)
        assert commands.decode(raw.pdu()[12:]).number(commands.STATUS) == 0
        report = commands.decode(raw.pdu()[12:])  # it comes, and the peer releases as if it had not
        assert report.number(commands.COMMAND_FIELD) == commands.N_EVENT_REPORT_RQ
        raw.pdu()
        raw.socket.sendall(RELEASE_RQ)
        assert raw.rest() == wire.RELEASE_RP_PDU
    assert sources.commitments is not None
    assert sources.commitments.due() == [("RAW", "1.2.7")], "it is told again, on another association"


def test_release_and_abort_at_once_end_quietly(sources: Sources) -> None:
    with served(sources) as node:
        for last in (RELEASE_RQ + RELEASE_RQ, RELEASE_RQ + b"\x07\0\0\0\0\4\0\0\0\0", ECHO + RELEASE_RQ + ECHO):
            with Raw(node) as raw:
                raw.socket.sendall(proposal())
                raw.pdu()
                raw.socket.sendall(last)
                assert raw.rest().endswith((wire.RELEASE_RP_PDU, bytes([wire.UNEXPECTED_PDU])))
        echo(node)


def test_two_hundred_idle_associations_cost_little_and_leave_nothing(sources: Sources) -> None:
    process = psutil.Process()
    with served(sources, max_associations=200, idle_s=4.0, pdu_s=4.0) as node:
        echo(node)
        gc.collect()
        threads, before = threading.active_count(), process.memory_info().rss
        peers: list[Raw] = []
        for _ in range(200):
            peer = Raw(node)
            peers.append(peer)
            peer.socket.sendall(proposal(VERIFICATION))
            assert peer.pdu()[0] == wire.ASSOCIATE_AC
        assert node.open_associations == 200
        each_kb = (process.memory_info().rss - before) / 200 / 1024
        assert each_kb < 400, f"{each_kb:.0f} KiB each"
        end = time.monotonic() + 15
        while node.open_associations or threading.active_count() > threads:
            assert time.monotonic() < end, "time-outs leave threads behind"
            time.sleep(0.05)
        for peer in peers:
            assert peer.rest()[:1] == bytes([wire.ABORT])
            peer.socket.close()
        echo(node)


CONVERSATIONS = [ECHO, FIND, WORKLIST, BEGIN, COMMIT, ECHO + FIND + WORKLIST + BEGIN + COMMIT]


@st.composite
def mutations(draw: st.DrawFn) -> tuple[bytes, bool]:
    """A conversation with some bytes changed, cut, put in or taken out; and whether its beginning was changed too."""
    head = proposal()
    data = bytearray(head + draw(st.sampled_from(CONVERSATIONS)) + RELEASE_RQ)
    spared = 0 if draw(st.booleans()) else len(head)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(spared, len(data) - 1))
        match draw(st.sampled_from(["change", "cut", "insert", "remove", "length"])):
            case "change":
                data[place] = draw(st.integers(0, 255))
            case "cut":
                del data[max(place, 1) :]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=12))
            case "remove":
                del data[place : place + draw(st.integers(1, 8))]
            case "length":
                data[place : place + 4] = draw(
                    st.sampled_from([b"\xff" * 4, bytes(4), b"\0\0\0\1", b"\x7f\xff\xff\xff"])
                )
        if len(data) <= spared + 1:
            break
    return bytes(data), spared == 0


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about values that were changed
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(mutation=mutations())
def test_whatever_is_said_there_is_an_end_and_the_node_goes_on(fuzzed: DimseNode, mutation: tuple[bytes, bool]) -> None:
    data, from_the_start = mutation
    with Raw(fuzzed, timeout_s=8.0) as raw:
        try:
            raw.socket.sendall(data)
            raw.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was refused in the middle
        answer = raw.rest()  # a time-out here is a failure: no end
    if not from_the_start:
        assert answer[:1] == bytes([wire.ASSOCIATE_AC])
    echo(fuzzed)


@pytest.fixture
def fuzzed(sources: Sources) -> Iterator[DimseNode]:
    with served(sources, pdu_s=0.3, idle_s=0.6, artim_s=0.05) as node:
        yield node

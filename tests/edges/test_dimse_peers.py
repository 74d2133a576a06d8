"""Who may connect, from where, for what; and how an association is refused (PS3.8 table 9-21)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import AE
from pynetdicom.association import Association as Scu

from polyclinic.app.dicom_node import dicom_policy
from polyclinic.app.settings import Settings
from polyclinic.core.errors import Rejected
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse import negotiation
from polyclinic.edges.dimse.association import Policy
from polyclinic.edges.dimse.commitment_store import Commitments, metadata
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.dimse.peers import KnownPeer, Peer
from polyclinic.edges.dimse.sources import Sources
from polyclinic.edges.dimse.syntaxes import (
    COMMITMENT_PUSH,
    NAMED_SOP_CLASSES,
    PERFORMED_STEP,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    VERIFICATION,
    WORKLIST_FIND,
    Service,
)
from polyclinic.edges.memory_records import InMemoryRecord

CT = "1.2.840.10008.5.1.4.1.1.2"
ACCEPTED, NOT_ALLOWED, UNKNOWN, NO_SYNTAX = 0, 1, 3, 4


@pytest.fixture
def sources(tmp_path: Path, open_archive: Callable[..., SqlArchive]) -> Sources:
    archive, record = open_archive(tmp_path / "archive"), InMemoryRecord()
    metadata.create_all(archive.engine)
    return Sources(archive=archive, orders=record, patients=record, commitments=Commitments(archive.engine))


@contextmanager
def served(sources: Sources | SqlArchive, *known: KnownPeer, **policy: Any) -> Iterator[DimseNode]:
    peers = {one.ae_title: one for one in known} if known else None
    node = DimseNode(sources, port=0, policy=Policy(ae_title="POLYCLINIC", known_peers=peers, **policy))
    node.start()
    try:
        yield node
    finally:
        node.stop()


def associated(node: DimseNode, *classes: str, calling: str = "CT1", called: str = "POLYCLINIC") -> Scu:
    scu = AE(ae_title=calling)
    for one in classes or (VERIFICATION,):
        scu.add_requested_context(one)
    return scu.associate("127.0.0.1", node.port, ae_title=called)


def results(node: DimseNode, *classes: str, calling: str = "CT1") -> dict[str, int]:
    """How each class is answered."""
    association = associated(node, *classes, calling=calling)
    contexts = [*association.accepted_contexts, *association.rejected_contexts]
    found = {str(one.abstract_syntax): int(one.result) for one in contexts}
    if association.is_established:
        association.release()
    return found


@pytest.mark.parametrize(
    ("calling", "called", "reason"),
    [
        ("STRANGER", "POLYCLINIC", negotiation.REJECT_CALLING_AE),
        ("ct1", "POLYCLINIC", negotiation.REJECT_CALLING_AE),
        ("CT1", "OTHER", negotiation.REJECT_CALLED_AE),
        ("STRANGER", "OTHER", negotiation.REJECT_CALLED_AE),
        ("FAR", "POLYCLINIC", negotiation.REJECT_CALLING_AE),
        ("CT1", "POLYCLINIC", None),
        ("NEAR", "POLYCLINIC", None),
    ],
)
def test_strangers_are_rejected_with_the_reason(
    sources: Sources, calling: str, called: str, reason: tuple[int, int, int] | None
) -> None:
    known = (
        KnownPeer(ae_title="CT1"),
        KnownPeer(ae_title="FAR", networks=(ip_network("10.0.0.0/8"), ip_network("192.168.1.7"))),
        KnownPeer(ae_title="NEAR", networks=(ip_network("10.0.0.0/8"), ip_network("127.0.0.1"))),
    )
    with served(sources, *known, check_called_ae_title=True) as node:
        association = associated(node, calling=calling, called=called)
        if reason is None:
            assert association.is_established
            association.release()
        else:
            answer = association.acceptor.primitive
            assert answer is not None
            assert (answer.result, answer.result_source, answer.diagnostic) == reason


ALL = (
    VERIFICATION,
    CT,
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    STUDY_ROOT_GET,
    WORKLIST_FIND,
    PERFORMED_STEP,
    COMMITMENT_PUSH,
)


@pytest.mark.parametrize(
    ("services", "allowed"),
    [
        (frozenset(Service), set(ALL)),
        ({Service.STORE}, {VERIFICATION, CT}),
        ({Service.QUERY}, {VERIFICATION, STUDY_ROOT_FIND}),
        ({Service.RETRIEVE}, {VERIFICATION, STUDY_ROOT_MOVE, STUDY_ROOT_GET}),
        ({Service.WORKLIST, Service.PERFORMED}, {VERIFICATION, WORKLIST_FIND, PERFORMED_STEP}),
        ({Service.COMMITMENT}, {VERIFICATION, COMMITMENT_PUSH}),
        (set(), {VERIFICATION}),
    ],
)
def test_a_peer_may_do_what_it_is_allowed(sources: Sources, services: set[Service], allowed: set[str]) -> None:
    with served(sources, KnownPeer(ae_title="CT1", services=frozenset(services))) as node:
        answered = results(node, *ALL)
    assert answered == {one: ACCEPTED if one in allowed else NOT_ALLOWED for one in ALL}


def test_what_the_node_has_no_source_for_is_not_offered(sources: Sources) -> None:
    with served(sources.archive) as node:
        answered = results(node, *NAMED_SOP_CLASSES, "1.2.840.10008.5.1.4.1.2.3.1")
    offered = {Service.VERIFICATION, Service.STORE, Service.QUERY, Service.RETRIEVE}
    named = {uid: ACCEPTED if service in offered else UNKNOWN for uid, (_, service) in NAMED_SOP_CLASSES.items()}
    assert answered == {**named, "1.2.840.10008.5.1.4.1.2.3.1": UNKNOWN}


@pytest.mark.skipif(shutil.which("findscu") is None, reason="dcmtk is not installed")
def test_dcmtk_is_told_that_it_may_not(sources: Sources) -> None:
    with served(sources, KnownPeer(ae_title="FINDSCU", services=frozenset({Service.STORE}))) as node:
        command = ["findscu", "-v", "-S", "-k", "QueryRetrieveLevel=STUDY", "127.0.0.1", str(node.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    assert "No presentation context" in done.stderr + done.stdout or "No Acceptable" in done.stderr + done.stdout


PEERS = """
[[peer]]
ae_title = "CT 1"
networks = ["10.1.0.0/16", "::1"]
services = ["store", "worklist", "mpps"]
address = "ct1.hospital:11112"
character_set = "\\\\ISO 2022 IR 58"

[[peer]]
ae_title = "PACS"
tls = true
tls_check_host = false
address = "10.2.0.1:2762"
certificates = ["%s"]
"""


def test_peers_are_data(tmp_path: Path) -> None:
    path = tmp_path / "peers.toml"
    path.write_text(PEERS % ":".join(["AB"] * 32))
    settings = Settings(
        dicom_peers="MR1", dicom_peers_file=str(path), dicom_tls_certificate="own.pem", dicom_tls_authorities="ca.pem",
        move_destinations="ROOM@10.0.0.3:104",
    )  # fmt: skip
    policy = dicom_policy(settings)
    assert policy.known_peers is not None
    ct, pacs = policy.known_peers["CT 1"], policy.known_peers["PACS"]
    assert policy.known_peers["MR1"] == KnownPeer(ae_title="MR1")
    assert ct.services == {Service.STORE, Service.WORKLIST, Service.PERFORMED}
    assert (ct.character_sets, ct.address) == (
        ("", "ISO 2022 IR 58"),
        Peer(ae_title="CT 1", host="ct1.hospital", port=11112),
    )
    assert [ct.may_call_from(one) for one in ("10.1.7.7", "::ffff:10.1.0.1", "::1", "10.2.0.1", "nonsense")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert (pacs.certificates, pacs.needs_tls) == ({"ab" * 32}, True)
    assert pacs.address is not None
    assert pacs.address.tls is not None
    assert (pacs.address.tls.check_host, str(pacs.address.tls.authorities)) == (False, "ca.pem")
    assert set(policy.move_destinations) == {"CT 1", "PACS", "ROOM"}


@pytest.mark.parametrize(
    "text",
    [
        "peer = 1", "[[peer]]", "[[peer]]\nae_title = 'A'\nservice = ['store']", "[[peer]]\nae_title = 'A\\\\B'",
        "[[peer]]\nae_title = 'A'\nservices = ['fly']", "[[peer]]\nae_title = 'A'\nnetworks = ['10.0.0.1/8']",
        "[[peer]]\nae_title = 'A'\naddress = 'host'", "[[peer]]\nae_title = 'A'\ncertificates = ['12']",
        "[[peer]]\nae_title = 'A'\n[[peer]]\nae_title = 'A'", "[[peer]]\nae_title = 'SEVENTEEN-LETTERS'", "?",
    ],
)  # fmt: skip
def test_peers_that_cannot_be_meant_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "peers.toml"
    path.write_text(text)
    with pytest.raises(Rejected, match="POLYCLINIC_DICOM_PEERS_FILE"):
        dicom_policy(Settings(dicom_peers_file=str(path)))


@pytest.mark.parametrize(
    ("settings", "is_open"),
    [
        ({}, True),  # listens on loopback
        ({"dicom_host": "0.0.0.0"}, False),
        ({"dicom_host": "0.0.0.0", "dicom_open": True}, True),
        ({"dicom_host": "0.0.0.0", "demo": True}, True),
        ({"dicom_peers": "CT1"}, False),
        ({"dicom_peers": "CT1", "dicom_open": True}, False),
    ],
)
def test_everybody_is_let_in_only_where_that_was_said(settings: dict[str, Any], is_open: bool) -> None:
    assert (dicom_policy(Settings(**settings)).known_peers is None) is is_open


@given(host=st.text(max_size=40) | st.ip_addresses().map(str))
def test_any_address_is_inside_or_outside(host: str) -> None:
    peer = KnownPeer(ae_title="A", networks=(ip_network("10.0.0.0/8"),))
    assert peer.may_call_from(host) is host.removeprefix("::ffff:").startswith("10.") or not peer.may_call_from(host)

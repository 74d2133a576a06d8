"""What DICOM peers do is in the ledger: by AE title and address, a summary a study, never a name or a search term."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from polyclinic.core.audit import AgentKind, AuditEntry, AuditOutcome
from polyclinic.core.ids import stable_uid
from polyclinic.departments.access.audit_window import Recorder
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse.association import Policy
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.dimse.peers import anybody
from polyclinic.edges.dimse.sender import Peer, send

pytestmark = pytest.mark.skipif(shutil.which("getscu") is None, reason="dcmtk is not installed")
ONE, TWO = stable_uid("study", "1"), stable_uid("study", "2")


class Noted:
    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.recorder = Recorder(self._append)

    def _append(self, entries: Sequence[AuditEntry]) -> None:
        self.entries += entries

    def all(self) -> list[AuditEntry]:
        self.recorder.flush(everything=True)
        return self.entries


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
def node(tmp_path: Path, open_archive: Callable[..., SqlArchive], noted: Noted) -> Iterator[DimseNode]:
    policy = Policy(ae_title="POLYCLINIC", known_peers=anybody(["SCANNER", "VIEWER"]), recorder=noted.recorder)
    served = DimseNode(open_archive(tmp_path / "archive"), port=0, policy=policy)
    served.start()
    yield served
    served.stop()


def store(node: DimseNode, files: list[bytes], calling: str = "SCANNER") -> None:
    send(files, Peer(ae_title="POLYCLINIC", host="127.0.0.1", port=node.port), ae_title=calling)


def scu(node: DimseNode, program: str, *options: str, calling: str = "VIEWER") -> int:
    command = [program, "-S", "-aet", calling, "-aec", "POLYCLINIC", *options, "127.0.0.1", str(node.port)]
    return subprocess.run(command, check=False, capture_output=True, timeout=30).returncode


def test_one_entry_a_study_and_association(node: DimseNode, noted: Noted, part10: Callable[..., bytes]) -> None:
    store(node, [part10(n, study=s) for s in ("1", "2") for n in range(1, 6)])
    node.stop()
    found = noted.all()
    assert [(e.action, e.agent_kind, e.agent_id, e.address) for e in found] == [
        ("dimse.store", AgentKind.PEER, "SCANNER", "127.0.0.1")
    ] * 2
    assert {e.study_instance_uid for e in found} == {ONE, TWO}
    assert found[0].detail == {"instances": "10", "refused": "0", "studies": "2"}


def test_searches_and_retrievals(node: DimseNode, noted: Noted, part10: Callable[..., bytes], tmp_path: Path) -> None:
    store(node, [part10(1)])
    for _ in range(3):
        assert scu(node, "findscu", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=WANG*") == 0
    for _ in range(2):
        keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={ONE}")
        assert scu(node, "getscu", "-od", str(tmp_path), *keys) == 0
    node.stop()
    found = [e for e in noted.all() if e.action != "dimse.store"]
    assert [(e.action, e.agent_id, e.study_instance_uid, e.detail.get("repeats")) for e in found] == [
        ("dimse.find", "VIEWER", "", None),
        ("dimse.get", "VIEWER", ONE, None),
        ("dimse.find", "VIEWER", "", "2"),
        ("dimse.get", "VIEWER", ONE, "1"),
    ]
    assert "wang" not in str(found).lower()


def test_strangers_are_a_security_alert(node: DimseNode, noted: Noted) -> None:
    for _ in range(3):
        assert scu(node, "findscu", "-k", "QueryRetrieveLevel=STUDY", calling="STRANGER") != 0
    assert [(e.action, e.outcome, e.agent_id) for e in noted.entries] == [
        ("dimse.refused", AuditOutcome.DENIED, "STRANGER")
    ]
    assert noted.all()[-1].detail["repeats"] == "2"

"""Storage commitment with pynetdicom and Orthanc on the other side: asked of us, and asked by us."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from structlog.testing import capture_logs

from polyclinic.core.errors import Conflict, NotFound, Rejected
from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse.association import Policy
from polyclinic.edges.dimse.commitment_link import request_commitment
from polyclinic.edges.dimse.commitment_store import Commitments, Failure, Reference, State, metadata
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.dimse.peers import KnownPeer, Peer
from polyclinic.edges.dimse.sender import send
from polyclinic.edges.dimse.sources import Sources
from polyclinic.edges.dimse.syntaxes import COMMITMENT_PUSH, COMMITMENT_PUSH_INSTANCE

Make = Callable[..., bytes]
CT = "1.2.840.10008.5.1.4.1.1.2"
needs_orthanc = pytest.mark.skipif(shutil.which("Orthanc") is None, reason="Orthanc is not installed")


def uid(number: int) -> str:
    return stable_uid("instance", "1", "1", number)


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., SqlArchive], part10: Make) -> SqlArchive:
    archive = open_archive(tmp_path / "archive")
    metadata.create_all(archive.engine)
    for number in (1, 2):
        archive.store(part10(number), source="TEST")
    return archive


@pytest.fixture
def commitments(archive: SqlArchive, clock: Clock) -> Commitments:
    return Commitments(archive.engine, clock)


@contextmanager
def served(archive: SqlArchive, commitments: Commitments, *addresses: Peer, **policy: Any) -> Iterator[DimseNode]:
    known = {one.ae_title: KnownPeer(ae_title=one.ae_title, address=one) for one in addresses} or None
    policy = {"ae_title": "POLYCLINIC", "known_peers": known, "report_after_s": 0.3, **policy}
    node = DimseNode(Sources(archive=archive, commitments=commitments), port=0, policy=Policy(**policy))
    node.start()
    try:
        yield node
    finally:
        node.stop()


class Listener:
    """A pynetdicom node that takes N-EVENT-REPORT, as SCU of commitment or when it is asked to be SCP."""

    def __init__(self, ae_title: str = "CT1") -> None:
        self.reports: list[tuple[int, Dataset]] = []
        self.came = threading.Event()
        self.entity = AE(ae_title=ae_title)
        self.entity.add_supported_context(COMMITMENT_PUSH, scu_role=False, scp_role=True)
        self.handlers = [(evt.EVT_N_EVENT_REPORT, self._take)]
        self.server = self.entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=self.handlers)
        self.peer = Peer(ae_title=ae_title, host="127.0.0.1", port=self.server.socket.getsockname()[1])

    def _take(self, event: evt.Event) -> tuple[int, None]:
        self.reports.append((event.event_type, event.event_information))
        self.came.set()
        return 0, None

    def ask(self, node: DimseNode, instances: list[tuple[str, str]], *, stay: bool, transaction: str = "") -> int:
        """N-ACTION; on the same association the report comes when it stays."""
        scu = AE(ae_title=self.peer.ae_title)
        scu.add_requested_context(COMMITMENT_PUSH)
        association = scu.associate("127.0.0.1", node.port, ae_title="POLYCLINIC", evt_handlers=self.handlers)
        assert association.is_established
        status, _ = association.send_n_action(
            action(instances, transaction), 1, COMMITMENT_PUSH, COMMITMENT_PUSH_INSTANCE
        )
        if stay:
            assert self.came.wait(10)
        association.release()
        return int(status.Status)

    def stop(self) -> None:
        self.server.shutdown()


def action(instances: list[tuple[str, str]], transaction: str = "") -> Dataset:
    asked = Dataset()
    asked.TransactionUID = transaction or generate_uid()
    asked.ReferencedSOPSequence = []
    for sop_class, sop_instance in instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
        asked.ReferencedSOPSequence.append(item)
    return asked


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.stop()


@pytest.mark.parametrize("stay", [True, False])
def test_what_is_here_is_committed_on_the_same_association_or_a_new_one(
    archive: SqlArchive, commitments: Commitments, listener: Listener, stay: bool
) -> None:
    with served(archive, commitments, listener.peer) as node, capture_logs() as logs:
        assert listener.ask(node, [(CT, uid(1)), (CT, uid(2))], stay=stay) == 0
        assert listener.came.wait(10)
        time.sleep(0.2)
    ((event_type, report),) = listener.reports
    assert event_type == 1
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == [uid(1), uid(2)]
    assert (report.RetrieveAETitle, "FailedSOPSequence" in report) == ("POLYCLINIC", False)
    assert commitments.due() == []
    assert uid(1) not in str(logs)


def test_each_instance_that_is_not_safe_has_its_reason(
    archive: SqlArchive, commitments: Commitments, listener: Listener, tmp_path: Path
) -> None:
    kept = archive.kept_file(uid(2))
    (segment,) = (tmp_path / "archive" / "segments").rglob(kept.segment + "*")
    with segment.open("r+b") as file:  # a bit rots
        file.seek(kept.offset_bytes + kept.record.size_bytes - 2)
        file.write(b"\xee")
    with served(archive, commitments, listener.peer) as node:
        listener.ask(
            node, [(CT, uid(1)), (CT, uid(2)), (CT, "1.2.3"), ("1.2.840.10008.5.1.4.1.1.4", uid(1))], stay=True
        )
    ((event_type, report),) = listener.reports
    failed = {(i.ReferencedSOPInstanceUID, i.FailureReason) for i in report.FailedSOPSequence}
    assert event_type == 2
    assert failed == {(uid(2), 0x0110), ("1.2.3", 0x0112), (uid(1), 0x0119)}


def test_a_request_survives_a_restart(
    archive: SqlArchive, commitments: Commitments, listener: Listener, clock: Clock
) -> None:
    nobody = Peer(ae_title="CT1", host="127.0.0.1", port=free_port())
    with served(archive, commitments, nobody) as node:
        assert listener.ask(node, [(CT, uid(1))], stay=False) == 0
        until(lambda: _attempts(archive) >= 1)
    assert listener.reports == []
    clock.ahead = timedelta(hours=2)
    with served(archive, commitments, listener.peer):
        assert listener.came.wait(10)
        until(lambda: not _owed(archive))
    assert len(listener.reports) == 1


def test_a_report_is_given_up_after_a_week(archive: SqlArchive, commitments: Commitments, clock: Clock) -> None:
    commitments.keep("CT1", "1.2.9", [Reference(sop_class_uid=CT, sop_instance_uid=uid(1))])
    assert commitments.due() == []  # the association may report first
    waits = []
    for _ in range(40):
        clock.ahead += timedelta(hours=5)
        waits.append(commitments.due())
        commitments.postpone("CT1", "1.2.9")
    assert waits[0] == [("CT1", "1.2.9")]
    assert waits[-1] == []
    assert _attempts(archive) > 5


def test_requests_that_cannot_be_taken(archive: SqlArchive, commitments: Commitments, listener: Listener) -> None:
    with served(archive, commitments, listener.peer) as node:
        scu = AE(ae_title="CT1")
        scu.add_requested_context(COMMITMENT_PUSH)
        association = scu.associate("127.0.0.1", node.port, ae_title="POLYCLINIC", evt_handlers=listener.handlers)

        def status(dataset: Dataset, action_type: int = 1, instance: str = COMMITMENT_PUSH_INSTANCE) -> int:
            return int(association.send_n_action(dataset, action_type, COMMITMENT_PUSH, instance)[0].Status)

        assert status(action([])) == 0x0115
        assert status(action([(CT, "x")])) == 0x0115
        assert status(action([(CT, uid(1))]), action_type=2) == 0x0123
        assert status(action([(CT, uid(1))]), instance="1.2.3") == 0x0112
        assert status(action([(CT, uid(1))], "1.2.7")) == 0
        assert status(action([(CT, uid(2))], "1.2.7")) == 0x0110  # the same transaction for something else
        assert listener.came.wait(10)
        association.release()
    assert len(listener.reports) == 1


class OtherArchive:
    """A pynetdicom SCP of commitment that answers on the same association or a new one."""

    def __init__(self, to: Callable[[], tuple[str, int]], *, same: bool, fails: bool = False, refuses: int = 0) -> None:
        self._to, self._same, self._fails, self._refuses = to, same, fails, refuses
        self.reported: list[int] = []
        self.entity = AE(ae_title="PACS")
        self.entity.add_supported_context(COMMITMENT_PUSH)
        handlers = [(evt.EVT_N_ACTION, self._asked)]
        self.server = self.entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.peer = Peer(ae_title="PACS", host="127.0.0.1", port=self.server.socket.getsockname()[1])

    def _asked(self, event: evt.Event) -> tuple[int, None]:
        if not self._refuses:
            arguments = (event.assoc if self._same else None, event.action_information)
            threading.Thread(target=self._report, args=arguments, daemon=True).start()
        return self._refuses, None

    def _report(self, association: Any, asked: Dataset) -> None:
        time.sleep(0.2)
        report = Dataset()
        report.TransactionUID = asked.TransactionUID
        if self._fails:
            report.FailedSOPSequence = asked.ReferencedSOPSequence
            report.FailedSOPSequence[0].FailureReason = 0x0112
        else:
            report.ReferencedSOPSequence = asked.ReferencedSOPSequence
        if association is None:
            entity = AE(ae_title="PACS")
            entity.add_requested_context(COMMITMENT_PUSH)
            role = build_role(COMMITMENT_PUSH, scp_role=True)
            association = entity.associate(*self._to(), ae_title="POLYCLINIC", ext_neg=[role])
        kind = 2 if self._fails else 1
        status, _ = association.send_n_event_report(report, kind, COMMITMENT_PUSH, COMMITMENT_PUSH_INSTANCE)
        self.reported.append(int(status.Status))
        if not self._same:
            association.release()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("same", [True, False])
def test_we_ask_another_archive(archive: SqlArchive, commitments: Commitments, same: bool, fails: bool) -> None:
    wanted = [Reference(sop_class_uid=CT, sop_instance_uid=uid(1))]
    with served(archive, commitments) as node:
        other = OtherArchive(lambda: ("127.0.0.1", node.port), same=same, fails=fails)
        try:
            answered = request_commitment(
                other.peer, wanted, commitments=commitments, transaction_uid="1.2.5", wait_s=5 if same else 0.01
            )
            assert answered is same
            until(lambda: commitments.result("PACS", "1.2.5").state is State.ANSWERED)
            until(lambda: other.reported == [0])
        finally:
            other.server.shutdown()
    result = commitments.result("PACS", "1.2.5")
    failure = Failure(sop_class_uid=CT, sop_instance_uid=uid(1), reason=0x0112)
    assert result.failures == ((failure,) if fails else ())
    assert result.committed == (() if fails else tuple(wanted))


def test_reports_that_we_did_not_ask_for_and_refusals(archive: SqlArchive, commitments: Commitments) -> None:
    with served(archive, commitments) as node:
        entity = AE(ae_title="PACS")
        entity.add_requested_context(COMMITMENT_PUSH)
        role = build_role(COMMITMENT_PUSH, scp_role=True)
        association = entity.associate("127.0.0.1", node.port, ae_title="POLYCLINIC", ext_neg=[role])
        report = action([(CT, uid(1))])
        for kind, status in ((1, 0x0112), (7, 0x0113)):
            answer, _ = association.send_n_event_report(report, kind, COMMITMENT_PUSH, COMMITMENT_PUSH_INSTANCE)
            assert answer.Status == status
        association.release()
        other = OtherArchive(lambda: ("127.0.0.1", node.port), same=True, refuses=0x0110)
        wanted = [Reference(sop_class_uid=CT, sop_instance_uid=uid(1))]
        try:
            with pytest.raises(Rejected, match=r"dimse\.commitment-refused"):
                request_commitment(other.peer, wanted, commitments=commitments, transaction_uid="1.2.6")
        finally:
            other.server.shutdown()
    with pytest.raises(Conflict, match=r"dimse\.transaction-in-use"):
        commitments.expect("PACS", "1.2.6", [Reference(sop_class_uid=CT, sop_instance_uid=uid(2))])
    with pytest.raises(NotFound, match=r"dimse\.no-transaction"):
        commitments.result("PACS", "1.2.8")


@contextmanager
def orthanc(folder: Path, node_port: int) -> Iterator[tuple[Peer, Callable[..., Any]]]:
    web, dicom = free_port(), free_port()
    folder.mkdir()
    settings = {
        "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "HttpPort": web,
        "DicomPort": dicom, "DicomAet": "ORTHANC", "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomModalities": {"polyclinic": {"AET": "POLYCLINIC", "Host": "127.0.0.1", "Port": node_port,
                                           "AllowStorageCommitment": True}},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    process = subprocess.Popen(
        ["Orthanc", str(folder / "orthanc.json")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def rest(path: str, body: object = None) -> Any:
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{web}{path}", data, 10) as answer:
            return json.loads(answer.read())

    def up() -> bool:
        try:
            return bool(rest("/system"))
        except (urllib.error.URLError, ConnectionError):
            return False

    try:
        until(up, 20)
        yield Peer(ae_title="ORTHANC", host="127.0.0.1", port=dicom), rest
    finally:
        process.terminate()
        process.wait(10)


@needs_orthanc
def test_orthanc_asks_us_and_is_asked(
    archive: SqlArchive, commitments: Commitments, tmp_path: Path, part10: Make
) -> None:
    port = free_port()
    with orthanc(tmp_path / "orthanc", port) as (other, rest):
        node = DimseNode(
            Sources(archive=archive, commitments=commitments),
            port=port,
            policy=Policy(ae_title="POLYCLINIC", known_peers={"ORTHANC": KnownPeer(ae_title="ORTHANC", address=other)}),
        )
        node.start()
        try:
            asked = rest("/modalities/polyclinic/storage-commitment", {"DicomInstances": [[CT, uid(1)], [CT, "1.2.3"]]})
            until(lambda: rest(asked["Path"])["Status"] != "Pending", 15)
            report = rest(asked["Path"])
            assert report["Status"] == "Failure"
            assert [one["SOPInstanceUID"] for one in report["Success"]] == [uid(1)]
            (failed,) = report["Failures"]
            assert (failed["SOPInstanceUID"], int(failed["FailureReason"])) == ("1.2.3", 0x0112)

            assert send([part10(1)], other)[0].status == 0
            wanted = [Reference(sop_class_uid=CT, sop_instance_uid=one) for one in (uid(1), "1.2.3")]
            request_commitment(other, wanted, commitments=commitments, transaction_uid="1.2.5", wait_s=0.1)
            until(lambda: commitments.result("ORTHANC", "1.2.5").state is State.ANSWERED, 15)
            result = commitments.result("ORTHANC", "1.2.5")
            assert [one.sop_instance_uid for one in result.committed] == [uid(1)]
            assert [(one.sop_instance_uid, one.reason) for one in result.failures] == [("1.2.3", 0x0112)]
        finally:
            node.stop()


def _attempts(archive: SqlArchive) -> int:
    with archive.engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT max(attempts) FROM dimse_commitment").scalar() or 0)


def _owed(archive: SqlArchive) -> int:
    with archive.engine.connect() as connection:
        query = "SELECT count(*) FROM dimse_commitment WHERE state = 'owed'"
        return int(connection.exec_driver_sql(query).scalar() or 0)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)

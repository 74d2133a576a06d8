"""C-GET and C-MOVE against dcmtk's getscu, movescu and storescp, and against a peer that does what they would not."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from structlog.testing import capture_logs

from polyclinic.app.dicom_node import dicom_policy
from polyclinic.app.settings import Settings
from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse.association import Policy
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.dimse.sender import Peer
from polyclinic.edges.dimse.syntaxes import STUDY_ROOT_GET, STUDY_ROOT_MOVE

Make = Callable[..., bytes]
needs_dcmtk = pytest.mark.skipif(shutil.which("getscu") is None, reason="dcmtk is not installed")
TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
LITTLE, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
STUDY = stable_uid("study", "1")
SERIES = stable_uid("series", "1", "1")


def uid(number: int, series: str = "1", study: str = "1") -> str:
    return stable_uid("instance", study, series, number)


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., SqlArchive], part10: Make) -> SqlArchive:
    archive = open_archive(tmp_path / "archive")
    for number in (1, 2, 3):
        archive.store(part10(number), source="TEST")
    archive.store(part10(1, series="2", Rows=1000, Columns=700, PixelData=bytes(1_400_000)), source="TEST")
    archive.store(part10(1, study="2", PatientID="P-2"), source="TEST")
    return archive


@contextmanager
def served(archive: SqlArchive, **policy: object) -> Iterator[DimseNode]:
    node = DimseNode(archive, port=0, policy=Policy(ae_title="POLYCLINIC", **policy))
    node.start()
    try:
        yield node
    finally:
        node.stop()


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, timeout=60, env=ENVIRONMENT, check=False)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def keys(*pairs: str) -> list[str]:
    return [part for pair in pairs for part in ("-k", pair)]


def received(folder: Path) -> dict[str, Dataset]:
    return {dataset.SOPInstanceUID: dataset for dataset in map(dcmread, sorted(folder.iterdir()))}


def same(kept: bytes, came: Dataset) -> bool:
    return bool(dcmread(BytesIO(kept)) == came)


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[Peer]:
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen(["storescp", *options, "-aet", "ROOM", "-od", str(folder), str(port)], env=ENVIRONMENT)
    try:
        end = time.monotonic() + 10
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < end, "storescp does not listen"
            time.sleep(0.02)
        yield Peer(ae_title="ROOM", host="127.0.0.1", port=port)
    finally:
        server.terminate()
        server.wait(10)


LEVELS = [
    (("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={STUDY}"), [uid(1), uid(2), uid(3), uid(1, "2")]),
    (
        ("QueryRetrieveLevel=SERIES", f"StudyInstanceUID={STUDY}", f"SeriesInstanceUID={SERIES}"),
        [uid(1), uid(2), uid(3)],
    ),
    (
        (
            "QueryRetrieveLevel=IMAGE",
            f"StudyInstanceUID={STUDY}",
            f"SeriesInstanceUID={SERIES}",
            f"SOPInstanceUID={uid(1)}\\{uid(3)}",
        ),
        [uid(1), uid(3)],
    ),
]


@needs_dcmtk
@pytest.mark.parametrize(("pairs", "expected"), LEVELS)
def test_getscu_gets_what_is_kept(
    archive: SqlArchive, tmp_path: Path, pairs: tuple[str, ...], expected: list[str]
) -> None:
    folder = tmp_path / "got"
    folder.mkdir()
    with served(archive) as node:
        said = run("getscu", "-v", "-S", "-od", str(folder), *keys(*pairs), "127.0.0.1", str(node.port))
    got = received(folder)
    assert sorted(got) == sorted(expected), said
    assert all(same(archive.read(one), dataset) for one, dataset in got.items())
    assert "Success" in said


@needs_dcmtk
def test_getscu_of_a_patient(archive: SqlArchive, tmp_path: Path) -> None:
    folder = tmp_path / "got"
    folder.mkdir()
    pairs = keys("QueryRetrieveLevel=PATIENT", "PatientID=P-2")
    with served(archive) as node:
        run("getscu", "-P", "-od", str(folder), *pairs, "127.0.0.1", str(node.port))
    assert list(received(folder)) == [uid(1, study="2")]


@needs_dcmtk
@pytest.mark.parametrize(("pairs", "expected"), LEVELS)
def test_movescu_moves_to_a_configured_peer(
    archive: SqlArchive, tmp_path: Path, pairs: tuple[str, ...], expected: list[str]
) -> None:
    folder = tmp_path / "moved"
    with (
        storescp(folder, "--bit-preserving") as room,
        served(archive, move_destinations={"ROOM": room}) as node,
    ):
        said = run("movescu", "-v", "-S", "-aem", "ROOM", *keys(*pairs), "127.0.0.1", str(node.port))
    moved = received(folder)
    assert sorted(moved) == sorted(expected), said
    assert all(same(archive.read(one), dataset) for one, dataset in moved.items())
    assert "Success" in said


@needs_dcmtk
def test_a_destination_that_is_not_configured_is_refused(archive: SqlArchive) -> None:
    with served(archive) as node:
        said = run("movescu", "-v", "-d", "-S", "-aem", "ROOM", *keys(*LEVELS[0][0]), "127.0.0.1", str(node.port))
    assert "a801" in said.lower()


class Got:
    """What a pynetdicom peer got: datasets, and the responses to its request."""

    def __init__(self) -> None:
        self.datasets: list[Dataset] = []
        self.responses: list[tuple[Dataset, Dataset | None]] = []

    @property
    def last(self) -> Dataset:
        return self.responses[-1][0]

    @property
    def counts(self) -> tuple[int, int, int]:
        last = self.last
        return (
            last.NumberOfCompletedSuboperations,
            last.NumberOfFailedSuboperations,
            last.NumberOfWarningSuboperations,
        )


def get(
    node: DimseNode,
    classes: dict[str, str],
    answer: Callable[[int], int] = lambda _: 0,
    *,
    cancel_after: int | None = None,
    **identifier: str,
) -> Got:
    """C-GET with storage of these SOP classes, each in one transfer syntax; `answer` says the status of the nth."""
    got = Got()

    def handle(event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        got.datasets.append(dataset)
        if len(got.datasets) == cancel_after:
            event.assoc.send_c_cancel(1, query_model=STUDY_ROOT_GET)
        return answer(len(got.datasets))

    scu = AE(ae_title="SCU")
    scu.add_requested_context(STUDY_ROOT_GET, LITTLE)
    for sop_class, syntax in classes.items():
        scu.add_requested_context(sop_class, syntax)
    association = scu.associate(
        "127.0.0.1",
        node.port,
        ae_title="POLYCLINIC",
        ext_neg=[build_role(one, scp_role=True) for one in classes],
        evt_handlers=[(evt.EVT_C_STORE, handle)],
    )
    assert association.is_established
    query = Dataset()
    for keyword, value in identifier.items():
        setattr(query, keyword, value)
    got.responses = list(association.send_c_get(query, STUDY_ROOT_GET, msg_id=1))
    association.release()
    return got


WHOLE_STUDY = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": STUDY}


@pytest.mark.parametrize("syntax", [LITTLE, IMPLICIT])
def test_an_uncompressed_instance_is_written_as_the_requestor_takes_it(archive: SqlArchive, syntax: str) -> None:
    with served(archive) as node:
        got = get(node, {CT: syntax}, **WHOLE_STUDY)
    assert (got.last.Status, got.counts) == (0, (4, 0, 0))
    assert {one.file_meta.TransferSyntaxUID for one in got.datasets} == {syntax}
    assert all(same(archive.read(one.SOPInstanceUID), one) for one in got.datasets)
    remaining = [status.NumberOfRemainingSuboperations for status, _ in got.responses[:-1]]
    assert remaining == [3, 2, 1]
    assert "NumberOfRemainingSuboperations" not in got.last


def test_what_the_requestor_cannot_take_is_counted_and_named(archive: SqlArchive, part10: Make) -> None:
    lossless = dcmread(TEST_FILES / "MR_small_RLE.dcm")
    lossless.StudyInstanceUID = STUDY
    out = BytesIO()
    lossless.save_as(out)
    archive.store(out.getvalue(), source="TEST")
    with served(archive) as node:
        some = get(node, {CT: LITTLE, MR: LITTLE}, **WHOLE_STUDY)
        none = get(node, {MR: LITTLE}, **WHOLE_STUDY)
        exactly = get(node, {CT: LITTLE, MR: lossless.file_meta.TransferSyntaxUID}, **WHOLE_STUDY)
    assert (some.last.Status, some.counts) == (0, (5, 0, 0))
    (decoded,) = [one for one in some.datasets if one.SOPInstanceUID == lossless.SOPInstanceUID]
    assert decoded.file_meta.TransferSyntaxUID == LITTLE
    assert (decoded.pixel_array == lossless.pixel_array).all()
    assert (none.last.Status, none.counts) == (0xB000, (1, 4, 0))
    assert len(none.responses[-1][1].FailedSOPInstanceUIDList) == 4
    assert (exactly.last.Status, exactly.counts) == (0, (5, 0, 0))


def test_failures_and_warnings_of_the_requestor_are_counted(archive: SqlArchive) -> None:
    with served(archive) as node:
        got = get(node, {CT: LITTLE}, lambda number: {1: 0xB000, 2: 0xA700}.get(number, 0), **WHOLE_STUDY)
    assert (got.last.Status, got.counts) == (0xB000, (2, 1, 1))
    assert got.responses[-1][1].FailedSOPInstanceUIDList == got.datasets[1].SOPInstanceUID


def test_a_cancel_ends_the_sub_operations(archive: SqlArchive) -> None:
    with served(archive) as node:
        got = get(node, {CT: LITTLE}, cancel_after=2, **WHOLE_STUDY)
    assert got.last.Status == 0xFE00
    assert (got.counts, got.last.NumberOfRemainingSuboperations) == ((2, 0, 0), 2)
    assert len(got.datasets) == 2


@pytest.mark.parametrize(
    ("identifier", "status"),
    [
        ({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.3"}, 0),
        ({"QueryRetrieveLevel": "STUDY"}, 0xA900),
        ({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""}, 0xA900),
        ({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "*"}, 0xA900),
        ({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "\\"}, 0xA900),
        ({"QueryRetrieveLevel": "PATIENT", "PatientID": "P-1"}, 0xA900),
        ({"QueryRetrieveLevel": "IMAGE", "SOPInstanceUID": uid(1)}, 0xA900),
        ({"StudyInstanceUID": STUDY}, 0xA900),
    ],
)
def test_what_names_nothing_or_everything_sends_nothing(
    archive: SqlArchive, identifier: dict[str, str], status: int
) -> None:
    with served(archive) as node:
        got = get(node, {CT: LITTLE}, **identifier)
    assert (got.last.Status, got.datasets) == (status, [])


def test_too_much_at_once_is_refused(archive: SqlArchive) -> None:
    with served(archive, max_matches=3) as node:
        assert get(node, {CT: LITTLE}, **WHOLE_STUDY).last.Status == 0xA701


def move(node: DimseNode, **identifier: str) -> Got:
    scu = AE(ae_title="SCU")
    scu.add_requested_context(STUDY_ROOT_MOVE, LITTLE)
    association = scu.associate("127.0.0.1", node.port, ae_title="POLYCLINIC")
    query = Dataset()
    for keyword, value in identifier.items():
        setattr(query, keyword, value)
    got = Got()
    got.responses = list(association.send_c_move(query, "ROOM", STUDY_ROOT_MOVE, msg_id=77))
    association.release()
    return got


def test_a_destination_that_does_not_answer(archive: SqlArchive) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    nobody = Peer(ae_title="ROOM", host="127.0.0.1", port=port)
    with served(archive, move_destinations={"ROOM": nobody}) as node:
        got = move(node, **WHOLE_STUDY)
    assert (got.last.Status, got.counts) == (0xA702, (0, 4, 0))
    assert len(got.responses[-1][1].FailedSOPInstanceUIDList) == 4


def test_the_destination_is_told_who_asked(archive: SqlArchive) -> None:
    origins = []

    def handle(event: evt.Event) -> int:
        request = event.request
        origins.append((request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID))
        return 0

    room = AE(ae_title="ROOM")
    room.add_supported_context(CT, IMPLICIT)
    server = room.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, handle)])
    try:
        to = Peer(ae_title="ROOM", host="127.0.0.1", port=server.socket.getsockname()[1])
        with served(archive, move_destinations={"ROOM": to}) as node, capture_logs() as logs:
            got = move(node, **WHOLE_STUDY)
    finally:
        server.shutdown()
    assert (got.last.Status, got.counts) == (0, (4, 0, 0))
    assert origins == [("SCU", 77)] * 4
    (entry,) = [entry for entry in logs if entry["event"] == "dimse.retrieved"]
    assert (entry["peer"], entry["destination"], entry["instances"], entry["failed"]) == ("SCU", "ROOM", 4, 0)
    assert not any(secret in str(logs) for secret in ("Wang", "P-1", STUDY, uid(1)))


def test_settings_say_who_may_connect_and_where_instances_may_go() -> None:
    settings = Settings(
        dicom_ae_title="HOUSE",
        dicom_peers="CT1, PACS",
        destinations="PACS@10.0.0.2:104",
        move_destinations="ROOM@10.0.0.3:11112",
    )
    policy = dicom_policy(settings)
    assert (policy.ae_title, set(policy.known_peers or ())) == ("HOUSE", {"CT1", "PACS"})
    assert policy.move_destinations == {
        "PACS": Peer(ae_title="PACS", host="10.0.0.2", port=104),
        "ROOM": Peer(ae_title="ROOM", host="10.0.0.3", port=11112),
    }
    assert dicom_policy(Settings()).known_peers is None

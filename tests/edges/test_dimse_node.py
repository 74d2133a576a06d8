"""The DICOM node against dcmtk's tools, which are known to be right."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pydicom.data
import pytest
from pydicom import dcmread
from structlog.testing import capture_logs

from polyclinic.core.errors import Unavailable
from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse.association import Policy
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.dimse.peers import anybody
from polyclinic.edges.dimse.sender import CONTEXT_REFUSED, Peer, Sender, send
from polyclinic.edges.dimse.syntaxes import TRANSFER_SYNTAXES

Make = Callable[..., bytes]
needs_dcmtk = pytest.mark.skipif(shutil.which("storescu") is None, reason="dcmtk is not installed")
TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., SqlArchive]) -> SqlArchive:
    return open_archive(tmp_path / "archive")


@pytest.fixture
def node(archive: SqlArchive) -> Iterator[DimseNode]:
    node = DimseNode(archive, port=0)
    node.start()
    yield node
    node.stop()


def peer(node: DimseNode) -> Peer:
    return Peer(ae_title="POLYCLINIC", host="127.0.0.1", port=node.port)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False
    )


def store(node: DimseNode, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run("storescu", "-v", *arguments[:-1], "127.0.0.1", str(node.port), arguments[-1])


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def listens(to: Peer) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((to.host, to.port)) == 0


def dataset_bytes(part10: bytes) -> bytes:
    meta_length = int.from_bytes(part10[140:144], "little")
    return part10[144 + meta_length :]


@needs_dcmtk
def test_echo(node: DimseNode) -> None:
    assert run("echoscu", "127.0.0.1", str(node.port)).returncode == 0


SOURCES = {  # how dcmtk makes each transfer syntax, and how storescu proposes it
    "1.2.840.10008.1.2": (["dcmconv", "+ti"], "-xi"),
    "1.2.840.10008.1.2.1": (["dcmconv", "+te"], "-xe"),
    "1.2.840.10008.1.2.2": (["dcmconv", "+tb"], "-xb"),
    "1.2.840.10008.1.2.1.99": (["dcmconv", "+td"], "-xd"),
    "1.2.840.10008.1.2.5": (["dcmcrle"], "-xr"),
    "1.2.840.10008.1.2.4.50": (["dcmcjpeg", "+eb"], "-xy"),
    "1.2.840.10008.1.2.4.51": (["dcmcjpeg", "+ee"], "-xx"),
    "1.2.840.10008.1.2.4.57": (["dcmcjpeg", "+el"], ""),
    "1.2.840.10008.1.2.4.70": (["dcmcjpeg", "+e1"], "-xs"),
    "1.2.840.10008.1.2.4.80": (["dcmcjpls", "+el"], "-xt"),
    "1.2.840.10008.1.2.4.81": (["dcmcjpls", "+en"], "-xu"),
}


@needs_dcmtk
@pytest.mark.parametrize("syntax", SOURCES)
def test_every_syntax_that_dcmtk_makes_is_kept_as_it_came(
    syntax: str, node: DimseNode, archive: SqlArchive, tmp_path: Path
) -> None:
    encoder, proposal = SOURCES[syntax]
    made = tmp_path / "made.dcm"
    lossy = syntax in ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.81")  # these want unsigned bytes
    source = TEST_FILES / ("SC_rgb_small_odd.dcm" if lossy else "CT_small.dcm")
    converted = run(*encoder, source, made)
    assert converted.returncode == 0, converted.stderr
    assert dcmread(made).file_meta.TransferSyntaxUID == syntax
    if proposal:
        sent = store(node, proposal, made)
        assert "(Success)" in sent.stderr + sent.stdout, sent.stderr
    else:  # storescu proposes this one only in configuration files
        assert send([made.read_bytes()], peer(node))[0].status == 0
    (study,) = archive.studies()
    (record,) = archive.instances(study.study_instance_uid)
    assert record.transfer_syntax_uid == syntax
    kept, original = dcmread(BytesIO(archive.read(record.sop_instance_uid))), dcmread(made)
    assert kept.PixelData == original.PixelData
    padding = 0xFFFCFFFC  # storescu leaves it out
    assert [e for e in kept if e.tag != padding] == [e for e in original if e.tag != padding]


@pytest.mark.parametrize("syntax", sorted(TRANSFER_SYNTAXES))
def test_every_syntax_is_negotiated_and_kept(syntax: str, node: DimseNode, archive: SqlArchive, part10: Make) -> None:
    data = part10().replace(b"1.2.840.10008.1.2.1\0", syntax.encode().ljust(20, b"\0"), 1)
    if len(syntax) > 20 or syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"):
        with Sender(peer(node)) as sender:  # their bytes are laid out otherwise; it is the negotiation that counts
            assert sender._context("1.2.840.10008.5.1.4.1.1.2", syntax) is not None
        return
    (status,) = send([data], peer(node))
    assert status.status == 0
    assert dataset_bytes(archive.read(status.sop_instance_uid)) == dataset_bytes(data)


@needs_dcmtk
def test_several_senders_at_once(node: DimseNode, archive: SqlArchive, part10: Make, tmp_path: Path) -> None:
    folders = []
    for sender in range(4):
        folder = tmp_path / str(sender)
        folder.mkdir()
        folders.append(folder)
        for number in range(12):
            (folder / f"{number}.dcm").write_bytes(part10(number, study="1", series=str(sender)))
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda folder: store(node, "+sd", folder), folders))
    assert [result.returncode for result in results] == [0] * 4
    study = archive.study(stable_uid("study", "1"))
    assert (study.instance_count, study.series_count) == (48, 4)
    assert [series.instance_count for series in archive.series(study.study_instance_uid)] == [12] * 4


def test_sent_again_and_other_bytes(node: DimseNode, archive: SqlArchive, part10: Make) -> None:
    files = [part10(), part10(), part10(PatientName="Other^Name")]
    statuses = send(files, peer(node))
    assert [status.status for status in statuses] == [0, 0, 0xB000]
    assert all(status.kept for status in statuses)
    assert archive.study(stable_uid("study", "1")).kept_aside_count == 1


def test_kept_file_names_its_sender(node: DimseNode, archive: SqlArchive, part10: Make) -> None:
    send([part10()], peer(node), ae_title="CT_ROOM_1")
    (record,) = archive.instances(stable_uid("study", "1"))
    assert record.source == "CT_ROOM_1"
    meta = dcmread(BytesIO(archive.read(record.sop_instance_uid))).file_meta
    assert meta.SourceApplicationEntityTitle == "CT_ROOM_1"
    assert meta.MediaStorageSOPInstanceUID == record.sop_instance_uid


def test_what_cannot_be_kept_gets_its_status_and_the_rest_is_kept(
    node: DimseNode, archive: SqlArchive, part10: Make
) -> None:
    good, cut = part10(1), part10(2)[:-4]
    nameless = part10(3).replace(b"\x20\x00\x0e\x00UI", b"\x20\x00\x0f\x00UI")
    other = part10(4)
    uid = stable_uid("instance", "1", "1", 4).encode()
    head = other.index(uid)
    renamed = other[:head] + uid[:-1] + (b"1" if uid[-1:] != b"1" else b"2") + other[head + len(uid) :]
    statuses = send([good, cut, nameless, renamed, part10(5)], peer(node))
    assert [status.status for status in statuses] == [0, 0xC001, 0xA900, 0xA900, 0]
    assert archive.study(stable_uid("study", "1")).instance_count == 2


def test_large_dataset_goes_by_a_file_and_memory_stays_small(archive: SqlArchive, part10: Make) -> None:
    node = DimseNode(archive, port=0, policy=Policy(ae_title="POLYCLINIC", spool_memory_bytes=256 * 1024))
    node.start()
    try:
        data = part10(Rows=2000, Columns=1000, PixelData=bytes(range(250)) * 16000)
        statuses = send([data, part10(2)], peer(node))
        assert [status.status for status in statuses] == [0, 0]
        assert dataset_bytes(archive.read(statuses[0].sop_instance_uid)) == dataset_bytes(data)
    finally:
        node.stop()


@pytest.mark.parametrize(
    ("policy", "calling", "called"),
    [
        (Policy(ae_title="POLYCLINIC", known_peers=anybody(["CT1"])), "CT2", "POLYCLINIC"),
        (Policy(ae_title="POLYCLINIC", check_called_ae_title=True), "CT1", "SOMEBODY"),
        (Policy(ae_title="POLYCLINIC", max_associations=0), "CT1", "POLYCLINIC"),
    ],
)
def test_strangers_are_rejected(archive: SqlArchive, policy: Policy, calling: str, called: str) -> None:
    node = DimseNode(archive, port=0, policy=policy)
    node.start()
    try:
        with (
            pytest.raises(Unavailable, match=r"dimse\.peer-rejected"),
            Sender(Peer(ae_title=called, host="127.0.0.1", port=node.port), ae_title=calling) as sender,
        ):
            sender.echo()
    finally:
        node.stop()


def test_unknown_sop_class_is_refused_in_negotiation(node: DimseNode, part10: Make) -> None:
    private = part10().replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.3.12.2.1107.5.9.1.11111\0")
    assert send([private, part10(2)], peer(node))[0].status == CONTEXT_REFUSED


def test_association_keeps_a_study_open(node: DimseNode, archive: SqlArchive, part10: Make) -> None:
    with Sender(peer(node)) as sender:
        sender.store(part10())
        assert archive.unsettled()[0].open_associations == 1
    until(lambda: archive.unsettled()[0].open_associations == 0)


@contextmanager
def storescp(received: Path, *options: str) -> Iterator[Peer]:
    received.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen(["storescp", *options, "-od", str(received), str(port)], env=ENVIRONMENT)
    try:
        to = Peer(ae_title="STORESCP", host="127.0.0.1", port=port)
        until(lambda: listens(to))
        yield to
    finally:
        server.terminate()
        server.wait(10)


@needs_dcmtk
def test_a_peer_of_the_default_syntax_only_gets_that(part10: Make, tmp_path: Path) -> None:
    lossless = (TEST_FILES / "MR_small_RLE.dcm").read_bytes()
    with storescp(tmp_path / "received", "+xi") as to:
        statuses = send([part10(1), lossless, part10(2)], to)
    assert [status.status for status in statuses] == [0, 0, 0]
    kept = {dataset.SOPInstanceUID: dataset for dataset in map(dcmread, (tmp_path / "received").iterdir())}
    assert [dataset.file_meta.TransferSyntaxUID for dataset in kept.values()] == ["1.2.840.10008.1.2"] * 3
    ours, decoded = dcmread(BytesIO(part10(1))), dcmread(BytesIO(lossless))
    assert kept[ours.SOPInstanceUID] == ours
    assert (kept[decoded.SOPInstanceUID].pixel_array == decoded.pixel_array).all()


@needs_dcmtk
def test_sending_to_dcmtk(part10: Make, tmp_path: Path) -> None:
    received = tmp_path / "received"
    with storescp(received, "+xa", "--bit-preserving") as to:
        lossless = (TEST_FILES / "MR_small_RLE.dcm").read_bytes()
        files = [part10(1), lossless, part10(2), part10(3, Rows=1000, Columns=1000, PixelData=bytes(2_000_000))]
        assert [status.status for status in send(files, to)] == [0] * 4
        kept = [path.read_bytes() for path in received.iterdir()]
        assert {dataset_bytes(data) for data in kept} == {dataset_bytes(data) for data in files}


def test_nobody_listens(part10: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(Unavailable, match=r"dimse\.peer-unreachable"):
        send([part10()], Peer(ae_title="X", host="127.0.0.1", port=port))


def test_logs_hold_no_patient_data(node: DimseNode, part10: Make) -> None:
    with capture_logs() as logs:
        send([part10(), part10(2)[:-4], part10(PatientName="Secret^Name", PatientID="SECRET-1")], peer(node))
        until(lambda: any(entry["event"] == "dimse.association-ended" for entry in logs))
    events = {entry["event"] for entry in logs}
    assert {"dimse.store-refused", "archive.kept-aside"} <= events
    text = str(logs)
    for secret in ("Wang", "小东", "P-1", "Secret", "SECRET", "19600102", stable_uid("study", "1"), "ACC-1"):
        assert secret not in text


def test_an_unexpected_error_is_logged_without_its_text(
    node: DimseNode, part10: Make, archive: SqlArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "cannot read 'Secret^Name'"

    def breaks(*_args: object, **_options: object) -> None:
        raise ValueError(text)

    monkeypatch.setattr(archive, "store_dataset", breaks)
    with capture_logs() as logs:
        (answer,) = send([part10()], peer(node))
        until(lambda: any(entry["event"] == "dimse.association-ended" for entry in logs))
    assert answer.status == 0x0110
    (failed,) = [entry for entry in logs if entry["event"] == "dimse.store-failed"]
    assert failed["error"] == "ValueError"
    assert "breaks" in failed["frames"]
    assert "Secret" not in str(logs)
    assert not any(entry.get("exc_info") for entry in logs), "a rendered exception shows its text"

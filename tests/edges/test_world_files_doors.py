"""The world's files through every door: an instance is kept and served, or refused with a status and a reason."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydicom import dcmread
from pydicom.data import get_testdata_file

from polyclinic.core.errors import PolyclinicError, Rejected
from polyclinic.departments.archive.intake import examine_file
from polyclinic.departments.archive.schema import metadata
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.dicom.volume import read_volume
from polyclinic.edges.dicomweb.router import dicomweb_router
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.dimse.sender import Peer, Sender
from polyclinic.edges.sql.engine import open_engine

NOW = datetime(2026, 1, 2, tzinfo=UTC)
STOW = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=B'}
REFUSED = {
    "archive.not-dicom",
    "archive.truncated",
    "archive.malformed",
    "archive.too-large",
    "archive.missing-uid",
    "archive.bad-uid",
}
SEEDS = (
    "CT_small.dcm",
    "MR_small_RLE.dcm",
    "JPEG2000.dcm",
    "image_dfl.dcm",
    "MR_small_bigendian.dcm",
    "liver_1frame.dcm",
)
STATUSES = {0x0000, 0xB000, 0xA900, 0xC000, 0xC001, 0xC002, 0xC003}
KINDS = ("cut", "header", "pixels")


class Doors:
    """One archive, and all the ways to it."""

    def __init__(self, archive: SqlArchive, node: DimseNode) -> None:
        app = FastAPI()
        app.include_router(dicomweb_router(archive, lambda *_: None), prefix="/dicom-web")
        self.archive = archive
        self.web = TestClient(app, base_url="http://archive")  # raises what nobody has caught
        self.peer = Peer(ae_title="POLYCLINIC", host="127.0.0.1", port=node.port)

    def try_all(self, data: bytes) -> str:
        """Store, read back in every way, delete; the code of the refusal, or nothing when it was kept."""
        body = b"--B\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n--B--"
        try:
            facts = examine_file(data)[1]
            self.archive.store(data, source="DOOR")
        except PolyclinicError as error:
            assert error.code in REFUSED  # noqa: PT017 - one of two right outcomes
            answer = self.web.post("/dicom-web/studies", content=body, headers=STOW)
            assert answer.status_code in {400, 409}, answer.status_code
            return error.code
        assert self.web.post("/dicom-web/studies", content=body, headers=STOW).status_code in {200, 202}
        self._send(data)
        self._read(facts.study_instance_uid, facts.series_instance_uid, facts.sop_instance_uid)
        self._as_volume(facts.study_instance_uid, facts.sop_instance_uid)
        self.archive.delete(facts.study_instance_uid, reason="tried", by="test")
        return ""

    def _send(self, data: bytes) -> None:
        """By C-STORE; what our sender cannot write as a command it refuses itself."""
        with suppress(Rejected), Sender(self.peer, reply_s=20) as sender:
            status = sender.store(data).status
            assert status is None or status in STATUSES, hex(status)

    def _read(self, study: str, series: str, sop: str) -> None:
        base = f"/dicom-web/studies/{study}/series/{series}/instances/{sop}"
        decoded = 'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1'
        for path, accept in (
            ("", "*/*"),
            ("/metadata", "*/*"),
            ("/frames/1", "*/*"),
            ("/frames/1", decoded),
            ("/rendered", "image/jpeg"),
            ("/thumbnail", "image/png"),
        ):
            answer = self.web.get(base + path, headers={"Accept": accept})
            assert answer.status_code in {200, 206, 400, 404, 406, 409, 422}, (path, answer.status_code)
            if answer.status_code >= 400:
                assert answer.json()["code"]
                assert answer.json()["message"]

    def _as_volume(self, study: str, sop: str) -> None:
        try:
            self.archive.snapshot(study, evidence="tried", at=NOW)
            dataset = dcmread(BytesIO(self.archive.read(sop)))
        except Exception:  # noqa: BLE001 - pydicom's own reader may refuse what our index does not look at
            return
        with suppress(Rejected):
            read_volume([dataset])


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    folder = tmp_path_factory.mktemp("doors")
    engine = open_engine(f"sqlite:///{folder / 'index.db'}")
    metadata.create_all(engine)
    archive = SqlArchive(engine, folder / "segments")
    node = DimseNode(archive, port=0)
    node.start()
    yield Doors(archive, node)
    node.stop()
    archive.close()
    engine.dispose()


def seed(name: str) -> bytes:
    return Path(str(get_testdata_file(name))).read_bytes()


def mutations(data: bytes, kind: str, chance: random.Random) -> Iterator[bytes]:
    """Cut at every kilobyte (at most 12 places), or with bytes changed in the header or in the pixels."""
    if kind == "cut":
        step = max(1024, len(data) // 12 // 1024 * 1024)
        yield from (data[:at] for at in range(step, len(data), step))
        return
    low, high = (132, min(len(data), 6000)) if kind == "header" else (len(data) // 3, len(data))
    for count in (1, 1, 1, 2, 4, 8):
        changed = bytearray(data)
        for _ in range(count):
            changed[chance.randrange(low, high)] = chance.choice([0, 255, 0x80, 0x41, chance.randrange(256)])
        yield bytes(changed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SEEDS)
def test_mutations_are_kept_or_refused(doors: Doors, name: str, kind: str) -> None:
    for data in mutations(seed(name), kind, random.Random(f"{name} {kind}")):
        doors.try_all(data)


@pytest.mark.parametrize(
    "name",
    [
        "rtplan.dcm",
        "nested_priv_SQ.dcm",
        "UN_sequence.dcm",
        "priv_SQ.dcm",
        "empty_charset_LEI.dcm",
        "SC_rgb_small_odd_big_endian.dcm",
        "liver_expb_1frame.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "emri_small_jpeg_2k_lossless_too_short.dcm",
        "ExplVR_BigEndNoMeta.dcm",
        "no_meta.dcm",
        "meta_missing_tsyntax.dcm",
        "rtplan_truncated.dcm",
        "badVR.dcm",
        "bad_sequence.dcm",
        "test-SR.dcm",
        "waveform_ecg.dcm",
        "JPGExtended.dcm",
        "zipMR.gz",
    ],
)
def test_odd_files_of_pydicom(doors: Doors, name: str) -> None:
    doors.try_all(seed(name))


def _explicit(tag: int, vr: bytes, value: bytes) -> bytes:
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def replaced(data: bytes, tag: int, vr: bytes, value: bytes) -> bytes:
    """An element of an explicit little endian file (with a short length) exchanged for another."""
    start = data.index(struct.pack("<HH", tag >> 16, tag & 0xFFFF), 132)
    old_vr = data[start + 4 : start + 6]
    long = old_vr in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    size = 12 + int.from_bytes(data[start + 8 : start + 12], "little") if long else 8 + data[start + 6]
    return data[:start] + _explicit(tag, vr, value) + data[start + size :]


def nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + inner + b"\xfe\xff\x0d\xe0\0\0\0\0"
        inner = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + item + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return inner


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (lambda d: replaced(d, 0x00280010, b"US", b"\0\0"), {""}),
        (lambda d: replaced(d, 0x00280010, b"US", b"\xff\xff"), {""}),
        (lambda d: replaced(d, 0x00280010, b"FD", b"\0" * 8), {""}),
        (lambda d: replaced(d, 0x00280030, b"DS", b"1\\\xff "), {""}),
        (lambda d: replaced(d, 0x00200032, b"DS", b"nan\\inf\\1e999"), {""}),
        (lambda d: replaced(d, 0x00281053, b"DS", b"abcd"), {""}),
        (lambda d: replaced(d, 0x00281052, b"DS", b"1\\2\\"), {""}),
        (lambda d: replaced(d, 0x00280002, b"US", b"\xff\xff"), {""}),
        (lambda d: replaced(d, 0x00280100, b"US", b"\xff\xff"), {""}),
        (lambda d: replaced(d, 0x00280103, b"US", b"\7\0"), {""}),
        (lambda d: replaced(d, 0x00280004, b"CS", b"NONSENSE"), {""}),
        (lambda d: replaced(d, 0x00200013, b"IS", b"1A"), {""}),
        (lambda d: replaced(d, 0x00280010, b"US", b"\x80\0") + b"", {""}),
        (lambda d: d + nested(60), {"", "archive.malformed"}),
        (lambda d: d + nested(5000), {"archive.malformed"}),
        (lambda d: d + b"\x09\0\x10\0??\xff\xff" + b"x" * 65535, {"", "archive.truncated", "archive.malformed"}),
        (lambda d: d + b"\x40\0\x30\xa7SQ\0\0\xff\xff\xff\xff", {"archive.truncated"}),
        (lambda d: d + _explicit(0x00990010, b"UN", bytes(range(256)) * 400), {""}),
    ],
)
def test_contradictions_in_a_header(doors: Doors, change: Callable[[bytes], bytes], codes: set[str]) -> None:
    assert doors.try_all(change(seed("CT_small.dcm"))) in codes


@pytest.mark.parametrize("value", [b"1A", b"-1", b"2147483647", b"99999999999 ", b"0 ", b"1\\2 ", b"1e3 ", b"\xff\xff"])
def test_number_of_frames_that_is_none(doors: Doors, value: bytes) -> None:
    data = seed("CT_small.dcm")
    at = data.index(b"\x28\0\x10\0US")  # Rows follows Number of Frames
    assert doors.try_all(data[:at] + _explicit(0x00280008, b"IS", value) + data[at:]) == ""


def test_frames_whose_fragments_are_nonsense(doors: Doors) -> None:
    data = seed("MR_small_RLE.dcm")
    at = data.index(b"\xe0\x7f\x10\0OB")
    for tail in (
        b"",
        b"\xfe\xff\x00\xe0\0\0\0\0",
        b"\xfe\xff\x00\xe0\x04\0\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\2\0\0\0\0\0",
        b"\xfe\xff\x00\xe0\0\0\0\0" * 5000,
        b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
        b"\xfe\xff\x00\xe0\xf0\xff\xff\x7f",
    ):
        doors.try_all(data[: at + 8] + b"\xff\xff\xff\xff" + tail + b"\xfe\xff\xdd\xe0\0\0\0\0")

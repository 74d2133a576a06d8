"""What the conformance suite of PS3.18 does not reach: ranges, versions, corrections, hostile and odd requests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pydicom.data
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydicom import dcmread

from polyclinic.core.ids import stable_uid
from polyclinic.core.people import Patient
from polyclinic.departments.archive.contracts import IdentityCorrection
from polyclinic.departments.archive.corrections import follow
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dicomweb import search
from polyclinic.edges.dicomweb.router import dicomweb_router

Make = Callable[..., bytes]
TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
STUDY, SERIES = stable_uid("study", "1"), stable_uid("series", "1", "1")
ROOT = "/dicom-web"
ONE = f"{ROOT}/studies/{STUDY}/series/{SERIES}/instances/{stable_uid('instance', '1', '1', 1)}"
LITTLE = "1.2.840.10008.1.2.1"


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., SqlArchive]) -> SqlArchive:
    return open_archive(tmp_path)


@pytest.fixture
def web(archive: SqlArchive) -> TestClient:
    app = FastAPI()
    app.include_router(dicomweb_router(archive, lambda *_: None), prefix=ROOT)
    return TestClient(app, base_url="http://archive")


def get(web: TestClient, path: str, accept: str, **headers: str) -> httpx.Response:
    return web.get(path, headers={"Accept": accept, **{k.replace("_", "-"): v for k, v in headers.items()}})


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("bytes=0-99", 0, 99), ("bytes=100-", 100, None), ("bytes=-50", -50, None), ("bytes=10-999999", 10, None)],
)
def test_a_range_of_an_instance(
    web: TestClient, archive: SqlArchive, part10: Make, asked: str, first: int, last: int | None
) -> None:
    whole = part10()
    archive.store(whole, source="T")
    answer = get(web, ONE, "application/dicom", Range=asked)
    start = first % len(whole)
    stop = len(whole) if last is None else last + 1
    assert answer.status_code == 206
    assert answer.content == whole[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole)}"


def test_a_range_outside_is_refused_and_several_are_answered_by_the_whole(
    web: TestClient, archive: SqlArchive, part10: Make
) -> None:
    whole = part10()
    archive.store(whole, source="T")
    assert get(web, ONE, "application/dicom", Range="bytes=99999-").status_code == 416
    for other in ("bytes=0-1,5-6", "lines=1-2", "bytes=9-3"):
        answer = get(web, ONE, "application/dicom", Range=other)
        assert (answer.status_code, answer.content) == (200, whole)


def test_a_range_of_bulk_data(web: TestClient, archive: SqlArchive, part10: Make) -> None:
    big = bytes(range(256)) * 100
    archive.store(part10(ICCProfile=big), source="T")
    for tag, value in (("00282000", big), ("7FE00010", bytes(range(96)))):
        path = f"{ONE}/bulkdata/{tag}"
        answer = get(web, path, "application/octet-stream", Range="bytes=10-29")
        assert (answer.status_code, answer.content) == (206, value[10:30])
        assert get(web, path, "application/octet-stream").content == value


def test_what_is_known_is_not_sent_again(web: TestClient, archive: SqlArchive, part10: Make) -> None:
    archive.store(part10(), source="T")
    for path, accept in ((ONE, "application/dicom"), (f"{ONE}/metadata", "application/dicom+json")):
        tag = get(web, path, accept).headers["etag"]
        again = get(web, path, accept, If_None_Match=tag)
        assert (again.status_code, again.content) == (304, b"")
        assert get(web, path, accept, If_None_Match='"other"').status_code == 200
    series = f"{ROOT}/studies/{STUDY}/series/{SERIES}/metadata"
    before = get(web, series, "application/dicom+json").headers["etag"]
    archive.store(part10(2), source="T")
    after = get(web, series, "application/dicom+json", If_None_Match=before)
    assert (after.status_code, len(after.json())) == (200, 2)


NAMES = (
    *(
        "JPEG2000.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "SC_rgb_rle_16bit_2frame.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
    ),
    *(
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "image_dfl.dcm",
        "rtdose_rle.dcm",
        "SC_rgb_small_odd_jpeg.dcm",
    ),
)


@pytest.mark.parametrize("name", [name for name in NAMES if (TEST_FILES / name).exists()])
def test_every_syntax_as_explicit_little_endian(name: str, web: TestClient, archive: SqlArchive) -> None:
    data = (TEST_FILES / name).read_bytes()
    original = dcmread(BytesIO(data))
    archive.store(data, source="T")
    path = (
        f"{ROOT}/studies/{original.StudyInstanceUID}/series/{original.SeriesInstanceUID}"
        f"/instances/{original.SOPInstanceUID}"
    )
    answer = get(web, path, f"application/dicom; transfer-syntax={LITTLE}")
    assert answer.status_code == 200, answer.text
    back = dcmread(BytesIO(answer.content))
    assert back.file_meta.TransferSyntaxUID == LITTLE
    assert back.PatientID == original.PatientID
    assert np.array_equal(back.pixel_array, original.pixel_array)
    assert len(back.PixelData) % 2 == 0


def test_some_instances_that_cannot_be_had_are_left_out(web: TestClient, archive: SqlArchive, part10: Make) -> None:
    jpeg_ls = (TEST_FILES / "MR_small_jpeg_ls_lossless.dcm").read_bytes()
    other = dcmread(BytesIO(jpeg_ls))
    other.StudyInstanceUID = STUDY
    out = BytesIO()
    other.save_as(out)
    archive.store(part10(), source="T")
    archive.store(out.getvalue(), source="T")
    only = 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.80'
    answer = get(web, f"{ROOT}/studies/{STUDY}", only)
    assert answer.status_code == 206
    assert answer.content.count(b"Content-Type: application/dicom") == 1


def test_a_correction_reaches_every_form(web: TestClient, archive: SqlArchive, part10: Make) -> None:
    before = part10()
    archive.store(before, source="T")
    right = Patient(
        patient_id="P-RIGHT", name="Somebody^With^A^Much^Longer^Name", birth_date=None, sex="F", issuer="SITE-A"
    )
    change = IdentityCorrection(
        patient_id="P-1",
        issuer="SITE-A",
        before=None,
        patient=right,
        merged=True,
        site_issuer="SITE-A",
        source="HL7 ADT^A40",
        at=datetime(2026, 1, 3, tzinfo=UTC),
    )
    tag = get(web, ONE, "application/dicom").headers["etag"]
    assert follow(archive.engine, change) == (STUDY,)

    answer = get(web, ONE, "application/dicom", If_None_Match=tag)
    new = answer.content
    assert answer.status_code == 200
    assert (dcmread(BytesIO(new)).PatientID, int(answer.headers["content-length"])) == ("P-RIGHT", len(new))
    assert dcmread(BytesIO(new)).PatientName == right.name
    assert get(web, ONE, "application/dicom", Range="bytes=150-1449").content == new[150:1450]
    assert get(web, ONE, "application/dicom", Range="bytes=-120").content == new[-120:]
    assert new in get(web, f"{ROOT}/studies/{STUDY}", 'multipart/related; type="application/dicom"').content
    (found,) = get(web, f"{ONE}/metadata", "application/dicom+json").json()
    assert found["00100020"]["Value"] == ["P-RIGHT"]
    for level in ("instances", "series"):
        (row,) = web.get(f"{ROOT}/{level}", params={"includefield": "PatientName,PatientID"}).json()
        assert row["00100020"]["Value"] == ["P-RIGHT"]
    assert get(web, f"{ONE}/frames/1", "application/octet-stream").content == bytes(range(96))
    assert get(web, f"{ONE}/bulkdata/7FE00010", "application/octet-stream").content == bytes(range(96))
    assert get(web, f"{ONE}/rendered", "image/png").content.startswith(b"\x89PNG")


def test_a_search_that_would_open_too_much_is_refused(
    web: TestClient, archive: SqlArchive, part10: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 6):
        archive.store(part10(number, Manufacturer=f"Maker {number}"), source="T")
    path = f"{ROOT}/studies/{STUDY}/instances"
    found = web.get(path, params={"Manufacturer": "Maker 2"}).json()
    assert [one["00200013"]["Value"] for one in found] == [[2]]
    assert len(web.get(path, params={"Manufacturer": "Maker *", "limit": "2", "offset": "1"}).json()) == 2
    monkeypatch.setattr(search, "MAX_SCANNED", 4)
    monkeypatch.setattr(search, "_BATCH", 2)
    answer = web.get(path, params={"Manufacturer": "Nobody"})
    assert (answer.status_code, answer.json()["code"]) == (413, "dicomweb.too-broad")


def test_our_own_limit_is_said(web: TestClient, archive: SqlArchive, part10: Make) -> None:
    for number in range(1, 103):
        archive.store(part10(number), source="T")
    answer = web.get(f"{ROOT}/studies/{STUDY}/instances")
    assert len(answer.json()) == 100
    assert "offset=100" in answer.headers["warning"]
    assert "warning" not in web.get(f"{ROOT}/studies/{STUDY}/instances?limit=100").headers


@pytest.mark.parametrize(
    "query",
    [
        *("StudyDate=20260101-garbage", "StudyDate=2026", "StudyDate=20260230", "StudyDate=-", "StudyDate=--"),
        *("StudyTime=99", "SeriesNumber=x", "StudyInstanceUID=1.2,x", "limit=", "limit=1e3", "PatientName=%FF%FE"),
        *("PatientName=%00", "0010002=1", "RequestAttributesSequence=1", "PatientID.StudyID=1", "fuzzymatching=maybe"),
        *("InstanceNumber=1", "includefield=.", f"PatientID={'9' * 5000}", "foo=bar"),
    ],
)
def test_malformed_searches_are_refused_without_repeating_them(web: TestClient, query: str) -> None:
    answer = web.get(f"{ROOT}/studies?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "dicomweb.bad-query")
    assert "garbage" not in answer.text


@pytest.mark.parametrize("body", [b"", b"[", b"[1]", b"{}", b'[{"00080016": 1}]', b"[" * 5000])
def test_metadata_that_make_no_instance(web: TestClient, body: bytes) -> None:
    kind = "application/dicom+json"
    content = b"--B\r\nContent-Type: " + kind.encode() + b"\r\n\r\n" + body + b"\r\n--B--"
    headers = {"Content-Type": f'multipart/related; type="{kind}"; boundary=B'}
    answer = web.post(f"{ROOT}/studies", content=content, headers=headers)
    assert answer.status_code in (400, 409)


@pytest.mark.parametrize(
    "accept", ["*/*;q=0", "application/dicom;q=0", "text/html", "x" * 10_000, 'multipart/related; type="text/plain"']
)
def test_nothing_acceptable(web: TestClient, archive: SqlArchive, part10: Make, accept: str) -> None:
    archive.store(part10(), source="T")
    answer = get(web, ONE, accept)
    assert (answer.status_code, answer.json()["code"]) == (406, "dicomweb.not-acceptable")

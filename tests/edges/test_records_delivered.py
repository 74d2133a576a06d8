"""A corrected study as DICOMweb and DIMSE peers get it: every door shows the identity of now, pixels as they were."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import httpx
import pydicom.data
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydicom import dcmread
from pydicom.dataset import Dataset

from polyclinic.core.ids import stable_uid
from polyclinic.core.people import Patient
from polyclinic.departments.archive.contracts import IdentityCorrection
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dicomweb.router import dicomweb_router
from polyclinic.edges.dimse.association import Policy
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.dimse.sender import Peer, send

Make = Callable[..., bytes]
STUDY, SERIES = stable_uid("study", "1"), stable_uid("series", "1", "1")
SOP = stable_uid("instance", "1", "1", 1)
TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
INSTANCE = f"/dicom-web/studies/{STUDY}/series/{SERIES}/instances/{SOP}"
LI = Patient(patient_id="P-2", issuer="SITE-A", name="Li^Na=李^娜", sex="F")


def correct(archive: SqlArchive, patient: Patient = LI, patient_id: str = "P-1", issuer: str = "SITE-A") -> None:
    archive.follow_identity(
        IdentityCorrection(
            patient_id=patient_id,
            issuer=issuer,
            before=None,
            patient=patient,
            merged=True,
            site_issuer="",
            source="HL7 ADT^A40",
            at=datetime.now(UTC),
        )
    )


@pytest.fixture
def original(part10: Make) -> bytes:
    return part10(SpecificCharacterSet="ISO_IR 100", PatientName="Wang^X")


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., SqlArchive], original: bytes) -> SqlArchive:
    opened = open_archive(tmp_path / "archive")
    opened.store(original, source="TEST")
    return opened


@pytest.fixture
def web(archive: SqlArchive) -> TestClient:
    app = FastAPI()
    app.include_router(dicomweb_router(archive, lambda *_: None), prefix="/dicom-web")
    return TestClient(app, base_url="http://archive")


def only_part(answer: httpx.Response) -> bytes:
    boundary = answer.headers["content-type"].split("boundary=")[1].strip('"').encode()
    return answer.content.split(b"--" + boundary)[1].split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")


def check(given: Dataset, original: bytes) -> None:
    assert (given.PatientID, str(given.PatientName), given.PatientSex) == ("P-2", "Li^Na=李^娜", "F")
    former = given.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
    assert (former.PatientID, str(former.PatientName)) == ("P-1", "Wang^X")
    assert given.PixelData == dcmread(BytesIO(original)).PixelData


def test_dicomweb_gives_files_metadata_frames_and_searches_of_now(
    archive: SqlArchive, web: TestClient, original: bytes
) -> None:
    before = web.get(INSTANCE, headers={"Accept": "application/dicom"})
    frame = only_part(web.get(f"{INSTANCE}/frames/1"))
    correct(archive)
    after = web.get(INSTANCE, headers={"Accept": "application/dicom", "If-None-Match": before.headers.get("etag", "")})
    assert after.status_code == 200, "what is in a cache is another version"
    check(dcmread(BytesIO(after.content)), original)
    check(dcmread(BytesIO(only_part(web.get(f"/dicom-web/studies/{STUDY}")))), original)
    (metadata,) = web.get(f"{INSTANCE}/metadata").json()
    assert metadata["00100010"]["Value"] == [{"Alphabetic": "Li^Na", "Ideographic": "李^娜"}]
    assert metadata["00100020"]["Value"] == ["P-2"]
    assert metadata["04000561"]["Value"][0]["04000565"]["Value"] == ["CORRECT"]
    assert only_part(web.get(f"{INSTANCE}/frames/1")) == frame
    bulk = metadata["7FE00010"]["BulkDataURI"].removeprefix("http://archive")
    assert frame in web.get(bulk).content
    for path in ("studies", f"studies/{STUDY}/series", f"studies/{STUDY}/series/{SERIES}/instances"):
        (found,) = web.get(f"/dicom-web/{path}?PatientID=P-2&includefield=all").json()
        assert found["00100020"]["Value"] == ["P-2"]
    assert web.get("/dicom-web/studies?PatientID=P-1").status_code == 204


def test_rendered_frames_of_a_compressed_corrected_image_are_the_same(archive: SqlArchive, web: TestClient) -> None:
    name = "JPEG2000.dcm"
    data = (TEST_FILES / name).read_bytes()
    header = dcmread(BytesIO(data))
    archive.store(data, source="TEST")
    path = (
        f"/dicom-web/studies/{header.StudyInstanceUID}/series/{header.SeriesInstanceUID}"
        f"/instances/{header.SOPInstanceUID}"
    )
    before = web.get(f"{path}/rendered"), web.get(f"{path}/frames/1")
    correct(archive, patient_id=header.PatientID, issuer="")
    after = web.get(f"{path}/rendered"), web.get(f"{path}/frames/1")
    assert before[0].status_code == after[0].status_code == 200
    assert before[0].content == after[0].content
    assert only_part(before[1]) == only_part(after[1])


@pytest.mark.skipif(shutil.which("getscu") is None, reason="dcmtk is not installed")
def test_dcmtk_finds_and_gets_the_identity_of_now(archive: SqlArchive, tmp_path: Path, original: bytes) -> None:
    correct(archive)
    folder = tmp_path / "got"
    folder.mkdir()
    node = DimseNode(archive, port=0, policy=Policy(ae_title="POLYCLINIC"))
    node.start()
    try:
        keys = ["-S", "-aec", "POLYCLINIC", "127.0.0.1", str(node.port), "-k", "QueryRetrieveLevel=STUDY"]
        by_name = ["-k", "SpecificCharacterSet=ISO_IR 192", "-k", "PatientName=*李*", "-k", "PatientID"]
        environment = os.environ | {"TCP_NODELAY": "1"}
        found = subprocess.run(
            ["findscu", *keys, *by_name], capture_output=True, env=environment, timeout=60, check=True
        )
        assert b"[P-2" in found.stdout + found.stderr
        command = ["getscu", *keys, "-k", f"StudyInstanceUID={STUDY}", "-od", str(folder)]
        subprocess.run(command, capture_output=True, env=environment, timeout=60, check=True)
    finally:
        node.stop()
    (got,) = [dcmread(path) for path in folder.iterdir()]
    check(got, original)


def test_a_corrected_instance_is_sent_on_as_it_is_now(
    archive: SqlArchive, tmp_path: Path, open_archive: Callable[..., SqlArchive], original: bytes
) -> None:
    correct(archive)
    other = open_archive(tmp_path / "other")
    node = DimseNode(other, port=0, policy=Policy(ae_title="OTHER"))
    node.start()
    try:
        (status,) = send([archive.read(SOP)], Peer(ae_title="OTHER", host="127.0.0.1", port=node.port))
    finally:
        node.stop()
    assert status.kept
    check(dcmread(BytesIO(other.read(SOP))), original)
    assert other.study(STUDY).patient.patient_id == "P-2"

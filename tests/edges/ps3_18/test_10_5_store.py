"""PS3.18 10.5 Store Transaction (STOW-RS)."""

from __future__ import annotations

import json

import pytest
from dicomweb_server import DICOM, JSON, OCTETS, DicomWebServer, ct, multipart_of, parts_of, value
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from polyclinic.core.ids import stable_uid


def test_10_5_3_3_all_stored(empty_server: DicomWebServer) -> None:
    files = [ct(number, study="stored") for number in (1, 2)]
    answer = empty_server.store(*files)
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == JSON
    found = answer.json()
    assert not found.get("00081198", {}).get("Value")
    referenced = found["00081199"]["Value"]
    assert [value(item, "00081155") for item in referenced] == [
        stable_uid("ps3.18", "stored", 1, number) for number in (1, 2)
    ]
    assert all(value(item, "00081150") == "1.2.840.10008.5.1.4.1.1.2" for item in referenced)


def test_10_5_3_3_retrieve_urls(empty_server: DicomWebServer) -> None:
    found = empty_server.store(ct(1, study="urls")).json()
    study, instance = value(found, "00081190"), value(found["00081199"]["Value"][0], "00081190")
    assert study.endswith(f"/studies/{stable_uid('ps3.18', 'urls')}")
    (part,) = parts_of(empty_server.get(instance[instance.index("/studies") :], multipart_of(DICOM, "*")))
    assert dcmread(DicomBytesIO(part.content)).SOPInstanceUID == stable_uid("ps3.18", "urls", 1, 1)


def test_10_5_1_1_store_into_a_study(empty_server: DicomWebServer) -> None:
    path = f"/studies/{stable_uid('ps3.18', 'into')}"
    assert empty_server.store(ct(1, study="into"), path=path).status_code == 200


def test_10_5_3_1_none_stored_is_a_conflict(empty_server: DicomWebServer) -> None:
    answer = empty_server.store(ct(1, study="elsewhere"), path="/studies/1.2.3")
    assert answer.status_code == 409
    assert "00081197" in answer.json()["00081198"]["Value"][0]
    assert empty_server.search("/studies", StudyInstanceUID=stable_uid("ps3.18", "elsewhere")) == []


def test_10_5_3_1_some_stored_is_accepted(empty_server: DicomWebServer) -> None:
    answer = empty_server.store(ct(1, study="some"), b"this is no DICOM file" * 20)
    assert answer.status_code == 202
    found = answer.json()
    assert len(found["00081199"]["Value"]) == 1
    assert len(found["00081198"]["Value"]) == 1


def test_10_5_3_1_nothing_that_could_be_stored(empty_server: DicomWebServer) -> None:
    assert empty_server.store(b"this is no DICOM file" * 20).status_code in (400, 409)


def test_10_5_2_storing_twice_changes_nothing(empty_server: DicomWebServer) -> None:
    for _ in range(2):
        assert empty_server.store(ct(1, study="twice")).status_code in (200, 202)
    (found,) = empty_server.search("/studies", StudyInstanceUID=stable_uid("ps3.18", "twice"))
    assert value(found, "00201208") in (1, "1")


@pytest.mark.parametrize("content_type", ["text/plain", 'multipart/related; type="image/tiff"; boundary=B'])
def test_10_5_3_1_unsupported_media_type(empty_server: DicomWebServer, content_type: str) -> None:
    assert empty_server.post(b"--B--", content_type).status_code == 415


def test_10_5_3_1_empty_request(empty_server: DicomWebServer) -> None:
    assert empty_server.store().status_code == 400


def test_10_5_1_4_metadata_with_bulk_data(empty_server: DicomWebServer) -> None:
    dataset = dcmread(DicomBytesIO(ct(1, study="described")))
    pixels = dataset.PixelData
    del dataset.PixelData
    described = dataset.to_json_dict() | {"7FE00010": {"vr": "OW", "BulkDataURI": "pixels-1"}}
    body = (
        f"--B\r\nContent-Type: {JSON}\r\n\r\n{json.dumps([described])}\r\n--B\r\nContent-Type: {OCTETS}\r\n"
        "Content-Location: pixels-1\r\n\r\n"
    ).encode() + pixels
    answer = empty_server.post(body + b"\r\n--B--", f'multipart/related; type="{JSON}"; boundary=B')
    assert answer.status_code == 200, answer.text
    url = value(answer.json()["00081199"]["Value"][0], "00081190")
    (part,) = parts_of(empty_server.get(url[url.index("/studies") :], multipart_of(DICOM, "*")))
    back = dcmread(DicomBytesIO(part.content))
    assert back.PixelData == pixels
    assert back.PatientName == dataset.PatientName

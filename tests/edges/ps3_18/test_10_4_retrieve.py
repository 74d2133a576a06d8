"""PS3.18 10.4 Retrieve Transaction (WADO-RS): instances, metadata, frames and bulk data, with 8.7 Media Types."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from dicomweb_server import DICOM, JSON, OCTETS, DicomWebServer, Part, multipart_of, parts_of, value
from pydicom import dcmread
from pydicom.dataset import Dataset

LITTLE, JPEG_LS = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.80"
AS_STORED = multipart_of(DICOM, "*")


def datasets(parts: list[Part]) -> dict[str, Dataset]:
    read = [dcmread(BytesIO(part.content)) for part in parts]
    return {dataset.SOPInstanceUID: dataset for dataset in read}


@pytest.mark.parametrize(
    ("level", "names"),
    [
        ("study", ["ct1", "ct2", "ct3", "second series"]),
        ("series", ["ct1", "ct2", "ct3"]),
        ("instance", ["ct1"]),
    ],
)
def test_10_4_1_1_1_instances(server: DicomWebServer, level: str, names: list[str]) -> None:
    path = {"study": server.study, "series": server.series, "instance": server.instance}[level]("ct1")
    answer = server.get(path, AS_STORED)
    assert answer.status_code == 200
    assert 'type="application/dicom"' in answer.headers["content-type"]
    parts = parts_of(answer)
    assert {part.media_type for part in parts} == {DICOM}
    wanted = {server.dataset(name).SOPInstanceUID: server.dataset(name) for name in names}
    assert datasets(parts) == wanted


def test_8_6_1_2_1_parts_say_where_they_are(server: DicomWebServer) -> None:
    (part,) = parts_of(server.get(server.instance("ct1"), AS_STORED))
    assert part.headers["content-location"].endswith(server.instance("ct1"))


def test_8_7_3_5_parts_name_their_transfer_syntax(server: DicomWebServer) -> None:
    (part,) = parts_of(server.get(server.instance("ct1"), AS_STORED))
    assert f"transfer-syntax={LITTLE}" in part.headers["content-type"].replace('"', "")


def test_8_7_3_2_default_transfer_syntax_is_explicit_little_endian(server: DicomWebServer) -> None:
    (part,) = parts_of(server.get(server.instance("jpeg-ls"), multipart_of(DICOM)))
    found, stored = dcmread(BytesIO(part.content)), server.dataset("jpeg-ls")
    assert found.file_meta.TransferSyntaxUID == LITTLE
    assert np.array_equal(found.pixel_array, stored.pixel_array)
    assert found.PatientID == stored.PatientID


def test_8_7_3_5_named_transfer_syntax(server: DicomWebServer) -> None:
    (part,) = parts_of(server.get(server.instance("jpeg-ls"), multipart_of(DICOM, LITTLE)))
    assert dcmread(BytesIO(part.content)).file_meta.TransferSyntaxUID == LITTLE


@pytest.mark.parametrize("syntax", ["*", JPEG_LS])
def test_8_7_3_5_stored_transfer_syntax(server: DicomWebServer, syntax: str) -> None:
    (part,) = parts_of(server.get(server.instance("jpeg-ls"), multipart_of(DICOM, syntax)))
    found = dcmread(BytesIO(part.content))
    assert found.file_meta.TransferSyntaxUID == JPEG_LS
    assert found.PixelData == server.dataset("jpeg-ls").PixelData


def test_8_7_8_transfer_syntax_that_cannot_be_made(server: DicomWebServer) -> None:
    answer = server.get(server.instance("ct1"), multipart_of(DICOM, "1.2.840.10008.1.2.4.999"))
    assert answer.status_code == 406


def test_8_7_7_weights_decide(server: DicomWebServer) -> None:
    both = f"{multipart_of(DICOM, JPEG_LS)}; q=0.2, {multipart_of(DICOM, LITTLE)}; q=0.9"
    (part,) = parts_of(server.get(server.instance("jpeg-ls"), both))
    assert dcmread(BytesIO(part.content)).file_meta.TransferSyntaxUID == LITTLE


def test_8_3_3_1_accept_as_query_parameter(server: DicomWebServer) -> None:
    answer = server.get(server.instance("ct1"), JSON, params={"accept": AS_STORED})
    assert answer.status_code == 200
    assert len(parts_of(answer)) == 1


def test_8_7_8_media_type_that_cannot_be_made(server: DicomWebServer) -> None:
    assert server.get(server.instance("ct1"), "image/tiff").status_code == 406


@pytest.mark.parametrize("path", ["/studies/1.2", "/studies/1.2/series/3", "/studies/1.2/series/3/instances/4"])
@pytest.mark.parametrize("rest", ["", "/metadata"])
def test_10_4_3_1_what_does_not_exist(server: DicomWebServer, path: str, rest: str) -> None:
    assert server.get(path + rest, JSON if rest else AS_STORED).status_code == 404


def test_10_4_3_1_instance_of_another_series(server: DicomWebServer) -> None:
    uid = server.dataset("ct1").SOPInstanceUID
    assert server.get(f"{server.series('second series')}/instances/{uid}", AS_STORED).status_code == 404


@pytest.mark.parametrize(("level", "count"), [("study", 4), ("series", 3), ("instance", 1)])
def test_10_4_1_1_2_metadata(server: DicomWebServer, level: str, count: int) -> None:
    path = {"study": server.study, "series": server.series, "instance": server.instance}[level]("ct1")
    answer = server.get(f"{path}/metadata")
    assert answer.headers["content-type"].split(";")[0] == JSON
    found = answer.json()
    assert len(found) == count
    first = next(one for one in found if value(one, "00080018") == server.dataset("ct1").SOPInstanceUID)
    read = Dataset.from_json(first, bulk_data_uri_handler=lambda *_: None)
    stored = server.dataset("ct1")
    for element in stored:
        if element.tag != 0x7FE00010 and element.keyword != "SpecificCharacterSet":
            assert read[element.tag].value == element.value, element.keyword
    assert "Value" not in first["7FE00010"]
    assert "InlineBinary" not in first["7FE00010"]


def test_f_2_5_bulk_data_are_at_their_address(server: DicomWebServer) -> None:
    (found,) = server.get(f"{server.instance('ct1')}/metadata").json()
    url = found["7FE00010"]["BulkDataURI"]
    answer = server.get(url[url.index("/studies") :], multipart_of(OCTETS))
    (part,) = parts_of(answer)
    assert part.media_type == OCTETS
    assert part.content == server.dataset("ct1").PixelData


def test_10_4_3_3_5_bulk_data_in_parts_have_a_location(server: DicomWebServer) -> None:
    (found,) = server.get(f"{server.instance('ct1')}/metadata").json()
    url = found["7FE00010"]["BulkDataURI"]
    (part,) = parts_of(server.get(url[url.index("/studies") :], multipart_of(OCTETS)))
    assert part.headers["content-location"].endswith(url[url.index("/studies") :])


def test_10_4_1_1_5_all_bulk_data_of_an_instance(server: DicomWebServer) -> None:
    answer = server.get(f"{server.instance('ct1')}/bulkdata", multipart_of(OCTETS))
    assert answer.status_code == 200
    assert [part.content for part in parts_of(answer)] == [server.dataset("ct1").PixelData]


def test_8_7_3_2_metadata_as_native_dicom_model(server: DicomWebServer) -> None:
    answer = server.get(f"{server.series('ct1')}/metadata", multipart_of("application/dicom+xml"))
    parts = parts_of(answer)
    assert len(parts) == 3
    assert all(part.media_type == "application/dicom+xml" for part in parts)
    assert all(b"NativeDicomModel" in part.content and b"Wang" in part.content for part in parts)


def test_f_2_2_person_names_have_their_groups(server: DicomWebServer) -> None:
    (found,) = server.get(f"{server.instance('third patient')}/metadata").json()
    groups = {"Alphabetic": "Kim^Hong", "Ideographic": "金^洪", "Phonetic": "김^홍"}
    assert found["00100010"] == {"vr": "PN", "Value": [groups]}
    assert found["00080005"]["Value"] == ["ISO_IR 192"]


@pytest.mark.parametrize("listed", ["1", "3", "2,5", "15,1"])
def test_10_4_1_1_6_frames(server: DicomWebServer, listed: str) -> None:
    answer = server.get(f"{server.instance('frames')}/frames/{listed}", multipart_of(OCTETS))
    pixels = server.dataset("frames").pixel_array
    bodies = [part.content for part in parts_of(answer)]
    assert bodies == [pixels[int(n) - 1].tobytes() for n in listed.split(",")]


def test_10_4_1_1_6_frame_of_a_single_frame_image(server: DicomWebServer) -> None:
    (part,) = parts_of(server.get(f"{server.instance('ct1')}/frames/1", multipart_of(OCTETS)))
    assert part.content == server.dataset("ct1").PixelData


@pytest.mark.parametrize("listed", ["16", "0", "1,99"])
def test_10_4_3_1_frames_that_do_not_exist(server: DicomWebServer, listed: str) -> None:
    answer = server.get(f"{server.instance('frames')}/frames/{listed}", multipart_of(OCTETS))
    assert answer.status_code in (400, 404)


def test_10_4_3_1_frames_that_are_no_numbers(server: DicomWebServer) -> None:
    assert server.get(f"{server.instance('frames')}/frames/one", multipart_of(OCTETS)).status_code in (400, 404)


def test_8_7_3_3_2_compressed_frames_as_stored(server: DicomWebServer) -> None:
    path = f"{server.instance('jpeg-ls')}/frames/1"
    (part,) = parts_of(server.get(path, multipart_of("image/jls", JPEG_LS)))
    assert part.media_type == "image/jls"
    assert part.content in server.dataset("jpeg-ls").PixelData
    assert len(part.content) > 1000


def test_8_7_3_3_1_compressed_frames_decoded(server: DicomWebServer) -> None:
    path = f"{server.instance('jpeg-ls')}/frames/1"
    (part,) = parts_of(server.get(path, multipart_of(OCTETS)))
    assert part.content == server.dataset("jpeg-ls").pixel_array.tobytes()


def test_8_7_8_frames_in_a_form_that_cannot_be_made(server: DicomWebServer) -> None:
    answer = server.get(f"{server.instance('ct1')}/frames/1", multipart_of("image/jp2", "1.2.840.10008.1.2.4.999"))
    assert answer.status_code == 406

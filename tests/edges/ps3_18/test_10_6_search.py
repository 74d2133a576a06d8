"""PS3.18 10.6 Search Transaction (QIDO-RS), with 8.3.4 Search Query Parameters."""

from __future__ import annotations

import pytest
from dicomweb_server import JSON, DicomWebServer, value

STUDY_ATTRIBUTES = (  # table 10.6.3-3: type R and the unique key
    *("00080020", "00080030", "00080050", "00080061", "00080090", "00100010", "00100020", "00100030", "00100040"),
    *("0020000D", "00200010", "00201206", "00201208"),
)
SERIES_ATTRIBUTES = ("00080060", "0020000E", "00200011", "00201209")  # table 10.6.3-4
INSTANCE_ATTRIBUTES = ("00080016", "00080018", "00200013", "00280010", "00280011", "00280100")  # table 10.6.3-5


def identity(given: object) -> str:
    """Test id that is the same in every run."""
    return "&".join(f"{k}={v}" for k, v in given.items()) if isinstance(given, dict) else str(given)


def resources(server: DicomWebServer) -> dict[str, str]:
    study, series = server.study("ct1"), server.series("ct1")
    return {
        "all studies": "/studies",
        "all series": "/series",
        "all instances": "/instances",
        "series of a study": f"{study}/series",
        "instances of a study": f"{study}/instances",
        "instances of a series": f"{series}/instances",
    }


@pytest.mark.parametrize(
    ("resource", "count"),
    [
        ("all studies", 7),
        ("all series", 8),
        ("all instances", 10),
        ("series of a study", 2),
        ("instances of a study", 4),
        ("instances of a series", 3),
    ],
)
def test_10_6_1_1_resources(server: DicomWebServer, resource: str, count: int) -> None:
    answer = server.get(resources(server)[resource])
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == JSON
    assert len(answer.json()) == count


def test_10_6_3_3_1_study_attributes(server: DicomWebServer) -> None:
    (found,) = server.search("/studies", PatientID="P-1")
    for tag in STUDY_ATTRIBUTES:
        assert tag in found, tag
    assert (value(found, "00201206"), value(found, "00201208")) in ((2, 4), ("2", "4"))
    assert sorted(found["00080061"]["Value"]) == ["CT", "PT"]
    assert found["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Wang^Fang"}]}


def test_10_6_3_3_2_series_attributes(server: DicomWebServer) -> None:
    found = server.search(f"{server.study('ct1')}/series", SeriesNumber="2")
    assert len(found) == 1
    for tag in SERIES_ATTRIBUTES:
        assert tag in found[0], tag
    assert value(found[0], "00080060") == "PT"


def test_10_6_3_3_2_request_attributes_of_series(server: DicomWebServer) -> None:
    (found,) = server.search(f"{server.study('ct1')}/series", SeriesNumber="2")
    (item,) = found["00400275"]["Value"]
    assert value(item, "00400009") == "SPS-2"


def test_10_6_3_3_3_instance_attributes(server: DicomWebServer) -> None:
    found = server.search(f"{server.series('ct1')}/instances", InstanceNumber="2")
    assert len(found) == 1
    for tag in INSTANCE_ATTRIBUTES:
        assert tag in found[0], tag
    assert value(found[0], "00080018") == server.dataset("ct2").SOPInstanceUID


@pytest.mark.parametrize("resource", ["all studies", "series of a study", "instances of a series"])
def test_10_6_3_3_retrieve_url_leads_to_the_object(server: DicomWebServer, resource: str) -> None:
    found = server.search(resources(server)[resource])[0]
    url = value(found, "00081190")
    path = url[url.index("/studies") :]
    assert server.get(f"{path}/metadata").json()


@pytest.mark.parametrize(
    ("parameters", "patients"),
    [
        ({"PatientID": "P-2"}, "P-2"),
        ({"00100020": "P-2"}, "P-2"),
        ({"PatientID": "P-?"}, "P-1 P-2"),
        ({"PatientID": "?-3"}, "Q-3"),
        ({"PatientID": "P-*"}, "P-1 P-2"),
        ({"PatientName": "Wang*"}, "P-1"),
        ({"PatientName": "M\u00fcller^J\u00fcrgen"}, "P-2"),
        ({"StudyDate": "20260102"}, "P-1"),
        ({"StudyDate": "20251201-20260102"}, "P-1 P-2"),
        ({"StudyDate": "20251225-", "PatientID": "P-*"}, "P-1"),
        ({"StudyDate": "-20241231", "PatientID": "Q-*"}, "Q-3"),
        ({"StudyTime": "1000-1100", "PatientID": "P-*"}, "P-1"),
        ({"AccessionNumber": "ACC-2"}, "P-2"),
        ({"StudyID": "S2"}, "P-2"),
        ({"ReferringPhysicianName": "Doe^Jane", "StudyID": "S2"}, "P-2"),
        ({"ModalitiesInStudy": "PT"}, "P-1"),
        ({"PatientID": "nobody"}, ""),
        ({"PatientID": "", "AccessionNumber": "ACC-2"}, "P-2"),
    ],
    ids=identity,
)
def test_8_3_4_1_study_matching(server: DicomWebServer, parameters: dict[str, str], patients: str) -> None:
    found = server.search("/studies", **parameters)
    assert {value(study, "00100020") for study in found} == set(patients.split())


@pytest.mark.parametrize("group", ["Kim*", "金*", "김^홍"], ids=["Alphabetic", "Ideographic", "Phonetic"])
def test_8_3_4_1_a_name_is_found_by_each_component_group(server: DicomWebServer, group: str) -> None:
    found = server.search("/studies", PatientName=group)
    assert [value(study, "00100020") for study in found] == ["Q-3"]


def test_8_3_4_1_list_of_uids(server: DicomWebServer) -> None:
    uids = [server.dataset(name).StudyInstanceUID for name in ("ct1", "other patient")]
    assert len(server.search("/studies", StudyInstanceUID=",".join(uids))) == 2


def test_8_3_4_1_matching_at_series_and_instances(server: DicomWebServer) -> None:
    assert len(server.search("/series", Modality="PT")) == 1
    assert len(server.search("/series", Modality="CT", PatientID="P-1")) == 1
    assert len(server.search("/instances", SOPInstanceUID=server.dataset("ct3").SOPInstanceUID)) == 1
    assert len(server.search("/instances", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.22")) <= 1


def test_8_3_4_1_attribute_within_a_sequence(server: DicomWebServer) -> None:
    key = "RequestAttributesSequence.ScheduledProcedureStepID"
    found = server.search(f"{server.study('ct1')}/series", **{key: "SPS-2"})
    assert [value(series, "0020000E") for series in found] == [server.dataset("second series").SeriesInstanceUID]


def test_8_3_4_1_attribute_within_a_sequence_by_tag(server: DicomWebServer) -> None:
    found = server.search(f"{server.study('ct1')}/series", **{"00400275.00400009": "SPS-1"})
    assert [value(series, "0020000E") for series in found] == [server.dataset("ct1").SeriesInstanceUID]


@pytest.mark.parametrize("name", ["Manufacturer", "00080070"])
def test_8_3_4_3_includefield_by_keyword_and_tag(server: DicomWebServer, name: str) -> None:
    path = f"{server.series('ct1')}/instances"
    assert all(value(one, "00080070") == "Tiny" for one in server.search(path, includefield=name))
    assert "00080070" not in server.search(path)[0]


def test_8_3_4_3_includefield_of_study(server: DicomWebServer) -> None:
    (found,) = server.search("/studies", PatientID="P-1", includefield="StudyDescription")
    assert value(found, "00081030") == "Chest"


def test_8_3_4_3_includefield_list(server: DicomWebServer) -> None:
    path = f"{server.study('ct1')}/series"
    found = server.search(path, includefield="SeriesDescription,00180015", Modality="CT")
    assert (value(found[0], "0008103E"), value(found[0], "00180015")) == ("Lung", "CHEST")


def test_8_3_4_3_includefield_all(server: DicomWebServer) -> None:
    found = server.search(f"{server.series('ct1')}/instances", includefield="all")
    assert value(found[0], "00280100") == 16
    assert value(found[0], "00080070") == "Tiny"


def test_10_6_3_3_1_lower_levels_are_left_out(server: DicomWebServer) -> None:
    (found,) = server.search("/studies", PatientID="P-1", includefield="InstanceNumber")
    assert "00200013" not in found


def test_8_3_4_4_limit_and_offset(server: DicomWebServer) -> None:
    every = [value(study, "0020000D") for study in server.search("/studies")]
    paged = [
        value(study, "0020000D")
        for offset in range(0, 7, 2)
        for study in server.search("/studies", limit="2", offset=str(offset))
    ]
    assert sorted(paged) == sorted(every)
    assert len(server.search("/studies", limit="3")) == 3


def test_10_6_3_1_no_match_is_204(server: DicomWebServer) -> None:
    answer = server.get("/studies", params={"PatientID": "nobody"})
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize(
    "query",
    [
        "limit=x",
        "offset=-1",
        "StudyDate=20260101-garbage",
        "StudyDate=20261301",
        "StudyTime=2560",
        "StudyInstanceUID=1.2.x",
        "NoSuchAttribute=1",
        "includefield=NoSuchAttribute",
        "PatientID=A&PatientID=B",
    ],
)
def test_10_6_3_1_bad_request(server: DicomWebServer, query: str) -> None:
    assert server.get(f"/studies?{query}").status_code == 400


def test_8_3_4_2_fuzzy_matching_is_done_or_said_not_to_be(server: DicomWebServer) -> None:
    answer = server.get("/studies", params={"PatientName": "Wang*", "fuzzymatching": "true"})
    assert answer.status_code == 200
    warning = answer.headers.get("warning", "")
    assert "299" in warning
    assert "Only literal matching has been performed" in warning


def test_8_7_3_2_results_as_native_dicom_model(server: DicomWebServer) -> None:
    answer = server.get("/studies?PatientID=P-1", accept='multipart/related; type="application/dicom+xml"')
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("multipart/related")
    assert b"NativeDicomModel" in answer.content
    assert b"Wang" in answer.content


def test_8_7_8_no_acceptable_form(server: DicomWebServer) -> None:
    assert server.get("/studies", accept="image/tiff").status_code == 406

"""The capability statement says what the server does: each claim is tried, and some things that are not claimed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fhir_house import Fhir, FhirHouse, fhir_house, lab, order, patient

from polyclinic.edges.fhir_http.capability import capability_statement

STATEMENT = capability_statement(version="0", published="2026-01-01", url="http://127.0.0.1/fhir")
RESOURCES = {one["type"]: one for one in STATEMENT["rest"][0]["resource"]}
SAMPLES: dict[str, Any] = {
    "Patient": lambda who: patient("CAP-NEW"),
    "ServiceRequest": lambda who: order(who, "CAP-ORDER"),
    "Observation": lab,
    "ImagingStudy": lambda who: {
        "resourceType": "ImagingStudy",
        "status": "available",
        "subject": {"reference": f"Patient/{who}"},
        "started": "2020-02-03T04:05:06Z",
    },
    "DiagnosticReport": lambda who: {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "code": {"text": "Elsewhere"},
        "subject": {"reference": f"Patient/{who}"},
    },
    "Device": lambda who: {"resourceType": "Device", "manufacturer": "Elsewhere"},
    "Endpoint": lambda who: {
        "resourceType": "Endpoint",
        "status": "active",
        "connectionType": {"code": "dicom-wado-rs"},
        "payloadType": [{"text": "DICOM"}],
        "address": "https://elsewhere.example/wado",
    },
}
VALUES = {"token": "some", "string": "some", "date": "2026-01-01", "reference": "some"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirHouse]:
    with fhir_house(tmp_path_factory.mktemp("fhir")) as opened:
        yield opened


@pytest.fixture(scope="module")
def fhir(house: FhirHouse) -> Fhir:
    return house.fhir()


@pytest.fixture(scope="module")
def who(fhir: Fhir) -> str:
    return str(fhir.post("/Patient", patient("CAP-1")).json()["id"])


def test_the_statement_is_the_one_that_is_served(fhir: Fhir) -> None:
    served = Fhir(client=fhir.client, headers={}).get("/metadata").json()
    assert served["fhirVersion"] == "4.0.1"
    assert served["format"] == ["application/fhir+json", "json"]
    assert served["implementation"]["url"] == "http://127.0.0.1/fhir"
    assert served["rest"] == STATEMENT["rest"]


@pytest.mark.parametrize("kind", RESOURCES)
def test_every_claimed_interaction_works(fhir: Fhir, who: str, kind: str) -> None:
    claimed = {one["code"] for one in RESOURCES[kind]["interaction"]}
    assert claimed == {"read", "vread", "history-instance", "search-type", "create", "update"}
    made = fhir.post(f"/{kind}", SAMPLES[kind](who))
    assert made.status_code == 201, made.text
    resource, path = made.json(), f"/{kind}/{made.json()['id']}"
    assert fhir.get(path).json() == resource
    assert fhir.get(f"{path}/_history/1").json() == resource
    assert fhir.get(f"{path}/_history").json()["total"] == 1
    assert resource["id"] in fhir.ids(f"/{kind}?_id={resource['id']}")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    posted = fhir.client.post(f"/fhir/{kind}/_search", content=f"_id={resource['id']}", headers=fhir.headers | form)
    assert [e["resource"]["id"] for e in posted.json()["entry"]] == [resource["id"]]
    assert fhir.put(path, resource, If_Match='W/"1"').status_code == 200
    unknown = fhir.put(f"/{kind}/new-id", SAMPLES[kind](who) | {"id": "new-id"})
    assert unknown.status_code == (201 if RESOURCES[kind]["updateCreate"] else 405), unknown.text


@pytest.mark.parametrize("kind", RESOURCES)
def test_every_claimed_parameter_is_understood(fhir: Fhir, kind: str) -> None:
    strict = {"Prefer": "handling=strict"}
    for parameter in RESOURCES[kind]["searchParam"]:
        answer = fhir.get(f"/{kind}?{parameter['name']}={VALUES[parameter['type']]}", **strict)
        assert (answer.status_code, answer.json()["type"]) == (200, "searchset"), answer.text
        assert fhir.get(f"/{kind}?{parameter['name']}:missing=false", **strict).status_code == 200
    for name, values in (("_include", "searchInclude"), ("_revinclude", "searchRevInclude")):
        for value in RESOURCES[kind][values]:
            assert fhir.get(f"/{kind}?{name}={value}", **strict).status_code == 200


@pytest.mark.parametrize("kind", RESOURCES)
def test_what_is_not_claimed_is_refused(fhir: Fhir, kind: str) -> None:
    strict = {"Prefer": "handling=strict"}
    for query in (
        "telecom=x",
        "_text=x",
        "_has:Observation:patient:code=1",
        "_sort=nothing",
        "_include=X:y",
        "_query=a",
    ):
        assert fhir.get(f"/{kind}?{query}", **strict).status_code == 400, query
    for query in ("_lastUpdated=x", "_lastUpdated:exact=2026", "_id:text=x", "_count=x", "_id:missing=x"):
        assert fhir.get(f"/{kind}?{query}").status_code == 400, query
    for method, path, status in (
        ("DELETE", f"/{kind}/1", 405),
        ("PATCH", f"/{kind}/1", 405),
        ("DELETE", f"/{kind}?_id=1", 405),
        ("PUT", f"/{kind}?_id=1", 405),
        ("POST", f"/{kind}/$validate", 405),
        ("GET", f"/{kind}/_history", 404),
        ("GET", f"/{kind}/a%20b", 404),
        ("GET", f"/{kind}/1/$everything", 404),
    ):
        answer = fhir.call(method, path)
        assert (answer.status_code, answer.json()["resourceType"]) == (status, "OperationOutcome"), path


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({"Accept": "application/fhir+xml"}, "/Patient", 406),
        ({"Accept": "application/fhir+json; fhirVersion=5.0"}, "/Patient", 406),
        ({"Accept": "application/fhir+json; fhirVersion=5.0"}, "/metadata", 406),
        ({"Accept": "application/fhir+json; fhirVersion=4.0"}, "/Patient", 200),
        ({"Accept": "text/html, application/fhir+json;q=0.5"}, "/Patient", 200),
        ({"Accept": "text/html"}, "/Patient", 406),
        ({"Accept": "*/*"}, "/Patient", 200),
        ({"Accept": "text/html"}, "/Patient?_format=json", 200),
        ({}, "/Patient?_format=xml", 406),
        ({}, "/Patient?_format=application/fhir+json", 200),
    ],
)
def test_answers_are_json_of_r4_only(fhir: Fhir, headers: dict[str, str], path: str, status: int) -> None:
    answer = fhir.get(path, **headers)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/fhir+json; fhirVersion=4.0")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("media", ["application/fhir+xml", "text/plain", "application/fhir+json; fhirVersion=5.0", ""])
def test_bodies_are_json_of_r4_only(fhir: Fhir, media: str) -> None:
    answer = fhir.post("/Patient", patient("MEDIA"), **{"Content-Type": media})
    assert (answer.status_code, answer.json()["resourceType"]) == (415, "OperationOutcome")

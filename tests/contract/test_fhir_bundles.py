"""Bundles: all or nothing, references among the entries, the order of the standard; batches entry by entry."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fhir_house import MRN, Fhir, FhirHouse, fhir_house, lab, order, patient

from polyclinic.departments.records.ports import OrderQuery


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirHouse]:
    with fhir_house(tmp_path_factory.mktemp("fhir")) as opened:
        yield opened


@pytest.fixture(scope="module")
def fhir(house: FhirHouse) -> Fhir:
    return house.fhir()


def entry(method: str, url: str, resource: Any = None, full_url: str = "", **request: str) -> dict[str, Any]:
    made: dict[str, Any] = {"request": {"method": method, "url": url} | request}
    if resource is not None:
        made["resource"] = resource
    if full_url:
        made["fullUrl"] = full_url
    return made


def bundle(*entries: dict[str, Any], kind: str = "transaction") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def test_a_transaction_resolves_its_own_references_whatever_their_order(house: FhirHouse, fhir: Fhir) -> None:
    who, what = f"urn:uuid:{uuid.uuid4()}", f"urn:uuid:{uuid.uuid4()}"
    report = {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "code": {"text": "Chemistry"},
        "subject": {"reference": who},
        "result": [{"reference": what}],
    }
    answer = fhir.post(
        "",
        bundle(
            entry("GET", "Patient?identifier=TX-1"),
            entry("POST", "DiagnosticReport", report),
            entry("POST", "Observation", lab("") | {"subject": {"reference": who}}, what),
            entry("POST", "ServiceRequest", order("") | {"subject": {"reference": who}}),
            entry("POST", "Patient", patient("TX-1"), who),
        ),
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["type"] == "transaction-response"
    assert [e["response"]["status"] for e in body["entry"]] == ["200", "201", "201", "201", "201"]
    found, sent_report, observation, ordered, made = (e["resource"] for e in body["entry"])
    assert found["entry"][0]["resource"]["id"] == made["id"]
    assert sent_report["result"][0]["reference"] == f"Observation/{observation['id']}"
    assert sent_report["subject"]["reference"] == f"Patient/{made['id']}"
    assert ordered["subject"]["reference"] == f"Patient/{made['id']}"
    assert fhir.get(f"/Observation/{observation['id']}").json() == observation
    assert fhir.ids(f"/DiagnosticReport?result={observation['id']}") == [sent_report["id"]]


def test_one_failure_takes_everything_back(house: FhirHouse, fhir: Fhir) -> None:
    who = f"urn:uuid:{uuid.uuid4()}"
    entries = [
        entry("POST", "Patient", patient("ROLL-1"), who),
        entry("POST", "ServiceRequest", order("", "ROLL-ORDER") | {"subject": {"reference": who}}),
        entry("POST", "Observation", lab("", code="ROLL") | {"subject": {"reference": who}}),
    ]
    answer = fhir.post("", bundle(*entries, entry("POST", "ServiceRequest", order("unknown", "ROLL-2"))))
    assert answer.status_code == 422
    issue = answer.json()["issue"][0]
    assert (issue["details"]["coding"][0]["code"], issue["expression"]) == ("fhir.no-target", ["Bundle.entry[3]"])
    assert fhir.ids("/Patient?identifier=ROLL-1") == []
    assert fhir.ids("/Observation?code=ROLL") == []
    assert house.services.record.find_orders(OrderQuery(placer_number="ROLL-ORDER")) == ()

    assert fhir.post("", bundle(*entries)).status_code == 200
    assert len(fhir.ids("/Observation?code=ROLL")) == 1


@pytest.mark.parametrize(
    ("entries", "status"),
    [
        ([entry("DELETE", "Patient/1")], 405),
        ([entry("POST", "Medication", {"resourceType": "Medication"})], 400),
        ([entry("POST", "Patient")], 400),
        ([entry("PUT", "Patient", patient())], 400),
        ([{"resource": patient()}], 400),
        ([entry("POST", "Observation", lab("") | {"subject": {"reference": "urn:uuid:missing"}})], 400),
        ([entry("PUT", "Device/d1", {"resourceType": "Device", "id": "d1"})] * 2, 400),
        ([entry("POST", "Patient", patient(gender="x"))], 400),
        ([entry("GET", "Patient/none")], 404),
        ([entry("GET", "Patient?birthdate=x")], 400),
        ([entry("PUT", "Device/d2", {"resourceType": "Device", "id": "d2"}, ifMatch='W/"4"')], 412),
        ([entry("PUT", "Device/d2", {"resourceType": "Device", "id": "d2"}, ifMatch="4")], 400),
        ([entry("POST", "Observation", lab("") | {"subject": {"reference": "Patient?identifier=NOBODY"}})], 412),
    ],
)
def test_a_bad_transaction_is_refused(fhir: Fhir, entries: list[dict[str, Any]], status: int) -> None:
    answer = fhir.post("", bundle(*entries))
    assert (answer.status_code, answer.json()["resourceType"]) == (status, "OperationOutcome"), answer.text
    assert fhir.get("/Device/d1").status_code == 404


def test_conditions_and_versions_hold_in_a_bundle(fhir: Fhir) -> None:
    condition = f"identifier={MRN}|BC-1"
    one = entry("POST", "Patient", patient("BC-1"), "urn:uuid:1", ifNoneExist=condition)
    theirs = entry("POST", "Observation", lab("") | {"subject": {"reference": "urn:uuid:1"}})
    first, second = (fhir.post("", bundle(one, theirs)).json()["entry"] for _ in range(2))
    assert [e["response"]["status"] for e in first] == ["201", "201"]
    assert [e["response"]["status"] for e in second] == ["200", "201"]
    assert second[1]["resource"]["subject"] == first[1]["resource"]["subject"]
    by_query = lab("") | {"subject": {"reference": f"Patient?{condition}"}}
    third = fhir.post("", bundle(entry("POST", "Observation", by_query))).json()["entry"]
    assert third[0]["resource"]["subject"]["reference"] == f"Patient/{first[0]['resource']['id']}"
    seen = entry(
        "PUT",
        f"Observation/{third[0]['resource']['id']}",
        third[0]["resource"] | {"status": "amended"},
        ifMatch='W/"1"',
    )
    assert fhir.post("", bundle(seen)).json()["entry"][0]["response"]["etag"] == 'W/"2"'
    assert fhir.post("", bundle(seen)).status_code == 412


def test_a_batch_goes_on_after_a_failure(fhir: Fhir) -> None:
    answer = fhir.post(
        "/",
        bundle(
            entry("POST", "Patient", patient("BATCH-1", gender="x")),
            entry("POST", "Patient", patient("BATCH-2")),
            entry("DELETE", "Patient/1"),
            entry("GET", "Patient?identifier=BATCH-2"),
            kind="batch",
        ),
    )
    assert answer.status_code == 200
    statuses = [e["response"]["status"] for e in answer.json()["entry"]]
    assert statuses == ["400", "201", "405", "200"]
    assert answer.json()["entry"][0]["response"]["outcome"]["issue"][0]["expression"] == ["Patient.gender"]
    assert len(fhir.ids("/Patient?identifier=BATCH-2")) == 1


def test_other_bundles_and_bodies_are_refused(fhir: Fhir) -> None:
    assert fhir.post("", bundle(kind="collection")).status_code == 400
    too_many = bundle(*[entry("GET", "Patient")] * 1001)
    assert fhir.post("", too_many).status_code == 400
    deep: Any = "x"
    for _ in range(60):
        deep = {"extension": [{"url": "urn:x", "value": deep}]}
    for content in (b"", b"[]", b"{", b'"x"', b"\xff", b'{"a":' * 3000, b'{"a":NaN}'):
        sent = fhir.client.post(
            "/fhir/Patient", content=content, headers=fhir.headers | {"Content-Type": "application/fhir+json"}
        )
        assert (sent.status_code, sent.json()["resourceType"]) == (400, "OperationOutcome")
    assert fhir.post("/Patient", patient() | {"extension": [deep]}).status_code == 400
    assert fhir.post("/Device", {"resourceType": "Device", "lotNumber": "x" * 1_100_000}).status_code == 400
    assert fhir.post("/Device", {"resourceType": "Device", "lotNumber": "x" * 8_000_000}).status_code == 413


def test_a_report_may_hold_its_printed_form(fhir: Fhir) -> None:
    who = fhir.post("/Patient", patient("PDF-1")).json()["id"]
    form = {"contentType": "application/pdf", "data": "QUJD" * 500_000}
    sent = {"resourceType": "DiagnosticReport", "status": "final", "code": {"text": "Elsewhere"}}
    sent |= {"subject": {"reference": f"Patient/{who}"}, "presentedForm": [form]}
    made = fhir.post("/DiagnosticReport", sent).json()
    assert fhir.get(f"/DiagnosticReport/{made['id']}").json()["presentedForm"] == [form]

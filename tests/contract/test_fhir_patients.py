"""FHIR Patients and orders write the same record that HL7 v2 writes: names, versions, merges, one writer wins."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fhir_house import MRN, Fhir, FhirHouse, fhir_house, lab, order, patient

from polyclinic.departments.access.contracts import Role
from polyclinic.departments.records.patients import PatientKey
from polyclinic.departments.records.ports import OrderQuery


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirHouse]:
    with fhir_house(tmp_path_factory.mktemp("fhir")) as opened:
        yield opened


@pytest.fixture(scope="module")
def fhir(house: FhirHouse) -> Fhir:
    return house.fhir()


def made(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_a_patient_is_created_read_and_searched(house: FhirHouse, fhir: Fhir) -> None:
    answer = fhir.post("/Patient", patient("P-100"))
    created = made(answer)
    assert answer.headers["ETag"] == 'W/"1"'
    assert answer.headers["Location"].endswith(f"/fhir/Patient/{created['id']}/_history/1")
    assert "P-100" not in answer.headers["Location"]
    record = house.services.record.patient(PatientKey(patient_id="P-100", issuer="SITE-A"))
    assert (record.name, record.sex, str(record.birth_date)) == ("Wang^Xiao Dong", "M", "1960-01-02")
    read = fhir.get(f"/Patient/{created['id']}")
    assert read.json() == created
    assert read.headers["content-type"].startswith("application/fhir+json; fhirVersion=4.0")
    assert fhir.get(f"/Patient/{created['id']}", If_None_Match='W/"1"').status_code == 304
    assert fhir.ids(f"/Patient?identifier={MRN}|P-100") == [created["id"]]
    assert fhir.ids("/Patient?identifier=|P-100") == []


@pytest.mark.parametrize(
    ("number", "names", "pn", "searches"),
    [
        (
            "CJK-1",
            [{"family": "Wang", "given": ["XiaoDong"]}, {"family": "王", "given": ["小东"]}],
            "Wang^XiaoDong=王^小东",
            ["name=王小东", "family=王&identifier=CJK-1", "given=小东", "given=xiaod&identifier=CJK-1"],
        ),
        (
            "CJK-2",
            [
                {"family": "Yamada", "given": ["Tarou"]},
                {"family": "山田", "given": ["太郎"]},
                {"family": "ヤマダ", "given": ["タロウ"]},
            ],
            "Yamada^Tarou=山田^太郎=ヤマダ^タロウ",
            ["family=山田", "family=ﾔﾏﾀﾞ", "given=タロウ", "name=yamada"],
        ),
        (
            "CJK-3",
            [{"family": "Hong", "given": ["Gildong"]}, {"family": "洪", "given": ["吉洞"]}],
            "Hong^Gildong=洪^吉洞",
            ["family=洪", "name=洪吉洞", "family=HONG"],
        ),
        ("LAT-1", [{"family": "Müller", "given": ["Jürgen", "Karl"]}], "Müller^Jürgen^Karl", ["family=muller"]),
    ],
)
def test_names_round_trip_and_are_found_in_any_script(
    house: FhirHouse, fhir: Fhir, number: str, names: list[dict[str, Any]], pn: str, searches: list[str]
) -> None:
    created = made(fhir.post("/Patient", patient(number, name=names)))
    key = PatientKey(patient_id=number, issuer="SITE-A")
    assert house.services.record.patient(key).name == pn
    given = [{k: n[k] for k in ("family", "given")} for n in created["name"]]
    assert given == names
    assert [n["extension"][0]["valueCode"] for n in created["name"]] == ["ABC", "IDE", "SYL"][: len(names)]
    for search in searches:
        assert created["id"] in fhir.ids(f"/Patient?{search}"), search
    again = fhir.put(f"/Patient/{created['id']}", created)
    assert again.json()["meta"]["versionId"] == "1"


def test_string_modifiers(fhir: Fhir) -> None:
    one = made(fhir.post("/Patient", patient("MOD-1", name=[{"family": "Modifier", "given": ["Ann"]}])))["id"]
    assert fhir.ids("/Patient?family=modi") == [one]
    assert fhir.ids("/Patient?family:exact=Modifier") == [one]
    assert fhir.ids("/Patient?family:exact=modifier") == []
    assert fhir.ids("/Patient?family:contains=ODIF") == [one]
    assert fhir.ids(f"/Patient?_id={one}&gender:missing=true") == []
    assert fhir.ids(f"/Patient?_id={one}&link:missing=true") == [one]
    assert fhir.ids(f"/Patient?_id={one}&birthdate=lt1960&gender=male") == []
    assert fhir.ids(f"/Patient?_id={one}&birthdate=1960-01&gender=female,male") == [one]
    assert fhir.ids(f"/Patient?_id={one}&gender:not=male") == []


def test_an_update_needs_the_version_that_holds(fhir: Fhir) -> None:
    created = made(fhir.post("/Patient", patient("UPD-1")))
    path = f"/Patient/{created['id']}"
    updated = fhir.put(path, created | {"birthDate": "1961-02-03"}, If_Match='W/"1"')
    assert (updated.status_code, updated.headers["ETag"]) == (200, 'W/"2"')
    stale = fhir.put(path, created | {"gender": "female"}, If_Match='W/"1"')
    assert stale.status_code == 412
    assert stale.json()["issue"][0]["details"]["coding"][0]["code"] == "fhir.version-moved"
    versions = fhir.get(f"{path}/_history").json()
    assert [e["resource"]["birthDate"] for e in versions["entry"]] == ["1961-02-03", "1960-01-02"]
    assert fhir.get(f"{path}/_history/1").json()["birthDate"] == "1960-01-02"
    assert fhir.get(f"{path}/_history/9").status_code == 404


def test_of_two_writers_one_wins(fhir: Fhir) -> None:
    created = made(fhir.post("/Patient", patient("RACE-1")))
    answers: list[int] = []

    def write(day: int) -> None:
        body = created | {"birthDate": f"1960-01-{day:02d}"}
        answers.append(fhir.put(f"/Patient/{created['id']}", body, If_Match='W/"1"').status_code)

    threads = [threading.Thread(target=write, args=(day,)) for day in range(10, 16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, *[412] * 5]
    assert fhir.get(f"/Patient/{created['id']}").headers["ETag"] == 'W/"2"'


def test_what_is_wrong_is_refused_with_its_place(fhir: Fhir) -> None:
    refused = fhir.post("/Patient", patient("BAD-1", gender="männlich", birthDate="1960-13-01", name={"family": "x"}))
    assert refused.status_code == 400
    places = {issue["expression"][0] for issue in refused.json()["issue"]}
    assert places == {"Patient.gender", "Patient.birthDate", "Patient.name"}
    assert fhir.post("/Patient", {"resourceType": "Patient"}).status_code == 422
    assert fhir.post("/Patient", patient("BAD-2", name=[{"family": "A^B"}])).status_code == 422
    assert fhir.post("/Observation", patient("BAD-3")).status_code == 400
    assert fhir.post("/Patient", patient("BAD-4", modifierExtension=[{"url": "urn:x"}])).status_code == 422
    assert fhir.ids("/Patient?identifier=BAD-1,BAD-2,BAD-3,BAD-4") == []


def test_what_is_not_known_is_said_or_refused_as_asked(fhir: Fhir) -> None:
    body = patient("LEN-1", favouriteColour="blue", telecom=[{"system": "phone", "value": "1"}])
    strict = fhir.post("/Patient", body, Prefer="handling=strict")
    assert strict.status_code == 400
    lenient = fhir.post("/Patient", body, Prefer="return=OperationOutcome")
    assert lenient.status_code == 201
    assert {i["diagnostics"] for i in lenient.json()["issue"]} == {
        "favouriteColour is not kept",
        "telecom is not kept",
    }
    assert fhir.post("/Patient", patient("LEN-2"), Prefer="return=minimal").content == b""
    assert fhir.get("/Patient?favourite=1").json()["entry"][-1]["search"]["mode"] == "outcome"
    assert fhir.get("/Patient?favourite=1", Prefer="handling=strict").status_code == 400


def test_conditional_create_makes_one(fhir: Fhir) -> None:
    condition = f"identifier={MRN}|COND-1"
    first = fhir.post("/Patient", patient("COND-1"), If_None_Exist=condition)
    second = fhir.post("/Patient", patient("COND-1"), If_None_Exist=condition)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert fhir.post("/Patient", patient("COND-1")).status_code == 409
    assert fhir.post("/Patient", patient("COND-2"), If_None_Exist="birthdate=1960-01-02").status_code == 412


def test_many_conditional_creates_at_once_make_one(fhir: Fhir) -> None:
    answers: list[int] = []

    def create() -> None:
        condition = f"identifier={MRN}|COND-9"
        answers.append(fhir.post("/Patient", patient("COND-9"), If_None_Exist=condition).status_code)

    threads = [threading.Thread(target=create) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 200, 200, 200, 201]


def test_a_merge_reaches_orders_and_other_results(house: FhirHouse, fhir: Fhir) -> None:
    prior = made(fhir.post("/Patient", patient("MRG-1")))
    into = made(fhir.post("/Patient", patient("MRG-2")))
    ordered = made(fhir.post("/ServiceRequest", order(prior["id"], "MRG-ORDER")))
    value = made(fhir.post("/Observation", lab(prior["id"])))
    link = {"other": {"reference": f"Patient/{into['id']}"}, "type": "replaced-by"}
    merged = fhir.put(f"/Patient/{prior['id']}", prior | {"link": [link]}, If_Match='W/"1"')
    assert merged.status_code == 200, merged.text
    assert merged.json()["active"] is False
    assert merged.json()["link"][0]["other"]["reference"] == f"Patient/{into['id']}"
    history = fhir.get(f"/Patient/{prior['id']}/_history").json()["entry"]
    assert [e["resource"]["active"] for e in history] == [False, True]
    assert fhir.ids(f"/ServiceRequest?patient={into['id']}") == [ordered["id"]]
    assert fhir.ids(f"/ServiceRequest?patient={prior['id']}") == [ordered["id"]]
    assert fhir.ids("/ServiceRequest?patient.identifier=MRG-2") == [ordered["id"]]
    for path in (f"/Observation?patient={into['id']}", f"/Observation?patient={prior['id']}"):
        assert fhir.ids(path) == [value["id"]]
    assert fhir.ids(f"/Patient?link={into['id']}") == [prior["id"]]
    assert fhir.put(f"/Patient/{prior['id']}", merged.json() | {"gender": "other"}).status_code == 409
    surviving = house.services.record.surviving(PatientKey(patient_id="MRG-1", issuer="SITE-A"))
    assert surviving.patient_id == "MRG-2"


def test_an_order_is_in_the_modality_worklist(house: FhirHouse, fhir: Fhir) -> None:
    who = made(fhir.post("/Patient", patient("ORD-1")))
    created = made(fhir.post("/ServiceRequest", order(who["id"], "ORD-A", reasonCode=[{"text": "cough"}])))
    (kept,) = house.services.record.find_orders(OrderQuery(placer_number="ORD-A"))
    assert (kept.steps[0].modality, kept.steps[0].starts_at.isoformat()) == ("CT", "2026-03-05T08:30:00+08:00")
    assert kept.indication == "cough"
    assert kept.study_instance_uid
    assert fhir.ids("/ServiceRequest?identifier=ORD-A") == [created["id"]]
    assert fhir.ids(f"/ServiceRequest?patient={who['id']}&occurrence=2026-03-05") == [created["id"]]
    path = f"/ServiceRequest/{created['id']}"
    moved = fhir.put(path, created | {"occurrenceDateTime": "2026-03-06T00:30:00Z", "status": "on-hold"})
    assert moved.json()["meta"]["versionId"] == "2"
    assert [e["resource"]["status"] for e in fhir.get(f"{path}/_history").json()["entry"]] == ["on-hold", "active"]
    assert fhir.post("/ServiceRequest", order(who["id"], "ORD-A")).status_code == 409
    assert fhir.post("/ServiceRequest", order("nobody", "ORD-B")).status_code == 422
    assert fhir.post("/ServiceRequest", order(who["id"], "ORD-C", status="draft")).status_code == 422
    assert fhir.put("/ServiceRequest/unknown", order(who["id"]) | {"id": "unknown"}).status_code == 405
    by_number = {"subject": {"identifier": {"system": MRN, "value": "ORD-1"}}}
    assert fhir.post("/ServiceRequest", order("", "ORD-D") | by_number).status_code == 201


def test_who_may(house: FhirHouse, fhir: Fhir) -> None:
    reader = house.fhir(Role.RADIOLOGIST)
    assert reader.get("/Patient").status_code == 200
    refused = reader.post("/Patient", patient("DENIED"))
    assert (refused.status_code, refused.json()["resourceType"]) == (403, "OperationOutcome")
    visitor = Fhir(client=fhir.client, headers={})
    answer = visitor.get("/Patient")
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (401, "login")
    assert visitor.get("/metadata").status_code == 200


def test_pages_go_on_where_they_ended_and_tell_nothing(house: FhirHouse, fhir: Fhir) -> None:
    for number in range(7):
        made(fhir.post("/Patient", patient(f"PAGE-{number}", name=[{"family": "Pagination"}])))
    seen, path = [], "/Patient?family=pagination&_count=3"
    sizes = []
    while path:
        body = fhir.get(path).json()
        sizes.append(len(body["entry"]))
        seen += [e["resource"]["identifier"][0]["value"] for e in body["entry"]]
        links = {link["relation"]: link["url"] for link in body["link"]}
        path = links["next"].partition("/fhir")[2] if "next" in links else ""
        assert "agination" not in path
        if path:
            assert house.fhir(Role.DEVICE).get(path).status_code == 410
            assert fhir.get(path.replace("/Patient", "/Device")).status_code == 410
    assert sizes == [3, 3, 1]
    assert seen == [f"PAGE-{n}" for n in range(7)]
    assert fhir.get("/Patient?family=pagination&_summary=count").json() == {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 7,
        "link": [{"relation": "self", "url": "http://127.0.0.1/fhir/Patient?family=pagination&_summary=count"}],
    }


def test_other_results_keep_every_version_and_their_digits(fhir: Fhir) -> None:
    who = made(fhir.post("/Patient", patient("LAB-1")))["id"]
    body = {"resourceType": "Observation", "status": "preliminary"} | {
        "code": {"coding": [{"system": "http://loinc.org", "code": "33914-3"}]},
        "subject": {"reference": f"Patient/{who}"},
        "valueQuantity": {"value": 12345},
    }
    text = json.dumps(body).replace("12345", "0.010")
    sent = fhir.client.post(
        "/fhir/Observation", content=text, headers=fhir.headers | {"Content-Type": "application/fhir+json"}
    )
    created = made(sent)
    path = f"/Observation/{created['id']}"
    assert '"value":0.010' in fhir.get(path).text
    assert fhir.put(path, created | {"status": "final"}, If_Match='W/"1"').headers["ETag"] == 'W/"2"'
    assert fhir.ids(f"/Observation?patient={who}&status=preliminary") == []
    assert fhir.ids(f"/Observation?patient={who}&code=http://loinc.org|33914-3") == [created["id"]]
    assert [e["resource"]["status"] for e in fhir.get(f"{path}/_history").json()["entry"]] == ["final", "preliminary"]
    assert fhir.put("/Observation/of-theirs", lab(who) | {"id": "of-theirs"}).status_code == 201
    assert fhir.post("/Observation", lab("nobody")).status_code == 422

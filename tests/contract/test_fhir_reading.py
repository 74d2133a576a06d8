"""Studies, findings and reports of the house as FHIR: states, searches, references, and R4 by an independent judge."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fhir_house import MRN, Fhir, FhirHouse, fhir_house, lab, order, patient

from polyclinic.core.ids import stable_uid
from polyclinic.departments.reading.contracts import DecisionKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A house with three studies: signed, draft, and one that nobody reads."""

    house: FhirHouse
    fhir: Fhir
    signed: str
    draft: str
    unread: str
    findings: list[str]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Callable[..., bytes]], Filled]]:
    with fhir_house(tmp_path_factory.mktemp("fhir")) as house:
        made: list[Filled] = []

        def fill(part10: Callable[..., bytes]) -> Filled:
            if not made:
                made.append(_fill(house, part10))
            return made[0]

        yield fill


@pytest.fixture
def there(filled: Callable[[Callable[..., bytes]], Filled], part10: Callable[..., bytes]) -> Filled:
    return filled(part10)


def _fill(house: FhirHouse, part10: Callable[..., bytes]) -> Filled:
    archive = house.services.archive
    for study, date in (("1", "20260102"), ("2", "20260203"), ("3", "20251231")):
        for number in (1, 2):
            archive.store(
                part10(number, study, StudyDate=date, PatientID=f"P-{'2' if study == '3' else '1'}"), source="T"
            )
    archive.store(part10(1, "3", "2", Modality="DX", StudyDate="20251231", PatientID="P-2"), source="T")
    signed, draft, unread = (stable_uid("study", n) for n in "123")
    findings = house.read_study(signed)
    house.decide(signed, findings[0], DecisionKind.ACCEPT)
    house.decide(signed, findings[1], DecisionKind.REJECT)
    house.sign(signed)
    findings += house.read_study(draft)
    fhir = house.fhir()
    assert fhir.post("/Patient", patient("P-1", name=[{"family": "Li", "given": ["Na"]}])).status_code == 201
    return Filled(house=house, fhir=fhir, signed=signed, draft=draft, unread=unread, findings=findings)


def test_a_study_says_what_the_archive_knows(there: Filled) -> None:
    study = there.fhir.get(f"/ImagingStudy/{there.unread}").json()
    assert study["identifier"][0] == {"system": "urn:dicom:uid", "value": f"urn:oid:{there.unread}"}
    assert (study["numberOfSeries"], study["numberOfInstances"]) == (2, 3)
    assert {m["code"] for m in study["modality"]} == {"CT", "DX"}
    assert study["started"].startswith("2025-12-31T10:11:12")
    endpoint = there.fhir.get("/" + study["endpoint"][0]["reference"]).json()
    assert endpoint["address"] == "http://127.0.0.1/dicom-web"
    imaged = there.fhir.get("/" + study["subject"]["reference"]).json()
    assert imaged["name"][1]["text"] == "王小东"
    assert imaged["identifier"][0]["system"] == MRN


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", "123"),
        ("_sort=started", "312"),
        ("_sort=-started", "213"),
        ("_sort=-started&_count=1", "2"),
        ("modality=DX", "3"),
        ("modality=http://dicom.nema.org/resources/ontology/DCM|DX,CT", "123"),
        ("started=2026", "12"),
        ("started=lt2026", "3"),
        ("started=ge2026-01-02&started=le2026-01-31", "1"),
        ("started=sa2026-01-02", "2"),
        ("started=ne2026-01", "23"),
        ("identifier=ACC-2", "2"),
        ("identifier=urn:dicom:uid|urn:oid:{2}", "2"),
        ("patient.identifier=P-1", "12"),
        (f"patient.identifier={MRN}|P-2", "3"),
        ("subject:Patient.name=Li", "12"),
        ("status=available&status:not=cancelled", "123"),
        ("status=cancelled", ""),
        ("basedon:missing=false", ""),
        ("endpoint=Endpoint/dicomweb", "123"),
        ("_id={1},{3}", "13"),
        ("_lastUpdated=gt2020", "123"),
        ("_lastUpdated=lt2020", ""),
    ],
)
def test_studies_are_found(there: Filled, search: str, found: str) -> None:
    names = {there.signed: "1", there.draft: "2", there.unread: "3"}
    uids = {number: uid for uid, number in names.items()}
    asked = search
    for number, uid in uids.items():
        asked = asked.replace(f"{{{number}}}", uid)
    ids = [names[one] for one in there.fhir.ids(f"/ImagingStudy?{asked}")]
    assert (ids if "_sort" in search else sorted(ids)) == list(found)


def test_a_patient_whom_only_images_name_can_be_taken_into_the_record(there: Filled) -> None:
    (one,) = there.fhir.found("/Patient?identifier=P-2")
    path = f"/Patient/{one['id']}"
    assert there.fhir.get(path).headers["ETag"] == 'W/"0"'
    taken = there.fhir.put(path, one | {"birthDate": "1961-01-02"}, If_Match='W/"0"')
    assert (taken.status_code, taken.headers["ETag"]) == (201, 'W/"1"')
    assert there.fhir.found("/Patient?identifier=P-2") == [taken.json()]
    assert there.fhir.ids(f"/ImagingStudy?patient={one['id']}") == [there.unread]


def test_findings_are_observations_in_their_state(there: Filled) -> None:
    accepted, rejected, *proposed = there.findings
    one = there.fhir.get(f"/Observation/{accepted}").json()
    assert (one["status"], one["meta"]["versionId"]) == ("final", "4")
    size = one["component"][0]
    assert size["valueQuantity"] == {"value": 6.5, "unit": "mm", "system": "http://unitsofmeasure.org", "code": "mm"}
    assert one["derivedFrom"] == [{"reference": f"ImagingStudy/{there.signed}", "type": "ImagingStudy"}]
    assert one["contained"][0]["name"] == [{"text": "Dr Reader"}]
    assert there.fhir.get("/" + one["device"]["reference"]).json()["version"] == [{"value": "0.0.1"}]
    assert there.fhir.get(f"/Observation/{rejected}").json()["status"] == "cancelled"
    search = there.fhir.ids
    assert set(search("/Observation?status=preliminary")) == set(proposed)
    assert search(f"/Observation?derived-from=ImagingStudy/{there.signed}&status=final") == [accepted]
    assert set(search("/Observation?patient.identifier=P-1&date=2026-02")) == set(proposed)
    assert set(search("/Observation?combo-code=103339001")) == set(there.findings)
    assert set(search("/Observation?device=chest-ct-0.0.1&_count=50")) == set(there.findings)
    assert search("/Observation?patient.identifier=P-2") == []


def test_pages_of_findings_break_inside_a_study(there: Filled) -> None:
    seen: list[str] = []
    path = "/Observation?category=imaging&_count=1"
    while path:
        body = there.fhir.get(path).json()
        seen += [e["resource"]["id"] for e in body.get("entry", [])]
        links = {link["relation"]: link["url"] for link in body["link"]}
        path = links["next"].partition("/fhir")[2] if "next" in links else ""
    assert sorted(seen) == sorted(there.findings)


def test_reports_are_drafts_until_they_are_signed(there: Filled) -> None:
    final = there.fhir.get(f"/DiagnosticReport/{there.signed}").json()
    assert final["status"] == "final"
    assert final["result"] == [{"reference": f"Observation/{there.findings[0]}", "type": "Observation"}]
    assert final["contained"][0]["name"] == [{"text": "Dr Reader"}]
    assert final["presentedForm"][0]["url"].startswith(f"http://127.0.0.1/api/v1/studies/{there.signed}/report.pdf")
    assert final["conclusion"]
    draft = there.fhir.get(f"/DiagnosticReport/{there.draft}").json()
    assert (draft["status"], "issued" in draft) == ("preliminary", False)
    assert there.fhir.ids("/DiagnosticReport?status=final&issued=2026-03-04") == [there.signed]
    assert there.fhir.ids(f"/DiagnosticReport?imaging-study={there.draft}") == [there.draft]
    assert there.fhir.ids(f"/DiagnosticReport?result={there.findings[0]}") == [there.signed]
    assert there.fhir.get(f"/DiagnosticReport/{there.unread}").status_code == 404
    versions = there.fhir.get(f"/DiagnosticReport/{there.signed}/_history").json()["entry"]
    assert [e["resource"]["meta"]["versionId"] for e in versions] == ["1"]


def test_what_the_house_makes_is_not_written_by_others(there: Filled) -> None:
    for path in (
        f"/Observation/{there.findings[0]}",
        f"/DiagnosticReport/{there.signed}",
        f"/ImagingStudy/{there.signed}",
        "/Endpoint/dicomweb",
    ):
        refused = there.fhir.put(path, there.fhir.get(path).json())
        assert refused.status_code == 405, refused.text
        assert refused.json()["issue"][0]["details"]["coding"][0]["code"] == "fhir.read-only"
    assert there.fhir.call("DELETE", f"/ImagingStudy/{there.signed}").status_code == 405


def test_includes_follow_references_both_ways(there: Filled) -> None:
    def included(path: str) -> set[str]:
        entries = there.fhir.get(path).json()["entry"]
        return {e["resource"]["resourceType"] for e in entries if e["search"]["mode"] == "include"}

    base = f"?_id={there.signed}"
    assert included(f"/ImagingStudy{base}&_include=ImagingStudy:patient") == {"Patient"}
    follow = "&_include=DiagnosticReport:result&_include=DiagnosticReport:imaging-study"
    assert included(f"/DiagnosticReport{base}{follow}") == {"Observation", "ImagingStudy"}
    back = "&_revinclude=DiagnosticReport:imaging-study&_revinclude=Observation:derived-from"
    assert included(f"/ImagingStudy{base}{back}") == {"DiagnosticReport", "Observation"}


def test_orders_are_joined_to_their_study(there: Filled) -> None:
    who = there.fhir.ids("/Patient?identifier=P-1")[0]
    ordered = there.fhir.post(
        "/ServiceRequest",
        order(who, "FOR-1", identifier=[{"system": "urn:dicom:uid", "value": f"urn:oid:{there.signed}"}]),
    ).json()["id"]
    assert there.fhir.ids(f"/ImagingStudy?basedon=ServiceRequest/{ordered}") == [there.signed]
    assert there.fhir.ids(f"/DiagnosticReport?based-on={ordered}") == [there.signed]


def test_other_systems_results_stand_beside_ours(there: Filled) -> None:
    who = there.fhir.ids("/Patient?identifier=P-1")[0]
    theirs = there.fhir.post("/Observation", lab(who)).json()["id"]
    both = set(there.fhir.ids(f"/Observation?patient={who}"))
    assert both == {theirs, *there.findings}
    assert there.fhir.ids(f"/Observation?patient={who}&category=laboratory&date=ge2026-03") == [theirs]
    assert there.fhir.get(f"/Observation?patient={who}&_summary=count").json()["total"] == len(both)


def test_elements_cut_and_say_so(there: Filled) -> None:
    (one,) = there.fhir.found(f"/ImagingStudy?_id={there.signed}&_elements=modality")
    assert "series" not in one
    assert one["modality"]
    assert one["meta"]["tag"][0]["code"] == "SUBSETTED"


def test_everything_that_is_sent_is_r4_by_another_implementation(there: Filled) -> None:
    judged = 0
    for kind in ("Patient", "ServiceRequest", "ImagingStudy", "Observation", "DiagnosticReport", "Device", "Endpoint"):
        answer = there.fhir.get(f"/{kind}")
        for entry in answer.json().get("entry", []):
            judge(entry["resource"])
            judged += 1
        judge(answer.json())
    for path in (f"/DiagnosticReport/{there.signed}/_history", "/metadata", "/Patient/none", "/Nothing"):
        judge(there.fhir.get(path).json())
    assert judged > 12


def judge(resource: dict[str, Any]) -> None:
    """Raises where fhirclient, whose classes are generated from R4's own definitions, does not accept it."""
    name = resource["resourceType"]
    kind = getattr(importlib.import_module(f"fhirclient.models.{name.lower()}"), name)
    assert kind(resource).as_json()["resourceType"] == name


def test_the_judge_refuses_what_is_not_r4(there: Filled) -> None:
    study = there.fhir.get(f"/ImagingStudy/{there.signed}").json()
    from fhirclient.models.fhirabstractbase import FHIRValidationError

    for wrong in ({"status": None}, {"started": 5}, {"performer": []}, {"series": [{"uid": "1"}]}):
        broken = {k: v for k, v in (study | wrong).items() if v is not None}
        with pytest.raises(FHIRValidationError):
            judge(broken)

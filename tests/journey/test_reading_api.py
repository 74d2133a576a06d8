"""The JSON API as the page uses it: who may, what conflicts, what a bad request is told."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient
from house import House, images, study_uid

from polyclinic.app.wiring import build_app
from polyclinic.core.findings import FindingState
from polyclinic.departments.access.contracts import Role
from polyclinic.departments.reading.contracts import StudyState

PASSWORD = "correct horse battery"


class Browser:
    """A signed-in person at the API."""

    def __init__(self, client: TestClient, name: str) -> None:
        self.client = client
        answer = client.post("/api/v1/session", json={"name": name, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        self.csrf: str = answer.json()["csrf"]

    def get(self, path: str) -> Any:
        return self.client.get(f"/api/v1{path}")

    def post(self, path: str, body: object) -> Any:
        return self.client.post(f"/api/v1{path}", json=body, headers={"X-CSRF-Token": self.csrf})


@pytest.fixture(scope="module")
def app(house: House) -> Any:
    for name, role in (("ann", Role.RADIOLOGIST), ("bob", Role.RADIOLOGIST), ("tom", Role.TECHNICIAN)):
        if house.services.access.person_named(name) is None:
            house.services.access.add_person(name=name, display=name.title(), roles={role}, password=PASSWORD)
    return build_app(house.services, ready=lambda: True)


@pytest.fixture
def visitor(app: Any) -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1")


@pytest.fixture
def ann(app: Any) -> Browser:
    return Browser(TestClient(app, base_url="http://127.0.0.1"), "ann")


@pytest.fixture
def bob(app: Any) -> Browser:
    return Browser(TestClient(app, base_url="http://127.0.0.1"), "bob")


@pytest.fixture
def tom(app: Any) -> Browser:
    return Browser(TestClient(app, base_url="http://127.0.0.1"), "tom")


@pytest.fixture
def study(house: House, request: pytest.FixtureRequest) -> str:
    """A fresh study with one proposed finding; its path in the API."""
    name = f"api-{request.node.name}"
    house.store(images(name, patient=f"ID-{request.node.name[:20]}"))
    house.wait(name, StudyState.READY)
    return f"/studies/{study_uid(name)}"


def proposed(browser: Browser, study: str) -> dict[str, Any]:
    (finding,) = browser.get(study).json()["findings"]
    return finding


def decide(browser: Browser, study: str, finding: dict[str, Any], **form: object) -> Any:
    return browser.post(
        f"{study}/findings/{finding['finding']['id']}/decision", {"version": finding["version"], **form}
    )


def sign(browser: Browser, study: str, sha256: str = "") -> Any:
    sha256 = sha256 or browser.get(f"{study}/report").json()["content_sha256"]
    return browser.post(f"{study}/report/sign", {"lang": "en", "content_sha256": sha256})


def test_nobody_sees_anything_before_signing_in(visitor: TestClient, study: str) -> None:
    for path in ("/worklist", study, f"{study}/report", f"{study}/report.pdf", f"{study}/objects", "/events"):
        answer = visitor.get(f"/api/v1{path}")
        assert (answer.status_code, answer.json()["code"]) == (401, "access.sign-in")
    assert visitor.get("/api/v1/session").json()["person"] is None
    assert visitor.get("/dicom-web/studies").status_code in (401, 403)
    assert visitor.get("/metrics").status_code == 401


def test_wrong_passwords_are_refused_alike_and_then_locked(app: Any, house: House) -> None:
    house.services.access.add_person(name="eve", display="Eve", roles={Role.RADIOLOGIST}, password=PASSWORD)
    client = TestClient(app, base_url="http://127.0.0.1")

    def attempt(name: str, password: str) -> Any:
        return client.post("/api/v1/session", json={"name": name, "password": password})

    assert attempt("nobody", "x").json() == attempt("eve", "x").json()
    codes = [attempt("eve", "x").json()["code"] for _ in range(5)]
    assert codes[-1] == "access.locked"
    assert attempt("eve", PASSWORD).status_code == 429


def test_signing_out_ends_the_session(ann: Browser) -> None:
    cookie = ann.client.cookies["polyclinic_session"]
    out = ann.client.delete("/api/v1/session", headers={"X-CSRF-Token": ann.csrf})
    assert out.json()["person"] is None
    ann.client.cookies.set("polyclinic_session", cookie)
    assert ann.get("/worklist").status_code == 401


def test_a_change_needs_the_token_of_the_page(ann: Browser, bob: Browser, study: str) -> None:
    finding = proposed(ann, study)
    ann.csrf, stolen = "", bob.csrf
    assert decide(ann, study, finding, decision="accept").json()["code"] == "access.csrf"
    ann.csrf = stolen
    assert decide(ann, study, finding, decision="accept").status_code == 403
    assert proposed(ann, study)["version"] == 0


def test_a_technician_reads_but_does_not_decide_or_sign(tom: Browser, study: str) -> None:
    finding = proposed(tom, study)
    refused = decide(tom, study, finding, decision="accept")
    assert (refused.status_code, refused.json()["code"]) == (403, "access.forbidden")
    assert "radiologist" in refused.json()["message"]
    assert sign(tom, study, "a" * 64).status_code == 403


def test_decide_edit_reopen(ann: Browser, study: str) -> None:
    finding = proposed(ann, study)
    accepted = decide(ann, study, finding, decision="accept").json()
    assert (accepted["finding"]["state"], accepted["version"], accepted["decided_by"]) == ("accepted", 1, "Ann")
    edited = decide(ann, study, accepted, decision="edit", edit={"long_axis_mm": 9, "attenuation": "part-solid"})
    assert edited.json()["finding"]["state"] == "edited"
    report = ann.get(f"{study}/report").json()
    said = " ".join(s["text"] for section in report["sections"] for s in section["sentences"])
    assert "9" in said
    assert "part-solid" in said
    rejected = decide(ann, study, edited.json(), decision="reject", reason="vessel").json()
    assert (rejected["reason"], rejected["finding"]["state"]) == ("vessel", "rejected")
    assert decide(ann, study, rejected, decision="reopen").json()["finding"] == finding["finding"]


def test_a_decision_on_an_old_version_is_a_conflict(ann: Browser, bob: Browser, study: str) -> None:
    finding = proposed(ann, study)
    assert decide(ann, study, finding, decision="accept").status_code == 200
    late = decide(bob, study, finding, decision="reject")
    assert (late.status_code, late.json()["code"]) == (409, "reading.stale")


@pytest.mark.parametrize(
    "form",
    [
        {"decision": "maybe"},
        {"decision": "accept", "version": -1},
        {"decision": "edit"},
        {"decision": "edit", "edit": {"long_axis_mm": 5000}},
        {"decision": "edit", "edit": {"attenuation": "liquid"}},
        {"decision": "edit", "edit": {"colour": "red"}},
        {"decision": "accept", "reason": "x" * 2001},
    ],
)
def test_a_bad_decision_is_told_what_is_wrong(ann: Browser, study: str, form: dict[str, object]) -> None:
    answer = decide(ann, study, proposed(ann, study), **form)
    assert answer.status_code == 422
    assert set(answer.json()) == {"code", "message"}
    assert proposed(ann, study)["version"] == 0


def test_a_reader_measures_a_nodule(ann: Browser, study: str) -> None:
    image = proposed(ann, study)["finding"]["region"]["contours"][0]["image"]
    z = 4.0
    form = {
        "long_axis": {"image": image, "points_mm": [[2, 4, z], [10, 4, z]]},
        "short_axis": {"image": image, "points_mm": [[6, 1, z], [6, 7, z]]},
        "attenuation": "solid",
        "note": "missed",
    }
    added = ann.post(f"{study}/findings", form).json()
    assert (added["finding"]["state"], added["finding"]["source"]["kind"]) == ("accepted", "person")
    values = {m["code"]["display"]: m["value"] for m in added["finding"]["measurements"]}
    assert (values["Long axis"], values["Short axis"]) == (8.0, 6.0)
    outline = added["finding"]["region"]["contours"][0]["points_mm"]
    assert min(p[0] for p in outline) == pytest.approx(2.0)
    assert max(p[1] for p in outline) == pytest.approx(7.0)
    ann.post(f"{study}/findings", form)
    assert len(ann.get(study).json()["findings"]) == 2, "the same ruler twice is one finding"
    off_plane = {"long_axis": {"image": image, "points_mm": [[2, 4, z], [2, 4, z + 20]]}}
    assert ann.post(f"{study}/findings", off_plane).json()["code"] == "reading.bad-ruler"
    foreign = {"long_axis": {"image": {**image, "sop_instance_uid": "1.2.3"}, "points_mm": [[2, 4, z], [9, 4, z]]}}
    assert ann.post(f"{study}/findings", foreign).status_code == 404


def test_signing(ann: Browser, study: str, house: House) -> None:
    early = sign(ann, study)
    assert (early.status_code, early.json()["code"]) == (409, "reading.undecided")
    old = ann.get(f"{study}/report").json()["content_sha256"]
    decide(ann, study, proposed(ann, study), decision="accept")
    assert sign(ann, study, old).json()["code"] == "reading.content-changed"
    final = sign(ann, study).json()
    assert (final["state"], final["signature"]["person_name"]) == ("final", "Ann")
    assert ann.get(f"{study}/report").json() == final
    again = decide(ann, study, proposed(ann, study), decision="reject")
    assert (again.status_code, again.json()["code"]) == (409, "reading.signed")
    chinese = ann.get(f"{study}/report?lang=zh").json()
    assert (chinese["translation_of"], chinese["language"]) == ("en", "zh")
    assert ann.get(f"{study}/report.pdf").content.startswith(b"%PDF-")
    house.wait(f"api-{'test_signing'}", StudyState.DELIVERED)
    objects = ann.get(f"{study}/objects").json()
    assert sorted(o["kind"] for o in objects) == ["KO", "PDF", "SEG", "SR"]
    assert ann.get(f"{study}/deliveries").json() == []
    assert ann.get(study).json()["row"]["state"] == "delivered"


def test_of_two_who_sign_at_once_one_is_told(ann: Browser, bob: Browser, study: str) -> None:
    decide(ann, study, proposed(ann, study), decision="accept")
    sha256 = ann.get(f"{study}/report").json()["content_sha256"]
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda b=b: answers.append(sign(b, study, sha256))) for b in (ann, bob)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(a.status_code for a in answers) == [200, 409]


def test_the_worklist_searches_filters_and_pages(ann: Browser, study: str, house: House) -> None:
    for number in range(3):
        house.store(images(f"page-{number}", patient="PAGED", modality="DX"))
    for number in range(3):
        house.wait(f"page-{number}", StudyState.READY)
    first = ann.get("/worklist?search=PAGED&limit=2").json()
    assert (first["total"], len(first["rows"])) == (3, 2)
    rest = ann.get(f"/worklist?search=PAGED&limit=2&cursor={first['next_cursor']}").json()
    assert rest["next_cursor"] is None
    uids = [row["study_instance_uid"] for row in first["rows"] + rest["rows"]]
    assert sorted(uids) == sorted(study_uid(f"page-{number}") for number in range(3))
    assert first["rows"][0]["priors"] == 2
    assert ann.get("/worklist?search=PAGED&state=ready").json()["total"] == 3
    assert ann.get("/worklist?search=PAGED&state=signed").json()["total"] == 0
    assert ann.get("/worklist?search=%25").json()["total"] == 0
    assert ann.get("/worklist?search=test").json()["total"] >= 4
    assert ann.get("/worklist?cursor=nonsense").status_code == 422
    assert ann.get("/worklist?state=lost").status_code == 422


def test_the_study_page_has_everything(ann: Browser, study: str) -> None:
    page = ann.get(f"{study}?lang=zh").json()
    assert page["revision"] == 1
    assert (page["row"]["finding_count"], page["row"]["undecided"], page["row"]["state"]) == (1, 1, "ready")
    (run,) = page["runs"]
    assert (run["agent_title"], run["state"], run["facts"][0]["value"]) == ("Quick test agent", "done", "5")
    assert page["series"][0]["instance_count"] == 5
    assert page["signature"] is None
    assert page["findings"][0]["finding"]["state"] == FindingState.PROPOSED
    assert not page["findings"][0]["title"].isascii()


def test_what_does_not_exist(ann: Browser) -> None:
    for path in ("/studies/1.2.3", "/studies/1.2.3/report", "/nothing"):
        assert ann.get(path).status_code == 404
    assert ann.post("/studies/1.2.3/runs/x/retry", {}).status_code == 404


def test_a_run_that_did_not_fail_is_not_tried_again(ann: Browser, study: str) -> None:
    (run,) = ann.get(study).json()["runs"]
    assert ann.post(f"{study}/runs/{run['id']}/retry", {}).json()["code"] == "reading.run-not-failed"


def test_requests_are_bounded_and_answers_guarded(ann: Browser, visitor: TestClient) -> None:
    large = visitor.post("/api/v1/session", content=b"x" * 1_000_001)
    assert (large.status_code, large.json()["code"]) == (413, "http.too-large")
    streamed = visitor.post("/api/v1/session", content=(b"x" * 100_000 for _ in range(11)))
    assert streamed.status_code == 413
    answer = ann.get("/worklist")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "script-src 'self' 'wasm-unsafe-eval'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(visitor: TestClient) -> None:
    answer = visitor.post("/api/v1/session", json={"name": "ann", "password": PASSWORD})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def test_a_device_fetches_with_a_token(house: House, visitor: TestClient) -> None:
    person = house.services.access.add_person(name="dev", display="D", roles={Role.DEVICE}, password=PASSWORD)
    token = house.services.access.new_bearer(person.person_id, "modality")
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/dicom+json"}
    assert visitor.get("/dicom-web/studies", headers=headers).status_code in (200, 204)
    assert visitor.get("/api/v1/worklist", headers=headers).status_code == 403
    wrong = {"Authorization": "Bearer wrong"}
    assert visitor.get("/dicom-web/studies", headers=wrong).status_code in (401, 403)


def test_the_schema_has_stable_names(visitor: TestClient) -> None:
    schema = visitor.get("/api/v1/openapi.json").json()
    names = {o["operationId"] for path in schema["paths"].values() for o in path.values()}
    assert {"getWorklist", "getStudy", "decideFinding", "addFinding", "getReport", "signReport", "retryRun"} <= names


def test_counters(house: House, app: Any) -> None:
    house.services.access.add_person(name="root", display="R", roles={Role.ADMINISTRATOR}, password=PASSWORD)
    browser = Browser(TestClient(app, base_url="http://127.0.0.1"), "root")
    text = browser.client.get("/metrics").text
    assert 'polyclinic_agent_runs{state="done"}' in text
    assert "polyclinic_instances " in text

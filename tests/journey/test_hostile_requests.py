"""What a hostile or broken client sends to the web server: a clear refusal, never a server error."""

from __future__ import annotations

import base64
import io
import logging
from pathlib import Path

import pydicom
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from house import House, images, settings_in, study_uid
from test_reading_api import Browser, ann, app, proposed, study, visitor

from polyclinic.app.wiring import build, build_app
from polyclinic.core.ids import stable_uid
from polyclinic.departments.reading.contracts import StudyState
from polyclinic.dicom.part10 import to_part10
from polyclinic.journeys.case_files import extent_of
from polyclinic.screens.worklist import WorklistScreen

__all__ = ["ann", "app", "study", "visitor"]


@pytest.mark.parametrize(
    "body",
    [
        b"{{{",
        b"null",
        b"[" * 50_000,
        b'{"decision": "reject", "version": 0, "reason": "\xff"}',
        b'{"decision": "reject", "version": 0, "reason": "\\ud800"}',
        b'{"decision": "accept", "version": -1}',
        b'{"decision": "accept", "version": 99999999999999999999999999}',
        b'{"decision": "accept", "version": ' + b"9" * 5000 + b"}",
        b'{"decision": "edit", "version": 0, "edit": {"long_axis_mm": NaN}}',
        b'{"decision": "edit", "version": 0, "edit": {"long_axis_mm": 1e400}}',
        b'{"decision": "obliterate", "version": 0}',
    ],
)
def test_a_garbled_decision_is_refused(ann: Browser, study: str, body: bytes) -> None:
    finding_id = proposed(ann, study)["finding"]["id"]
    headers = {"X-CSRF-Token": ann.csrf, "Content-Type": "application/json"}
    path = f"/api/v1{study}/findings/{finding_id}/decision"
    answer = ann.client.post(path, content=body, headers=headers)
    assert answer.status_code in {400, 409, 422}
    assert {"code", "message"} == set(answer.json())
    assert proposed(ann, study)["version"] == 0


@pytest.mark.parametrize(
    ("frame", "points_mm", "code"),
    [
        (1, [[2, 2, 4000], [8, 2, 4000]], "reading.bad-ruler"),
        (1, [[200, 2, 4], [208, 2, 4]], "reading.bad-ruler"),
        (2, [[2, 2, 4], [8, 2, 4]], "archive.no-frame"),
        (10**30, [[2, 2, 4], [8, 2, 4]], "http.invalid"),
    ],
)
def test_a_ruler_beside_its_image_is_refused(
    ann: Browser, study: str, frame: int, points_mm: list[list[float]], code: str
) -> None:
    image = proposed(ann, study)["finding"]["region"]["contours"][0]["image"]
    answer = ann.post(f"{study}/findings", {"long_axis": {"image": image | {"frame": frame}, "points_mm": points_mm}})
    assert answer.json()["code"] == code
    assert len(ann.get(study).json()["findings"]) == 1


@pytest.mark.parametrize("received", ["9" * 20, "9" * 5000, "-" + "9" * 30, ""])
def test_a_made_up_cursor_is_refused(ann: Browser, received: str) -> None:
    cursor = base64.urlsafe_b64encode(f"{received}:1".encode()).decode()
    answer = ann.get(f"/worklist?cursor={cursor}")
    assert (answer.status_code, answer.json()["code"] in {"worklist.bad-cursor", "http.invalid"}) == (422, True)


@pytest.mark.parametrize("path", ["/%00", "/assets/%00", "/" + "a" * 5000, "/..%2f..%2f..%2f..%2fetc/passwd"])
def test_no_address_leads_out_of_the_page_or_to_an_error(visitor: TestClient, path: str) -> None:
    answer = visitor.get(path)
    assert answer.status_code in {200, 404}
    assert "root:" not in answer.text


def test_a_monitor_may_ask_by_head(visitor: TestClient) -> None:
    assert visitor.head("/health").status_code == 200
    assert visitor.head("/api/v1/events").status_code == 405


def test_a_missing_file_of_the_page_is_not_the_page(visitor: TestClient) -> None:
    assert visitor.get("/assets/old-0123.js").status_code == 404
    assert visitor.get("/dicom-web").status_code == 404


def test_an_unexpected_error_tells_nobody_what_it_says(
    app: FastAPI, ann: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = "patient Doe^John"

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(told)

    monkeypatch.setattr(WorklistScreen, "page", fail)
    with caplog.at_level(logging.INFO):
        # The client raises what a server beyond the application would see, and log with its text.
        answer = TestClient(app, base_url="http://127.0.0.1", cookies=dict(ann.client.cookies)).get("/api/v1/worklist")
    assert answer.status_code == 500
    assert answer.json()["code"] == "server.error"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "RuntimeError" in caplog.text
    assert "Doe" not in caplog.text + answer.text


def test_a_demo_answers_to_the_names_of_this_machine_only(tmp_path: Path) -> None:
    services = build(settings_in(tmp_path, demo=True))
    try:
        client = TestClient(build_app(services, ready=lambda: True), base_url="http://127.0.0.1")
        for host in ("localhost", "LOCALHOST:5173", "127.0.0.1:8080", "127.8.9.1", "[::1]", "[::1]:8080"):
            assert client.get("/api/v1/session", headers={"Host": host}).json()["demo"] is True, host
        for host in (
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "192.168.1.5",
            "0.0.0.0",
            "evil.example@127.0.0.1",
            "[::1].evil.example",
            "",
        ):
            answer = client.get("/api/v1/session", headers={"Host": host})
            assert (answer.status_code, answer.json()["code"]) == (421, "http.wrong-host"), host
            assert "set-cookie" not in answer.headers
    finally:
        services.close()


def test_without_a_demo_any_name_will_do(visitor: TestClient) -> None:
    assert visitor.get("/health", headers={"Host": "pacs.hospital.example"}).status_code == 200


def test_two_stacks_under_one_series_keep_the_findings_of_the_larger(house: House) -> None:
    """Images of another frame of reference come first; what agents find in the others must not be withheld."""
    mixed = [*images("stack-b", slices=3), *images("stack-a", slices=8)]
    study, series = study_uid("stack-a"), stable_uid("test-series", "stack-a")
    sent = []
    for number, part10 in enumerate(mixed):
        dataset = pydicom.dcmread(io.BytesIO(part10))
        dataset.StudyInstanceUID = study
        dataset.SeriesInstanceUID = series
        dataset.InstanceNumber = number + 1
        sent.append(to_part10(dataset))
    house.store(sent)
    house.wait("stack-a", StudyState.READY)
    extent = extent_of(house.services.archive, study, 1, series)
    assert extent is not None
    assert extent.frame_of_reference_uid == stable_uid("test-frame", "stack-a")

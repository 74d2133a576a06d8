"""What goes through the gate is in the ledger: who, what, which study, allowed or denied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi.testclient import TestClient
from house import images, settings_in, study_uid
from sqlalchemy import delete, update
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from polyclinic.app.cli import app as command
from polyclinic.app.wiring import Services, build, build_app
from polyclinic.core.audit import AgentKind, AuditEntry, AuditOutcome
from polyclinic.departments.access.audit_store import Question, ledger

PASSWORD = "a long password"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    built = build(settings_in(tmp_path))
    for number, role in enumerate(("radiologist", "administrator", "device")):
        built.access.add_person(name=role, display=f"Person {number}", roles={role}, password=PASSWORD)
    for image in images("one"):
        built.archive.store(image, source="TEST")
    yield built
    built.close()


@pytest.fixture
def client(services: Services) -> TestClient:
    return TestClient(build_app(services, ready=lambda: True), base_url="http://127.0.0.1")


def sign_in(client: TestClient, name: str) -> dict[str, str]:
    answer = client.post("/api/v1/session", json={"name": name, "password": PASSWORD})
    assert answer.status_code == 200
    return {"X-CSRF-Token": answer.json()["csrf"]}


def recorded(services: Services, **question: Any) -> list[AuditEntry]:
    """Oldest first."""
    services.audit.recorder.flush(everything=True)
    return [kept.entry for kept in reversed(services.audit.ledger.find(Question(**question)))]


def test_a_session_from_signing_in_to_signing_out(services: Services, client: TestClient) -> None:
    assert client.post("/api/v1/session", json={"name": "radiologist", "password": "wrong one"}).status_code == 401
    assert client.post("/api/v1/session", json={"name": PASSWORD, "password": "in the wrong box"}).status_code == 401
    headers = sign_in(client, "radiologist")
    client.delete("/api/v1/session", headers=headers)
    found = recorded(services)
    me = services.access.person_named("radiologist")
    assert me is not None
    assert [(e.action, e.outcome, e.agent_id, e.detail.get("code")) for e in found] == [
        ("session.sign-in", AuditOutcome.DENIED, me.person.person_id, "access.wrong-password"),
        ("session.sign-in", AuditOutcome.DENIED, "", "access.wrong-password"),
        ("session.sign-in", AuditOutcome.ALLOWED, me.person.person_id, None),
        ("session.sign-out", AuditOutcome.ALLOWED, me.person.person_id, None),
    ]
    assert PASSWORD not in str(found)


def test_reading_a_study_is_one_entry_with_its_patient_and_a_count(services: Services, client: TestClient) -> None:
    sign_in(client, "radiologist")
    uid = study_uid("one")
    client.get("/api/v1/worklist", params={"search": "Test"})
    client.get(f"/api/v1/studies/{uid}")
    series = services.archive.series(uid)[0].series_instance_uid
    for record in services.archive.instances(uid):
        address = f"/dicom-web/studies/{uid}/series/{series}/instances/{record.sop_instance_uid}/frames/1"
        assert client.get(address).status_code == 200
    assert client.get(f"/dicom-web/studies/{uid}/metadata").status_code == 200
    found = [e for e in recorded(services) if not e.action.startswith("session")]
    assert [(e.action, e.study_instance_uid, e.patient_id) for e in found if "repeats" not in e.detail] == [
        ("worklist.read", "", ""),
        ("study.read", uid, "P1"),
        ("dicom.read", uid, "P1"),
    ]
    assert [(e.action, e.detail["repeats"]) for e in found if "repeats" in e.detail] == [("dicom.read", "5")]
    assert "Test" not in str([e.detail for e in found])
    assert "Person" not in str(found)


def test_what_is_refused_is_recorded_with_the_reason(services: Services, client: TestClient) -> None:
    uid = study_uid("one")
    for _ in range(3):
        assert client.get(f"/api/v1/studies/{uid}").status_code == 401
    sign_in(client, "administrator")
    sign = {"lang": "en", "content_sha256": "0" * 64}
    assert client.post(f"/api/v1/studies/{uid}/report/sign", json=sign).status_code == 403
    sign_in(client, "radiologist")
    assert client.post(f"/api/v1/studies/{uid}/report/sign", json=sign).status_code == 403
    found = [(e.action, e.agent_kind, e.detail) for e in recorded(services) if e.outcome is AuditOutcome.DENIED]
    kinds = [(action, kind, detail["code"]) for action, kind, detail in found]
    assert kinds[0] == ("study.read", AgentKind.NOBODY, "access.sign-in")
    assert ("report.sign", AgentKind.PERSON, "access.forbidden") in kinds
    assert ("report.sign", AgentKind.PERSON, "access.csrf") in kinds
    assert [detail["repeats"] for _, _, detail in found if "repeats" in detail] == ["2"]


def test_a_change_is_recorded_before_it_is_done_and_not_done_unrecorded(
    services: Services, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = sign_in(client, "radiologist")
    uid = study_uid("one")

    def away(_: object) -> None:
        raise OperationalError("", {}, Exception())

    done: list[str] = []
    monkeypatch.setattr(type(services.desk), "take_up", lambda *_: done.append("done"))
    monkeypatch.setattr(services.audit.recorder, "_append", away)
    assert client.post(f"/api/v1/studies/{uid}/retry", headers=headers).status_code == 503
    assert done == []


def test_storing_by_stow_names_the_study(services: Services, client: TestClient) -> None:
    person = services.access.person_named("device")
    assert person is not None
    token = services.access.new_bearer(person.person.person_id, "scanner")
    body = b"".join(
        b"--X\r\nContent-Type: application/dicom\r\n\r\n" + image + b"\r\n" for image in images("two", slices=4)
    )
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": 'multipart/related; type="application/dicom"; boundary=X',
    }
    answer = client.post("/dicom-web/studies", content=body + b"--X--\r\n", headers=headers)
    assert answer.status_code == 200, answer.text
    (entry,) = recorded(services, study_instance_uids=(study_uid("two"),))
    assert (entry.action, entry.agent_id, entry.patient_id) == ("dicom.store", person.person.person_id, "P1")
    assert token not in str(recorded(services))


def test_administrators_ask_who_saw_a_patient(services: Services, client: TestClient) -> None:
    uid = study_uid("one")
    headers = sign_in(client, "radiologist")
    client.get(f"/api/v1/studies/{uid}")
    assert client.post("/api/v1/audit/search", json={"patient_id": "P1"}, headers=headers).status_code == 403
    assert client.get(f"/api/v1/audit/studies/{uid}").status_code == 403
    headers = sign_in(client, "administrator")
    services.audit.recorder.flush()
    answer = client.post("/api/v1/audit/search", json={"patient_id": "P1", "limit": 2}, headers=headers)
    (seen, refused) = sorted(answer.json()["rows"], key=lambda row: row["at"])
    assert (refused["action"], refused["outcome"]) == ("audit.read", "denied")
    assert (seen["action"], seen["agent_name"], seen["study_instance_uid"]) == ("study.read", "Person 0", uid)
    assert client.get(f"/api/v1/audit/studies/{uid}").json()["rows"] == answer.json()["rows"]
    assert recorded(services, action="audit.read")[-1].outcome is AuditOutcome.ALLOWED


def test_the_command_finds_damage_at_its_row(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        services.audit.web._recorder.record(recorded_example())
    services.audit.anchorage.write()
    monkeypatch.setenv("POLYCLINIC_DATA", str(services.settings.data))
    runner = CliRunner()
    intact = runner.invoke(command, ["audit", "verify"])
    assert intact.exit_code == 0, intact.output
    assert "5 entries" in intact.output
    out = runner.invoke(command, ["audit", "export"])
    assert out.exit_code == 0, (out.output, out.exception)
    lines = [orjson.loads(line) for line in runner.invoke(command, ["audit", "export"]).output.splitlines()]
    assert [line["resourceType"] for line in lines] == ["AuditEvent"] * 5
    assert runner.invoke(command, ["audit", "export", "--since", "2100-01-01"]).output == ""
    with services.engine.begin() as connection:
        connection.execute(update(ledger).where(ledger.c.sequence == 3).values(agent_id="x"))
        connection.execute(delete(ledger).where(ledger.c.sequence == 5))
    damaged = runner.invoke(command, ["audit", "verify"])
    assert damaged.exit_code == 1
    assert "edited row 3" in damaged.output
    assert "cut row 5" in damaged.output


def recorded_example() -> AuditEntry:
    from datetime import UTC, datetime

    return AuditEntry(
        at=datetime.now(UTC),
        action="study.read",
        outcome=AuditOutcome.ALLOWED,
        agent_kind=AgentKind.PERSON,
        agent_id="person",
    )


def test_fhir_reads_name_the_resource_and_searches_only_its_type(services: Services, client: TestClient) -> None:
    sign_in(client, "radiologist")
    client.get("/fhir/metadata")
    client.get("/fhir/Patient/no-such-one")
    client.get("/fhir/Patient", params={"name": "Test"})
    found = [e for e in recorded(services) if e.action.startswith("fhir")]
    assert [(e.action, e.detail) for e in found] == [
        ("fhir.read", {"resource": "Patient/no-such-one"}),
        ("fhir.read", {"resource": "Patient"}),
    ]

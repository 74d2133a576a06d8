"""Deleting over DICOMweb: by administrators, with a reason, in the ledger before and after, never under a signature."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from house import images, settings_in, study_uid
from sqlalchemy.exc import OperationalError

from polyclinic.app.wiring import Services, build, build_app
from polyclinic.departments.access.audit_store import Question
from polyclinic.departments.reading.contracts import Signature

UID = study_uid("one")
ADDRESS = f"/dicom-web/studies/{UID}"
WHY = {"X-Reason": "sent to the wrong archive"}


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    built = build(settings_in(tmp_path))
    for image in images("one"):
        built.archive.store(image, source="TEST")
    yield built
    built.close()


def client_of(services: Services, role: str) -> TestClient:
    person = services.access.add_person(name=role, display=role, roles={role}, password="a long password")
    headers = {"Authorization": f"Bearer {services.access.new_bearer(person.person_id, role)}"}
    return TestClient(build_app(services, ready=lambda: True), base_url="http://127.0.0.1", headers=headers)


@pytest.fixture
def client(services: Services) -> TestClient:
    return client_of(services, "administrator")


def noted(services: Services) -> list[dict[str, Any]]:
    """Oldest first; all about this study."""
    found = services.audit.ledger.find(Question(study_instance_uids=(UID,), action="dicom.delete"))
    return [dict(kept.entry.detail) for kept in reversed(found)]


def test_an_instance_a_series_a_study(services: Services, client: TestClient) -> None:
    series = services.archive.series(UID)[0].series_instance_uid
    first = services.archive.instances(UID)[0].sop_instance_uid
    answer = client.delete(f"{ADDRESS}/series/{series}/instances/{first}", headers=WHY)
    assert answer.status_code == 200, answer.text
    assert answer.json()["instances"] == 1
    assert answer.json()["size_bytes"] > 512
    assert client.get(f"{ADDRESS}/series/{series}/instances/{first}").status_code == 404
    assert len(client.get(f"{ADDRESS}/instances").json()) == 4
    assert client.delete(f"{ADDRESS}/series/{series}?reason=the rest of it").json()["instances"] == 4
    assert services.archive.instances(UID) == ()
    assert client.get(f"{ADDRESS}/metadata").status_code == 404
    assert client.delete(ADDRESS, headers=WHY).status_code == 404
    assert [(one["phase"], one["reason"], one.get("instances")) for one in noted(services)] == [
        ("before", WHY["X-Reason"], None),
        ("done", WHY["X-Reason"], "1"),
        ("before", "the rest of it", None),
        ("done", "the rest of it", "4"),
        ("before", WHY["X-Reason"], None),
        ("not done", WHY["X-Reason"], None),
    ]
    assert services.audit.ledger.verify().intact


@pytest.mark.parametrize("reason", ["", "x", "x" * 201, "a\tb"])
def test_without_a_reason_nothing_is_deleted(services: Services, client: TestClient, reason: str) -> None:
    answer = client.delete(ADDRESS, headers={"X-Reason": reason})
    assert (answer.status_code, answer.json()["code"]) == (422, "dicomweb.no-reason")
    assert len(services.archive.instances(UID)) == 5
    assert noted(services) == []


@pytest.mark.parametrize("role", ["radiologist", "technician", "device", "agent"])
def test_nobody_but_an_administrator(services: Services, role: str) -> None:
    assert client_of(services, role).delete(ADDRESS, headers=WHY).status_code == 403
    assert len(services.archive.instances(UID)) == 5
    assert [one["code"] for one in noted(services)] == ["access.forbidden"]


def test_a_signed_report_holds_its_images(
    services: Services, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed: dict[int, Signature] = {1: object()}  # type: ignore[dict-item]
    monkeypatch.setattr(type(services.rooms.reading), "signatures", lambda *_: signed)
    answer = client.delete(ADDRESS, headers=WHY)
    assert (answer.status_code, answer.json()["code"]) == (409, "archive.signed")
    assert len(services.archive.instances(UID)) == 5
    assert [(one["phase"], one.get("code")) for one in noted(services)] == [
        ("before", None),
        ("not done", "archive.signed"),
    ]


def test_what_cannot_be_recorded_is_not_deleted(
    services: Services, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: object) -> None:
        raise OperationalError("", {}, Exception())

    monkeypatch.setattr(services.audit.recorder, "_append", away)
    assert client.delete(ADDRESS, headers=WHY).status_code == 503
    monkeypatch.undo()
    assert len(services.archive.instances(UID)) == 5

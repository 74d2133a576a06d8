"""A built house with FHIR, two programs and a reader, and studies whose findings need no agent to run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from polyclinic.app.settings import Settings
from polyclinic.app.wiring import Services, build, build_app
from polyclinic.core import codes
from polyclinic.core.findings import Attribute, Finding, Measurement, Rule, Source, SourceKind
from polyclinic.core.ids import stable_id
from polyclinic.core.people import Person
from polyclinic.departments.access.contracts import Role
from polyclinic.departments.reading.contracts import DecisionKind, Language, StudyState, Task

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
MRN = "urn:polyclinic:issuer:SITE-A"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fhir:
    """The interface as one program sees it."""

    client: TestClient
    headers: dict[str, str]

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """One request; header names with ``_`` for ``-``."""
        sent = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            sent.setdefault("Content-Type", "application/fhir+json")
        return self.client.request(method, f"/fhir{path}", json=body, headers=sent)

    def get(self, path: str, **headers: str) -> Any:
        return self.call("GET", path, **headers)

    def found(self, path: str) -> list[dict[str, Any]]:
        """The matches of a search."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        entries = answer.json().get("entry", [])
        return [e["resource"] for e in entries if e["search"]["mode"] == "match"]

    def ids(self, path: str) -> list[str]:
        return [one["id"] for one in self.found(path)]

    def post(self, path: str, body: Any, **headers: str) -> Any:
        return self.call("POST", path, body, **headers)

    def put(self, path: str, body: Any, **headers: str) -> Any:
        return self.call("PUT", path, body, **headers)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FhirHouse:
    """A house and its interface."""

    services: Services
    app: FastAPI

    def fhir(self, role: Role = Role.DEVICE) -> Fhir:
        """The interface with the token of a new program."""
        access = self.services.access
        name = f"{role.value}-{datetime.now(UTC).timestamp()}"
        person = access.add_person(name=name, display=f"A {role.value}", roles={role}, password="correct horse battery")
        token = access.new_bearer(person.person_id, "test")
        client = TestClient(self.app, base_url="http://127.0.0.1")
        return Fhir(client=client, headers={"Authorization": f"Bearer {token}"})

    def read_study(self, uid: str, *, count: int = 2) -> list[str]:
        """Bring a stored study into the reading room with proposed findings; their ids."""
        rooms, now = self.services.rooms, NOW.timestamp()
        self.services.archive.snapshot(uid, evidence="test", at=NOW)
        rooms.reading.settling(uid, "test", now=now)
        rooms.reading.progress(uid, 1, StudyState.RUNNING, now=now)
        task = Task(
            agent_id="chest_ct",
            agent_version="0.0.1",
            agent_title="Chest CT",
            queue="cpu",
            time_limit_s=1,
            memory_limit_mb=1,
            series_instance_uids=(),
        )
        run_id = stable_id("test-run", uid)
        rooms.runs.enqueue(uid, 1, [(run_id, task)], now=now)
        findings = [_finding(uid, number) for number in range(count)]
        rooms.reading.propose(run_id, uid, findings)
        from polyclinic.agentkit.outcome import Assessed

        claimed = rooms.runs.claim("test", ["cpu"], now=now, lease_s=60)
        assert claimed is not None
        outcome = Assessed(agent=findings[0].source, series_instance_uid="", findings=tuple(findings))
        assert rooms.runs.end(claimed.run_id, "test", outcome)
        rooms.reading.progress(uid, 1, StudyState.READY, now=now)
        return [finding.id for finding in findings]

    def decide(self, uid: str, finding_id: str, kind: DecisionKind, *, version: int = 0) -> None:
        reader = Person(person_id="p1", name="Dr Reader", roles=frozenset())
        self.services.rooms.reading.decide(uid, finding_id, kind=kind, version=version, person=reader, at=NOW)

    def sign(self, uid: str) -> None:
        """Sign the report as it stands, without sending anything."""
        desk, reader = self.services.desk, Person(person_id="p1", name="Dr Reader", roles=frozenset())
        shown = desk.report(uid, Language.ENGLISH)
        self.services.rooms.reading.sign(
            uid,
            1,
            person=reader,
            at=NOW,
            expected_sha256=shown.sha256,
            compose=lambda found: (desk.report(uid, Language.ENGLISH).report, shown.sha256),
        )


def _finding(uid: str, number: int) -> Finding:
    finding = Finding(
        id=stable_id("test-finding", uid, number),
        study_instance_uid=uid,
        code=codes.PULMONARY_NODULE,
        source=Source(kind=SourceKind.AGENT, id="chest_ct", version="0.0.1"),
        body_site=codes.RIGHT_LUNG,
        laterality=codes.RIGHT,
        measurements=(
            Measurement(code=codes.LONG_AXIS, value=6.5 + number, unit="mm", method="largest diameter"),
            Measurement(code=codes.MEAN_ATTENUATION, value=-80.0, unit="[hnsf'U]", method=""),
        ),
        attributes=(Attribute(code=codes.NODULE_ATTENUATION, value=codes.SOLID),),
        confidence=0.75,
        limits=("The edge is blurred.",),
    )
    rule = Rule(id="fleischner-2017", citation="Fleischner 2017", result="CT at 6 to 12 months")
    return replace(finding, evidence=replace(finding.evidence, rules=(rule,)))


@contextlib.contextmanager
def fhir_house(folder: Path) -> Iterator[FhirHouse]:
    """A house in a folder; nothing of it runs, only its web application."""
    services = build(Settings(data=folder / "data"))
    try:
        yield FhirHouse(services=services, app=build_app(services, ready=lambda: True))
    finally:
        services.close()


def patient(number: str = "P-1", **elements: Any) -> dict[str, Any]:
    """A Patient of the test's hospital."""
    made: dict[str, Any] = {
        "resourceType": "Patient",
        "identifier": [{"system": MRN, "value": number}],
        "name": [{"family": "Wang", "given": ["Xiao Dong"]}],
        "gender": "male",
        "birthDate": "1960-01-02",
    }
    return made | elements


def order(patient_id: str, number: str = "PL-1", **elements: Any) -> dict[str, Any]:
    """An order for a chest CT."""
    made: dict[str, Any] = {
        "resourceType": "ServiceRequest",
        "identifier": [
            {
                "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "PLAC"}]},
                "value": number,
            }
        ],
        "status": "active",
        "intent": "order",
        "code": {"text": "CT chest"},
        "subject": {"reference": f"Patient/{patient_id}"},
        "occurrenceDateTime": "2026-03-05T08:30:00+08:00",
        "orderDetail": [{"coding": [{"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"}]}],
    }
    return made | elements


def lab(patient_id: str, value: float = 61.5, code: str = "2160-0", **elements: Any) -> dict[str, Any]:
    """A laboratory value from another system."""
    made: dict[str, Any] = {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"code": "laboratory"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": code}], "text": "Creatinine"},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": "2026-03-01",
        "valueQuantity": {"value": value, "unit": "umol/L", "system": "http://unitsofmeasure.org", "code": "umol/L"},
    }
    return made | elements

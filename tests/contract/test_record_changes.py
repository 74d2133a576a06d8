"""A change of the record and its row in the audit ledger are one transaction, whichever door it came by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fhir_house import FhirHouse, fhir_house, order, patient

from polyclinic.app.record_changes import LedgeredRecord
from polyclinic.core.audit import AgentKind, AuditEntry
from polyclinic.departments.access.audit_store import Ledger
from polyclinic.departments.records.patients import PatientKey
from polyclinic.edges.hl7v2.inbound import Inbound
from polyclinic.edges.memory_records import InMemoryInbox

PID = "PID|||{}^^^SITE-A^MR||Wang^XiaoDong||19600102|M"
ORDER = ("ORC|{}|PL-1^HIS|FI-1^RIS", "OBR|1|PL-1^HIS|FI-1^RIS|24627-2^CT Chest^LN")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[FhirHouse]:
    with fhir_house(tmp_path) as made:
        yield made


class Door:
    """HL7 without its socket, on the house's database."""

    def __init__(self, house: FhirHouse) -> None:
        self.inbound = Inbound(
            record=LedgeredRecord(house.services.engine), inbox=InMemoryInbox(), site_issuer="SITE-A"
        )
        self.sent = 0

    def tell(self, kind: str, *segments: str) -> str:
        self.sent += 1
        head = f"MSH|^~\\&|HIS|H|POLYCLINIC|RAD|20260304||{kind}|M{self.sent}|P|2.5.1||||||UNICODE UTF-8"
        return self.inbound.answer("\r".join((head, *segments)).encode()).decode()


def noted(house: FhirHouse) -> list[tuple[str, str, dict[str, str]]]:
    """What stands in the ledger now, without waiting: action, patient, facts."""
    kept: list[AuditEntry] = [one.entry for one in house.services.audit.ledger.entries()]
    return [
        (one.action, one.patient_id, {k: v for k, v in one.detail.items() if k != "order"})
        for one in kept
        if one.action in ("patient.correct", "patient.merge", "order.write")
    ]


def test_what_hl7_changes_is_noted_before_the_answer_and_what_it_repeats_is_not(house: FhirHouse) -> None:
    door = Door(house)
    for _ in range(2):
        assert "MSA|AA" in door.tell("ADT^A08", PID.format("P-1"))
    assert "MSA|AA" in door.tell("ORM^O01", PID.format("P-1"), ORDER[0].format("NW"), ORDER[1])
    assert "MSA|AA" in door.tell("ORM^O01", PID.format("P-1"), ORDER[0].format("CA"), ORDER[1])
    assert "MSA|AA" in door.tell("ADT^A40", PID.format("P-2"), "MRG|P-1^^^SITE-A")
    assert noted(house) == [
        ("patient.correct", "P-1", {"source": "HL7 ADT^A08", "change": "created"}),
        ("order.write", "P-1", {"source": "HL7 ORM^O01", "status": "active"}),
        ("order.write", "P-1", {"source": "HL7 ORM^O01", "status": "revoked"}),
        ("patient.correct", "P-2", {"source": "HL7 ADT^A40", "change": "created"}),
        ("patient.merge", "P-1", {"source": "HL7 ADT^A40", "into": "P-2"}),
        ("patient.merge", "P-2", {"source": "HL7 ADT^A40", "prior": "P-1"}),
    ]
    assert house.services.audit.ledger.verify().intact


def test_what_fhir_changes_is_noted_with_who_did_it(house: FhirHouse) -> None:
    fhir = house.fhir()
    prior, into = (fhir.post("/Patient", patient(number)).json()["id"] for number in ("P-1", "P-2"))
    assert fhir.post("/ServiceRequest", order(prior)).status_code == 201
    link = {"other": {"reference": f"Patient/{into}"}, "type": "replaced-by"}
    assert fhir.put(f"/Patient/{prior}", patient("P-1", link=[link]) | {"id": prior}).status_code == 200
    assert [(action, who) for action, who, _ in noted(house)] == [
        ("patient.correct", "P-1"),
        ("patient.correct", "P-2"),
        ("order.write", "P-1"),
        ("patient.merge", "P-1"),
        ("patient.merge", "P-2"),
    ]
    entries = [one.entry for one in house.services.audit.ledger.entries() if one.entry.action == "patient.merge"]
    assert all(one.agent_kind is AgentKind.PERSON and one.agent_id for one in entries)


def test_a_refused_transaction_leaves_neither_change_nor_note(house: FhirHouse) -> None:
    good = {"resource": patient("P-1"), "request": {"method": "POST", "url": "Patient"}}
    bad = {"resource": order("nobody"), "request": {"method": "POST", "url": "ServiceRequest"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [good, bad]}
    assert house.fhir().post("", bundle).status_code >= 400
    assert noted(house) == []
    assert house.fhir().found("/Patient") == []


def test_what_cannot_be_noted_does_not_happen(house: FhirHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    def away(*_: object) -> None:
        raise OperationalError("", {}, Exception())

    door = Door(house)
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "append", away)
        assert "send it again" in door.tell("ADT^A08", PID.format("P-1"))
    key = PatientKey(patient_id="P-1", issuer="SITE-A")
    assert house.services.record.surviving(key) == key
    assert house.services.record.pending_changes() == ()
    assert "MSA|AA" in door.tell("ADT^A08", PID.format("P-1"))
    assert [action for action, *_ in noted(house)] == ["patient.correct"]

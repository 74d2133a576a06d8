"""Results as messages: what they say, read by a library that is not ours."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hl7apy.exceptions import HL7apyException
from hl7apy.parser import parse_message
from hl7apy.validation import Validator

from polyclinic.core.codes import LOINC, SNOMED_CT, Code
from polyclinic.core.findings import Attribute, Finding, FindingState, Measurement, Source, SourceKind
from polyclinic.core.people import Patient
from polyclinic.departments.archive.contracts import StudyRecord
from polyclinic.departments.reading.contracts import Language, Report, Section, Sentence, Signature
from polyclinic.departments.records.patients import Order, PatientKey
from polyclinic.edges.hl7v2.er7 import parse
from polyclinic.edges.hl7v2.oru import ResultAddress, control_id_of, result_message

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
KEY = "6f0c1b9e-58a4-5d0b-9a54-6f6c79636c6e"
PATIENT = Patient(patient_id="P-1", issuer="SITE-A", name="Wang^XiaoDong=王^小东", birth_date=date(1960, 1, 2), sex="M")
STUDY = StudyRecord(
    study_instance_uid="1.2.3",
    patient=PATIENT,
    study_date="20260102",
    study_time="101112.5",
    accession_number="ACC-1",
    description="Chest",
    modalities=("CT",),
    series_count=1,
    instance_count=1,
    first_received_at=AT,
    last_received_at=AT,
)
NODULE = Finding(
    id="f1",
    study_instance_uid="1.2.3",
    code=Code(system=SNOMED_CT, code="427359005", display="Solitary nodule of lung"),
    source=Source(kind=SourceKind.AGENT, id="chest_ct", version="1"),
    state=FindingState.ACCEPTED,
    body_site=Code(system=SNOMED_CT, code="39607008", display="Lung structure"),
    measurements=(
        Measurement(code=Code(system=LOINC, code="21889-1", display="Size"), value=8.25, unit="mm", method="long axis"),
    ),
    attributes=(
        Attribute(
            code=Code(system="urn:polyclinic:codes", code="nodule-attenuation", display="Attenuation"),
            value=Code(system="urn:polyclinic:codes", code="solid", display="Solid"),
        ),
    ),
    note="seen | by & two ^ readers",
)
REPORT = Report(
    study_instance_uid="1.2.3",
    revision=1,
    language=Language.ENGLISH,
    sections=(
        Section(
            id="findings", title="Findings", sentences=(Sentence(text="A nodule of 8 mm."), Sentence(text="50% | ok"))
        ),
        Section(id="impression", title="Impression", sentences=(Sentence(text="结节。"),)),
    ),
    undecided=0,
    signature=Signature(person_id="ann", person_name="Reader^Ann", at=AT, sha256="0" * 64),
)
ORDER = Order(
    order_id="O",
    patient=PatientKey(patient_id="P-1", issuer="SITE-A"),
    placer_number="PL-1",
    filler_number="FI-1",
    procedure=Code(system=LOINC, code="24627-2", display="CT Chest"),
    requester="Lee^Ann",
)


def made(*, order: Order | None = ORDER, corrects: bool = False) -> str:
    address = ResultAddress(facility="SITE-A", page_url="https://reading.example")
    return result_message(
        key=KEY,
        report=REPORT,
        findings=(NODULE,),
        study=STUDY,
        patient=PATIENT,
        order=order,
        corrects=corrects,
        at=AT,
        address=address,
    ).decode()


@pytest.mark.parametrize("order", [ORDER, None])
def test_another_library_finds_the_message_valid(order: Order | None) -> None:
    message = parse_message(made(order=order), find_groups=True)
    assert Validator.validate(message)
    result = message.oru_r01_patient_result
    assert result.oru_r01_patient.pid.pid_3.cx_1.value == "P-1"
    assert result.oru_r01_order_observation.obr.obr_25.value == "F"
    observations = result.oru_r01_order_observation.oru_r01_observation
    assert len(observations) == len([line for line in made(order=order).split("\r") if line.startswith("OBX")])


def test_that_library_would_say_so_if_it_were_not() -> None:
    without_orders = "\r".join(line for line in made().split("\r") if not line.startswith("OBR"))
    with pytest.raises(HL7apyException):
        Validator.validate(parse_message(without_orders, find_groups=True))


def test_text_measurements_codes_and_link_are_there() -> None:
    message = parse(made().encode())
    by_code = {(s.text_of(3), s.text_of(2)): s for s in message.named("OBX")}
    assert by_code["59776-5", "FT"].text_of(5) == "A nodule of 8 mm.\n50% | ok"
    assert by_code["19005-8", "FT"].text_of(5) == "结节。"
    assert (by_code["21889-1", "NM"].text_of(5), by_code["21889-1", "NM"].text_of(6)) == ("8.25", "mm")
    assert by_code["121071", "CWE"].text_of(5, 3) == "SCT"
    assert by_code["nodule-attenuation", "CWE"].text_of(3, 3) == "99POLYCLINIC"
    assert by_code["121106", "TX"].text_of(5) == "seen | by & two ^ readers"
    assert by_code["18748-4", "RP"].text_of(5) == "https://reading.example/study/1.2.3"
    assert {s.text_of(11) for s in message.named("OBX")} == {"F"}


def test_a_later_revision_is_a_correction() -> None:
    message = parse(made(corrects=True).encode())
    request = message.first("OBR")
    assert request is not None
    assert request.text_of(25) == "C"
    assert {s.text_of(11) for s in message.named("OBX")} == {"C"}


def test_the_order_is_named_and_the_signer_too() -> None:
    request = parse(made().encode()).first("OBR")
    assert request is not None
    assert (request.text_of(2), request.text_of(3), request.text_of(4)) == ("PL-1", "FI-1", "24627-2")
    assert (request.text_of(7), request.text_of(18), request.text_of(24)) == ("20260102101112", "ACC-1", "CT")
    assert [request.text_of(32, 1, n) for n in (1, 2, 3)] == ["ann", "Reader", "Ann"]
    assert request.text_of(22) == "20260304050607+0000"


def test_sending_again_uses_the_same_control_id() -> None:
    assert parse(made().encode()).control_id == control_id_of(KEY)
    assert len(control_id_of(KEY)) == 20

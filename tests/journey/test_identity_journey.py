"""HL7 against a running house: an order and a merge by MLLP reach studies, report, worklist and neighbours."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pydicom
import pypdf
import pytest
from house import House, images, study_uid, wait_for

from polyclinic.core.findings import FindingState
from polyclinic.core.people import Person
from polyclinic.departments.reading.contracts import DecisionKind, DeliveryState, Language, MessageKind, StudyState
from polyclinic.departments.records.patients import PatientKey, PerformedSeries, PerformedStatus, PerformedStep
from polyclinic.dicom.part10 import to_part10
from polyclinic.edges.dimse.sender import Peer, send
from polyclinic.edges.hl7v2.acknowledge import acknowledge
from polyclinic.edges.hl7v2.er7 import Message, parse
from polyclinic.edges.hl7v2.mllp import FrameReader, frame
from polyclinic.edges.hl7v2.sender import HL7Peer, send_message
from polyclinic.screens.study_page import StudyScreen

ANN = Person(person_id="ann", name="Ann^Reader", roles=frozenset({"radiologist"}))


class Receiver:
    """Takes results as an information system would, and keeps them."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                reader = FrameReader(1_000_000)
                while chunk := connection.recv(65536):
                    for raw in reader.feed(chunk):
                        message = parse(raw)
                        self.messages.append(message)
                        answer = acknowledge(message.header, None, at=datetime.now(UTC), control_id="1")
                        connection.sendall(frame(answer.encode()))

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def receiver(house: House) -> Iterator[Receiver]:
    """Gets the results of studies that are signed while it is there."""
    opened, rooms = Receiver(), house.services.rooms
    object.__setattr__(rooms, "results_to", (f"hl7:127.0.0.1:{opened.port}",))  # one house serves every journey test
    yield opened
    object.__setattr__(rooms, "results_to", ())
    opened.close()


def sent_by(**attributes: object) -> list[bytes]:
    """`images` with other attributes; ``study`` names them."""
    made = []
    for part10 in images(str(attributes.pop("study"))):
        dataset = pydicom.dcmread(io.BytesIO(part10))
        dataset.SpecificCharacterSet = "ISO_IR 192"
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        made.append(to_part10(dataset))
    return made


def tell(house: House, kind: str, control_id: str, *segments: str) -> None:
    assert house.settings.hl7_port is not None
    header = f"MSH|^~\\&|HIS|H|||20260304||{kind}|{control_id}|P|2.5.1||||||UNICODE UTF-8"
    peer = HL7Peer(host="127.0.0.1", port=house.settings.hl7_port)
    send_message("\r".join((header, *segments)).encode(), peer, control_id=control_id)


def sign(house: House, study: str) -> None:
    reading, desk = house.services.rooms.reading, house.services.desk
    for item in reading.findings(study_uid(study), 1):
        if item.finding.state is FindingState.PROPOSED:
            reading.decide(
                study_uid(study),
                item.finding.id,
                kind=DecisionKind.ACCEPT,
                version=item.version,
                person=ANN,
                at=datetime.now(UTC),
            )
    desk.sign(study_uid(study), Language.ENGLISH, desk.report(study_uid(study), Language.ENGLISH).sha256, ANN)


def pdf_text(house: House, study: str) -> str:
    pdf = house.services.desk.pdf(study_uid(study), Language.ENGLISH)
    return "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages)


def test_an_order_makes_a_study_urgent_and_gives_it_an_indication(house: House) -> None:
    tell(
        house,
        "ORM^O01",
        "O1",
        "PID|||P-ordered^^^SITE-A||Doe^Jo",
        "ORC|NW|PL-1|FI-1|||||||||99^Lee^Ann",
        "OBR|1|PL-1|FI-1|24627-2^CT Chest^LN|S||20260304||||||cough",
        f"ZDS|{study_uid('ordered')}^X^Application^DICOM",
    )
    house.store(sent_by(study="ordered", PatientID="P-ordered"))
    house.wait("ordered", StudyState.READY)
    row = house.services.worklist.row(study_uid("ordered"))
    assert (row["urgency"], row["urgency_reason"]) == ("stat", "Ordered as stat")
    context = house.services.rooms.records.load(study_uid("ordered"), 1)
    assert (context.indication, context.requester, context.priority) == ("cough", "Lee^Ann", "stat")
    assert context.procedure == "CT Chest"


def test_a_merge_reaches_everything_and_a_signed_report_keeps_what_was_signed(house: House, receiver: Receiver) -> None:
    tell(house, "ADT^A04", "A1", "PID|||TMP-9^^^SITE-A||Unknown^Male||||")
    for study in ("merged", "draft"):
        house.store(sent_by(study=study, PatientID="TMP-9", IssuerOfPatientID="", PatientName="Unknown^Male"))
        house.wait(study, StudyState.READY)
    sign(house, "merged")
    house.wait("merged", StudyState.DELIVERED)
    assert "Unknown" in pdf_text(house, "merged")
    feed = house.services.worklist.on_their_way()
    assert feed[study_uid("draft")]["corrected"] == 0

    tell(house, "ADT^A40", "A2", "PID|||P-9^^^SITE-A||Wang^XiaoDong~王^小东||19600102|M", "MRG|TMP-9^^^SITE-A")
    rooms = house.services.rooms

    def corrected() -> bool:
        return rooms.archive.study(study_uid("draft")).patient.patient_id == "P-9"

    wait_for(lambda: corrected() or None)
    uids = {study_uid("merged"), study_uid("draft")}
    assert {s["study_instance_uid"] for s in house.services.worklist.page(search="王^小").rows} == uids
    assert {s["study_instance_uid"] for s in house.services.worklist.page(search="P-9").rows} == uids
    feed = house.services.worklist.on_their_way()
    assert {feed[uid]["corrected"] for uid in uids} == {1}, "so that every page reads the list again"
    assert "P-9" not in str(feed)
    assert {house.services.worklist.row(uid)["patient_name"] for uid in uids} == {"Wang^XiaoDong=王^小东"}
    assert "Unknown" in pdf_text(house, "merged"), "what was signed stays as it was signed"
    assert "Unknown" not in pdf_text(house, "draft")
    screen = StudyScreen(
        worklist=house.services.worklist, archive=rooms.archive, reading=rooms.reading, runs=rooms.runs
    )
    (step,) = screen.study(study_uid("merged"), Language.ENGLISH)["identity_history"]
    assert (step["source"], step["before"]["patient_id"], step["after"]["patient_id"]) == (
        "HL7 ADT^A40",
        "TMP-9",
        "P-9",
    )
    for uid in uids:
        for instance in rooms.archive.instances(uid):
            given = pydicom.dcmread(io.BytesIO(rooms.archive.read(instance.sop_instance_uid)))
            assert given.PatientID == "P-9"
    assert [p.study_instance_uid for p in rooms.archive.priors(study_uid("draft"))] == [study_uid("merged")]

    wait_for(lambda: not house.services.record.pending_changes() or None)
    house.services.audit.recorder.flush(everything=True)
    noted = [e.entry for e in house.services.audit.ledger.entries() if e.entry.action == "patient.merge"]
    assert {(e.study_instance_uid, e.patient_id, e.detail["source"]) for e in noted} == {
        ("", "TMP-9", "HL7 ADT^A40"),
        ("", "P-9", "HL7 ADT^A40"),
        *((uid, "TMP-9", "HL7 ADT^A40") for uid in uids),
    }

    late = sent_by(study="late", PatientID="TMP-9", IssuerOfPatientID="", PatientName="Unknown^Male")
    peer = Peer(ae_title="POLYCLINIC", host="127.0.0.1", port=house.node.port)
    assert all(status.kept for status in send(late, peer))
    assert rooms.archive.study(study_uid("late")).patient.patient_id == "P-9"


def test_a_signed_report_goes_out_as_a_result(house: House, receiver: Receiver) -> None:
    tell(house, "ADT^A04", "R0", "PID|||P-result^^^SITE-A||Hong^Gildong~洪^吉洞~홍^길동")
    tell(
        house,
        "ORM^O01",
        "R1",
        "PID|||P-result^^^SITE-A",
        "ORC|NW|PL-7|FI-7",
        "OBR|1|PL-7|FI-7|24627-2^CT Chest^LN|||||||||cough\\T\\fever|||99^Lee^Ann||ACC-7",
    )
    house.store(sent_by(study="result", PatientID="P-result", AccessionNumber="ACC-7", PatientName="Hong^Gildong"))
    house.wait("result", StudyState.READY)
    receiver.messages.clear()
    sign(house, "result")
    house.wait("result", StudyState.DELIVERED)
    (message,) = receiver.messages
    assert message.kind == ("ORU", "R01")
    person, request = message.first("PID"), message.first("OBR")
    assert person is not None
    assert request is not None
    assert person.text_of(3) == "P-result"
    assert [field.text(1) + field.text(2) for field in person.repetitions(5)] == ["HongGildong", "洪吉洞", "홍길동"]
    assert (request.text_of(2), request.text_of(3), request.text_of(18)) == ("PL-7", "FI-7", "ACC-7")
    assert (request.text_of(13), request.text_of(16, 2), request.text_of(25)) == ("cough&fever", "Lee", "F")
    observations = {(s.text_of(3), s.text_of(2)): s for s in message.named("OBX")}
    assert observations["113014", "HD"].text_of(5) == study_uid("result")
    assert "nodule" in observations["59776-5", "FT"].text_of(5).lower()
    assert observations["121071", "CWE"].text_of(5) == "427359005"
    assert any(kind == "NM" for _, kind in observations)
    assert observations["18748-4", "RP"].text_of(5) == f"https://reading.example/study/{study_uid('result')}"
    (delivery,) = [
        d for d in house.services.rooms.outbox.deliveries(study_uid("result")) if d.kind is MessageKind.RESULT
    ]
    assert (delivery.state, delivery.attempts) == (DeliveryState.SENT, 1)


def test_a_study_settles_at_once_when_the_modality_says_that_all_is_sent(house: House) -> None:
    files = sent_by(study="performed", PatientID="P-performed")
    uids = tuple(str(pydicom.dcmread(io.BytesIO(f), stop_before_pixels=True).SOPInstanceUID) for f in files)
    at = datetime.now(UTC)
    step = PerformedStep(
        sop_instance_uid="1.2.3.4.5",
        status=PerformedStatus.IN_PROGRESS,
        modality="CT",
        station_ae_title="CT1",
        started_at=at,
        patient=PatientKey(patient_id="P-performed"),
        study_instance_uid=study_uid("performed"),
    )
    record = house.services.record
    begun = record.put_performed_step(step, expected_version=0)
    association = house.services.archive.arrivals.opened()
    try:
        house.services.archive.arrivals.sent(association, study_uid("performed"))
        house.store(files)
        series = (PerformedSeries(series_instance_uid="1.2", sop_instance_uids=uids),)
        ended = replace(begun, status=PerformedStatus.COMPLETED, ended_at=at, series=series)
        record.put_performed_step(ended, expected_version=1)
        status = house.wait("performed", StudyState.READY, limit_s=30)
    finally:
        house.services.archive.arrivals.closed(association)
    assert status.evidence == f"performed procedure step ended, all {len(files)} instances that it names are here"


def test_the_hl7_half_of_the_house_leaves_no_patient_in_the_log(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    tell(house, "ADT^A04", "L1", "PID|||P-secret^^^SITE-A||Geheim^Anna||19700101|F")
    tell(house, "ADT^A08", "L2", "PID|||P-secret^^^SITE-A||Geheimer^Anna||19700101|F")
    wait_for(lambda: not house.services.record.pending_changes() or None)
    assert "Geheim" not in caplog.text
    assert "P-secret" not in caplog.text
    assert "ADT^A08" in caplog.text

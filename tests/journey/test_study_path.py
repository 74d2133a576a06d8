"""The one path with a real database, DBOS and a worker process; only the agent is a quick one."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pydicom
import pytest
from house import House, images, study_uid, wait_for

from polyclinic.core.errors import NotFound
from polyclinic.core.findings import FindingState
from polyclinic.core.people import Person
from polyclinic.departments.reading.contracts import (
    DecisionKind,
    DeliveryState,
    Language,
    RunState,
    StudyState,
)
from polyclinic.edges.dimse.sender import Peer, send

ANN = Person(person_id="ann", name="Ann", roles=frozenset({"radiologist"}))


def accept_all(house: House, study: str, revision: int = 1) -> None:
    for item in house.services.rooms.reading.findings(study_uid(study), revision):
        if item.finding.state is FindingState.PROPOSED:
            house.services.rooms.reading.decide(
                study_uid(study),
                item.finding.id,
                kind=DecisionKind.ACCEPT,
                version=item.version,
                person=ANN,
                at=datetime.now(UTC),
            )


def sign(house: House, study: str) -> None:
    desk = house.services.desk
    shown = desk.report(study_uid(study), Language.ENGLISH)
    desk.sign(study_uid(study), Language.ENGLISH, shown.sha256, ANN)


def test_a_study_sent_by_dicom_becomes_a_draft(house: House) -> None:
    files = images("dicom", slices=6)
    peer = Peer(ae_title="POLYCLINIC", host="127.0.0.1", port=house.node.port)
    assert all(status.kept for status in send(files, peer))
    status = house.wait("dicom", StudyState.READY)
    assert "associations ended" in status.evidence
    assert (status.finding_count, status.undecided) == (1, 1)
    run = house.run("dicom")
    assert (run.state, run.attempt, run.facts[0].value) == (RunState.DONE, 1, "6")
    assert house.times_run("dicom") == 1


def test_a_signed_study_leaves_as_objects_of_the_same_study(house: House) -> None:
    house.store(images("sign"))
    house.wait("sign", StudyState.READY)
    accept_all(house, "sign")
    sign(house, "sign")
    house.wait("sign", StudyState.DELIVERED)
    uid, archive = study_uid("sign"), house.services.archive
    objects = house.services.rooms.outbox.objects(uid)
    assert sorted(o.kind for o in objects) == ["KO", "PDF", "SEG", "SR"]
    for item in objects:
        dataset = pydicom.dcmread(io.BytesIO(archive.read(item.sop_instance_uid)))
        assert (dataset.StudyInstanceUID, dataset.PatientID) == (uid, "P1")
    assert len(archive.instances(uid)) == 5 + len(objects)
    assert [s.revision for s in house.services.rooms.reading.statuses([uid])] == [1]
    assert archive.unsettled() == ()
    (agreed,) = [a for a in house.services.rooms.outbox.agreements() if a.study_instance_uid == uid]
    assert (agreed.agent_id, agreed.accepted, agreed.rejected) == ("quick_agent", 1, 0)


def test_late_images_make_a_new_revision_and_a_new_run(house: House) -> None:
    house.store(images("late", slices=4))
    house.wait("late", StudyState.READY)
    house.store(images("late", slices=2, first=4))
    status = house.wait("late", StudyState.READY, revision=2)
    assert status.finding_count == 1
    assert house.run("late", 2).run_id != house.run("late", 1).run_id
    assert house.run("late", 2).facts[0].value == "6"


def test_late_images_that_an_agent_does_not_look_at_leave_its_result(house: House) -> None:
    house.store(images("aside"))
    house.wait("aside", StudyState.READY)
    accept_all(house, "aside")
    house.store(images("aside", slices=1, modality="DX", series="dx"))
    house.wait("aside", StudyState.READY, revision=2)
    assert house.run("aside", 2).run_id == house.run("aside", 1).run_id
    assert house.times_run("aside") == 1
    (kept,) = house.services.rooms.reading.findings(study_uid("aside"), 2)
    assert kept.finding.state is FindingState.ACCEPTED


def test_an_agent_may_abstain(house: House) -> None:
    house.store(images("abstain", description="abstain"))
    house.wait("abstain", StudyState.READY)
    assert (house.run("abstain").state, house.run("abstain").reason) == (
        RunState.ABSTAINED,
        "This series is not for me",
    )


def test_a_finding_outside_the_images_is_withheld_where_people_see_it(house: House) -> None:
    house.store(images("outside", description="outside"))
    status = house.wait("outside", StudyState.READY)
    assert status.finding_count == 0
    assert [w.reason for w in house.run("outside").withheld] == ["it lies outside the images"]


def test_a_study_for_no_agent_is_ready_for_its_reader_and_can_be_signed(house: House) -> None:
    house.store(images("xray", modality="DX"))
    house.wait("xray", StudyState.READY)
    sign(house, "xray")
    house.wait("xray", StudyState.DELIVERED)
    assert [o.kind for o in house.services.rooms.outbox.objects(study_uid("xray"))] == ["PDF"]


def test_a_crashed_agent_process_is_replaced_and_the_run_tried_again(house: House) -> None:
    house.store(images("crash", description="crash-once"))
    house.wait("crash", StudyState.READY)
    assert (house.run("crash").state, house.run("crash").attempt) == (RunState.DONE, 2)


def test_an_agent_that_hangs_is_ended_at_its_limit_and_tried_again(house: House) -> None:
    house.store(images("hang", description="hang-once"))
    house.wait("hang", StudyState.READY)
    assert (house.run("hang").state, house.run("hang").attempt) == (RunState.DONE, 2)


def test_an_agent_that_takes_too_much_memory_is_ended_and_tried_again(house: House) -> None:
    house.store(images("greedy", description="greedy-once"))
    house.wait("greedy", StudyState.READY)
    assert (house.run("greedy").state, house.run("greedy").attempt) == (RunState.DONE, 2)


def test_a_failed_run_says_why_and_a_person_can_try_it_again(house: House) -> None:
    house.store(images("broken", description="broken"))
    status = house.wait("broken", StudyState.FAILED)
    assert status.reason == "The agent stopped with an unexpected ValueError"
    assert "Doe" not in str(house.run("broken"))
    assert house.times_run("broken") == 3
    (house.folder / "mended").touch()
    house.services.desk.retry(study_uid("broken"), house.run("broken").run_id)
    assert house.wait("broken", StudyState.READY).finding_count == 1


def test_a_delivery_that_fails_is_sent_later(house: House) -> None:
    from polyclinic.core.errors import Unavailable
    from polyclinic.journeys.rooms import Rooms
    from polyclinic.journeys.watchers import OutboxSender

    house.store(images("later"))
    house.wait("later", StudyState.READY)
    accept_all(house, "later")
    rooms, uid = house.services.rooms, study_uid("later")
    answers = iter([Unavailable("dimse.down", "The peer does not answer"), None, None, None, None])
    received: list[bytes] = []

    def send_or_fail(_destination: str, part10: bytes) -> None:
        if (error := next(answers)) is not None:
            raise error
        received.append(part10)

    fields = {name: getattr(rooms, name) for name in Rooms.__dataclass_fields__}
    clock = [1000.0]
    patched = Rooms(**(fields | {"send": send_or_fail, "now": lambda: clock[0]}))
    sign(house, "later")
    house.wait("later", StudyState.DELIVERED)
    objects = rooms.outbox.objects(uid)
    # The house's own loop would take these, so they fall due in its far future and in this sender's present.
    clock[0] = 9e12
    rooms.outbox.record(uid, 1, objects, ["PEER@nowhere:1"], now=clock[0])
    sender = OutboxSender(patched)
    assert sender.turn() == 3
    states = {d.state: d.reason for d in rooms.outbox.deliveries(uid)}
    assert states == {DeliveryState.SENT: "", DeliveryState.QUEUED: "The peer does not answer"}
    clock[0] += 10.0
    assert sender.turn() == 1
    assert {d.state for d in rooms.outbox.deliveries(uid)} == {DeliveryState.SENT}
    assert len(received) == len({bytes(r) for r in received}) == 4


def test_nothing_about_patients_is_in_the_tables_of_the_journeys(house: House) -> None:
    house.store(images("private", patient="SECRET-ID"))
    wait_for(lambda: house.wait("private", StudyState.READY))
    for file in (house.settings.data).glob("journeys.sqlite*"):
        content = file.read_bytes()
        assert b"SECRET-ID" not in content
        assert b"Test^Person" not in content


def test_a_signed_report_stays_in_sight_when_later_images_make_a_new_revision(house: House) -> None:
    house.store(images("signed-late"))
    house.wait("signed-late", StudyState.READY)
    accept_all(house, "signed-late")
    sign(house, "signed-late")
    house.wait("signed-late", StudyState.DELIVERED)
    desk, uid = house.services.desk, study_uid("signed-late")
    signed = desk.report(uid, Language.ENGLISH)

    house.store(images("signed-late", first=5, slices=1))
    assert "signed" in house.wait("signed-late", StudyState.READY, revision=2).reason
    draft = desk.report(uid, Language.ENGLISH).report
    assert draft.signature is None
    said = [s.text for part in draft.sections for s in part.sentences if s.basis == "signed-before"]
    assert len(said) == 1
    assert ANN.name in said[0]
    assert desk.report(uid, Language.ENGLISH, 1) == signed
    assert desk.report(uid, Language.CHINESE, 1).report.signature == signed.report.signature
    assert list(house.services.rooms.reading.signatures(uid)) == [1]
    with pytest.raises(NotFound, match="never signed"):
        desk.report(uid, Language.ENGLISH, 7)

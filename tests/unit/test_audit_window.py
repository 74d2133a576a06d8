"""Changes are in the ledger at once; reads are counted; what cannot be written is not lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import OperationalError

from polyclinic.core.audit import AgentKind, AuditEntry, AuditOutcome, KeptEntry
from polyclinic.core.errors import Unavailable
from polyclinic.departments.access import audit_window
from polyclinic.departments.access.audit_window import Recorder
from polyclinic.departments.access.contracts import Action
from polyclinic.fhir.audit_event import EVENTS, audit_event

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def read(second: int = 0, study: str = "1.2.3") -> AuditEntry:
    return AuditEntry(
        at=AT + timedelta(seconds=second),
        action="dicom.read",
        outcome=AuditOutcome.ALLOWED,
        agent_kind=AgentKind.PERSON,
        agent_id="p",
        study_instance_uid=study,
    )


class Kept:
    """A ledger in memory that can be away."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.batches = 0
        self.away = False

    def append(self, entries: Sequence[AuditEntry]) -> None:
        if self.away:
            raise OperationalError("", {}, Exception())
        self.batches += 1
        self.entries += entries


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(kept: Kept, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.setattr(audit_window, "FLUSH_EVERY_S", 3600.0)  # the test flushes by itself
    return Recorder(kept.append, clock=clock, patient_of={"1.2.3": ("P1", "SITE-A")}.get)


def test_a_thousand_frames_are_two_entries(recorder: Recorder, kept: Kept, clock: Clock) -> None:
    for number in range(1000):
        clock.now_s = number * 0.05
        recorder.observe(read(int(clock.now_s)), key="session")
        if number % 100 == 0:
            recorder.flush()
    clock.now_s = 61.0
    recorder.flush()
    first, repeats = kept.entries
    assert first.at == AT
    assert first.detail == {}
    assert repeats.detail == {"repeats": "999", "since": AT.isoformat()}
    assert repeats.at == AT + timedelta(seconds=49)
    assert kept.batches == 2
    assert {one.patient_id for one in kept.entries} == {"P1"}


def test_after_its_window_a_read_is_a_new_one(recorder: Recorder, kept: Kept, clock: Clock) -> None:
    recorder.observe(read(0), key="session")
    recorder.observe(read(1), key="session")
    clock.now_s = 60.0
    recorder.observe(read(60), key="session")
    recorder.flush()
    assert [one.detail.get("repeats", "") for one in kept.entries] == ["1", "", ""] or [
        one.detail.get("repeats", "") for one in kept.entries
    ] == ["", "1", ""]


def test_what_is_no_uid_is_recorded_without_asking_whose_it_is(kept: Kept) -> None:
    def ask(study: str) -> None:
        raise AssertionError(study)

    recorder = Recorder(kept.append, patient_of=ask)
    for study in ("a\0b", "../x", "", "' OR 1=1"):
        recorder.record(read(study=study))
    assert [one.study_instance_uid for one in kept.entries] == ["a\0b", "../x", "", "' OR 1=1"]


def test_sessions_and_studies_are_told_apart(recorder: Recorder, kept: Kept) -> None:
    for key in ("a", "b"):
        for study in ("1.2.3", "1.2.4"):
            recorder.observe(read(study=study), key=(key, study))
    recorder.flush()
    assert len(kept.entries) == 4
    assert kept.entries[1].patient_id == ""


def test_a_change_is_written_before_the_call_returns_and_fails_when_it_cannot_be(
    recorder: Recorder, kept: Kept
) -> None:
    recorder.record(read())
    assert len(kept.entries) == 1
    kept.away = True
    with pytest.raises(OperationalError):
        recorder.record(read())


def test_refusals_are_written_at_once_and_repeats_counted(recorder: Recorder, kept: Kept, clock: Clock) -> None:
    for _ in range(50):
        recorder.refuse(read(), key="scan")
    assert len(kept.entries) == 1
    clock.now_s = 61.0
    recorder.flush()
    assert [one.detail.get("repeats") for one in kept.entries] == [None, "49"]


def test_what_cannot_be_written_waits_in_order(recorder: Recorder, kept: Kept) -> None:
    kept.away = True
    recorder.observe(read(1), key=1)
    with pytest.raises(OperationalError):
        recorder.flush()
    recorder.observe(read(2), key=2)
    kept.away = False
    recorder.flush()
    assert [one.at.second for one in kept.entries] == [6, 7]


def test_reads_that_cannot_be_noted_are_refused(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_window, "MOST_WAITING", 5)
    for number in range(5):
        recorder.observe(read(), key=number)
    with pytest.raises(Unavailable, match=r"audit\.full"):
        recorder.observe(read(), key="one more")
    # A repeat takes no room.
    recorder.observe(read(), key=4)


def test_closing_writes_what_waits_and_what_is_counted(recorder: Recorder, kept: Kept) -> None:
    for _ in range(3):
        recorder.observe(read(), key="session")
    recorder.close()
    assert [one.detail.get("repeats") for one in kept.entries] == [None, "2"]


def event(entry: AuditEntry) -> dict[str, object]:
    return audit_event(KeptEntry(sequence=7, entry=entry, sha256="ab" * 32), observer="POLYCLINIC")


def test_an_entry_as_fhir_audit_event() -> None:
    made = event(
        AuditEntry(
            at=AT,
            action="dicom.read",
            outcome=AuditOutcome.ALLOWED,
            agent_kind=AgentKind.PERSON,
            agent_id="person-1",
            roles=("radiologist",),
            address="192.0.2.7",
            study_instance_uid="1.2.3",
            patient_id="P1",
            issuer="SITE-A",
            detail={"repeats": "299"},
        )
    )
    assert made["type"] == {
        "system": "http://dicom.nema.org/resources/ontology/DCM",
        "code": "110104",
        "display": "DICOM Instances Transferred",
    }
    assert (made["action"], made["outcome"]) == ("R", "0")
    assert made["recorded"] == "2026-01-02T03:04:05.000000Z"
    agents = made["agent"]
    assert isinstance(agents, list)
    assert agents[0]["who"] == {"identifier": {"value": "person-1"}}
    assert agents[0]["network"] == {"address": "192.0.2.7", "type": "2"}
    assert [agent["requestor"] for agent in agents] == [True, False]
    patient, study, row = made["entity"]  # type: ignore[misc]
    assert patient["what"]["identifier"] == {"value": "P1", "assigner": {"display": "SITE-A"}}
    assert study["what"]["identifier"] == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}
    assert {"type": "repeats", "valueString": "299"} in row["detail"]


@pytest.mark.parametrize(
    ("action", "code", "subtype"),
    [
        ("session.sign-in", "110114", "110122"),
        ("session.sign-out", "110114", "110123"),
        ("dicom.delete", "110105", None),
        ("audit.read", "110101", None),
        ("worklist.read", "110112", None),
        ("study.read", "110103", None),
        ("dimse.refused", "110113", None),
        ("something.new", "110100", None),
    ],
)
def test_event_codes_are_those_of_ps3_15(action: str, code: str, subtype: str | None) -> None:
    made = event(AuditEntry(at=AT, action=action, outcome=AuditOutcome.DENIED, agent_kind=AgentKind.NOBODY))
    assert made["type"]["code"] == code  # type: ignore[index]
    assert made["outcome"] == "4"
    codes = [one["code"] for one in made["subtype"]]  # type: ignore[attr-defined]
    assert codes == [*filter(None, [subtype]), action]


def test_every_action_that_the_gate_records_has_its_event() -> None:
    from polyclinic.departments.access.audit_web import UNRECORDED

    assert {action.value for action in set(Action) - UNRECORDED} <= set(EVENTS)

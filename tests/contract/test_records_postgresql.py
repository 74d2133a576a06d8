"""The record and its corrections on PostgreSQL: what SQLite, with its single writer, cannot show."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from postgresql_server import postgresql
from sqlalchemy import Engine

from polyclinic.app.audit import system_entry
from polyclinic.app.record_changes import LedgeredRecord
from polyclinic.core.errors import Conflict
from polyclinic.core.ids import stable_uid
from polyclinic.departments.access.audit_store import Ledger
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.reading import store as reading
from polyclinic.departments.records.inbox import SqlInbox
from polyclinic.departments.records.patients import Order, PatientKey, PatientRecord
from polyclinic.departments.records.ports import InboxEntry, OrderQuery, PatientQuery
from polyclinic.departments.records.store import SqlRecord
from polyclinic.edges.sql.engine import writing
from polyclinic.edges.sql.migrations import migrate
from polyclinic.journeys.identity import followed

AT = datetime(2026, 1, 2, tzinfo=UTC)
WANG = PatientRecord(
    key=PatientKey(patient_id="P-1", issuer="SITE-A"), name="Wang^XiaoDong=王^小东", birth_date=date(1960, 1, 2)
)
LI = PatientRecord(key=PatientKey(patient_id="P-2", issuer="SITE-A"), name="Li^Na=李^娜", sex="F")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """With every table, as the migrations make them."""
    with postgresql() as made:
        migrate(made)
        yield made


def test_names_and_orders_are_found_and_merged(engine: Engine) -> None:
    record = SqlRecord(engine)
    for patient in (WANG, LI):
        record.put_patient(patient, source="x", at=AT)
    assert [p.key for p in record.find_patients(PatientQuery(name="王小"))] == [WANG.key]
    assert [p.key for p in record.find_patients(PatientQuery(limit=1, after=WANG.key))] == [LI.key]
    record.put_order(Order(order_id="O-1", patient=WANG.key, accession_number="ACC-1"), source="x", at=AT)
    record.merge_patients(WANG.key, LI.key, source="x", at=AT)
    assert [o.patient for o in record.find_orders(OrderQuery(patient=WANG.key))] == [LI.key]
    assert [o.patient for o in record.order_history("O-1")] == [WANG.key, LI.key]


def test_of_writers_at_once_each_keeps_its_version_or_is_told(engine: Engine) -> None:
    record, key = SqlRecord(engine), PatientKey(patient_id="RACE")
    told: list[str] = []

    def write(number: int) -> None:
        for turn in range(5):
            try:
                version = 0 if turn == 0 and number == 0 else len(record.patient_history(key))
                patient = PatientRecord(key=key, name=f"N{number}^T{turn}")
                record.put_patient(patient, source="x", at=AT, expected_version=version)
            except Conflict as error:
                told.append(error.code)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = record.patient_history(key)
    assert [change.version for change in history] == list(range(1, len(history) + 1))
    assert len(history) + len(told) == 20
    assert set(told) <= {"records.stale-patient"}


def test_changes_and_their_notes_are_one_transaction_beside_other_writers(engine: Engine) -> None:
    record, ledger = LedgeredRecord(engine), Ledger(engine, writing)
    keys = [PatientKey(patient_id=f"L-{n}", issuer="SITE-A") for n in range(8)]
    noise = [system_entry("worklist.read")]

    def write(key: PatientKey) -> None:
        record.put_patient(PatientRecord(key=key, name="Wang^Fang"), source="HL7 ADT^A04", at=datetime.now(UTC))
        ledger.append(noise)

    threads = [threading.Thread(target=write, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    record.merge_patients(keys[0], keys[1], source="HL7 ADT^A40", at=datetime.now(UTC))
    entries = [one.entry for one in ledger.entries()]
    created = {e.patient_id for e in entries if e.action == "patient.correct" and e.patient_id.startswith("L-")}
    assert created == {key.patient_id for key in keys}
    assert {e.patient_id for e in entries if e.action == "patient.merge"} == {"L-0", "L-1"}
    assert ledger.verify().intact


def test_a_message_is_noted_once(engine: Engine) -> None:
    inbox = SqlInbox(engine)
    entry = InboxEntry(sender_sha256="a", control_id_sha256="b", body_sha256="c", kind="ADT^A08", received_at=AT)
    assert not inbox.accepted(entry)
    inbox.note(entry)
    inbox.note(entry)
    assert inbox.accepted(entry)


def test_a_merge_reaches_the_archive_and_late_images(
    engine: Engine, tmp_path: Path, part10: Callable[..., bytes]
) -> None:
    record, archive = SqlRecord(engine), SqlArchive(engine, tmp_path / "segments")
    old = replace(WANG, key=PatientKey(patient_id="P-1", issuer="SITE-B"))
    new = replace(LI, key=PatientKey(patient_id="P-2", issuer="SITE-B"))
    try:
        archive.store(part10(IssuerOfPatientID="SITE-B"), source="CT1")
        for patient in (old, new):
            record.put_patient(patient, source="x", at=AT)
        record.merge_patients(old.key, new.key, source="HL7 ADT^A40", at=AT)
        followed(record, archive, site_issuer="", tell=lambda change, uids: None)
        archive.store(part10(study="late", series="3", IssuerOfPatientID="SITE-B"), source="CT1")
        for name in ("1", "late"):
            study = archive.study(stable_uid("study", name))
            assert (study.patient.patient_id, study.patient.name) == ("P-2", LI.name)
            assert (study.series_count, study.modalities) == (1, ("CT",)), "PostgreSQL's row counts are heard too"
    finally:
        archive.close()


def test_a_study_that_is_known_is_settled_again(engine: Engine) -> None:
    store = reading.ReadingStore(engine)
    for evidence in ("first", "second"):
        store.settling("1.2.3", evidence, now=1.0)
    assert store.status("1.2.3").evidence == "second"

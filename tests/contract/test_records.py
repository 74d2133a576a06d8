"""What every clinical record must keep: the one in SQL and its fake in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from polyclinic.core.codes import LOINC, Code
from polyclinic.core.errors import Conflict, NotFound, Rejected
from polyclinic.departments.records.patients import (
    Order,
    OrderPriority,
    OrderStatus,
    PatientChangeKind,
    PatientKey,
    PatientRecord,
    PerformedSeries,
    PerformedStatus,
    PerformedStep,
    ScheduledStep,
    StepStatus,
)
from polyclinic.departments.records.ports import OrderQuery, PatientQuery, Record
from polyclinic.departments.records.store import SqlRecord
from polyclinic.departments.records.tables import metadata
from polyclinic.edges.memory_records import InMemoryRecord
from polyclinic.edges.sql.engine import open_engine

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WANG = PatientRecord(
    key=PatientKey(patient_id="P-1", issuer="SITE-A"),
    name="Wang^XiaoDong=王^小东",
    birth_date=date(1960, 1, 2),
    sex="M",
)
HONG = PatientRecord(key=PatientKey(patient_id="P-2", issuer="SITE-A"), name="Hong^Gildong=洪^吉洞=홍^길동", sex="M")
YAMADA = PatientRecord(
    key=PatientKey(patient_id="P-3"), name="ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", birth_date=date(1980, 5, 6)
)
MUELLER = PatientRecord(key=PatientKey(patient_id="P-4"), name="Müller-Lüdenscheidt^Anna Maria", sex="F")
STEP = ScheduledStep(step_id="S1", modality="CT", starts_at=AT, station_ae_title="CT1")
ORDER = Order(
    order_id="O-1",
    patient=WANG.key,
    placer_number="PL-1",
    filler_number="FI-1",
    accession_number="ACC-1",
    procedure=Code(system=LOINC, code="24627-2", display="CT Chest"),
    indication="胸痛",
    priority=OrderPriority.STAT,
    ordered_at=AT,
    study_instance_uid="1.2.3",
    steps=(STEP,),
)
PERFORMED = PerformedStep(
    sop_instance_uid="1.2.9",
    status=PerformedStatus.IN_PROGRESS,
    modality="CT",
    station_ae_title="CT1",
    started_at=AT,
    patient=WANG.key,
    study_instance_uid="1.2.3",
    scheduled_step_ids=("S1",),
    attributes={"00080060": {"vr": "CS", "Value": ["CT"]}},
)


@pytest.fixture(params=["sql", "memory"])
def record(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Record]:
    if request.param == "memory":
        yield InMemoryRecord()
        return
    engine = open_engine(f"sqlite:///{tmp_path / 'index.db'}")
    metadata.create_all(engine)
    yield SqlRecord(engine)
    engine.dispose()


def keep(record: Record, *patients: PatientRecord) -> None:
    for patient in patients:
        record.put_patient(patient, source="HL7 ADT^A04", at=AT)


def test_a_patient_is_kept_with_its_history(record: Record) -> None:
    first = record.put_patient(WANG, source="HL7 ADT^A04", at=AT)
    assert (first.version, first.changed_at) == (1, AT)
    later = AT + timedelta(days=1)
    second = record.put_patient(replace(WANG, name="Wong^XiaoDong"), source="HL7 ADT^A08", at=later)
    assert record.patient(WANG.key) == second
    created, updated = record.patient_history(WANG.key)
    assert (created.kind, created.before, created.after) == (PatientChangeKind.CREATED, None, first)
    assert (updated.kind, updated.before, updated.after) == (PatientChangeKind.UPDATED, first, second)
    assert (updated.version, updated.at, updated.source) == (2, later, "HL7 ADT^A08")


def test_equal_content_changes_nothing(record: Record) -> None:
    first = record.put_patient(WANG, source="a", at=AT)
    assert record.put_patient(replace(first, version=0), source="b", at=AT + timedelta(days=1)) == first
    assert len(record.patient_history(WANG.key)) == 1


def test_a_stale_writer_is_told(record: Record) -> None:
    keep(record, WANG)
    for expected in (0, 2):
        with pytest.raises(Conflict, match=r"records\.stale-patient"):
            record.put_patient(replace(WANG, sex="F"), source="FHIR", at=AT, expected_version=expected)
    assert record.put_patient(replace(WANG, sex="F"), source="FHIR", at=AT, expected_version=1).version == 2


def test_who_is_unknown_is_said_to_be(record: Record) -> None:
    with pytest.raises(NotFound, match=r"records\.no-patient"):
        record.patient(WANG.key)
    assert record.surviving(WANG.key) == WANG.key
    assert record.patient_history(WANG.key) == ()


@pytest.mark.parametrize(
    "key", [PatientKey(patient_id=" "), PatientKey(patient_id="x" * 129), PatientKey(patient_id="a\0")]
)
def test_an_identity_that_cannot_be_found_again_is_refused(record: Record, key: PatientKey) -> None:
    with pytest.raises(Rejected, match=r"records\.bad-patient"):
        record.put_patient(replace(WANG, key=key), source="x", at=AT)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("wang", {"P-1"}),
        ("xiaod", {"P-1"}),
        ("王", {"P-1"}),
        ("小东", {"P-1"}),
        ("王小", {"P-1"}),
        ("wang 小", {"P-1"}),
        ("홍길동", {"P-2"}),
        ("길동", {"P-2"}),
        ("洪", {"P-2"}),
        ("ヤマダ", {"P-3"}),
        ("ﾔﾏﾀﾞ", {"P-3"}),
        ("やまだたろう", {"P-3"}),
        ("太郎", {"P-3"}),
        ("muller", {"P-4"}),
        ("LUDENS", {"P-4"}),
        ("maria", {"P-4"}),
        ("aria", set()),
        ("wang gildong", set()),
        ("", {"P-1", "P-2", "P-3", "P-4"}),
    ],
)
def test_names_are_found_by_the_beginning_of_any_word(record: Record, name: str, found: set[str]) -> None:
    keep(record, WANG, HONG, YAMADA, MUELLER)
    assert {p.key.patient_id for p in record.find_patients(PatientQuery(name=name))} == found


def test_a_changed_name_is_found_and_the_old_one_is_not(record: Record) -> None:
    keep(record, WANG)
    record.put_patient(replace(WANG, name="Li^Na=李^娜"), source="x", at=AT)
    assert record.find_patients(PatientQuery(name="wang")) == ()
    assert len(record.find_patients(PatientQuery(name="李"))) == 1


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (PatientQuery(patient_id="P-1"), ["P-1"]),
        (PatientQuery(issuer="SITE-A"), ["P-1", "P-2"]),
        (PatientQuery(sex="F"), ["P-4"]),
        (PatientQuery(birth_from=date(1960, 1, 2), birth_to=date(1960, 1, 2)), ["P-1"]),
        (PatientQuery(birth_to=date(1990, 1, 1)), ["P-1", "P-3"]),
        (PatientQuery(limit=2), ["P-1", "P-2"]),
        (PatientQuery(limit=2, after=HONG.key), ["P-3", "P-4"]),
    ],
)
def test_patients_are_found_by_what_is_known(record: Record, query: PatientQuery, found: list[str]) -> None:
    keep(record, WANG, HONG, YAMADA, MUELLER)
    assert [p.key.patient_id for p in record.find_patients(query)] == found


def test_a_merge_takes_orders_along_and_keeps_both_histories(record: Record) -> None:
    keep(record, WANG, HONG)
    record.put_order(ORDER, source="HL7 ORM^O01", at=AT)
    assert record.merge_patients(WANG.key, HONG.key, source="HL7 ADT^A40", at=AT).key == HONG.key
    assert record.surviving(WANG.key) == HONG.key
    assert record.patient(WANG.key).merged_into == HONG.key
    assert record.patient(WANG.key).name == WANG.name
    assert [o.patient for o in record.order_history("O-1")] == [WANG.key, HONG.key]
    assert record.find_orders(OrderQuery(patient=HONG.key)) == record.find_orders(OrderQuery(patient=WANG.key)) != ()
    merged = record.patient_history(WANG.key)[-1]
    assert merged.kind is PatientChangeKind.MERGED
    assert merged.before is not None
    assert (merged.before.merged_into, merged.after.merged_into) == (None, HONG.key)
    assert [p.key for p in record.find_patients(PatientQuery())] == [HONG.key]
    assert [p.key for p in record.find_patients(PatientQuery(include_merged=True))] == [WANG.key, HONG.key]
    assert [p.key for p in record.find_patients(PatientQuery(merged_into=HONG.key))] == [WANG.key]


def test_merging_twice_changes_nothing_more(record: Record) -> None:
    keep(record, WANG, HONG)
    for _ in range(2):
        record.merge_patients(WANG.key, HONG.key, source="x", at=AT)
    assert len(record.patient_history(WANG.key)) == 2


def test_merges_are_followed_along_a_chain_and_never_in_a_circle(record: Record) -> None:
    keep(record, WANG, HONG, YAMADA)
    record.merge_patients(WANG.key, HONG.key, source="x", at=AT)
    record.merge_patients(HONG.key, YAMADA.key, source="x", at=AT)
    assert record.surviving(WANG.key) == YAMADA.key
    for into in (WANG.key, HONG.key, YAMADA.key):
        with pytest.raises(Conflict, match=r"records\.merge-cycle"):
            record.merge_patients(YAMADA.key, into, source="x", at=AT)
    keep(record, MUELLER)
    with pytest.raises(Conflict, match=r"records\.merged-patient"):
        record.merge_patients(WANG.key, MUELLER.key, source="x", at=AT)


def test_an_unknown_identity_can_be_merged_away_but_not_be_the_target(record: Record) -> None:
    keep(record, WANG)
    old = PatientKey(patient_id="TMP-7")
    with pytest.raises(NotFound, match=r"records\.no-patient"):
        record.merge_patients(WANG.key, old, source="x", at=AT)
    record.merge_patients(old, WANG.key, source="x", at=AT)
    assert record.surviving(old) == WANG.key
    (change,) = record.patient_history(old)
    assert (change.kind, change.before) == (PatientChangeKind.MERGED, None)


def test_a_merged_identity_takes_no_changes_and_its_orders_go_to_the_survivor(record: Record) -> None:
    keep(record, WANG, HONG)
    record.merge_patients(WANG.key, HONG.key, source="x", at=AT)
    with pytest.raises(Conflict, match=r"records\.merged-patient"):
        record.put_patient(replace(WANG, sex="F"), source="x", at=AT)
    assert record.put_order(ORDER, source="x", at=AT).patient == HONG.key


def test_changes_wait_until_the_archive_has_followed(record: Record) -> None:
    keep(record, WANG, HONG)
    record.merge_patients(WANG.key, HONG.key, source="x", at=AT)
    first, second, third = record.pending_changes()
    assert [c.key for c in (first, second, third)] == [WANG.key, HONG.key, WANG.key]
    record.change_applied(second)
    record.change_applied(second)
    assert record.pending_changes() == (first, third)
    assert record.pending_changes(limit=1) == (first,)


def test_an_order_is_kept_with_every_version(record: Record) -> None:
    first = record.put_order(ORDER, source="HL7 ORM^O01", at=AT)
    assert record.put_order(ORDER, source="HL7 ORM^O01", at=AT + timedelta(days=1)) == first
    second = record.put_order(replace(first, status=OrderStatus.REVOKED), source="x", at=AT, expected_version=1)
    assert record.order("O-1") == second
    assert record.order_history("O-1") == (first, second)
    with pytest.raises(Conflict, match=r"records\.stale-order"):
        record.put_order(replace(first, indication="other"), source="x", at=AT, expected_version=1)
    with pytest.raises(NotFound, match=r"records\.no-order"):
        record.order("O-2")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (OrderQuery(), ["O-3", "O-1", "O-2"]),
        (OrderQuery(order_id="O-2"), ["O-2"]),
        (OrderQuery(accession_number="ACC-1"), ["O-1"]),
        (OrderQuery(placer_number="PL-1"), ["O-1"]),
        (OrderQuery(filler_number="FI-2"), ["O-2"]),
        (OrderQuery(study_instance_uid="1.2.4"), ["O-2"]),
        (OrderQuery(patient=HONG.key), ["O-2"]),
        (OrderQuery(statuses=frozenset({OrderStatus.REVOKED})), ["O-3"]),
        (OrderQuery(modality="MR"), ["O-2"]),
        (OrderQuery(station_ae_title="CT1"), ["O-1"]),
        (OrderQuery(starts_from=AT, starts_to=AT), ["O-1"]),
        (OrderQuery(starts_from=AT + timedelta(microseconds=1)), ["O-2"]),
        (OrderQuery(modality="MR", starts_to=AT), []),
        (OrderQuery(limit=1, offset=1), ["O-1"]),
    ],
)
def test_orders_are_found_as_worklists_ask(record: Record, query: OrderQuery, found: list[str]) -> None:
    at_hour = [
        replace(STEP, step_id=f"S{n}", starts_at=AT + timedelta(hours=n), modality="MR", station_ae_title="MR1")
        for n in (1, 2)
    ]
    second = replace(
        ORDER,
        order_id="O-2",
        patient=HONG.key,
        placer_number="PL-2",
        filler_number="FI-2",
        accession_number="ACC-2",
        study_instance_uid="1.2.4",
        steps=tuple(reversed(at_hour)),
    )
    third = Order(order_id="O-3", patient=WANG.key, status=OrderStatus.REVOKED)
    for order in (second, ORDER, third):
        record.put_order(order, source="x", at=AT)
    assert [o.order_id for o in record.find_orders(query)] == found


def test_modality_and_time_must_fit_one_and_the_same_step(record: Record) -> None:
    steps = (STEP, replace(STEP, step_id="S2", modality="MR", starts_at=AT + timedelta(days=1)))
    record.put_order(replace(ORDER, steps=steps), source="x", at=AT)
    assert record.find_orders(OrderQuery(modality="MR", starts_to=AT)) == ()
    assert len(record.find_orders(OrderQuery(modality="MR", starts_from=AT + timedelta(days=1)))) == 1


@pytest.mark.parametrize(
    "order",
    [
        replace(ORDER, accession_number="x" * 129),
        replace(ORDER, study_instance_uid="../etc"),
        replace(ORDER, order_id=""),
    ],
)
def test_an_order_that_cannot_be_found_again_is_refused(record: Record, order: Order) -> None:
    with pytest.raises(Rejected, match=r"records\.bad-order"):
        record.put_order(order, source="x", at=AT)


def test_a_performed_step_moves_the_scheduled_one_along(record: Record) -> None:
    record.put_order(replace(ORDER, steps=(STEP, replace(STEP, step_id="S2"))), source="x", at=AT)
    begun = record.put_performed_step(PERFORMED, expected_version=0)
    assert begun.version == 1
    assert [s.status for s in record.order("O-1").steps] == [StepStatus.STARTED, StepStatus.SCHEDULED]
    series = (PerformedSeries(series_instance_uid="1.2.3.1", sop_instance_uids=("1.2.3.1.1",)),)
    ended = replace(begun, status=PerformedStatus.COMPLETED, ended_at=AT + timedelta(minutes=5), series=series)
    record.put_performed_step(ended, expected_version=1)
    assert [s.status for s in record.order("O-1").steps] == [StepStatus.COMPLETED, StepStatus.SCHEDULED]
    assert record.performed_step("1.2.9") == replace(ended, version=2)
    assert record.performed_steps("1.2.3") == (replace(ended, version=2),)
    assert len(record.order_history("O-1")) == 3


def test_performed_steps_refuse_what_the_standard_refuses(record: Record) -> None:
    with pytest.raises(NotFound, match=r"records\.no-performed-step"):
        record.performed_step("1.2.9")
    record.put_performed_step(PERFORMED, expected_version=0)
    with pytest.raises(Conflict, match=r"records\.performed-step-exists"):
        record.put_performed_step(PERFORMED, expected_version=0)
    with pytest.raises(Conflict, match=r"records\.stale-performed-step"):
        record.put_performed_step(PERFORMED, expected_version=2)
    record.put_performed_step(replace(PERFORMED, status=PerformedStatus.DISCONTINUED), expected_version=1)
    with pytest.raises(Conflict, match=r"records\.performed-step-final"):
        record.put_performed_step(PERFORMED, expected_version=2)

"""Performed procedure steps by pynetdicom: what begins, goes on, ends, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from structlog.testing import capture_logs

from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.records.patients import Order, PatientKey, PerformedStatus, ScheduledStep, StepStatus
from polyclinic.departments.records.ports import Record
from polyclinic.departments.records.store import SqlRecord, metadata
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.dimse.sources import Sources
from polyclinic.edges.dimse.syntaxes import PERFORMED_STEP, PERFORMED_STEP_RETRIEVE
from polyclinic.edges.sql.engine import open_engine

ZONE = timezone(timedelta(hours=8))
UID = stable_uid("mpps", 1)
STUDY = stable_uid("study", "1")


@pytest.fixture
def record(tmp_path: Path) -> Record:
    engine = open_engine(f"sqlite:///{tmp_path / 'record.db'}")
    metadata.create_all(engine)
    record = SqlRecord(engine)
    order = Order(
        order_id="O-1",
        patient=PatientKey(patient_id="P-1", issuer="SITE-A"),
        study_instance_uid=STUDY,
        accession_number="ACC-1",
        steps=(ScheduledStep(step_id="SPS-1", modality="CT", starts_at=datetime(2026, 11, 22, 8, tzinfo=ZONE)),),
    )
    record.put_order(order, source="TEST", at=datetime(2026, 11, 22, tzinfo=UTC))
    return record


@pytest.fixture
def node(tmp_path: Path, open_archive: Callable[..., SqlArchive], record: Record) -> Iterator[DimseNode]:
    node = DimseNode(Sources(archive=open_archive(tmp_path), orders=record, patients=record, zone=ZONE), port=0)
    node.start()
    yield node
    node.stop()


class Modality:
    """A pynetdicom SCU on one association."""

    def __init__(self, node: DimseNode) -> None:
        scu = AE(ae_title="CT1")
        scu.add_requested_context(PERFORMED_STEP)
        scu.add_requested_context(PERFORMED_STEP_RETRIEVE)
        self.association = scu.associate("127.0.0.1", node.port, ae_title="POLYCLINIC")
        assert self.association.is_established

    def create(self, attributes: Dataset, uid: str | None = UID) -> Dataset:
        return self.association.send_n_create(attributes, PERFORMED_STEP, uid)[0]

    def set(self, uid: str = UID, **attributes: Any) -> Dataset:
        return self.association.send_n_set(dataset(**attributes), PERFORMED_STEP, uid)[0]

    def get(self, uid: str = UID) -> tuple[Dataset, Dataset | None]:
        return self.association.send_n_get([0x00100010], PERFORMED_STEP_RETRIEVE, uid)


@pytest.fixture
def modality(node: DimseNode) -> Iterator[Modality]:
    modality = Modality(node)
    yield modality
    modality.association.release()


def dataset(**attributes: Any) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


BEGINNING = dataset(
    SpecificCharacterSet="GB18030",
    Modality="CT",
    PatientName="Wang^XiaoDong=王^小东",
    PatientID="P-1",
    IssuerOfPatientID="SITE-A",
    PerformedProcedureStepID="PPS-1",
    PerformedStationAETitle="CT1",
    PerformedProcedureStepStartDate="20261122",
    PerformedProcedureStepStartTime="081500.5",
    PerformedProcedureStepStatus="IN PROGRESS",
    PerformedSeriesSequence=[],
    ScheduledStepAttributesSequence=[
        dataset(StudyInstanceUID=STUDY, AccessionNumber="ACC-1", ScheduledProcedureStepID="SPS-1")
    ],
)
SERIES = dataset(
    SeriesInstanceUID=stable_uid("series", "1", "1"),
    ProtocolName="Chest",
    SeriesDescription="肺",
    ReferencedImageSequence=[
        dataset(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=f"1.2.{n}") for n in (1, 2)
    ],
)
END: dict[str, Any] = {
    "SpecificCharacterSet": "ISO_IR 192",
    "PerformedProcedureStepEndDate": "20261122",
    "PerformedProcedureStepEndTime": "083000",
    "PerformedSeriesSequence": [SERIES],
}
COMPLETED = END | {"PerformedProcedureStepStatus": "COMPLETED"}


def without(keyword: str) -> Dataset:
    changed = deepcopy(BEGINNING)
    delattr(changed, keyword)
    return changed


def but(**attributes: Any) -> Dataset:
    changed = deepcopy(BEGINNING)
    for keyword, value in attributes.items():
        setattr(changed, keyword, value)
    return changed


def test_a_step_begins_goes_on_and_is_completed(modality: Modality, record: Record) -> None:
    assert modality.create(BEGINNING).Status == 0
    step = record.performed_step(UID)
    assert (step.status, step.modality, step.station_ae_title) == (PerformedStatus.IN_PROGRESS, "CT", "CT1")
    assert step.started_at == datetime(2026, 11, 22, 8, 15, 0, 500_000, tzinfo=ZONE)
    assert (step.patient, step.study_instance_uid) == (PatientKey(patient_id="P-1", issuer="SITE-A"), STUDY)
    assert (step.accession_number, step.scheduled_step_ids, step.ended_at) == ("ACC-1", ("SPS-1",), None)
    assert record.order("O-1").steps[0].status is StepStatus.STARTED

    assert modality.set(PerformedProcedureStepDescription="Chest").Status == 0
    assert record.performed_step(UID).status is PerformedStatus.IN_PROGRESS
    assert modality.set(**END, PerformedProcedureStepStatus="COMPLETED").Status == 0
    step = record.performed_step(UID)
    assert (step.status, step.version) == (PerformedStatus.COMPLETED, 3)
    assert step.ended_at == datetime(2026, 11, 22, 8, 30, tzinfo=ZONE)
    (series,) = step.series
    assert (series.series_instance_uid, series.protocol_name) == (SERIES.SeriesInstanceUID, "Chest")
    assert (series.description, series.sop_instance_uids) == ("肺", ("1.2.1", "1.2.2"))
    assert step.attributes is not None
    kept = Dataset.from_json(dict(step.attributes))
    assert (kept.PatientName, kept.PerformedProcedureStepDescription) == ("Wang^XiaoDong=王^小东", "Chest")
    assert record.order("O-1").steps[0].status is StepStatus.COMPLETED


def test_a_step_is_discontinued_with_its_reason(modality: Modality, record: Record) -> None:
    modality.create(BEGINNING)
    reason = dataset(
        CodeValue="110513", CodingSchemeDesignator="DCM", CodeMeaning="Discontinued for unspecified reason"
    )
    answer = modality.set(
        PerformedProcedureStepStatus="DISCONTINUED",
        PerformedProcedureStepEndDate="20261122",
        PerformedProcedureStepEndTime="0816",
        PerformedProcedureStepDiscontinuationReasonCodeSequence=[reason],
    )
    step = record.performed_step(UID)
    assert (answer.Status, step.status, step.series) == (0, PerformedStatus.DISCONTINUED, ())
    assert step.discontinuation is not None
    assert step.discontinuation.code == "110513"


@pytest.mark.parametrize("final", ["COMPLETED", "DISCONTINUED"])
def test_what_has_ended_is_not_changed(modality: Modality, record: Record, final: str) -> None:
    modality.create(BEGINNING)
    assert modality.set(**END, PerformedProcedureStepStatus=final).Status == 0
    for change in ({"PerformedProcedureStepDescription": "late"}, {"PerformedProcedureStepStatus": "IN PROGRESS"}):
        answer = modality.set(**change)
        assert (answer.Status, answer.ErrorID) == (0x0110, 0xA710)
    assert record.performed_step(UID).version == 2


def test_a_duplicate_and_an_unknown_step(modality: Modality) -> None:
    modality.create(BEGINNING)
    assert modality.create(BEGINNING).Status == 0x0111
    assert modality.set("1.2.3.4", PerformedProcedureStepDescription="x").Status == 0x0112
    assert modality.get("1.2.3.4")[0].Status == 0x0112


def test_a_step_without_uid_gets_one(modality: Modality, record: Record) -> None:
    answered: list[str] = []
    modality.association.bind(
        evt.EVT_DIMSE_RECV, lambda event: answered.append(event.message.command_set.AffectedSOPInstanceUID)
    )
    assert modality.create(BEGINNING, None).Status == 0
    (step,) = record.performed_steps(STUDY)
    assert answered == [step.sop_instance_uid]


@pytest.mark.parametrize(
    ("attributes", "status"),
    [
        (without("Modality"), 0x0120),
        (without("PerformedProcedureStepID"), 0x0120),
        (without("ScheduledStepAttributesSequence"), 0x0120),
        (but(ScheduledStepAttributesSequence=[]), 0x0121),
        (but(ScheduledStepAttributesSequence=[dataset(AccessionNumber="1")]), 0x0120),
        (but(PerformedStationAETitle=""), 0x0121),
        (but(PerformedProcedureStepStatus="COMPLETED"), 0x0106),
        (but(PerformedProcedureStepStartDate="20261399"), 0x0106),
    ],
)
def test_what_does_not_begin_as_it_must(modality: Modality, record: Record, attributes: Dataset, status: int) -> None:
    answer = modality.create(attributes)
    assert answer.Status == status
    assert "20261399" not in answer.get("ErrorComment", "")
    assert not record.performed_steps(STUDY)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"PatientID": "P-2"}, 0x0106),
        ({"PatientID": "P-1"}, 0),  # said again, as many modalities do
        ({"PerformedProcedureStepStatus": "DONE"}, 0x0106),
        ({"PerformedProcedureStepStatus": "COMPLETED"}, 0x0120),
        ({**END, "PerformedSeriesSequence": [], "PerformedProcedureStepStatus": "COMPLETED"}, 0x0121),
        (
            {
                **END,
                "PerformedSeriesSequence": [dataset(ProtocolName="x")],
                "PerformedProcedureStepStatus": "COMPLETED",
            },
            0x0120,
        ),
    ],
)
def test_what_a_change_must_not_do(modality: Modality, record: Record, change: dict[str, Any], status: int) -> None:
    modality.create(BEGINNING)
    assert modality.set(**change).Status == status
    assert record.performed_step(UID).version == (2 if status == 0 else 1)
    assert record.performed_step(UID).patient.patient_id == "P-1"


def test_a_step_can_be_read_back(modality: Modality) -> None:
    modality.create(BEGINNING)
    answer, attributes = modality.get()
    assert answer.Status == 0
    assert attributes is not None
    assert (attributes.PatientName, attributes.SpecificCharacterSet) == ("Wang^XiaoDong=王^小东", "ISO_IR 192")
    assert attributes.ScheduledStepAttributesSequence[0].ScheduledProcedureStepID == "SPS-1"


@pytest.mark.parametrize(
    "garbage", [b"", b"\x08", b"\xff" * 40, b"\x08\0\x60\0CS\xff\xffCT", b"\x40\0\x70\x02SQ\0\0" * 9]
)
def test_bytes_that_are_no_attributes_are_refused(
    modality: Modality, record: Record, garbage: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("pynetdicom.association.encode", lambda *_: garbage or b"\0\0")
        assert modality.create(BEGINNING).Status in (0x0115, 0x0120)
    assert modality.create(BEGINNING).Status == 0
    assert len(record.performed_steps(STUDY)) == 1


def test_logs_hold_no_patient_data(modality: Modality) -> None:
    with capture_logs() as logs:
        modality.create(BEGINNING)
        modality.set(PatientID="SECRET")
        modality.create(BEGINNING)
    assert {entry["event"] for entry in logs} >= {"dimse.step-began", "dimse.step-not-kept"}
    assert not any(secret in str(logs) for secret in ("Wang", "P-1", "SECRET", "ACC-1", STUDY))

"""Modality worklist against dcmtk's findscu and pynetdicom: matching, return keys, character sets."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from structlog.testing import capture_logs

from polyclinic.core.codes import Code
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.records.patients import (
    Order,
    OrderPriority,
    OrderStatus,
    PatientKey,
    PatientRecord,
    ScheduledStep,
    StepStatus,
)
from polyclinic.departments.records.ports import Record
from polyclinic.departments.records.store import SqlRecord, metadata
from polyclinic.dicom.text import decode, encodings_of
from polyclinic.edges.dimse.association import Policy
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.dimse.peers import KnownPeer
from polyclinic.edges.dimse.sources import Sources
from polyclinic.edges.dimse.syntaxes import WORKLIST_FIND
from polyclinic.edges.sql.engine import open_engine

needs_dcmtk = pytest.mark.skipif(shutil.which("findscu") is None, reason="dcmtk is not installed")
ZONE = timezone(timedelta(hours=8))
NOW = datetime(2026, 11, 22, 7, tzinfo=UTC)
PEOPLE = {
    "P-1": "Wang^XiaoDong=王^小东",
    "P-2": "Müller^Jürgen",
    "P-3": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "P-4": "Hong^Gildong=洪^吉洞=홍^길동",
}


def step(number: int, hour: int, **fields: object) -> ScheduledStep:
    values: dict[str, object] = {
        "step_id": f"SPS-{number}",
        "modality": "CT",
        "starts_at": datetime(2026, 11, 20 + number, hour, 30, tzinfo=ZONE),
        "station_ae_title": "CT_ROOM_1",
        "description": "Chest",
    }
    return ScheduledStep(**{**values, **fields})  # type: ignore[arg-type]


def order(number: int, *steps: ScheduledStep, **fields: object) -> Order:
    values: dict[str, object] = {
        "order_id": f"O-{number}",
        "patient": PatientKey(patient_id=f"P-{number}", issuer="SITE-A"),
        "accession_number": f"ACC-{number}",
        "requested_procedure_id": f"RP-{number}",
        "study_instance_uid": f"1.2.3.{number}",
        "description": "CT chest",
        "steps": steps,
    }
    return Order(**{**values, **fields})  # type: ignore[arg-type]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    engine = open_engine(f"sqlite:///{tmp_path / 'record.db'}")
    metadata.create_all(engine)
    record = SqlRecord(engine)
    for patient_id, name in PEOPLE.items():
        person = PatientRecord(
            key=PatientKey(patient_id=patient_id, issuer="SITE-A"), name=name, birth_date=date(1960, 1, 2), sex="M"
        )
        record.put_patient(person, source="TEST", at=NOW)
    procedure = Code(system="http://loinc.org", code="24627-2", display="CT Chest")
    for one in (
        order(
            1,
            step(1, 9, performing_physician="Li^Ying"),
            step(2, 14, modality="MR", station_ae_title="MR1"),
            procedure=procedure,
            requester="Doe^Jane",
            priority=OrderPriority.STAT,
        ),
        order(2, step(2, 8, station_ae_title="CT_ROOM_2"), patient=PatientKey(patient_id="P-2", issuer="SITE-A")),
        order(3, step(3, 10, modality="DX", station_ae_title="DX1", status=StepStatus.ARRIVED)),
        order(4, step(4, 10, modality="DX", station_ae_title="DX1", status=StepStatus.COMPLETED)),
        order(5, step(4, 11), patient=PatientKey(patient_id="P-4", issuer="SITE-A")),
        order(6, step(5, 11), status=OrderStatus.REVOKED),
    ):
        record.put_order(one, source="TEST", at=NOW)
    return record


@pytest.fixture
def node(tmp_path: Path, open_archive: Callable[..., SqlArchive], record: Record) -> Iterator[DimseNode]:
    sources = Sources(archive=open_archive(tmp_path / "archive"), orders=record, patients=record, zone=ZONE)
    peers = {
        "SCU": KnownPeer(ae_title="SCU"),
        "FINDSCU": KnownPeer(ae_title="FINDSCU"),
        "OLD_CT": KnownPeer(ae_title="OLD_CT", character_sets=("GB18030",)),
    }
    node = DimseNode(sources, port=0, policy=Policy(ae_title="POLYCLINIC", max_matches=20, known_peers=peers))
    node.start()
    yield node
    node.stop()


class Found(list[Dataset]):
    said: str = ""
    files: list[Path]

    @property
    def steps(self) -> list[str]:
        return sorted(one.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID for one in self)


STEP = "ScheduledProcedureStepSequence[0]."


@pytest.fixture
def findscu(node: DimseNode, tmp_path: Path) -> Callable[..., Found]:
    def find(*keys: str, options: tuple[str, ...] = (), files: tuple[Path, ...] = ()) -> Found:
        folder = tmp_path / f"found-{time.monotonic_ns()}"
        folder.mkdir()
        always = () if files else (f"{STEP}ScheduledProcedureStepID",)
        arguments = [part for key in (*always, *keys) for part in ("-k", key)]
        command = ["findscu", "-v", "-W", "-X", "-od", str(folder), *options, *arguments, "127.0.0.1", str(node.port)]
        environment = os.environ | {"TCP_NODELAY": "1"}
        done = subprocess.run([*command, *files], capture_output=True, timeout=30, env=environment, check=False)
        paths = sorted(folder.iterdir())
        found = Found(dcmread(path, force=True) for path in paths)
        found.said = (done.stdout + done.stderr).decode("utf-8", "replace")
        found.files = paths
        return found

    return find


ALL = ["SPS-1", "SPS-2", "SPS-2", "SPS-3", "SPS-4"]


@needs_dcmtk
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ((), ALL),
        ((f"{STEP}Modality=CT",), ["SPS-1", "SPS-2", "SPS-4"]),
        ((f"{STEP}Modality=MR\\DX",), ["SPS-2", "SPS-3"]),
        ((f"{STEP}ScheduledStationAETitle=CT_ROOM_1",), ["SPS-1", "SPS-4"]),
        ((f"{STEP}ScheduledStationAETitle=CT*",), ["SPS-1", "SPS-2", "SPS-4"]),
        ((f"{STEP}Modality=CT", f"{STEP}ScheduledStationAETitle=MR1"), []),  # of two steps, not of one
        ((f"{STEP}ScheduledProcedureStepStartDate=20261122",), ["SPS-2", "SPS-2"]),
        ((f"{STEP}ScheduledProcedureStepStartDate=20261121-20261122",), ["SPS-1", "SPS-2", "SPS-2"]),
        ((f"{STEP}ScheduledProcedureStepStartDate=20261123-",), ["SPS-3", "SPS-4"]),
        ((f"{STEP}ScheduledProcedureStepStartDate=-20261121",), ["SPS-1"]),
        ((f"{STEP}ScheduledProcedureStepStartTime=0800-1000",), ["SPS-1", "SPS-2"]),
        ((f"{STEP}ScheduledProcedureStepStartTime=1430",), ["SPS-2"]),
        (  # both ranges span one time: from the 21st, 10:00, to the 22nd, 9:00
            (
                f"{STEP}ScheduledProcedureStepStartDate=20261121-20261122",
                f"{STEP}ScheduledProcedureStepStartTime=1000-0900",
            ),
            ["SPS-2"],
        ),
        ((f"{STEP}ScheduledPerformingPhysicianName=li*",), ["SPS-1"]),
        ((f"{STEP}ScheduledProcedureStepID=SPS-3",), ["SPS-3"]),
        ((f"{STEP}ScheduledProcedureStepStatus=ARRIVED",), ["SPS-3"]),
        ((f"{STEP}ScheduledProcedureStepStatus=COMPLETED",), ["SPS-4"]),
        (("RequestedProcedureCodeSequence[0].CodeValue=24627-2",), ["SPS-1", "SPS-2"]),
        (("RequestedProcedureCodeSequence[0].CodeValue=X",), []),
        (("PatientID=P-1",), ["SPS-1", "SPS-2"]),
        (("PatientName=WANG*",), ["SPS-1", "SPS-2"]),
        (("PatientName=muller^jurgen",), ["SPS-2"]),
        (("AccessionNumber=ACC-3",), ["SPS-3"]),
        (("StudyInstanceUID=1.2.3.2\\1.2.3.3",), ["SPS-2", "SPS-3"]),
        (("RequestedProcedurePriority=STAT",), ["SPS-1", "SPS-2"]),
        (("PatientBirthDate=19600102", "PatientSex=F"), []),
    ],
)
def test_matching(findscu: Callable[..., Found], keys: tuple[str, ...], expected: list[str]) -> None:
    found = findscu(*keys)
    assert found.steps == expected, found.said
    assert "Received Final Find Response (Success)" in found.said.replace("  ", " ")


@needs_dcmtk
def test_required_return_keys(findscu: Callable[..., Found]) -> None:
    (found,) = findscu(
        "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientWeight", "AccessionNumber=ACC-1",
        "ReferringPhysicianName", "RequestingPhysician", "StudyInstanceUID", "RequestedProcedureID",
        "RequestedProcedureDescription", "RequestedProcedureCodeSequence", "RequestedProcedurePriority",
        "PatientTransportArrangements", "ReferencedStudySequence", "ReferencedPatientSequence", "AdmissionID",
        "CurrentPatientLocation", "MedicalAlerts", "Allergies", "PregnancyStatus", "SpecialNeeds", "PatientState",
        f"{STEP}Modality=CT", f"{STEP}ScheduledStationAETitle", f"{STEP}ScheduledProcedureStepStartDate",
        f"{STEP}ScheduledProcedureStepStartTime", f"{STEP}ScheduledProcedureStepDescription",
        f"{STEP}ScheduledStationName", f"{STEP}ScheduledProcedureStepLocation", f"{STEP}ScheduledProtocolCodeSequence",
    )  # fmt: skip
    assert found.PatientName == PEOPLE["P-1"]
    assert (found.PatientID, found.PatientBirthDate, found.PatientSex) == ("P-1", "19600102", "M")
    assert (found.StudyInstanceUID, found.RequestedProcedureID) == ("1.2.3.1", "RP-1")
    assert (found.ReferringPhysicianName, found.RequestedProcedurePriority) == ("Doe^Jane", "STAT")
    (code,) = found.RequestedProcedureCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == ("24627-2", "LN", "CT Chest")
    (planned,) = found.ScheduledProcedureStepSequence
    start = (planned.ScheduledProcedureStepStartDate, planned.ScheduledProcedureStepStartTime)
    assert (*start, planned.ScheduledStationAETitle, planned.Modality) == ("20261121", "093000", "CT_ROOM_1", "CT")
    assert planned.ScheduledProcedureStepDescription == "Chest"
    empty = ("PatientWeight", "AdmissionID", "MedicalAlerts", "Allergies", "PregnancyStatus", "PatientState")
    assert all(keyword in found and not found.get(keyword) for keyword in empty)
    assert list(found.ReferencedStudySequence) == list(found.ReferencedPatientSequence) == []


@needs_dcmtk
def test_dcmdump_reads_what_pydicom_reads(findscu: Callable[..., Found]) -> None:
    found = findscu("PatientName", "AccessionNumber=ACC-2", f"{STEP}ScheduledStationAETitle", f"{STEP}Modality")
    (path,) = found.files
    dumped = subprocess.run(
        ["dcmdump", "+U8", str(path)], capture_output=True, text=True, timeout=10, check=True
    ).stdout
    for text in ("Müller^Jürgen", "[CT_ROOM_2]", "[ISO_IR 192]", "[ACC-2]", "ScheduledProcedureStepSequence"):
        assert text in dumped
    assert "W:" not in dumped
    assert "E:" not in dumped


@needs_dcmtk
def test_an_empty_sequence_key_asks_for_the_whole_step(findscu: Callable[..., Found], node: DimseNode) -> None:
    query = Dataset()
    query.PatientID = "P-3"
    query.ScheduledProcedureStepSequence = []
    status, (found,) = ask(node, query)
    (planned,) = found.ScheduledProcedureStepSequence
    assert status == 0
    assert (planned.Modality, planned.ScheduledProcedureStepStatus, planned.ScheduledStationAETitle) == (
        "DX", "ARRIVED", "DX1",
    )  # fmt: skip


def ask(node: DimseNode, query: Dataset, *, ae_title: str = "SCU") -> tuple[int, list[Dataset]]:
    scu = AE(ae_title=ae_title)
    scu.add_requested_context(WORKLIST_FIND)
    association = scu.associate("127.0.0.1", node.port, ae_title="POLYCLINIC")
    assert association.is_established
    *pending, (last, _) = association.send_c_find(query, WORKLIST_FIND)
    association.release()
    return last.Status, [dataset for _, dataset in pending]


def query_of(**keys: object) -> Dataset:
    query, item = Dataset(), Dataset()
    for keyword, value in keys.items():
        setattr(item if keyword.startswith("Scheduled") or keyword == "Modality" else query, keyword, value)
    query.ScheduledProcedureStepSequence = [item]
    return query


@needs_dcmtk
@pytest.mark.parametrize(
    ("terms", "raw", "patient_id"),
    [
        ("GB18030", "王*".encode("gb18030"), "P-1"),
        ("GBK", "王^小*".encode("gbk"), "P-1"),
        ("\\ISO 2022 IR 58", b"\x1b$)A" + "王".encode("gb2312") + b"*", "P-1"),
        ("ISO_IR 192", "小?".encode().join((b"*^", b"")), ""),
        ("ISO_IR 192", "*小东".encode(), "P-1"),
        ("ISO_IR 100", "MÜLLER*".encode("latin-1"), "P-2"),
        ("\\ISO 2022 IR 87", "山田*".encode("iso2022_jp"), "P-3"),
        ("\\ISO 2022 IR 149", b"\x1b$)C" + "홍".encode("euc_kr") + b"*", "P-4"),
    ],
)
def test_names_are_found_and_answered_in_the_requesters_character_set(
    findscu: Callable[..., Found], tmp_path: Path, terms: str, raw: bytes, patient_id: str
) -> None:
    if not patient_id:
        raw, patient_id = "王^小?".encode(), "P-1"
    query = b"".join(
        tag + vr + len(value).to_bytes(2, "little") + value
        for tag, vr, value in (
            (b"\x08\x00\x05\x00", b"CS", even(terms.encode())),
            (b"\x10\x00\x10\x00", b"PN", even(raw)),
            (b"\x10\x00\x20\x00", b"LO", b""),
        )
    )
    path = tmp_path / "query.dcm"
    path.write_bytes(query)
    found = findscu(files=(path,))
    assert {one.PatientID for one in found} == {patient_id}, found.said
    for one in found:
        answered = one.SpecificCharacterSet
        answered = answered if isinstance(answered, str) else "\\".join(answered)
        encoded = bytes(one.get_item("PatientName").value)
        assert decode(encoded, encodings_of(answered.encode()), person_name=True) == PEOPLE[patient_id]
        # Hanja and kana cannot all be said in Latin, and not every Korean set has them: then UTF-8
        assert answered in (terms, "ISO_IR 192")


def even(value: bytes) -> bytes:
    return value + b" " * (len(value) % 2)


def test_a_peer_gets_the_character_set_it_is_known_to_read(node: DimseNode) -> None:
    _, (old, *_) = ask(node, query_of(PatientID="P-1", PatientName=""), ae_title="OLD_CT")
    _, (new, *_) = ask(node, query_of(PatientID="P-1", PatientName=""))
    assert (old.SpecificCharacterSet, new.SpecificCharacterSet) == ("GB18030", "ISO_IR 192")
    assert old.PatientName == new.PatientName == PEOPLE["P-1"]


def test_a_merged_patient_is_listed_under_the_identity_that_holds(node: DimseNode, record: Record) -> None:
    into = PatientKey(patient_id="P-3", issuer="SITE-A")
    record.merge_patients(PatientKey(patient_id="P-2", issuer="SITE-A"), into, source="TEST", at=NOW)
    _, (found,) = ask(node, query_of(AccessionNumber="ACC-2", PatientID="", PatientName=""))
    assert (found.PatientID, found.PatientName) == ("P-3", PEOPLE["P-3"])


def test_times_are_told_in_the_zone_that_the_request_names(node: DimseNode) -> None:
    query = query_of(AccessionNumber="ACC-3", ScheduledProcedureStepStartDate="20261123", TimezoneOffsetFromUTC="+0000")
    query.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime = ""
    status, (found,) = ask(node, query)
    planned = found.ScheduledProcedureStepSequence[0]
    assert (status, planned.ScheduledProcedureStepStartTime) == (0, "023000")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        (query_of(ScheduledProcedureStepStartDate="2026-11-22"), 0xA900),
        (query_of(ScheduledProcedureStepStartDate="20261341"), 0xA900),
        (query_of(ScheduledProcedureStepStartTime="noon"), 0xA900),
        (query_of(StudyInstanceUID="1.2' OR 1=1"), 0xA900),
    ],
)
def test_what_is_no_query_is_refused(node: DimseNode, query: Dataset, status: int) -> None:
    assert ask(node, query) == (status, [])


def test_two_items_in_a_sequence_key_are_refused(node: DimseNode) -> None:
    query = query_of(Modality="CT")
    query.ScheduledProcedureStepSequence.append(Dataset())
    assert ask(node, query) == (0xA900, [])


def test_keys_that_no_entry_has_are_left_out_and_told(node: DimseNode) -> None:
    scu = AE(ae_title="SCU")
    scu.add_requested_context(WORKLIST_FIND)
    association = scu.associate("127.0.0.1", node.port, ae_title="POLYCLINIC")
    query = query_of(PatientID="P-3", InstitutionName="", Modality="")
    (status, found), _ = list(association.send_c_find(query, WORKLIST_FIND))
    association.release()
    assert status.Status == 0xFF01
    assert "InstitutionName" not in found


def test_long_lists_are_read_page_by_page_and_limited(node: DimseNode, record: Record) -> None:
    for number in range(100, 130):
        one = order(number, step(6, 8), patient=PatientKey(patient_id="P-1", issuer="SITE-A"))
        record.put_order(replace(one, accession_number="MANY"), source="TEST", at=NOW)
    status, found = ask(node, query_of(AccessionNumber="MANY", StudyInstanceUID=""))
    assert (status, len(found)) == (0xA700, 20)


def test_logs_hold_no_patient_data(node: DimseNode) -> None:
    with capture_logs() as logs:
        ask(node, query_of(PatientName="Wang*", PatientID="P-1"))
    (entry,) = [entry for entry in logs if entry["event"] == "dimse.worklist-read"]
    assert (entry["peer"], entry["matches"]) == ("SCU", 2)
    assert not any(secret in str(logs) for secret in ("Wang", "P-1", "ACC-1", "王"))

"""What every archive must keep: the one on disk and its fake in memory."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from polyclinic.core.errors import NotFound, Rejected
from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.contracts import DERIVED_SOURCE, Receipt
from polyclinic.departments.archive.ports import Archive
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.memory_archive import InMemoryArchive

Make = Callable[..., bytes]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STUDY = stable_uid("study", "1")


@pytest.fixture(params=["sql", "memory"])
def archive(request: pytest.FixtureRequest, tmp_path: Path, open_archive: Callable[..., SqlArchive]) -> Archive:
    return open_archive(tmp_path) if request.param == "sql" else InMemoryArchive()


def test_what_is_stored_is_read_byte_for_byte(archive: Archive, part10: Make) -> None:
    data = part10()
    assert archive.store(memoryview(data), source="CT1") is Receipt.NEW
    (record,) = archive.instances(STUDY)
    assert archive.read(record.sop_instance_uid) == data
    assert record.sha256 == hashlib.sha256(data).hexdigest()
    assert (record.size_bytes, record.source, record.rows, record.columns) == (len(data), "CT1", 8, 6)
    assert (record.instance_number, record.number_of_frames) == (1, 1)


def test_study_carries_patient_and_counts(archive: Archive, part10: Make) -> None:
    for number in (1, 2, 3):
        archive.store(part10(number), source="CT1")
    archive.store(part10(1, series="2", Modality="SR"), source="CT1")
    study = archive.study(STUDY)
    assert study.patient.name == "Wang^XiaoDong=王^小东"
    assert (study.patient.patient_id, study.patient.issuer) == ("P-1", "SITE-A")
    assert str(study.patient.birth_date) == "1960-01-02"
    assert (study.instance_count, study.series_count, study.modalities) == (4, 2, ("CT", "SR"))
    assert (study.study_date, study.accession_number, study.description) == ("20260102", "ACC-1", "Chest")
    first, second = archive.series(STUDY)
    assert (first.series_number, first.instance_count, first.body_part) == (1, 3, "CHEST")
    assert (second.modality, second.instance_count) == ("SR", 1)


def test_instances_come_by_series_then_number(archive: Archive, part10: Make) -> None:
    for series, number in (("2", 1), ("1", 10), ("1", 9), ("1", 2)):
        archive.store(part10(number, series=series), source="CT1")
    found = [(i.series_instance_uid, i.instance_number) for i in archive.instances(STUDY)]
    assert found == sorted(found)
    of_series = archive.instances(STUDY, stable_uid("series", "1", "1"))
    assert [i.instance_number for i in of_series] == [2, 9, 10]


def test_same_bytes_again_are_accepted_once(archive: Archive, part10: Make) -> None:
    assert archive.store(part10(), source="CT1") is Receipt.NEW
    assert archive.store(part10(), source="CT2") is Receipt.SAME
    assert archive.study(STUDY).instance_count == 1
    assert archive.study(STUDY).kept_aside_count == 0


def test_file_meta_information_does_not_make_another_instance(archive: Archive, part10: Make) -> None:
    data = part10()
    other = data[:128] + data[128:].replace(b"PYDICOM", b"PYDICOX", 1)
    assert other != data
    archive.store(data, source="CT1")
    assert archive.store(other, source="CT1") is Receipt.SAME


def test_other_bytes_under_the_same_uid_never_replace(archive: Archive, part10: Make) -> None:
    first, other = part10(), part10(PatientName="Other^Name")
    archive.store(first, source="CT1")
    assert archive.store(other, source="CT1") is Receipt.KEPT_ASIDE
    assert archive.store(other, source="CT1") is Receipt.KEPT_ASIDE
    study = archive.study(STUDY)
    assert (study.instance_count, study.kept_aside_count) == (1, 1)
    assert archive.read(archive.instances(STUDY)[0].sop_instance_uid) == first
    assert archive.store(first, source="CT1") is Receipt.SAME


def test_simultaneous_stores_of_one_uid_keep_one(archive: Archive, part10: Make) -> None:
    start = threading.Barrier(6)
    files = [part10(), part10(PatientName="Other^Name")] * 3

    def store(data: bytes) -> Receipt:
        start.wait()
        return archive.store(data, source="CT1")

    with ThreadPoolExecutor(6) as pool:
        receipts = sorted(pool.map(store, files))
    assert receipts == [Receipt.KEPT_ASIDE] * 3 + [Receipt.NEW] + [Receipt.SAME] * 2
    assert archive.study(STUDY).instance_count == 1
    assert archive.study(STUDY).kept_aside_count == 1


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda data: b"", "archive.not-dicom"),
        (lambda data: b"\0" * 128 + b"DICX" + data[132:], "archive.not-dicom"),
        (lambda data: data[:-1], "archive.truncated"),
        (lambda data: data[:400], "archive.truncated"),
        (lambda data: data.replace(b"\x20\x00\x0e\x00UI", b"\x20\x00\x0f\x00UI"), "archive.missing-uid"),
        (lambda data: data.replace(b"2.25.", b"2.2x."), "archive.bad-uid"),
        (lambda data: data.replace(b"2.25.", b"../2."), "archive.bad-uid"),
    ],
)
def test_what_is_no_instance_is_rejected_and_leaves_nothing(
    archive: Archive, part10: Make, damage: Callable[[bytes], bytes], code: str
) -> None:
    with pytest.raises(Rejected) as rejected:
        archive.store(damage(part10()), source="CT1")
    assert rejected.value.code == code
    assert archive.studies() == ()


def test_absent_things_are_not_found(archive: Archive) -> None:
    for ask in (
        lambda: archive.study("1.2"),
        lambda: archive.read("1.2"),
        lambda: archive.load_snapshot("1.2", 1),
        lambda: archive.snapshot("1.2", evidence="", at=NOW),
        lambda: archive.priors("1.2"),
    ):
        with pytest.raises(NotFound):
            ask()
    assert archive.series("1.2") == archive.instances("1.2") == archive.unsettled() == ()


def test_snapshot_freezes_and_only_news_make_a_revision(archive: Archive, part10: Make) -> None:
    archive.store(part10(1), source="CT1")
    (unsettled,) = archive.unsettled()
    assert (unsettled.instance_count, unsettled.open_associations) == (1, 0)
    first = archive.snapshot(STUDY, evidence="quiet", at=NOW)
    assert (first.revision, first.made_at, first.evidence) == (1, NOW, "quiet")
    assert archive.unsettled() == ()
    assert archive.snapshot(STUDY, evidence="again", at=datetime.now(UTC)) == first

    archive.store(part10(2), source="CT1")
    assert archive.unsettled()[0].instance_count == 2
    second = archive.snapshot(STUDY, evidence="late image", at=NOW)
    assert second.revision == 2
    assert set(first.sop_instance_uids) < set(second.sop_instance_uids)
    assert list(second.sop_instance_uids) == sorted(second.sop_instance_uids)
    assert archive.load_snapshot(STUDY, 1) == first
    assert archive.load_snapshot(STUDY, 2) == second


def test_derived_instances_do_not_reopen_a_study(archive: Archive, part10: Make) -> None:
    archive.store(part10(1), source="CT1")
    first = archive.snapshot(STUDY, evidence="quiet", at=NOW)
    arrived = archive.study(STUDY).last_received_at
    archive.store(part10(1, series="9", Modality="SEG"), source=DERIVED_SOURCE)
    assert archive.unsettled() == ()
    assert archive.snapshot(STUDY, evidence="quiet", at=NOW) == first
    study = archive.study(STUDY)
    assert (study.instance_count, study.modalities, study.last_received_at) == (2, ("CT", "SEG"), arrived)
    assert [s.derived for s in archive.series(STUDY)] == [False, True]


def test_studies_come_newest_first_in_pages(archive: Archive, part10: Make) -> None:
    for study in ("1", "2", "3"):
        archive.store(part10(study=study), source="CT1")
    archive.store(part10(2, study="1"), source="CT1")
    order = [s.accession_number for s in archive.studies()]
    assert order == ["ACC-1", "ACC-3", "ACC-2"]
    assert [s.accession_number for s in archive.studies(limit=1, offset=1)] == ["ACC-3"]


def test_priors_are_of_the_same_patient_and_issuer(archive: Archive, part10: Make) -> None:
    archive.store(part10(study="1"), source="CT1")
    archive.store(part10(study="2", StudyDate="20240101"), source="CT1")
    archive.store(part10(study="3", StudyDate="20250101"), source="CT1")
    archive.store(part10(study="4", IssuerOfPatientID="SITE-B"), source="CT1")
    archive.store(part10(study="5", PatientID="P-2"), source="CT1")
    assert [p.study_date for p in archive.priors(STUDY)] == ["20250101", "20240101"]
    nobody = stable_uid("study", "6")
    archive.store(part10(study="6", PatientID=""), source="CT1")
    archive.store(part10(study="7", PatientID=""), source="CT1")
    assert archive.priors(nobody) == ()


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 192", "Müller^Jürgen"),
        ("ISO_IR 100", "Müller^Jürgen"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ],
)
def test_names_of_the_world_are_decoded(
    archive: Archive, part10: Make, character_set: str | list[str], name: str
) -> None:
    archive.store(part10(SpecificCharacterSet=character_set, PatientName=name), source="CT1")
    assert archive.study(STUDY).patient.name == name

"""A merge or a correction reaches the archive: index, searches, and what leaves it; files and history stay."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from polyclinic.core.ids import stable_uid
from polyclinic.core.people import Patient
from polyclinic.departments.archive.contracts import IdentityCorrection
from polyclinic.departments.archive.reindex import reindex
from polyclinic.departments.archive.search import Query, find_studies
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.records.patients import PatientKey, PatientRecord
from polyclinic.edges.memory_records import InMemoryRecord
from polyclinic.journeys.identity import followed, identity_when

Make = Callable[..., bytes]
AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
STUDY = stable_uid("study", "1")
WANG = PatientRecord(
    key=PatientKey(patient_id="P-1", issuer="SITE-A"),
    name="Wang^XiaoDong=王^小东",
    birth_date=date(1960, 1, 2),
    sex="M",
)
LI = PatientRecord(key=PatientKey(patient_id="P-2", issuer="SITE-A"), name="Li^Na=李^娜", sex="F")


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., SqlArchive]) -> SqlArchive:
    return open_archive(tmp_path)


def follow(record: InMemoryRecord, archive: SqlArchive, site_issuer: str = "") -> list[str]:
    told: list[str] = []
    followed(record, archive, site_issuer=site_issuer, tell=lambda change, uids: told.extend(uids))
    return told


def put(record: InMemoryRecord, patient: PatientRecord, hours: int = 0) -> None:
    record.put_patient(patient, source="HL7 ADT^A08", at=AT + timedelta(hours=hours))


def dataset(part10: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(part10))


def only_instance(archive: SqlArchive, study: str = STUDY) -> str:
    return archive.instances(study)[0].sop_instance_uid


def test_a_correction_reaches_studies_and_what_leaves(archive: SqlArchive, part10: Make) -> None:
    original = part10()
    archive.store(original, source="CT1")
    record = InMemoryRecord()
    put(record, WANG)
    assert follow(record, archive) == []
    put(record, replace(WANG, name="Wong^Dong=黄^东", birth_date=date(1961, 2, 3)), hours=1)
    assert follow(record, archive) == [STUDY]
    assert archive.study(STUDY).patient.name == "Wong^Dong=黄^东"
    given = dataset(archive.read(only_instance(archive)))
    assert (str(given.PatientName), given.PatientBirthDate) == ("Wong^Dong=黄^东", "19610203")
    (item,) = given.OriginalAttributesSequence
    (former,) = item.ModifiedAttributesSequence
    assert (str(former.PatientName), former.PatientBirthDate) == ("Wang^XiaoDong=王^小东", "19600102")
    assert "PatientID" not in former
    assert (item.ReasonForTheAttributeModification, item.ModifyingSystem) == ("CORRECT", "POLYCLINIC")
    assert given.PixelData == dataset(original).PixelData
    kept = archive.kept_file(only_instance(archive))
    assert archive.read_part(kept) == original, "the file itself never changes"
    assert b"".join(archive.stream(kept)) == archive.read(only_instance(archive))
    assert archive.given_out(kept)[0] == len(archive.read(only_instance(archive)))


def test_history_shows_both_and_who_said_so(archive: SqlArchive, part10: Make) -> None:
    archive.store(part10(), source="CT1")
    record = InMemoryRecord()
    put(record, replace(WANG, sex="F"), hours=1)
    put(record, replace(WANG, name="Wong^X"), hours=2)
    follow(record, archive)
    first, second = archive.identity_history(STUDY)
    assert (first.before.sex, first.after.sex, first.source, first.number) == ("M", "F", "HL7 ADT^A08", 1)
    assert (second.before, second.after.name, second.after.sex) == (first.after, "Wong^X", "M")
    now = archive.study(STUDY).patient
    assert identity_when((first, second), AT, now) == first.before
    assert identity_when((first, second), AT + timedelta(hours=1, minutes=1), now) == first.after
    assert identity_when((first, second), AT + timedelta(hours=3), now) == now


def test_following_twice_changes_nothing_more(archive: SqlArchive, part10: Make) -> None:
    archive.store(part10(), source="CT1")
    change = IdentityCorrection(
        patient_id="P-1", issuer="SITE-A", before=None, patient=Patient(patient_id="P-1", issuer="SITE-A", name="X^Y"),
        merged=False, site_issuer="", source="x", at=AT,
    )  # fmt: skip
    assert archive.follow_identity(change) == (STUDY,)
    assert archive.follow_identity(change) == ()
    assert len(archive.identity_history(STUDY)) == 1


def test_a_merge_moves_every_study_and_later_ones_too(archive: SqlArchive, part10: Make) -> None:
    other = part10(study="2", PatientID="P-2", PatientName="Li^Na=李^娜", PatientSex="F")
    archive.store(other, source="CT1")
    archive.store(part10(), source="CT1")
    archive.store(part10(study="3"), source="CT1")
    record = InMemoryRecord()
    put(record, WANG)
    put(record, LI)
    record.merge_patients(WANG.key, LI.key, source="HL7 ADT^A40", at=AT)
    assert set(follow(record, archive)) == {STUDY, stable_uid("study", "3")}
    late, more = stable_uid("study", "4"), part10(2)
    archive.store(part10(study="4"), source="CT1")
    archive.store(more, source="CT1")
    for uid in (STUDY, stable_uid("study", "3"), late):
        patient = archive.study(uid).patient
        assert (patient.patient_id, patient.issuer, patient.name, patient.sex) == ("P-2", "SITE-A", "Li^Na=李^娜", "F")
        assert patient.birth_date == date(1960, 1, 2), "what the survivor's record does not say stays as it was"
        for instance in archive.instances(uid):
            given = dataset(archive.read(instance.sop_instance_uid))
            assert (given.PatientID, str(given.PatientName)) == ("P-2", "Li^Na=李^娜")
    assert {s.study_instance_uid for s in archive.priors(late)} == {STUDY, *(stable_uid("study", n) for n in "23")}
    assert [step.source for step in archive.identity_history(late)] == ["HL7 ADT^A40"]
    found = find_studies(archive.engine, Query(matches={"PatientID": "P-2"}))
    assert len(list(found)) == 4
    assert list(find_studies(archive.engine, Query(matches={"PatientName": "Wang*"}))) == []
    assert archive.read(only_instance(archive, stable_uid("study", "2"))) == other, "nothing to correct in that one"


def test_a_chain_of_merges_leads_late_images_to_its_end(archive: SqlArchive, part10: Make) -> None:
    record = InMemoryRecord()
    third = replace(LI, key=PatientKey(patient_id="P-3"), name="Zhao^Min")
    for patient in (WANG, LI, third):
        put(record, patient)
    record.merge_patients(WANG.key, LI.key, source="x", at=AT)
    follow(record, archive)
    record.merge_patients(LI.key, third.key, source="x", at=AT)
    follow(record, archive)
    put(record, replace(third, name="Zhao^Min=赵^敏"), hours=1)
    follow(record, archive)
    archive.store(part10(), source="CT1")
    patient = archive.study(STUDY).patient
    assert (patient.patient_id, patient.name) == ("P-3", "Zhao^Min=赵^敏")


def test_images_with_superseded_data_are_corrected_and_others_are_left(archive: SqlArchive, part10: Make) -> None:
    record = InMemoryRecord()
    put(record, WANG)
    put(record, replace(WANG, name="Wong^Dong"), hours=1)
    follow(record, archive)
    archive.store(part10(), source="CT1")
    archive.store(part10(study="2", PatientName="Wong^Dong"), source="CT1")
    assert archive.study(STUDY).patient.name == "Wong^Dong"
    assert archive.identity_history(stable_uid("study", "2")) == ()


def test_what_one_study_said_wrongly_is_corrected_in_the_next_one_too(archive: SqlArchive, part10: Make) -> None:
    archive.store(part10(PatientName="Unknown^Male"), source="CT1")
    record = InMemoryRecord()
    put(record, WANG)
    assert follow(record, archive) == [STUDY]
    archive.store(part10(study="2", PatientName="Unknown^Male"), source="CT1")
    assert archive.study(stable_uid("study", "2")).patient.name == WANG.name


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("WANG^XIAODONG", "Wang^XiaoDong=王^小东"),
        ("Wang^XiaoDong", "Wang^XiaoDong=王^小东"),
        ("=王^小东", "Wang^XiaoDong=王^小东"),
        ("Wang^XiaoDong=王^小冬", "Wang^XiaoDong=王^小冬"),
        ("", "Wang^XiaoDong=王^小东"),
    ],
)
def test_another_spelling_is_no_correction(archive: SqlArchive, part10: Make, name: str, kept: str) -> None:
    archive.store(part10(), source="CT1")
    record = InMemoryRecord()
    put(record, replace(WANG, name=name))
    follow(record, archive)
    assert archive.study(STUDY).patient.name == kept


def test_the_sites_own_issuer_may_be_left_out_in_images(archive: SqlArchive, part10: Make) -> None:
    archive.store(part10(IssuerOfPatientID=""), source="CT1")
    archive.store(part10(study="2", IssuerOfPatientID="ELSEWHERE"), source="CT1")
    record = InMemoryRecord()
    put(record, replace(WANG, name="Wong^Dong"))
    assert follow(record, archive, "SITE-A") == [STUDY]
    patient = archive.study(STUDY).patient
    assert (patient.name, patient.issuer) == ("Wong^Dong", "")
    put(record, LI)
    record.merge_patients(WANG.key, LI.key, source="x", at=AT)
    follow(record, archive, "SITE-A")
    assert (archive.study(STUDY).patient.patient_id, archive.study(STUDY).patient.issuer) == ("P-2", "")
    archive.store(part10(study="3", IssuerOfPatientID=""), source="CT1")
    late = archive.study(stable_uid("study", "3")).patient
    assert (late.patient_id, late.issuer) == ("P-2", "")
    assert archive.study(stable_uid("study", "2")).patient.patient_id == "P-1"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("charset", ["ISO_IR 192", "ISO_IR 100", "GB18030", None])
def test_every_encoding_leaves_with_the_new_name(
    archive: SqlArchive, part10: Make, syntax: str, charset: str | None
) -> None:
    named = {"SpecificCharacterSet": charset, "PatientName": "Wang^X", "StudyDescription": "Thorax"}
    original = part10(syntax=syntax, **named)
    archive.store(original, source="CT1")
    record = InMemoryRecord()
    put(record, replace(WANG, name="Hong^Gildong=洪^吉洞=홍^길동"))
    follow(record, archive)
    given = dataset(archive.read(only_instance(archive)))
    assert str(given.PatientName) == "Hong^Gildong=洪^吉洞=홍^길동"
    assert given.StudyDescription == "Thorax"
    assert given.PixelData == dataset(original).PixelData
    assert given.file_meta.TransferSyntaxUID == syntax


def test_a_rebuilt_index_keeps_what_was_corrected_and_deletion_forgets_it(
    archive: SqlArchive, part10: Make, tmp_path: Path
) -> None:
    archive.store(part10(), source="CT1")
    record = InMemoryRecord()
    put(record, replace(WANG, name="Wong^Dong"))
    follow(record, archive)
    archive.close()
    reindex(archive.engine, tmp_path / "segments", lambda *_: None)
    again = SqlArchive(archive.engine, tmp_path / "segments")
    try:
        assert again.study(STUDY).patient.name == "Wong^Dong"
        assert str(dataset(again.read(only_instance(again))).PatientName) == "Wong^Dong"
        again.delete(STUDY, reason="test", by="person:1")
        assert again.identity_history(STUDY) == ()
    finally:
        again.close()


def test_deleting_the_first_instance_leaves_the_corrected_identity(archive: SqlArchive, part10: Make) -> None:
    archive.store(part10(1), source="CT1")
    archive.store(part10(2), source="CT1")
    record = InMemoryRecord()
    put(record, replace(WANG, name="Wong^Dong"))
    follow(record, archive)
    first = archive.instances(STUDY)[0]
    archive.delete(
        STUDY,
        series_instance_uid=first.series_instance_uid,
        sop_instance_uid=first.sop_instance_uid,
        reason="test",
        by="person:1",
    )
    assert archive.study(STUDY).patient.name == "Wong^Dong"

"""What deleting must keep, in the archive on disk and in its fake."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from polyclinic.core.errors import Conflict, NotFound, Rejected
from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.contracts import DERIVED_SOURCE, Receipt, Removed, StudyRecord
from polyclinic.departments.archive.ports import Archive
from polyclinic.edges.memory_archive import InMemoryArchive

Make = Callable[..., bytes]
Open = Callable[..., Archive]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STUDY = stable_uid("study", "1")
WHY = {"reason": "wrong patient", "by": "pacs-admin"}


def uid(number: int, series: str = "1") -> str:
    return stable_uid("instance", "1", series, number)


@pytest.fixture(params=["sql", "memory"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, open_archive: Callable[..., Archive]) -> Open:
    if request.param == "memory":
        return InMemoryArchive
    return lambda **settings: open_archive(tmp_path, **settings)


@pytest.fixture
def archive(opened: Open) -> Archive:
    return opened()


def test_an_instance_goes_and_what_is_left_is_counted(archive: Archive, part10: Make) -> None:
    for number in (1, 2, 3):
        archive.store(part10(number), source="CT1")
    assert archive.delete(STUDY, sop_instance_uid=uid(2), **WHY) == Removed(instances=1, size_bytes=len(part10(2)))
    assert [i.instance_number for i in archive.instances(STUDY)] == [1, 3]
    assert archive.study(STUDY).instance_count == archive.series(STUDY)[0].instance_count == 2
    with pytest.raises(NotFound, match=r"archive\.no-instance"):
        archive.read(uid(2))
    assert archive.read(uid(3)) == part10(3)


def test_a_series_goes_with_its_modality(archive: Archive, part10: Make) -> None:
    archive.store(part10(1), source="CT1")
    archive.store(part10(1, series="2", Modality="SR"), source=DERIVED_SOURCE)
    archive.delete(STUDY, series_instance_uid=stable_uid("series", "1", "2"), **WHY)
    study = archive.study(STUDY)
    assert (study.instance_count, study.series_count, study.modalities) == (1, 1, ("CT",))
    assert [s.series_number for s in archive.series(STUDY)] == [1]


def test_a_study_goes_with_what_was_kept_aside(archive: Archive, part10: Make) -> None:
    other = part10(1, PatientName="Other^Name")
    archive.store(part10(1), source="CT1")
    archive.store(part10(1, study="2"), source="CT1")
    assert archive.store(other, source="CT2") is Receipt.KEPT_ASIDE
    assert archive.delete(STUDY, **WHY) == Removed(instances=1, size_bytes=len(part10(1)) + len(other))
    assert [s.accession_number for s in archive.studies()] == ["ACC-2"]
    assert archive.series(STUDY) == archive.instances(STUDY) == ()
    with pytest.raises(NotFound, match=r"archive\.no-study"):
        archive.delete(STUDY, **WHY)


def test_sent_again_it_is_new_even_with_other_bytes(archive: Archive, part10: Make) -> None:
    archive.store(part10(1), source="CT1")
    archive.delete(STUDY, **WHY)
    corrected = part10(1, PatientName="Li^Na")
    assert archive.store(corrected, source="CT1") is Receipt.NEW
    assert archive.read(uid(1)) == corrected
    study = archive.study(STUDY)
    assert (study.patient.name, study.instance_count, study.series_count, study.kept_aside_count) == ("Li^Na", 1, 1, 0)
    assert archive.store(part10(1), source="CT1") is Receipt.KEPT_ASIDE


def test_who_the_study_is_about_comes_from_what_is_left(archive: Archive, part10: Make) -> None:
    archive.store(part10(1, PatientName="Mixed^Up", SeriesDescription="Other"), source="CT1")
    archive.store(part10(2), source="CT1")
    archive.store(part10(3), source="CT1")
    first = archive.instances(STUDY)[1].received_at
    archive.delete(STUDY, sop_instance_uid=uid(1), **WHY)
    study = archive.study(STUDY)
    assert (study.patient.name, study.first_received_at) == ("Wang^XiaoDong=王^小东", first)
    assert archive.series(STUDY)[0].description == "Lung"


def test_revisions_go_on_after_a_deletion(archive: Archive, part10: Make) -> None:
    for number in (1, 2):
        archive.store(part10(number), source="CT1")
    first = archive.snapshot(STUDY, evidence="quiet", at=NOW)
    archive.delete(STUDY, sop_instance_uid=uid(2), **WHY)
    assert archive.unsettled() == ()
    archive.store(part10(3), source="CT1")
    assert [u.instance_count for u in archive.unsettled()] == [2]
    assert archive.snapshot(STUDY, evidence="late", at=NOW).revision == 2
    archive.delete(STUDY, **WHY)
    assert archive.unsettled() == ()
    archive.store(part10(1), source="CT1")
    archive.store(part10(2), source="CT1")
    assert [u.instance_count for u in archive.unsettled()] == [2]
    assert archive.snapshot(STUDY, evidence="again", at=NOW).revision == 3
    assert archive.load_snapshot(STUDY, 1) == first


def test_the_same_instance_sent_again_settles_without_a_new_revision(archive: Archive, part10: Make) -> None:
    for number in (1, 2):
        archive.store(part10(number), source="CT1")
    first = archive.snapshot(STUDY, evidence="quiet", at=NOW)
    archive.delete(STUDY, sop_instance_uid=uid(2), **WHY)
    archive.store(part10(2), source="CT1")
    assert len(archive.unsettled()) == 1
    assert archive.snapshot(STUDY, evidence="again", at=NOW) == first
    assert archive.unsettled() == ()


def test_what_is_on_hold_stays(opened: Open, part10: Make) -> None:
    def held(study: StudyRecord) -> bool:
        return study.accession_number == "ACC-1"

    archive = opened(held=held)
    archive.store(part10(1), source="CT1")
    archive.store(part10(1, study="2"), source="CT1")
    with pytest.raises(Conflict, match=r"archive\.on-hold"):
        archive.delete(STUDY, sop_instance_uid=uid(1), **WHY)
    assert archive.read(uid(1)) == part10(1)
    assert archive.delete(stable_uid("study", "2"), **WHY).instances == 1


@pytest.mark.parametrize(
    ("which", "code"),
    [
        ({"series_instance_uid": "1.2"}, r"archive\.no-series"),
        ({"sop_instance_uid": "1.2"}, r"archive\.no-instance"),
        ({"series_instance_uid": stable_uid("series", "1", "2"), "sop_instance_uid": uid(1)}, r"archive\.no-instance"),
    ],
)
def test_what_is_not_there_is_not_deleted(archive: Archive, part10: Make, which: dict[str, str], code: str) -> None:
    archive.store(part10(1), source="CT1")
    with pytest.raises(NotFound, match=code):
        archive.delete(STUDY, **which, **WHY)
    assert archive.study(STUDY).instance_count == 1


@pytest.mark.parametrize("why", [{"reason": " "}, {"by": ""}, {"reason": "x" * 201}, {"by": "a\nb"}])
def test_nobody_deletes_without_a_reason(archive: Archive, part10: Make, why: dict[str, str]) -> None:
    archive.store(part10(1), source="CT1")
    with pytest.raises(Rejected, match=r"archive\.no-reason"):
        archive.delete(STUDY, **(WHY | why))

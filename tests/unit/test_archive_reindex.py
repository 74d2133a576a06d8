"""The index made anew from the files is the index that was: every row of every table."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from archive_mishaps import STUDY, WHY, lose_index, numbers, rows, uid
from polyclinic.core.errors import Conflict
from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.compaction import compact
from polyclinic.departments.archive.contracts import DERIVED_SOURCE
from polyclinic.departments.archive.locks import OPEN, shared
from polyclinic.departments.archive.reindex import reindex
from polyclinic.departments.archive.schema import metadata
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.sql.engine import open_engine

Make = Callable[..., bytes]
Open = Callable[..., SqlArchive]
NOT_IN_THE_FILES = {"archive_correction", "archive_identity_step", "archive_known_identity"}
"""What the hospital said later of patients."""
NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def silent(*_: object) -> None:
    return


@pytest.fixture
def lived_in(tmp_path: Path, open_archive: Open, part10: Make) -> dict[str, object]:
    """All rows of a closed archive in which everything has happened that can happen to an instance."""
    archive = open_archive(tmp_path, segment_bytes=20_000)
    files = [
        part10(number, study=str(study), series=str(1 + number % 3), PatientID=f"P-{study}")
        for study in range(1, 6)
        for number in range(12)
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda data: archive.store(data, source="CT1"), files))
    archive.store(part10(0, PatientName="Other^Name"), source="CT2")
    archive.store(part10(1, series="2", PatientName="Other^Name"), source="STOW-RS")
    archive.store(part10(1, series="9", Modality="SEG"), source=DERIVED_SOURCE)
    for study in range(1, 4):
        archive.snapshot(stable_uid("study", str(study)), evidence=f"quiet for {study} s", at=NOW)
    archive.delete(STUDY, sop_instance_uid=uid(0), **WHY)
    archive.delete(stable_uid("study", "5"), **WHY)
    archive.delete(stable_uid("study", "4"), series_instance_uid=stable_uid("series", "4", "2"), **WHY)
    archive.store(part10(1, study="5", PatientID="P-5"), source="CT3")
    archive.store(part10(99), source="CT1")
    archive.snapshot(STUDY, evidence="late image", at=NOW)
    archive.store(part10(0), source="CT3")  # sent again after its deletion
    archive.snapshot(STUDY, evidence="sent again", at=NOW)
    archive.close()
    again = open_archive(tmp_path)
    compact(again.engine, again.segments, dead_share=0.3, grace_s=0)
    again.delete(STUDY, sop_instance_uid=uid(3), **WHY)
    again.close()
    found = rows(again)
    assert all(found[name] for name in found.keys() - NOT_IN_THE_FILES)  # no table is empty, so every one is compared
    return dict(found)


def test_a_new_database_gets_every_row(tmp_path: Path, lived_in: dict[str, object], open_archive: Open) -> None:
    lose_index(tmp_path)
    told: list[tuple[str, int, int]] = []
    engine = open_engine(f"sqlite:///{tmp_path / 'index.db'}")
    metadata.create_all(engine)
    reindex(engine, tmp_path / "segments", lambda *step: told.append(step))
    engine.dispose()
    again = open_archive(tmp_path)
    found = rows(again)
    assert {name: found[name] for name in lived_in} == lived_in
    assert again.unsettled() == () or {u.study_instance_uid for u in again.unsettled()}.isdisjoint(
        {STUDY, stable_uid("study", "2"), stable_uid("study", "3")}
    )
    for what in ("read", "index", "settle"):
        steps = [(done, total) for said, done, total in told if said == what]
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1]


def test_a_database_in_place_is_emptied_first(tmp_path: Path, lived_in: dict[str, object], open_archive: Open) -> None:
    spoiled = open_archive(tmp_path)
    with spoiled.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE archive_study SET instance_count = 7, patient_name = 'Nobody'")
        connection.exec_driver_sql("DELETE FROM archive_instance WHERE instance_number = 1")
        connection.exec_driver_sql("UPDATE archive_instance SET sha256 = 'x'")
    spoiled.close()
    reindex(spoiled.engine, tmp_path / "segments", silent)
    assert rows(spoiled) == lived_in


def test_a_start_without_index_makes_it_too(tmp_path: Path, lived_in: dict[str, object], open_archive: Open) -> None:
    lose_index(tmp_path)
    again = open_archive(tmp_path)
    found = rows(again)
    for name in ("archive_instance", "archive_kept_aside", "archive_series", "archive_deletion", "archive_snapshot"):
        assert found[name] == lived_in[name]


def test_nobody_else_may_use_the_archive_meanwhile(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    archive = open_archive(tmp_path)
    archive.store(part10(1), source="CT1")
    with pytest.raises(Conflict, match=r"archive\.in-use"):
        reindex(archive.engine, tmp_path / "segments", silent)
    assert numbers(archive) == [1]
    archive.close()

    def meanwhile(*_: object) -> None:
        with pytest.raises(Conflict, match=r"archive\.in-use"):
            shared(tmp_path / "segments", OPEN)

    reindex(archive.engine, tmp_path / "segments", meanwhile)
    assert numbers(archive) == [1]


def test_an_older_index_learns_what_was_deleted_since(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    archive = open_archive(tmp_path)
    for number in (1, 2):
        archive.store(part10(number), source="CT1")
    archive.close()
    older = (tmp_path / "index.db").read_bytes()
    later = open_archive(tmp_path)
    later.delete(STUDY, sop_instance_uid=uid(1), **WHY)
    later.store(part10(3), source="CT1")
    later.close()
    lose_index(tmp_path)
    (tmp_path / "index.db").write_bytes(older)
    again = open_archive(tmp_path)
    assert numbers(again) == [2, 3]
    assert again.study(STUDY).instance_count == 2


def test_a_copy_stands_in_for_a_segment_that_is_gone(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    archive = open_archive(tmp_path, lanes=1)
    for number in (1, 2):
        archive.store(part10(number), source="CT1")
    archive.delete(STUDY, sop_instance_uid=uid(2), **WHY)
    archive.close()
    older = (tmp_path / "index.db").read_bytes()
    later = open_archive(tmp_path, lanes=1)
    compact(later.engine, later.segments, grace_s=0)
    later.close()
    lose_index(tmp_path)
    (tmp_path / "index.db").write_bytes(older)  # its rows point into the segment that compaction removed
    again = open_archive(tmp_path)
    assert again.read(uid(1)) == part10(1)
    assert numbers(again) == [1]


def test_an_older_copy_of_a_segment_revives_nothing(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    archive = open_archive(tmp_path, lanes=1)
    for number in (1, 2):
        archive.store(part10(number), source="CT1")
    archive.close()
    (segment,) = (tmp_path / "segments").glob("*.tar")
    older = segment.read_bytes()
    later = open_archive(tmp_path, lanes=1)
    later.delete(STUDY, sop_instance_uid=uid(2), **WHY)
    later.close()
    segment.write_bytes(older)  # as from a backup that was made before
    lose_index(tmp_path)
    assert numbers(open_archive(tmp_path)) == [1]

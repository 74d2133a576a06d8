"""Deleted entries never come back, whatever happens to the process, the index or the disk."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from archive_mishaps import STUDY, WHY, Killed, crash, kill, lose_index, numbers, uid
from polyclinic.core.errors import NotFound, Unavailable
from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive import deletion, schema
from polyclinic.departments.archive.contracts import Receipt
from polyclinic.departments.archive.store import SqlArchive

Make = Callable[..., bytes]
Open = Callable[..., SqlArchive]


def tombstones(archive: SqlArchive) -> list[dict[str, object]]:
    with archive.engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(schema.deletion)).mappings()]


def fill(archive: SqlArchive, part10: Make) -> None:
    for number in (1, 2, 3):
        archive.store(part10(number), source="CT1")
    archive.store(part10(2, PatientName="Other^Name"), source="CT2")


def test_a_tombstone_says_who_what_why_and_no_names(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    archive = open_archive(tmp_path)
    fill(archive, part10)
    record = archive.kept_file(uid(2)).record
    archive.delete(STUDY, sop_instance_uid=uid(2), **WHY)
    whole, aside = sorted(tombstones(archive), key=lambda row: bool(row["kept_aside"]))
    assert (whole["sop_instance_uid"], whole["sha256"], whole["size_bytes"]) == (
        uid(2),
        record.sha256,
        record.size_bytes,
    )
    assert (whole["reason"], whole["deleted_by"], whole["voided"]) == ("wrong patient", "pacs-admin", True)
    assert (aside["kept_aside"], aside["series_instance_uid"]) == (True, stable_uid("series", "1", "1"))
    assert not any("Other" in str(value) or "Wang" in str(value) for row in (whole, aside) for value in row.values())
    names = []
    for path in (tmp_path / "segments").glob("*.tar"):
        with tarfile.open(path) as tar:
            names += tar.getnames()
    assert names.count(".void") == 2
    assert sum(name.startswith("deletions/") for name in names) == 1


@pytest.mark.parametrize("moment", ["append", "void", "commit"])
@pytest.mark.parametrize("index", ["kept", "lost"])
def test_killed_while_deleting_it_ends_deleted(
    tmp_path: Path, open_archive: Open, part10: Make, monkeypatch: pytest.MonkeyPatch, moment: str, index: str
) -> None:
    archive = open_archive(tmp_path)
    fill(archive, part10)
    with monkeypatch.context() as patch:
        if moment == "commit":
            real = archive.segments.void

            def then_die(*places: object) -> None:
                real(*places)  # type: ignore[arg-type]
                raise Killed

            patch.setattr(archive.segments, "void", then_die)
        else:
            patch.setattr(archive.segments, moment, kill)
        with pytest.raises(Killed):
            archive.delete(STUDY, sop_instance_uid=uid(2), **WHY)
    crash(archive)
    again = open_archive(tmp_path)
    assert numbers(again) == [1, 3]
    assert [row["voided"] for row in tombstones(again)] == [True, True]
    if index == "lost":
        again.close()
        lose_index(tmp_path)
        again = open_archive(tmp_path)
        assert numbers(again) == [1, 3]
        assert len(tombstones(again)) == 2
    assert again.study(STUDY).kept_aside_count == 0
    assert again.store(part10(2), source="CT1") is Receipt.NEW


def test_killed_before_the_rows_are_gone_nothing_is_deleted(
    tmp_path: Path, open_archive: Open, part10: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_archive(tmp_path)
    fill(archive, part10)
    with monkeypatch.context() as patch:
        patch.setattr(deletion, "count_again", kill)
        with pytest.raises(Killed):
            archive.delete(STUDY, **WHY)
    assert numbers(archive) == [1, 2, 3]
    assert tombstones(archive) == []
    assert archive.study(STUDY).kept_aside_count == 1


def test_another_process_that_starts_meanwhile_brings_nothing_back(
    tmp_path: Path, open_archive: Open, part10: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_archive(tmp_path, segment_bytes=1, lanes=1)  # each entry its own segment, sealed, not yet noted
    fill(archive, part10)
    with monkeypatch.context() as patch:
        patch.setattr(deletion, "finish_deletions", kill)
        with pytest.raises(Killed):
            archive.delete(STUDY, sop_instance_uid=uid(1), **WHY)
    with monkeypatch.context() as patch:
        patch.setattr("polyclinic.departments.archive.store.finish_deletions", lambda *_: 0)
        other = open_archive(tmp_path)
    assert numbers(other) == numbers(archive) == [2, 3]


def test_a_full_disk_keeps_nobody_from_deleting(
    tmp_path: Path, open_archive: Open, part10: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_archive(tmp_path)
    fill(archive, part10)
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise Unavailable("archive.out-of-space", "full")

        patch.setattr(archive.segments, "append", full)
        archive.delete(STUDY, sop_instance_uid=uid(1), **WHY)
    assert numbers(archive) == [2, 3]
    assert [row["voided"] for row in tombstones(archive)] == [False]
    archive.delete(STUDY, sop_instance_uid=uid(3), **WHY)  # there is room again: both notes are written now
    assert [row["voided"] for row in tombstones(archive)] == [True, True]
    archive.close()
    lose_index(tmp_path)
    again = open_archive(tmp_path)
    assert numbers(again) == [2]
    assert len(tombstones(again)) == 2


def test_a_series_known_to_another_process_may_be_deleted(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    receiving, cleaning = open_archive(tmp_path), open_archive(tmp_path)
    receiving.store(part10(1), source="CT1")
    cleaning.delete(STUDY, **WHY)
    assert receiving.store(part10(2), source="CT1") is Receipt.NEW
    study = receiving.study(STUDY)
    assert (study.instance_count, study.series_count, study.modalities) == (1, 1, ("CT",))


def test_an_instance_deleted_while_another_is_kept_aside_of_it(
    tmp_path: Path, open_archive: Open, part10: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_archive(tmp_path)
    archive.store(part10(1), source="CT1")
    real = archive._keep_aside

    def just_then(*arguments: object) -> Receipt:
        monkeypatch.setattr(archive, "_keep_aside", real)
        archive.delete(STUDY, **WHY)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(archive, "_keep_aside", just_then)
    other = part10(1, PatientName="Other^Name")
    assert archive.store(other, source="CT2") is Receipt.NEW
    assert archive.read(uid(1)) == other
    assert archive.study(STUDY).kept_aside_count == 0


def test_a_reader_that_has_begun_reads_on(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    archive = open_archive(tmp_path)
    archive.store(part10(1), source="CT1")
    kept = archive.kept_file(uid(1))
    archive.delete(STUDY, **WHY)
    assert archive.read_part(kept) == part10(1)
    with pytest.raises(NotFound):
        archive.read(uid(1))

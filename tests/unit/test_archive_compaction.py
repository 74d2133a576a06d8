"""Compaction: space comes back, nothing is missed meanwhile, and a kill at any moment loses and revives nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archive_mishaps import STUDY, WHY, Killed, crash, kill, lose_index, numbers, uid
from polyclinic.core.errors import NotFound
from polyclinic.departments.archive import compaction
from polyclinic.departments.archive.compaction import Compacted, compact
from polyclinic.departments.archive.contracts import Receipt
from polyclinic.departments.archive.store import SqlArchive

Make = Callable[..., bytes]
Open = Callable[..., SqlArchive]


def squeeze(archive: SqlArchive, **settings: Any) -> Compacted:
    return compact(archive.engine, archive.segments, **({"grace_s": 0.0} | settings))


def used_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "segments").glob("*.tar"))


@pytest.fixture
def worn(tmp_path: Path, open_archive: Open, part10: Make) -> SqlArchive:
    """An archive with eight instances in one sealed segment, one kept aside, five deleted; new ones go elsewhere."""
    first = open_archive(tmp_path, lanes=1)
    for number in range(1, 9):
        first.store(part10(number), source="CT1")
    first.store(part10(1, PatientName="Other^Name"), source="CT2")
    first.close()
    archive = open_archive(tmp_path, lanes=1)
    for number in (2, 3, 4, 5, 6):
        archive.delete(STUDY, sop_instance_uid=uid(number), **WHY)
    return archive


def test_space_comes_back_and_all_that_is_left_is_read(tmp_path: Path, worn: SqlArchive, part10: Make) -> None:
    old = worn.kept_file(uid(7))
    before = used_bytes(tmp_path)
    result = squeeze(worn)
    assert (result.segments, result.moved) == (1, 4)
    assert result.freed_bytes == before - used_bytes(tmp_path)
    assert numbers(worn) == [1, 7, 8]
    assert [worn.read(uid(number)) for number in (1, 7, 8)] == [part10(number) for number in (1, 7, 8)]
    assert worn.read_part(old) == b"".join(worn.stream(old)) == part10(7)  # found by its row, though it has moved
    with worn.parts(old) as read:
        assert read(128, 132) == b"DICM"
    assert worn.store(part10(1, PatientName="Other^Name"), source="CT2") is Receipt.KEPT_ASIDE
    assert worn.study(STUDY).kept_aside_count == 1


def test_nothing_is_done_below_the_share(worn: SqlArchive) -> None:
    assert squeeze(worn, dead_share=0.8) == Compacted()
    assert squeeze(worn).segments == 1
    assert squeeze(worn) == Compacted()


def test_after_compaction_the_index_can_be_made_anew(tmp_path: Path, worn: SqlArchive, open_archive: Open) -> None:
    before = worn.instances(STUDY)
    squeeze(worn)
    worn.close()
    lose_index(tmp_path)
    again = open_archive(tmp_path)
    assert again.instances(STUDY) == before
    assert again.study(STUDY).kept_aside_count == 1


MOMENTS = ("copied", "moved", "emptied", "before the old one goes")


@pytest.mark.parametrize("index", ["kept", "lost"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment(
    tmp_path: Path,
    worn: SqlArchive,
    open_archive: Open,
    part10: Make,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    index: str,
) -> None:
    with monkeypatch.context() as patch:
        if moment == "copied":  # a kill leaves no time to take the copies back
            patch.setattr(compaction, "durable_writing", kill)
        elif moment == "moved":
            patch.setattr(worn.segments, "void", kill)
        elif moment == "emptied":
            patch.setattr(compaction, "_remove", kill)
        else:
            patch.setattr(Path, "unlink", kill)
        with pytest.raises(Killed):
            squeeze(worn)
    crash(worn)
    again = open_archive(tmp_path)
    if index == "lost":
        again.close()
        lose_index(tmp_path)
        again = open_archive(tmp_path)
    assert numbers(again) == [1, 7, 8]
    assert [again.read(uid(number)) for number in (1, 7, 8)] == [part10(number) for number in (1, 7, 8)]
    # Whatever entry was there twice: deleting the instance deletes it for good
    again.delete(STUDY, sop_instance_uid=uid(7), **WHY)
    again.close()
    lose_index(tmp_path)
    assert numbers(open_archive(tmp_path)) == [1, 8]


def test_deleted_while_it_is_moved(
    worn: SqlArchive, tmp_path: Path, open_archive: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = compaction.durable_writing

    def just_then(engine: Any) -> Any:
        monkeypatch.setattr(compaction, "durable_writing", real)
        worn.delete(STUDY, sop_instance_uid=uid(7), **WHY)
        return real(engine)

    monkeypatch.setattr(compaction, "durable_writing", just_then)
    squeeze(worn)
    assert numbers(worn) == [1, 8]
    worn.close()
    lose_index(tmp_path)
    assert numbers(open_archive(tmp_path)) == [1, 8]


def test_killed_after_a_deletion_met_the_copy(
    worn: SqlArchive, tmp_path: Path, open_archive: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deleted_then_killed(_: object) -> None:
        worn.delete(STUDY, sop_instance_uid=uid(7), **WHY)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(compaction, "durable_writing", deleted_then_killed)
        with pytest.raises(Killed):
            squeeze(worn)
    crash(worn)
    again = open_archive(tmp_path)
    assert numbers(again) == [1, 8]
    again.close()
    lose_index(tmp_path)
    assert numbers(open_archive(tmp_path)) == [1, 8]


def test_a_damaged_segment_is_left_alone(tmp_path: Path, worn: SqlArchive, part10: Make) -> None:
    place = worn.kept_file(uid(7))
    path = tmp_path / "segments" / place.segment
    with path.open("r+b") as file:
        file.seek(place.offset_bytes + 600)
        file.write(b"\xff\xff\xff")
    result = squeeze(worn)
    assert (result.segments, result.damaged) == (0, (place.segment,))
    assert path.exists()
    assert worn.read(uid(8)) == part10(8)


def test_readers_and_senders_see_no_gap(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    archive = open_archive(tmp_path, segment_bytes=6000, lanes=2)
    for number in range(60):
        archive.store(part10(number), source="CT1")
    stopping, wrong, read = threading.Event(), [], 0

    def keep_reading() -> None:
        nonlocal read
        while not stopping.is_set():
            for kept in archive.kept_files(STUDY):
                number = kept.record.instance_number
                assert number is not None
                try:
                    if archive.read_part(kept) != part10(number):
                        wrong.append(number)
                except NotFound:
                    if number % 3 or number >= 60:
                        wrong.append(number)
                read += 1

    reader = threading.Thread(target=keep_reading)
    reader.start()
    try:
        for number in range(0, 60, 3):
            archive.delete(STUDY, sop_instance_uid=uid(number), **WHY)
            archive.store(part10(100 + number), source="CT1")
            if number % 15 == 0:
                with archive.engine.connect() as connection:
                    compaction_known = archive.segments.take_sealed()
                    for name, size_bytes in compaction_known:
                        connection.execute(compaction.schema.segment.insert(), {"name": name, "size_bytes": size_bytes})
                    connection.commit()
                squeeze(archive, dead_share=0.1)
    finally:
        stopping.set()
        reader.join()
    assert not wrong
    assert read > 0
    assert numbers(archive) == sorted([n for n in range(60) if n % 3] + [100 + n for n in range(0, 60, 3)])

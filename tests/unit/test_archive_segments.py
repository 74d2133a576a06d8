"""Segments: plain tar, whole after a crash, and honest when the disk is full."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from polyclinic.core.errors import NotFound, Unavailable
from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.contracts import Receipt
from polyclinic.departments.archive.entries import Entry, pack, padded, unpack
from polyclinic.departments.archive.store import SqlArchive

Make = Callable[..., bytes]
Open = Callable[..., SqlArchive]
STUDY = stable_uid("study", "1")


def tars(folder: Path) -> list[Path]:
    return sorted((folder / "segments").glob("*.tar"))


def crash(archive: SqlArchive) -> None:
    """Leave everything as a killed process would: locks gone, segments not sealed."""
    for lane in archive.segments._idle:
        if lane is not None:
            os.close(lane.descriptor)
    archive.segments._idle = [None]
    archive.engine.dispose()


def lose_index(folder: Path) -> None:
    for path in folder.glob("index.db*"):
        path.unlink()


def test_entries_are_read_back_and_damage_is_seen() -> None:
    uid = "1." * 31 + "12"  # 64 characters, the longest
    entry = Entry(
        name=f"{uid}/{uid}/{uid}.dcm", size_bytes=12345, sha256="ab" * 32, source="CT1", received_at_us=99_000_007
    )
    block = pack(entry)
    assert len(block) == 512
    assert unpack(block) == entry
    for position in set(range(500)) - {154, 155}:  # these two end the checksum and mean nothing
        damaged = bytearray(block)
        damaged[position] ^= 0x11
        assert unpack(bytes(damaged)) != entry
    assert unpack(bytes(512)) is None


def test_any_tar_program_reads_a_segment(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    archive = open_archive(tmp_path)
    files = [part10(number) for number in range(5)]
    for data in files:
        archive.store(data, source="CT1")
    archive.store(part10(0, PatientName="Other"), source="CT1")
    archive.close()
    (segment,) = tars(tmp_path)
    with tarfile.open(segment) as tar:
        members = tar.getmembers()
        kept = [m for m in members if not m.name.startswith("aside/")]
        assert [tar.extractfile(m).read() for m in kept] == files  # type: ignore[union-attr]
        assert len(members) == 6
        assert kept[0].name == f"{STUDY}/{stable_uid('series', '1', '1')}/{stable_uid('instance', '1', '1', 0)}.dcm"
    listed = subprocess.run(["tar", "-tf", str(segment)], capture_output=True, text=True, check=True)
    assert (len(listed.stdout.split()), listed.stderr) == (6, "")


def test_index_is_rebuilt_from_the_files_alone(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    archive = open_archive(tmp_path)
    for number in range(4):
        archive.store(part10(number), source="CT1")
    archive.store(part10(1, PatientName="Other"), source="CT2")
    before = archive.study(STUDY), archive.series(STUDY)
    records = archive.instances(STUDY)
    archive.close()
    lose_index(tmp_path)
    again = open_archive(tmp_path)
    study = again.study(STUDY)
    assert (study.instance_count, study.kept_aside_count) == (4, 1)
    assert again.series(STUDY) == before[1]
    assert [(r.sop_instance_uid, r.sha256, r.source) for r in again.instances(STUDY)] == [
        (r.sop_instance_uid, r.sha256, r.source) for r in records
    ]
    assert [again.read(r.sop_instance_uid) for r in records] == [part10(number) for number in range(4)]


def test_rows_that_a_power_cut_lost_come_back(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    archive = open_archive(tmp_path)
    archive.store(part10(1), source="CT1")
    for name in ("index.db", "index.db-wal", "index.db-shm"):
        (tmp_path / f"saved-{name}").write_bytes((tmp_path / name).read_bytes())
    archive.store(part10(2), source="CT1")
    crash(archive)
    for name in ("index.db", "index.db-wal", "index.db-shm"):
        (tmp_path / f"saved-{name}").rename(tmp_path / name)
    again = open_archive(tmp_path)
    assert [i.instance_number for i in again.instances(STUDY)] == [1, 2]
    assert again.store(part10(2), source="CT1") is Receipt.SAME


@pytest.mark.parametrize("keep", [1, 511, 512, 700, 1200])
def test_a_torn_tail_is_cut_and_only_that(tmp_path: Path, open_archive: Open, part10: Make, keep: int) -> None:
    archive = open_archive(tmp_path)
    archive.store(part10(1), source="CT1")
    crash(archive)
    (segment,) = tars(tmp_path)
    whole = segment.read_bytes()
    data = part10(2)
    entry = Entry(name="a/b/c.dcm", size_bytes=len(data), sha256="0" * 64, source="CT1", received_at_us=1)
    torn = pack(entry) + data + bytes(padded(len(data)) - len(data))
    segment.write_bytes(whole + torn[:keep])
    again = open_archive(tmp_path)
    assert [i.instance_number for i in again.instances(STUDY)] == [1]
    assert segment.read_bytes() == whole + bytes(1024)
    assert again.store(part10(2), source="CT1") is Receipt.NEW


def test_a_whole_entry_with_wrong_bytes_is_not_indexed(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    archive = open_archive(tmp_path)
    archive.store(part10(1), source="CT1")
    archive.store(part10(2), source="CT1")
    crash(archive)
    (segment,) = tars(tmp_path)
    data = bytearray(segment.read_bytes())
    data[-600] ^= 0xFF  # within the pixels of the last entry: a page that never reached the disk
    segment.write_bytes(data)
    lose_index(tmp_path)
    again = open_archive(tmp_path)
    assert [i.instance_number for i in again.instances(STUDY)] == [1]


def test_damage_in_the_middle_costs_one_instance(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    archive = open_archive(tmp_path)
    for number in (1, 2, 3):
        archive.store(part10(number), source="CT1")
    archive.close()
    (segment,) = tars(tmp_path)
    data = bytearray(segment.read_bytes())
    place = archive.kept_file(stable_uid("instance", "1", "1", 2))
    data[place.offset_bytes + 600] ^= 0xFF
    segment.write_bytes(data)
    lose_index(tmp_path)
    again = open_archive(tmp_path)
    assert [i.instance_number for i in again.instances(STUDY)] == [1, 3]
    assert segment.stat().st_size == len(data)


def test_segments_roll_and_are_not_read_again(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    archive = open_archive(tmp_path, segment_bytes=4096, lanes=1)
    for number in range(12):
        archive.store(part10(number), source="CT1")
    archive.close()
    assert len(tars(tmp_path)) > 3
    again = open_archive(tmp_path, segment_bytes=4096)
    for segment in tars(tmp_path):
        segment.chmod(0o000)
    assert again.study(STUDY).instance_count == 12
    for segment in tars(tmp_path):
        segment.chmod(0o640)
    assert len(again.instances(STUDY)) == 12


def test_two_processes_share_a_folder(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    one, two = open_archive(tmp_path), open_archive(tmp_path)
    one.store(part10(1), source="CT1")
    two.store(part10(2), source="CT1")
    assert two.store(part10(1), source="CT1") is Receipt.SAME
    assert one.study(STUDY).instance_count == 2
    assert one.read(stable_uid("instance", "1", "1", 2)) == part10(2)
    third = open_archive(tmp_path)  # must leave the segments of the two alone
    one.store(part10(3), source="CT1")
    assert third.study(STUDY).instance_count == 3


def test_full_disk_keeps_nothing_and_recovers(
    tmp_path: Path, open_archive: Open, part10: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_archive(tmp_path)
    archive.store(part10(1), source="CT1")
    (segment,) = tars(tmp_path)
    size = segment.stat().st_size
    real = os.pwritev

    def full(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        real(descriptor, [buffers[0][:100]], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", full)
        with pytest.raises(Unavailable) as refused:
            archive.store(part10(2), source="CT1")
    assert refused.value.code == "archive.out-of-space"
    assert segment.stat().st_size == size
    assert archive.study(STUDY).instance_count == 1
    assert archive.store(part10(2), source="CT1") is Receipt.NEW
    assert archive.read(stable_uid("instance", "1", "1", 2)) == part10(2)


@pytest.mark.parametrize("statement", ["_insert", "_count_study"])
def test_full_index_keeps_nothing_even_after_a_rebuild(
    tmp_path: Path, open_archive: Open, part10: Make, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    archive = open_archive(tmp_path)
    archive.store(part10(1), source="CT1")

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(getattr(archive._committer, statement), "run", full)
        with pytest.raises(Unavailable, match=r"archive\.out-of-space"):
            archive.store(part10(2), source="CT1")
    assert archive.study(STUDY).instance_count == 1
    assert archive.store(part10(3), source="CT1") is Receipt.NEW
    archive.close()
    lose_index(tmp_path)
    again = open_archive(tmp_path)
    assert [i.instance_number for i in again.instances(STUDY)] == [1, 3]


def test_failing_disk_is_told_and_the_segment_left(
    tmp_path: Path, open_archive: Open, part10: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_archive(tmp_path)
    archive.store(part10(1), source="CT1")

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(Unavailable, match=r"archive\.storage-failed"):
            archive.store(part10(2), source="CT1")
    assert archive.store(part10(2), source="CT1") is Receipt.NEW
    assert len(tars(tmp_path)) == 2


def test_lost_segment_is_named(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    archive = open_archive(tmp_path)
    archive.store(part10(1), source="CT1")
    (segment,) = tars(tmp_path)
    segment.rename(tmp_path / "elsewhere.tar")
    with pytest.raises(NotFound, match=r"archive\.lost-bytes"):
        archive.read(stable_uid("instance", "1", "1", 1))


def test_nothing_is_taken_after_closing(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    archive = open_archive(tmp_path)
    archive.close()
    with pytest.raises(Unavailable, match=r"archive\.closed"):
        archive.store(part10(1), source="CT1")

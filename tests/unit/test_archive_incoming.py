"""Instances that are written while they arrive, and rows that are committed while the disk still writes."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyclinic.core.errors import PolyclinicError, Unavailable
from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.contracts import Receipt
from polyclinic.departments.archive.entries import BLOCK
from polyclinic.departments.archive.incoming import Incoming
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.dicom.header import read_file_meta

Make = Callable[..., bytes]
Open = Callable[..., SqlArchive]
STUDY = stable_uid("study", "1")


def begun(archive: SqlArchive, part10: bytes) -> tuple[Incoming, bytes, dict[str, str]]:
    """What the archive holds of an instance before its first byte, its dataset, and what its command says."""
    meta = read_file_meta(part10)
    said = {
        "sop_class_uid": meta.sop_class_uid,
        "sop_instance_uid": meta.sop_instance_uid,
        "transfer_syntax_uid": meta.transfer_syntax_uid,
        "source": "CT1",
    }
    return archive.incoming(**said), part10[meta.dataset_offset :], said


def stream(incoming: Incoming, dataset: bytes, piece_bytes: int) -> None:
    for start in range(0, len(dataset), piece_bytes):
        piece = memoryview(dataset)[start : start + piece_bytes]
        incoming.take(piece, last=start + piece_bytes >= len(dataset))


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


def segment_of(folder: Path) -> Path:
    (segment,) = (folder / "segments").glob("*.tar")
    return segment


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(1, 400), st.booleans(), st.integers(0, 3000)), min_size=1, max_size=8))
def test_whatever_is_kept_or_abandoned_the_segment_holds_what_was_kept(
    tmp_path_factory: pytest.TempPathFactory, open_archive: Open, part10: Make, steps: list[tuple[int, bool, int]]
) -> None:
    folder = tmp_path_factory.mktemp("incoming")
    archive = open_archive(folder)
    kept: dict[str, bytes] = {}
    for number, (piece_bytes, keep, more_bytes) in enumerate(steps):
        incoming, dataset, said = begun(archive, part10(number, ImageComments="x" * more_bytes))
        stream(incoming, dataset, piece_bytes)
        if keep:
            assert archive.store_dataset(dataset, **said, incoming=incoming) is Receipt.NEW
            kept[said["sop_instance_uid"]] = dataset
        incoming.abandon()  # does nothing to what was kept
    crash(archive)
    lose_index(folder)
    again = open_archive(folder)
    found = {
        record.sop_instance_uid for study in again.studies() for record in again.instances(study.study_instance_uid)
    }
    assert found == set(kept)
    for uid, dataset in kept.items():
        assert again.read(uid).endswith(dataset)


def test_what_was_abandoned_is_never_taken_for_an_instance(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    elsewhere = open_archive(tmp_path / "elsewhere")
    elsewhere.store(part10(7), source="CT1")
    forged = segment_of(tmp_path / "elsewhere").read_bytes()  # a whole entry, header and all, inside a dataset
    archive = open_archive(tmp_path)
    archive.store(part10(1), source="CT1")
    incoming, _, _ = begun(archive, part10(2))
    before_bytes = len(forged) - BLOCK - len(incoming.meta)  # so that it stands where the next entry's end is
    stream(incoming, bytes(before_bytes) + forged * 3, 1000)
    incoming.abandon()
    archive.store(part10(3), source="CT1")
    crash(archive)
    lose_index(tmp_path)
    again = open_archive(tmp_path)
    assert [record.instance_number for record in again.instances(STUDY)] == [1, 3]


def test_slow_senders_keep_nobody_from_storing(tmp_path: Path, open_archive: Open, part10: Make) -> None:
    archive = open_archive(tmp_path, lanes=2)
    slow = [begun(archive, part10(number)) for number in range(5)]
    for incoming, dataset, _ in slow:
        incoming.take(memoryview(dataset)[:50], last=False)
    done = threading.Event()

    def store() -> None:
        archive.store(part10(9), source="CT1")
        done.set()

    threading.Thread(target=store, daemon=True).start()
    assert done.wait(10)
    for incoming, dataset, said in slow:
        incoming.take(memoryview(dataset)[50:], last=True)
        assert archive.store_dataset(dataset, **said, incoming=incoming) is Receipt.NEW
    assert archive.study(STUDY).instance_count == 6


@pytest.mark.parametrize("torn", ["data", "header", "all"])
def test_a_row_whose_bytes_the_power_took_is_taken_back(
    tmp_path: Path, open_archive: Open, part10: Make, torn: str
) -> None:
    archive = open_archive(tmp_path)
    archive.store(part10(1), source="CT1")
    archive.store(part10(2, series="2"), source="CT1")
    place = archive.kept_file(stable_uid("instance", "1", "2", 2))
    crash(archive)
    segment = segment_of(tmp_path)
    data = bytearray(segment.read_bytes())
    if torn == "data":
        data[place.offset_bytes + 600 : place.offset_bytes + 700] = bytes(100)
    elif torn == "header":
        data[place.offset_bytes - BLOCK : place.offset_bytes] = bytes(BLOCK)
    else:
        del data[place.offset_bytes - BLOCK :]
    segment.write_bytes(data)
    again = open_archive(tmp_path)
    assert [record.instance_number for record in again.instances(STUDY)] == [1]
    study = again.study(STUDY)
    assert (study.instance_count, study.series_count) == (1, 1)
    assert again.store(part10(2, series="2"), source="CT1") is Receipt.NEW


def test_when_the_disk_fails_after_the_row_there_is_no_row(
    tmp_path: Path, open_archive: Open, part10: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_archive(tmp_path)
    archive.store(part10(1), source="CT1")
    seen: list[int] = []

    def broken(_: int) -> None:
        seen.append(archive.study(STUDY).instance_count)  # it is committed by now
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(Unavailable, match=r"archive\.storage-failed"):
            archive.store(part10(2), source="CT1")
    assert seen == [2]
    assert archive.study(STUDY).instance_count == 1
    assert archive.store(part10(2), source="CT1") is Receipt.NEW


def test_a_full_disk_while_bytes_arrive_is_told_when_they_are_whole(
    tmp_path: Path, open_archive: Open, part10: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_archive(tmp_path)
    archive.store(part10(1), source="CT1")
    size = segment_of(tmp_path).stat().st_size
    incoming, dataset, said = begun(archive, part10(2))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", full)
        stream(incoming, dataset, 100)
        with pytest.raises(PolyclinicError, match=r"archive\.out-of-space"):
            archive.store_dataset(dataset, **said, incoming=incoming)
    incoming.abandon()
    assert segment_of(tmp_path).stat().st_size == size
    assert archive.store_dataset(dataset, **said) is Receipt.NEW

"""Scrubbing finds whatever is not as it was stored, names it, and says what to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from archive_mishaps import STUDY, WHY, lose_index, numbers, uid
from polyclinic.departments.archive.entries import Entry
from polyclinic.departments.archive.scrub import Fault, Scrub
from polyclinic.departments.archive.segments import Place, sha256_of
from polyclinic.departments.archive.store import SqlArchive

Make = Callable[..., bytes]
Open = Callable[..., SqlArchive]


@pytest.fixture
def archive(tmp_path: Path, open_archive: Open, part10: Make) -> SqlArchive:
    """Ten instances in several sealed segments, one kept aside, one deleted."""
    filling = open_archive(tmp_path, segment_bytes=4000, lanes=1)
    for number in range(10):
        filling.store(part10(number), source="CT1")
    filling.store(part10(3, PatientName="Other^Name"), source="CT2")
    filling.delete(STUDY, sop_instance_uid=uid(9), **WHY)
    filling.close()
    return open_archive(tmp_path)


def scrub(archive: SqlArchive, **settings: float) -> Scrub:
    made = Scrub(archive.engine, archive.segments.folder, **settings)  # type: ignore[arg-type]
    list(made.run())
    return made


def faults(archive: SqlArchive) -> list[tuple[Fault, str]]:
    return sorted((p.fault, p.sop_instance_uid) for p in scrub(archive).result.problems)


def overwrite(archive: SqlArchive, number: int, at: int, data: bytes) -> None:
    kept = archive.kept_file(uid(number))
    with (archive.segments.folder / kept.segment).open("r+b") as file:
        file.seek(kept.offset_bytes + at)
        file.write(data)


def test_a_sound_archive_has_no_problems(archive: SqlArchive) -> None:
    done: list[int] = []
    made = Scrub(archive.engine, archive.segments.folder)
    total = made.total_bytes()
    list(made.run(told=done.append))
    assert made.result.problems == []
    assert (made.result.instances, made.result.size_bytes) == (10, total)
    assert sum(done) == total


def test_a_flipped_bit_is_found(archive: SqlArchive) -> None:
    overwrite(archive, 4, 600, b"\xfe")
    (problem,) = scrub(archive).result.problems
    assert (problem.fault, problem.sop_instance_uid, problem.study_instance_uid) == (Fault.DAMAGED, uid(4), STUDY)
    assert problem.series_instance_uid
    assert "backup" in problem.advice


def test_a_damaged_header_is_found_and_costs_one_instance_only(
    tmp_path: Path, archive: SqlArchive, open_archive: Open, part10: Make
) -> None:
    first = archive.kept_files(STUDY)[0]
    number = first.record.instance_number
    assert number is not None
    overwrite(archive, number, -300, b"\xff\xff")
    assert faults(archive) == [(Fault.DAMAGED, uid(number))]
    assert archive.read(uid(number)) == part10(number)
    archive.close()
    lose_index(tmp_path)
    assert numbers(open_archive(tmp_path)) == [n for n in range(9) if n != number]


def test_a_lost_segment_is_found(archive: SqlArchive) -> None:
    gone = archive.kept_file(uid(0)).segment
    there = {k.record.sop_instance_uid for k in archive.kept_files(STUDY) if k.segment == gone}
    (archive.segments.folder / gone).unlink()
    assert faults(archive) == sorted((Fault.LOST, one) for one in there)


def test_a_shortened_segment_is_found(archive: SqlArchive) -> None:
    last = max(archive.kept_files(STUDY), key=lambda kept: (kept.segment, kept.offset_bytes))
    with (archive.segments.folder / last.segment).open("r+b") as file:
        file.truncate(last.offset_bytes + 10)
    assert (Fault.DAMAGED, last.record.sop_instance_uid) in faults(archive)


def test_an_entry_without_row_and_a_row_of_a_void_entry_are_found(archive: SqlArchive) -> None:
    with archive.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM archive_instance WHERE instance_number = 2")
    archive.segments.void(place(archive, 5))
    assert faults(archive) == sorted([(Fault.UNINDEXED, uid(2)), (Fault.VOID, uid(5))])


def place(archive: SqlArchive, number: int) -> Place:
    kept = archive.kept_file(uid(number))
    return Place(segment=kept.segment, offset_bytes=kept.offset_bytes, size_bytes=kept.record.size_bytes)


def test_it_goes_on_where_it_stopped(archive: SqlArchive) -> None:
    whole = scrub(archive).result
    first = Scrub(archive.engine, archive.segments.folder)
    name = next(iter(first.run()))
    second = Scrub(archive.engine, archive.segments.folder)
    list(second.run(after=name))
    assert 0 < first.result.instances < whole.instances
    assert first.result.instances + second.result.instances == whole.instances
    assert second.total_bytes(after=name) == second.result.size_bytes


def test_a_sample_reads_a_part_and_compares_all_headers(archive: SqlArchive) -> None:
    none = scrub(archive, sample=0.0)
    some = scrub(archive, sample=0.5, seed=3)
    assert none.result.size_bytes == 0
    assert 0 < some.result.size_bytes < some.total_bytes()
    archive.segments.void(place(archive, 5))
    assert [p.fault for p in scrub(archive, sample=0.0).result.problems] == [Fault.VOID]


def test_it_reads_no_faster_than_allowed(archive: SqlArchive) -> None:
    total = Scrub(archive.engine, archive.segments.folder).total_bytes()
    begun = time.monotonic()
    scrub(archive, bytes_per_s=total / 0.3)
    assert time.monotonic() - begun >= 0.25


def test_what_is_being_written_is_no_problem(archive: SqlArchive, part10: Make) -> None:
    archive.store(part10(50), source="CT1")
    made = Scrub(archive.engine, archive.segments.folder)
    data = part10(51)
    entry = Entry(name="1/2/3.dcm", size_bytes=len(data), sha256=sha256_of([data]), source="CT1", received_at_us=1)
    archive.segments.append(entry, [data])
    list(made.run())
    assert made.result.problems == []

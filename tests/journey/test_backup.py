"""A backup of a house in which people work, and what comes back from it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from house import House, images, study_uid
from test_study_path import accept_all, sign
from typer.testing import CliRunner

from archive_mishaps import WHY
from polyclinic.app.backup import MANIFEST, back_up, read_manifest, restore
from polyclinic.app.cli import app
from polyclinic.app.settings import Settings
from polyclinic.app.wiring import Services, build
from polyclinic.core.errors import Conflict, Rejected
from polyclinic.core.plain import to_plain
from polyclinic.departments.archive.compaction import compact
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.reading.contracts import StudyState


def opened(settings: Settings, data: Path) -> Services:
    return build(settings.model_copy(update={"data": data}))


def reading(services: Services, *studies: str) -> list[Any]:
    """What readers see of studies: their rows of the worklist, and what was signed."""
    return [
        (
            services.worklist.row(study_uid(study)),
            to_plain(services.rooms.reading.signed_report(study_uid(study), 1)),
            services.rooms.outbox.objects(study_uid(study)),
        )
        for study in studies
    ]


def test_a_backup_while_images_arrive_restores_all_that_was_there(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for study in ("kept-1", "kept-2"):
        house.store(images(study))
        house.wait(study, StudyState.READY)
        accept_all(house, study)
        sign(house, study)
        house.wait(study, StudyState.DELIVERED)
    before = reading(house.services, "kept-1", "kept-2")
    archive = house.services.archive
    there = {
        i.sop_instance_uid: i.sha256
        for s in archive.studies(limit=1000)
        for i in archive.instances(s.study_instance_uid)
    }
    stopping, sent = threading.Event(), 0

    def keep_sending() -> None:
        nonlocal sent
        while not stopping.is_set():
            for part10 in images("kept-late", first=sent, slices=5, patient="P-late"):
                archive.store(part10, source="TEST")
            sent += 5

    sender = threading.Thread(target=keep_sending)
    sender.start()
    try:
        made = back_up(house.settings, tmp_path / "backup")
        again = back_up(house.settings, tmp_path / "backup")
    finally:
        stopping.set()
        sender.join()
    assert sent > 5
    assert again.copied < made.copied  # objects and sealed segments were not copied again
    monkeypatch.setenv("POLYCLINIC_DATA", "nowhere")
    told = CliRunner().invoke(app, ["restore", str(tmp_path / "backup"), "--into", str(tmp_path / "restored")])
    assert (told.exit_code, "0 problems" in told.output) == (0, True), told.output
    services = opened(house.settings, tmp_path / "restored")
    try:
        assert reading(services, "kept-1", "kept-2") == before
        for uid, sha256 in there.items():
            assert services.archive.kept_file(uid).record.sha256 == sha256
        for part10 in images("kept-1"):
            assert services.archive.store(part10, source="TEST").value == "same"
        for record in services.archive.instances(study_uid("kept-1")):
            assert services.archive.read(record.sop_instance_uid) == archive.read(record.sop_instance_uid)
    finally:
        services.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data", free_space_min_mb=0)


@pytest.fixture
def archive(settings: Settings) -> SqlArchive:
    services = build(settings)
    for part10 in images("small"):
        services.archive.store(part10, source="TEST")
    services.close()
    return services.archive


def test_what_has_not_changed_is_not_copied_again(archive: SqlArchive, settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    back_up(settings, folder)
    first = {kept.path: kept.stored for kept in read_manifest(folder)}
    services = build(settings)
    services.archive.store(images("other")[0], source="TEST")
    services.close()
    back_up(settings, folder)
    second = {kept.path: kept.stored for kept in read_manifest(folder)}
    assert {path for path in first if second[path] == first[path] and path.startswith("segments/")} == {
        path for path in first if path.startswith("segments/")
    }
    assert len(second) > len(first)
    stored = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert stored == {MANIFEST, *second.values()}
    manifest = json.loads((folder / MANIFEST).read_text())
    assert not any("DATABASE" in name for name in manifest["settings"])
    assert manifest["settings"]["POLYCLINIC_FREE_SPACE_MIN_MB"] == "0"


def test_a_backup_that_breaks_off_leaves_the_one_before(
    archive: SqlArchive, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "backup"
    back_up(settings, folder)
    services = build(settings)
    services.archive.store(images("other")[0], source="TEST")
    services.close()

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("polyclinic.app.backup._Writer._finish", die)
        with pytest.raises(Killed):
            back_up(settings, folder)
    restore(folder, tmp_path / "restored")
    restored = opened(settings, tmp_path / "restored")
    assert [s.instance_count for s in restored.archive.studies()] == [5]
    restored.close()


def test_compaction_waits_for_the_backup(archive: SqlArchive, settings: Settings, tmp_path: Path) -> None:
    services = build(settings)

    def meanwhile(_: int) -> None:
        with pytest.raises(Conflict, match=r"archive\.in-use"):
            compact(services.archive.engine, services.archive.segments)

    back_up(settings, tmp_path / "backup", meanwhile)
    services.archive.delete(study_uid("small"), **WHY)
    assert compact(services.archive.engine, services.archive.segments, grace_s=0).segments == 1
    services.close()
    assert back_up(settings, tmp_path / "backup").removed > 0


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "path"])
def test_damage_is_seen_and_nothing_is_restored(
    archive: SqlArchive, settings: Settings, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "backup"
    back_up(settings, folder)
    stored = folder / next(kept.stored for kept in read_manifest(folder) if kept.path.startswith("segments/"))
    data = bytearray(stored.read_bytes())
    if damage == "flip":
        data[700] ^= 1
        stored.write_bytes(data)
    elif damage == "cut":
        stored.write_bytes(data[:-1])
    elif damage == "remove":
        stored.unlink()
    elif damage == "manifest":
        (folder / MANIFEST).write_text("{")
    else:
        manifest = (folder / MANIFEST).read_text().replace('"path": "segments/', '"path": "../segments/')
        (folder / MANIFEST).write_text(manifest)
    with pytest.raises(Rejected, match=r"backup\.(damaged|bad-manifest)"):
        restore(folder, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_folders_that_do_not_fit_are_refused(archive: SqlArchive, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(Rejected, match=r"backup\.not-ours"):
        back_up(settings, tmp_path / "full")
    with pytest.raises(Rejected, match=r"backup\.inside"):
        back_up(settings, settings.data / "backup")
    with pytest.raises(Rejected, match=r"backup\.not-sqlite"):
        back_up(settings.model_copy(update={"database": "postgresql://host/name"}), tmp_path / "backup")
    with pytest.raises(Rejected, match=r"backup\.no-manifest"):
        restore(tmp_path / "full", tmp_path / "restored")
    back_up(settings, tmp_path / "backup")
    with pytest.raises(Rejected, match=r"backup\.not-empty"):
        restore(tmp_path / "backup", tmp_path / "full")
    assert (tmp_path / "full" / "letter.txt").read_text() == "mine"

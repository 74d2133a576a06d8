"""`polyclinic archive`: what it prints, its exit codes, and a scrub that goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from archive_mishaps import STUDY, uid
from polyclinic.app.archive_care import archive_loops, load_policy, open_archive
from polyclinic.app.archive_checking import Checking
from polyclinic.app.audit import open_audit
from polyclinic.app.cli import app
from polyclinic.app.settings import Settings
from polyclinic.core.errors import Conflict, NotFound, Rejected
from polyclinic.departments.access.audit_store import Ledger
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.reading.store import ReadingStore
from polyclinic.edges.sql.engine import open_engine, writing
from polyclinic.edges.sql.migrations import migrate

Make = Callable[..., bytes]
RULES = """
[hold]
accessions = ["ACC-2"]
[[rule]]
name = "at once"
modalities = ["CT"]
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A data folder; the commands find it by the environment."""
    rules = tmp_path / "retention.toml"
    rules.write_text(RULES)
    made = Settings(data=tmp_path / "data", retention=rules, free_space_min_mb=0)
    for name, value in {"DATA": made.data, "RETENTION": rules, "FREE_SPACE_MIN_MB": 0}.items():
        monkeypatch.setenv(f"POLYCLINIC_{name}", str(value))
    return made


@pytest.fixture
def archive(settings: Settings, part10: Make) -> SqlArchive:
    """Closed; three instances of one study and one of another, each alone in its segment."""
    settings.data.mkdir()
    engine = open_engine(settings.database_url)
    migrate(engine)
    opened = SqlArchive(engine, settings.data / "segments", segment_bytes=1, lanes=1)
    for number in (1, 2, 3):
        opened.store(part10(number), source="CT1")
    opened.store(part10(1, study="2"), source="CT1")
    opened.close()
    return opened


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["archive", *words])


def spoil(archive: SqlArchive, number: int) -> None:
    kept = archive.kept_file(uid(number))
    with (archive.segments.folder / kept.segment).open("r+b") as file:
        file.seek(kept.offset_bytes + 600)
        file.write(b"\xff\xff\xff")


def test_verify_names_what_is_wrong_and_fails(archive: SqlArchive) -> None:
    sound = run("verify")
    assert (sound.exit_code, "4 instances compared" in sound.output) == (0, True)
    spoil(archive, 2)
    found = run("verify", "--mb-per-s", "100")
    assert found.exit_code == 1
    assert "1 problems" in found.output
    assert "damaged" in found.output
    assert "backup" in found.output
    assert uid(2)[:20] in found.output


def test_verify_goes_on_where_it_was_stopped(archive: SqlArchive, settings: Settings) -> None:
    spoil(archive, 1)

    class Stopped(Exception):
        pass

    def stop(_: int) -> None:
        if len(seen) == 2:
            raise Stopped
        seen.append(1)

    seen: list[int] = []
    interrupted = Checking(settings, archive.engine, sample=1, bytes_per_s=None, anew=False)
    whole = interrupted.total_bytes()
    with pytest.raises(Stopped):
        interrupted.run(stop)
    again = Checking(settings, archive.engine, sample=1, bytes_per_s=None, anew=False)
    assert again.total_bytes() < whole
    result = again.run(lambda _: None)
    assert (result.instances, [p.sop_instance_uid for p in result.problems]) == (4, [uid(1)])
    assert Checking(settings, archive.engine, sample=1, bytes_per_s=None, anew=False).total_bytes() == whole


def test_half_a_note_of_progress_begins_anew(archive: SqlArchive, settings: Settings) -> None:
    (settings.data / "verify.json").write_text('{"after": "z')
    assert "4 instances compared" in run("verify").output


def test_reindex_makes_what_was_lost(archive: SqlArchive, settings: Settings) -> None:
    archive.engine.dispose()
    for path in settings.data.glob("polyclinic.sqlite*"):
        path.unlink()
    made = run("reindex")
    assert (made.exit_code, "4 instances indexed" in made.output) == (0, True)
    assert len(archive.instances(STUDY)) == 3


def test_reindex_is_refused_while_the_archive_is_open(archive: SqlArchive, settings: Settings) -> None:
    opened = open_archive(settings, archive.engine)
    try:
        refused = run("reindex")
        assert isinstance(refused.exception, Conflict)
        assert len(opened.instances(STUDY)) == 3
    finally:
        opened.close()


def test_delete_and_compact(archive: SqlArchive, settings: Settings) -> None:
    deleted = run("delete", STUDY, "--instance", uid(1), "--reason", "sent twice", "--by", "admin")
    assert "1 instances deleted" in deleted.output
    assert [i.instance_number for i in archive.instances(STUDY)] == [2, 3]
    assert "1 segments rewritten" in run("compact").output
    missing = run("delete", STUDY, "--instance", uid(9), "--reason", "sent twice", "--by", "admin")
    assert isinstance(missing.exception, NotFound)
    assert [(d["phase"], d.get("instances"), d["instance"]) for d in noted(settings)] == [
        ("before", None, uid(1)),
        ("done", "1", uid(1)),
        ("before", None, uid(9)),
        ("not done", None, uid(9)),
    ]


def noted(settings: Settings) -> list[dict[str, str]]:
    """What the ledger says of deletions, oldest first."""
    engine = open_engine(settings.database_url)
    entries = [one.entry for one in Ledger(engine, writing).entries()]
    engine.dispose()
    return [dict(entry.detail) for entry in entries if entry.action == "dicom.delete"]


def test_retention_shows_then_deletes_and_respects_holds(archive: SqlArchive, settings: Settings) -> None:
    shown = run("retention", "--dry-run")
    assert (shown.exit_code, "at once" in shown.output) == (0, True)
    assert len(archive.studies()) == 2
    assert "at once" in run("retention").output
    assert [s.accession_number for s in archive.studies()] == ["ACC-2"]
    assert [(d["rule"], d["phase"]) for d in noted(settings)] == [("at once", "before"), ("at once", "done")]
    assert isinstance(run("delete", archive.studies()[0].study_instance_uid, "--reason", "x").exception, Conflict)


def test_the_server_does_so_daily_when_there_are_rules(archive: SqlArchive, settings: Settings) -> None:
    import threading

    engine = archive.engine
    audit = open_audit(engine, settings)
    arguments = (archive, ReadingStore(engine), audit.recorder, threading.Event())
    assert archive_loops(settings.model_copy(update={"retention": None}), *arguments) == ()
    opened = open_archive(settings, engine)
    (loop,) = archive_loops(settings, opened, *arguments[1:])
    loop._turn()
    audit.close()
    assert [s.accession_number for s in opened.studies()] == ["ACC-2"]
    opened.close()


def test_rules_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=r"archive\.bad-retention"):
        load_policy(tmp_path / "absent.toml")
    (tmp_path / "broken.toml").write_text("[[rule")
    with pytest.raises(Rejected, match=r"archive\.bad-retention"):
        load_policy(tmp_path / "broken.toml")

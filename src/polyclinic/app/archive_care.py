"""Opens the archive as the settings say, and looks after it: retention once a day, then compaction."""

from __future__ import annotations

import functools
import threading
import tomllib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from polyclinic.app.audit import system_entry
from polyclinic.app.settings import Settings
from polyclinic.app.workroom import segments_folder
from polyclinic.core.errors import PolyclinicError, Rejected
from polyclinic.departments.access.audit_window import Recorder
from polyclinic.departments.archive import retention
from polyclinic.departments.archive.compaction import compact
from polyclinic.departments.archive.contracts import Removed
from polyclinic.departments.archive.rules import ReportState, RetentionPolicy, policy_of
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.reading.contracts import StudyState
from polyclinic.departments.reading.store import ReadingStore
from polyclinic.journeys.watchers import Loop

_RETENTION_EVERY_S = 86_400.0
_SIGNED = frozenset({StudyState.SIGNED, StudyState.DELIVERED})


def load_policy(path: Path | None) -> RetentionPolicy:
    """Rules and holds of a ``retention.toml``; none without a file.

    Raises
    ------
    Rejected
        ``archive.bad-retention``.
    """
    if path is None:
        return RetentionPolicy()
    try:
        return policy_of(tomllib.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise Rejected(
            "archive.bad-retention", f"The retention rules in {path.name} cannot be read: {error}"
        ) from error


def open_archive(settings: Settings, engine: Engine) -> SqlArchive:
    """The archive of the data folder; its tables exist."""
    return SqlArchive(
        engine,
        segments_folder(settings),
        free_bytes_min=settings.free_space_min_mb * 1_000_000,
        held=load_policy(settings.retention).holds.hold,
    )


def reports_of(reading: ReadingStore) -> retention.Reports:
    """How far the reading of studies has come, for the retention rules."""

    def reports(study_instance_uids: Sequence[str]) -> dict[str, ReportState]:
        return {
            status.study_instance_uid: ReportState.SIGNED if status.state in _SIGNED else ReportState.OPEN
            for status in reading.statuses(study_instance_uids)
        }

    return reports


def apply_retention(
    archive: SqlArchive,
    reading: ReadingStore,
    recorder: Recorder,
    policy: RetentionPolicy,
    *,
    stopping: threading.Event,
    told: Callable[[retention.Due], None] = lambda _: None,
) -> Removed:
    """Delete what is due now; each deletion stands in the audit ledger before and after it is done."""

    def note(one: retention.Due, phase: str, **more: str) -> None:
        facts = {"rule": one.rule, "series": one.series_instance_uid or "all", "phase": phase, **more}
        recorder.record(system_entry("dicom.delete", study_instance_uid=one.study_instance_uid, detail=facts))

    def done(one: retention.Due) -> None:
        note(one, "done", instances=str(one.instances))
        told(one)

    return retention.apply(
        archive,
        policy,
        reports_of(reading),
        datetime.now(UTC),
        stopping=stopping,
        before=lambda one: note(one, "before"),
        passed_over=lambda one, code: note(one, "not done", code=code),
        told=done,
    )


def delete_noted(
    archive: SqlArchive,
    recorder: Recorder,
    study: str,
    *,
    series: str | None = None,
    instance: str | None = None,
    reason: str,
    by: str,
) -> Removed:
    """Delete for an operator of this machine; in the audit ledger before and after it is done.

    Raises
    ------
    polyclinic.core.errors.PolyclinicError
        See `polyclinic.departments.archive.ports.Archive.delete`.
    Rejected
        ``audit.too-large`` for a longer reason than an entry holds; nothing is deleted then.
    """
    facts = {"reason": reason, "by": by, "series": (series or "")[:64], "instance": (instance or "")[:64]}
    facts = {name: value for name, value in facts.items() if value}

    def note(phase: str, **more: str) -> None:
        detail = {**facts, "phase": phase, **more}
        recorder.record(system_entry("dicom.delete", study_instance_uid=study, detail=detail))

    note("before")
    try:
        removed = archive.delete(study, series_instance_uid=series, sop_instance_uid=instance, reason=reason, by=by)
    except PolyclinicError as error:
        note("not done", code=error.code)
        raise
    note("done", instances=str(removed.instances))
    return removed


def archive_loops(
    settings: Settings, archive: SqlArchive, reading: ReadingStore, recorder: Recorder, stopping: threading.Event
) -> tuple[Loop, ...]:
    """The daily round, when there are rules; they are read anew each time."""
    if settings.retention is None:
        return ()

    def turn(path: Path) -> None:
        removed = apply_retention(archive, reading, recorder, load_policy(path), stopping=stopping)
        if removed.instances:
            compact(archive.engine, archive.segments, stopping=stopping)

    return (Loop("retention", functools.partial(turn, settings.retention), every_s=_RETENTION_EVERY_S),)

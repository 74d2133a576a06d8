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
from polyclinic.core.errors import Rejected
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
    """Delete what is due now; each deletion stands in the audit ledger."""

    def note(one: retention.Due) -> None:
        detail = {"rule": one.rule, "instances": str(one.instances), "series": one.series_instance_uid or "all"}
        recorder.later(system_entry("dicom.delete", study_instance_uid=one.study_instance_uid, detail=detail))
        told(one)

    return retention.apply(archive, policy, reports_of(reading), datetime.now(UTC), stopping=stopping, told=note)


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

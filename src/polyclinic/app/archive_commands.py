"""`polyclinic archive`: checking, mending and thinning the archive."""

from __future__ import annotations

import getpass
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from polyclinic.app.terminal import wide_console

if TYPE_CHECKING:
    from polyclinic.app.settings import Settings
    from polyclinic.departments.archive.retention import Due
    from polyclinic.departments.archive.scrub import Problem

archive_app = typer.Typer(help="Check, mend and thin the archive of images.", no_args_is_help=True)

_out = wide_console()
_err = wide_console(stderr=True)
_MB = 1_000_000
_SHOWN = 200


@archive_app.command()
def verify(
    sample: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the instances whose bytes are read.")] = 1.0,
    mb_per_s: Annotated[float, typer.Option("--mb-per-s", min=0.0, help="Read no faster; 0 for no limit.")] = 0.0,
    anew: Annotated[bool, typer.Option("--anew", help="From the start, not where the last one was stopped.")] = False,
) -> None:
    """Read every instance again and compare it with its hash. Changes nothing; may run beside the server.

    Exit code 1 when something is damaged, lost or not indexed. A pass that was stopped goes on where it was.
    """
    from polyclinic.app.archive_checking import Checking  # noqa: PLC0415 - each command loads only what it needs
    from polyclinic.app.console import progress_bar  # noqa: PLC0415

    settings, engine = _opened()
    checking = Checking(settings, engine, sample=sample, bytes_per_s=mb_per_s * _MB or None, anew=anew)
    try:
        with progress_bar(_err) as progress:
            task = progress.add_task("verify", total=checking.total_bytes() or None)
            result = checking.run(lambda size_bytes: progress.update(task, advance=size_bytes))
    finally:
        engine.dispose()
    _out.print(
        f"{result.instances} instances compared, {result.size_bytes / _MB:.0f} MB read, {len(result.problems)} problems"
    )
    if result.problems:
        _out.print(_problems(result.problems))
        for advice in dict.fromkeys(f"{p.fault.value}: {p.advice}" for p in result.problems):
            _err.print(escape(advice), soft_wrap=True)
        raise typer.Exit(1)


def _problems(problems: list[Problem]) -> Table:
    table = Table(header_style="bold", title=f"The first {_SHOWN}" if len(problems) > _SHOWN else None)
    for name in ("Fault", "Study", "Series", "Instance", "Segment and offset"):
        table.add_column(name, overflow="fold")
    for one in problems[:_SHOWN]:
        uids = (one.study_instance_uid, one.series_instance_uid, one.sop_instance_uid)
        table.add_row(one.fault.value, *map(escape, uids), f"{escape(one.segment)} {one.offset_bytes}")
    return table


@archive_app.command()
def reindex() -> None:
    """Make the index anew from the segments alone; the server must not run. Can be repeated when interrupted."""
    from polyclinic.app.console import progress_bar  # noqa: PLC0415
    from polyclinic.app.workroom import segments_folder  # noqa: PLC0415
    from polyclinic.departments.archive import reindex as making  # noqa: PLC0415

    settings, engine = _opened()
    try:
        with progress_bar(_err) as progress:
            tasks: dict[str, Any] = {}

            def show(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = progress.add_task(what, total=total)
                progress.update(tasks[what], completed=done)

            result = making.reindex(engine, segments_folder(settings), show)
    finally:
        engine.dispose()
    _out.print(f"{result.indexed} instances indexed, {result.unreadable} that cannot be parsed, {result.cut} torn ends")
    if result.unreadable:
        raise typer.Exit(1)


@archive_app.command()
def compact(
    dead: Annotated[float, typer.Option(min=0.0, max=1.0, help="Rewrite segments with more dead space.")] = 0.25,
) -> None:
    """Give the space of deleted instances back; may run beside the server."""
    from polyclinic.app.archive_care import open_archive  # noqa: PLC0415
    from polyclinic.departments.archive.compaction import compact as run  # noqa: PLC0415

    settings, engine = _opened()
    with _closing(open_archive(settings, engine)) as archive:
        result = run(archive.engine, archive.segments, dead_share=dead)
    _out.print(
        f"{result.segments} segments rewritten, {result.moved} instances moved, {result.freed_bytes / _MB:.1f} MB freed"
    )
    if result.damaged:
        _err.print(f"left alone, run `polyclinic archive verify`: {escape(', '.join(result.damaged))}", soft_wrap=True)
        raise typer.Exit(1)


@archive_app.command()
def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
) -> None:
    """Delete what the rules in POLYCLINIC_RETENTION say (docs/operations/retention.md)."""
    from polyclinic.app.archive_care import apply_retention, load_policy, open_archive, reports_of  # noqa: PLC0415
    from polyclinic.app.audit import open_audit  # noqa: PLC0415
    from polyclinic.departments.archive.retention import due  # noqa: PLC0415
    from polyclinic.departments.reading.store import ReadingStore  # noqa: PLC0415

    settings, engine = _opened()
    policy, reading = load_policy(settings.retention), ReadingStore(engine)
    found: list[Due] = []
    if dry_run:
        found += due(engine, policy, reports_of(reading), datetime.now(UTC))
        engine.dispose()
    else:
        audit = open_audit(engine, settings)
        with _closing(open_archive(settings, engine)) as archive:
            apply_retention(archive, reading, audit.recorder, policy, stopping=threading.Event(), told=found.append)
            audit.close()
    table = Table(header_style="bold", title="To be deleted" if dry_run else "Deleted", title_justify="left")
    for name in ("Rule", "Study", "Series", "Modality", "Instances", "MB"):
        table.add_column(name, overflow="fold")
    for one in found:
        series = one.series_instance_uid or "all"
        size = f"{one.size_bytes / _MB:.1f}"
        row = (one.rule, one.study_instance_uid, series, one.modality, str(one.instances), size)
        table.add_row(*map(escape, row))
    _out.print(table)


@archive_app.command()
def delete(
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, without patient data; stays on record.")],
    series: Annotated[str | None, typer.Option("--series", help="Only this Series Instance UID.")] = None,
    instance: Annotated[str | None, typer.Option("--instance", help="Only this SOP Instance UID.")] = None,
    by: Annotated[str, typer.Option("--by", help="Who; the account of this machine when not given.")] = "",
) -> None:
    """Delete a study, series or instance for good."""
    from polyclinic.app.archive_care import delete_noted, open_archive  # noqa: PLC0415
    from polyclinic.app.audit import open_audit  # noqa: PLC0415

    settings, engine = _opened()
    audit, who = open_audit(engine, settings), by or getpass.getuser()
    with _closing(open_archive(settings, engine)) as archive:
        try:
            removed = delete_noted(
                archive, audit.recorder, study, series=series, instance=instance, reason=reason, by=who
            )
        finally:
            audit.close()
    _out.print(f"{removed.instances} instances deleted; `polyclinic archive compact` gives their space back")


def _opened() -> tuple[Settings, Any]:
    from polyclinic.app.settings import load_settings  # noqa: PLC0415
    from polyclinic.app.workroom import lasting  # noqa: PLC0415
    from polyclinic.edges.sql.engine import open_engine  # noqa: PLC0415
    from polyclinic.edges.sql.migrations import migrate  # noqa: PLC0415

    settings = load_settings()
    settings.data.mkdir(parents=True, exist_ok=True)
    engine = lasting(open_engine(settings.database_url, pool_size=4))
    migrate(engine)
    return settings, engine


@contextmanager
def _closing(archive: Any) -> Iterator[Any]:
    try:
        yield archive
    finally:
        archive.close()
        archive.engine.dispose()

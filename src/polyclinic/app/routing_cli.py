"""`polyclinic routing`: is the table right, why does a study go where it goes, and how far is what was queued."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from polyclinic.app.terminal import wide_console

if TYPE_CHECKING:
    from polyclinic.departments.routing.contracts import Job

routing_app = typer.Typer(help="Destinations, rules and what is on its way to them.", no_args_is_help=True)
_out = wide_console()


@routing_app.command("check")
def check(file: Annotated[Path, typer.Argument(help="A routing.toml.")]) -> None:
    """Read a table and show what it says; every fault is named with its line, and nothing is changed."""
    from polyclinic.app.routing import load_routing  # noqa: PLC0415 - each command loads only what it needs

    table = load_routing(file)
    _out.print(f"{len(table.destinations)} destinations, {len(table.rules)} rules: no fault found")
    for rule in table.rules:
        contents = ", ".join(content.value for content in rule.send)
        off = "" if rule.enabled else " (switched off)"
        _out.print(f"  {rule.name}{off}: {rule.when} -> {contents} to {', '.join(rule.to)}", markup=False)


@routing_app.command("explain")
def explain(
    study_instance_uid: Annotated[str, typer.Argument(metavar="STUDY_UID", help="Study Instance UID.")],
) -> None:
    """Say for every rule why it sends a study or does not, as the study stands now; nothing is sent."""
    from polyclinic.app.routing import explained  # noqa: PLC0415
    from polyclinic.app.settings import load_settings  # noqa: PLC0415

    found = explained(load_settings(), study_instance_uid)
    for verdict in found.verdicts:
        sign = "[green]sends[/]" if verdict.matches else "[yellow]does not send[/]"
        _out.print(f"{escape(verdict.rule.name)} {sign}: {escape(verdict.reason)}", soft_wrap=True)
    for delivery in found.deliveries:
        later = "" if delivery.due_at <= datetime.now(UTC) else f", not before {_local(delivery.due_at)}"
        some = f" ({len(delivery.series_instance_uids)} series)" if delivery.series_instance_uids else ""
        _out.print(f"  -> {delivery.content}{some} to {delivery.destination}{later}", markup=False)
    _print_jobs(found.jobs)


@routing_app.command("jobs")
def jobs(
    failed: Annotated[bool, typer.Option("--failed", help="Only those that were given up.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many, newest first.")] = 50,
) -> None:
    """Show what is on its way, what has arrived and what has failed."""
    from polyclinic.app.settings import load_settings  # noqa: PLC0415
    from polyclinic.departments.routing.contracts import JobState  # noqa: PLC0415
    from polyclinic.departments.routing.store import RoutingStore  # noqa: PLC0415
    from polyclinic.edges.sql.engine import open_engine  # noqa: PLC0415
    from polyclinic.edges.sql.migrations import migrate  # noqa: PLC0415

    engine = open_engine(load_settings().database_url, pool_size=1)
    try:
        migrate(engine)
        found = RoutingStore(engine).jobs(state=JobState.FAILED if failed else None, limit=limit)
    finally:
        engine.dispose()
    _print_jobs(found)


@routing_app.command("retry")
def retry(key: Annotated[str, typer.Argument(help="Key of a failed job, as `routing jobs` shows it.")]) -> None:
    """Queue a failed job once more; what has arrived is not sent again."""
    import time  # noqa: PLC0415

    from polyclinic.app.settings import load_settings  # noqa: PLC0415
    from polyclinic.departments.routing.store import RoutingStore  # noqa: PLC0415
    from polyclinic.edges.sql.engine import open_engine  # noqa: PLC0415
    from polyclinic.edges.sql.migrations import migrate  # noqa: PLC0415

    engine = open_engine(load_settings().database_url, pool_size=1)
    try:
        migrate(engine)
        job = RoutingStore(engine).retry(key, now=time.time())
    finally:
        engine.dispose()
    _out.print(f"queued again for {job.destination}", markup=False)


def _print_jobs(jobs: tuple[Job, ...]) -> None:
    if not jobs:
        _out.print("nothing is queued, sent or failed")
        return
    table = Table(header_style="bold")
    for name in ("Key", "Study", "Rev", "Destination", "What", "State", "Sent", "Due", "Reason"):
        table.add_column(name, overflow="fold")
    for job in jobs:
        cells = (
            job.key,
            job.study_instance_uid,
            str(job.revision),
            job.destination,
            job.content.value,
            job.state.value,
            f"{job.sent}/{job.total}" if job.total else "",
            _local(datetime.fromtimestamp(job.due_at, UTC)),
            job.reason,
        )
        table.add_row(*map(escape, cells))
    _out.print(table)


def _local(at: datetime) -> str:
    return at.astimezone().isoformat(sep=" ", timespec="seconds")

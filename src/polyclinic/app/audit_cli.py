"""`polyclinic audit`: is the ledger as it was written, and give it to others.

Exit codes: 0 intact, 1 damaged, 2 wrong use or an unreadable anchor file, 3 the database does not answer.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from polyclinic.app.terminal import wide_console
from polyclinic.core.errors import Rejected, Unavailable

if TYPE_CHECKING:
    from polyclinic.app.settings import Settings
    from polyclinic.departments.access.audit_store import Ledger

audit_app = typer.Typer(help="The audit ledger.", no_args_is_help=True)
_out = wide_console()


@audit_app.command("verify")
def verify(
    anchors: Annotated[
        Path | None,
        typer.Option("--anchors", help="Anchor file to check against, if not the house's own."),
    ] = None,
) -> None:
    """Check that no entry was edited, taken out, moved or cut off; names the first row that is not as it was."""
    from polyclinic.departments.access.audit_anchor import ANCHOR_NAME, load_key, read_anchors  # noqa: PLC0415

    with _open() as (ledger, settings):
        path = anchors or settings.data / ANCHOR_NAME
        if anchors is not None and not anchors.is_file():
            raise Rejected("audit.no-anchors", f"There is no file {anchors}; leave --anchors out for the house's own")
        known = read_anchors(path)
        found = ledger.verify(known, load_key(settings.data))
    for problem in found.problems:
        _out.print(f"[red]{problem.damage.value}[/] row {problem.sequence}: {escape(problem.message)}", soft_wrap=True)
    if not found.intact:
        raise typer.Exit(1)
    beyond = found.last_sequence - max((anchor.sequence for anchor in known), default=0)
    _out.print(
        f"intact: {found.rows} entries, {found.anchors_matched} anchors match; the newest {beyond} entries are newer "
        "than any anchor, so that their end could be cut off unseen",
        soft_wrap=True,
    )


@audit_app.command("export")
def export(
    since: Annotated[str, typer.Option("--since", help="Only entries from this time on (ISO 8601).")] = "",
    out: Annotated[Path | None, typer.Option("--out", help="File to write; default: standard output.")] = None,
) -> None:
    """Write the ledger as FHIR R4 AuditEvent, one JSON object a line."""
    from polyclinic.app.audit import exported  # noqa: PLC0415

    start = _moment(since) if since else None
    with _open() as (ledger, settings):
        lines = exported(ledger, start, settings.dicom_ae_title)
        if out is None:
            for line in lines:
                sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            return
        with out.open("wb") as file:
            file.writelines(lines)


def _moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise Rejected("audit.bad-time", "Give --since as ISO 8601, e.g. 2026-01-31T08:00+01:00") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@contextmanager
def _open() -> Iterator[tuple[Ledger, Settings]]:
    from sqlalchemy.exc import OperationalError, ProgrammingError  # noqa: PLC0415

    from polyclinic.app.settings import load_settings  # noqa: PLC0415
    from polyclinic.departments.access.audit_store import Ledger  # noqa: PLC0415
    from polyclinic.edges.sql.engine import open_engine, writing  # noqa: PLC0415

    settings = load_settings()
    engine = open_engine(settings.database_url, pool_size=1)
    try:
        yield Ledger(engine, writing), settings
    except (OperationalError, ProgrammingError) as error:
        text = "The ledger cannot be read: check POLYCLINIC_DATABASE, and that `polyclinic serve` has run on it"
        raise Unavailable("audit.no-ledger", text) from error
    finally:
        engine.dispose()

"""`polyclinic backup` and `polyclinic restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from polyclinic.app.terminal import wide_console

_out = wide_console()
_err = wide_console(stderr=True)
_MB = 1_000_000


def backup(
    folder: Annotated[Path, typer.Argument(help="Folder of the backup; an earlier one there is updated.")],
) -> None:
    """Back everything up while the platform runs: databases, images, agents' results, settings without secrets."""
    from polyclinic.app.backup import back_up  # noqa: PLC0415 - each command loads only what it needs
    from polyclinic.app.console import progress_bar  # noqa: PLC0415
    from polyclinic.app.settings import load_settings  # noqa: PLC0415

    with progress_bar(_err) as progress:
        task = progress.add_task("backup", total=None)
        result = back_up(load_settings(), folder, lambda size_bytes: progress.update(task, advance=size_bytes))
    _out.print(
        f"{result.files} files, {result.copied} of them new or changed: {result.copied_bytes / _MB:.1f} MB copied"
    )
    for what in result.left_out:
        _err.print(f"left out: {escape(what)}", soft_wrap=True)


def restore(
    folder: Annotated[Path, typer.Argument(help="Folder of the backup.")],
    into: Annotated[Path, typer.Option("--into", help="Data folder to make; it must be empty or absent.")],
) -> None:
    """Make a data folder from a backup, check every file, and open the archive once."""
    from polyclinic.app.backup import read_manifest  # noqa: PLC0415
    from polyclinic.app.backup import restore as run  # noqa: PLC0415
    from polyclinic.app.console import progress_bar  # noqa: PLC0415

    with progress_bar(_err) as progress:
        task = progress.add_task("restore", total=sum(kept.size_bytes for kept in read_manifest(folder)) or None)
        files = run(folder, into, lambda size_bytes: progress.update(task, advance=size_bytes))
    studies, problems = _opened_once(into)
    _out.print(f"{files} files restored and checked, {studies} studies, {problems} problems with instances")
    if problems:
        _err.print("run `polyclinic archive verify` on it: it names the instances and says what to do")
        raise typer.Exit(1)
    _out.print(f"start with POLYCLINIC_DATA={escape(str(into))} polyclinic serve", soft_wrap=True)


def _opened_once(into: Path) -> tuple[int, int]:
    """Studies, and instances whose rows and segments do not agree, after what came last has been indexed."""
    from polyclinic.app.archive_care import open_archive  # noqa: PLC0415
    from polyclinic.app.settings import Settings  # noqa: PLC0415
    from polyclinic.departments.archive.scrub import Scrub  # noqa: PLC0415
    from polyclinic.edges.sql.engine import open_engine  # noqa: PLC0415
    from polyclinic.edges.sql.migrations import migrate  # noqa: PLC0415

    settings = Settings(data=into, database="", journeys_database="")
    engine = open_engine(settings.database_url)
    migrate(engine)
    archive = open_archive(settings, engine)
    scrub = Scrub(engine, archive.segments.folder, sample=0.0)
    for _ in scrub.run():
        pass
    with engine.connect() as connection:
        studies = int(connection.exec_driver_sql("SELECT count(*) FROM archive_study").scalar_one())
    archive.close()
    engine.dispose()
    return studies, len(scrub.result.problems)

"""The `polyclinic` command. User errors end with one line and an exit code, never with a traceback.

Exit codes: 0 done (an agent that abstained is a result, not an error), 1 some of the work failed, 2 wrong use or input,
3 something that should answer did not.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from polyclinic import __version__
from polyclinic.app.agent_commands import agent_app
from polyclinic.app.archive_commands import archive_app
from polyclinic.app.assess_cli import assess
from polyclinic.app.audit_cli import audit_app
from polyclinic.app.backup_commands import backup, restore
from polyclinic.app.conformance_cli import conformance
from polyclinic.app.routing_cli import routing_app
from polyclinic.app.terminal import wide_console
from polyclinic.core.errors import PolyclinicError, Rejected, Unavailable

app = typer.Typer(
    name="polyclinic",
    help="Open imaging-AI platform for hospitals. Research software, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
user_app = typer.Typer(help="Accounts of people.", no_args_is_help=True)
app.add_typer(user_app, name="user")
app.add_typer(archive_app, name="archive")
app.add_typer(agent_app, name="agent")
app.command()(backup)
app.command()(restore)
app.add_typer(audit_app, name="audit")
app.add_typer(routing_app, name="routing")
app.command()(conformance)
app.command()(assess)

_out = wide_console()
_err = wide_console(stderr=True)


class ReportLanguage(StrEnum):
    EN = "en"
    ZH = "zh"


def main() -> None:
    """Entry point; turns errors into one line and an exit code."""
    try:
        app()
    except PolyclinicError as error:
        _err.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(3 if isinstance(error, Unavailable) else 2)
    except KeyboardInterrupt:
        _err.print("stopped")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        _out.print(f"polyclinic {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    _ = version


@app.command()
def serve() -> None:
    """Run the platform: DICOM node, DICOMweb, page, journeys and workers. Settings: docs/settings.md."""
    from polyclinic.app.settings import load_settings  # noqa: PLC0415 - each command loads only what it needs
    from polyclinic.app.wiring import serve as run  # noqa: PLC0415

    run(load_settings())


@app.command()
def worker() -> None:
    """Run one more worker beside `serve`, on the same settings: it claims agent runs and executes them."""
    from polyclinic.app.settings import load_settings  # noqa: PLC0415
    from polyclinic.app.worker import run_worker  # noqa: PLC0415

    run_worker(load_settings())


@app.command()
def send(
    folder: Annotated[Path, typer.Argument(help="Folder of DICOM files.")],
    to: Annotated[str, typer.Option("--to", metavar="AE@HOST:PORT", help="Receiving application entity.")],
    calling: Annotated[str, typer.Option("--from", metavar="AE", help="Own AE title.")] = "POLYCLINIC",
) -> None:
    """Send a folder to a DICOM node by C-STORE, each instance in the transfer syntax it is kept in."""
    from polyclinic.app.console import progress_bar  # noqa: PLC0415
    from polyclinic.app.dicom_folder import dicom_files  # noqa: PLC0415
    from polyclinic.app.sending import send_folder  # noqa: PLC0415

    with progress_bar(_err) as progress:
        task = progress.add_task(f"send to {escape(to)}", total=sum(1 for _ in dicom_files(folder)) or None)
        result = send_folder(folder, to, lambda done: progress.update(task, completed=done), calling=calling)
    _out.print(f"{result.sent} instances sent, {len(result.failed)} refused, {len(result.skipped)} files are no DICOM")
    for name, reason in (*result.failed, *result.skipped):
        _err.print(f"{escape(name)}: {escape(reason)}", soft_wrap=True)
    if result.failed:
        raise typer.Exit(1)


@app.command()
def analyse(
    folder: Annotated[Path, typer.Argument(help="Folder of DICOM files.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; made when it is not there.")],
    language: Annotated[ReportLanguage, typer.Option("--lang", help="Language of the report.")] = ReportLanguage.EN,
    agent: Annotated[list[str] | None, typer.Option("--agent", help="Run only this agent (repeatable).")] = None,
    prior: Annotated[Path | None, typer.Option("--prior", help="Folder of an earlier study to compare with.")] = None,
) -> None:
    """Run the agents on a folder without a server: table, findings.json, SEG, SR, key object and PDF."""
    from polyclinic.app.analyse import analyse_folder  # noqa: PLC0415

    analyse_folder(folder, out, language=language.value, agent_ids=tuple(agent or ()), console=_out, prior=prior)


@app.command()
def doctor() -> None:
    """Check this installation and say what is missing and what to do about it."""
    from polyclinic.app.doctor import Health, Surroundings, examine  # noqa: PLC0415
    from polyclinic.app.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    checks = examine(
        Surroundings(
            data_folder=settings.data,
            models_folder=settings.models,
            page_folder=settings.page,
            addresses=(
                ("DICOM port", settings.dicom_host, settings.dicom_port),
                ("Web port", settings.web_host, settings.web_port),
            ),
        )
    )
    styles = {Health.OK: "green", Health.WARNING: "yellow", Health.PROBLEM: "red"}
    table = Table(header_style="bold", title=f"polyclinic {__version__}", title_justify="left")
    for name in ("Check", "State", "Found", "What to do"):
        table.add_column(name)
    for check in checks:
        state = f"[{styles[check.health]}]{check.health.value}[/]"
        table.add_row(escape(check.name), state, escape(check.detail), escape(check.advice))
    _out.print(table)
    if any(check.health is Health.PROBLEM for check in checks):
        raise typer.Exit(1)


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Read and sign as the demo reader, print, exit.")] = False,
    study: Annotated[
        Path | None, typer.Option("--study", help="Folder of DICOM files instead of the synthetic CT.")
    ] = None,
    folder: Annotated[Path, typer.Option("--folder", help="Where the demo keeps its files.")] = Path(".demo"),
    web_port: Annotated[int, typer.Option("--web-port", help="Preferred port of the page.")] = 8080,
    dicom_port: Annotated[int, typer.Option("--dicom-port", help="Preferred DICOM port.")] = 11112,
) -> None:
    """Send a chest CT through the whole path and open the reading room on 127.0.0.1."""
    from polyclinic.app.demo import DemoOptions, run_demo  # noqa: PLC0415

    if study is not None and not study.is_dir():
        raise Rejected("demo.no-folder", f"There is no folder {study}; give a folder of DICOM files")
    options = DemoOptions(folder=folder.resolve(), study=study, once=once, web_port=web_port, dicom_port=dicom_port)
    run_demo(options, _out)


@user_app.command("add")
def user_add(
    name: Annotated[str, typer.Argument(help="Name to sign in with.")],
    role: Annotated[list[str], typer.Option("--role", help="Role (repeatable), e.g. radiologist.")],
    display: Annotated[str, typer.Option("--display", help="Name that signatures show.")] = "",
    password: Annotated[
        str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True, help="Asked for when not given.")
    ] = "",
) -> None:
    """Make a local account."""
    from polyclinic.app.settings import load_settings  # noqa: PLC0415
    from polyclinic.app.wiring import add_person  # noqa: PLC0415

    add_person(load_settings(), name=name, display=display or name, roles=frozenset(role), password=password)
    _out.print(f"account {escape(name)} made")

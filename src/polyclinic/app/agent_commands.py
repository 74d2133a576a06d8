"""`polyclinic agent`: make one, see which are installed, and put one on the bench."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.markup import escape
from rich.table import Table

from polyclinic.app.terminal import wide_console
from polyclinic.core.errors import Rejected

if TYPE_CHECKING:
    from polyclinic.app.agent_bench import BenchResult

agent_app = typer.Typer(help="Agents: make, list and test them.", no_args_is_help=True)
_out = wide_console()
_err = wide_console(stderr=True)
_STYLES = {"passed": "green", "failed": "red", "noted": "yellow", "not shown": "dim"}


@agent_app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Id of the agent: lower case letters, digits, underscores.")],
    folder: Annotated[Path, typer.Option("--folder", help="Where the folder NAME is made.")] = Path(),
    modality: Annotated[str, typer.Option("--modality", help="DICOM Modality it is planned for.")] = "CT",
) -> None:
    """Make an installable agent that measures something simple and passes its bench (docs/tutorial-agent.md)."""
    from polyclinic.app.agent_new import make_agent  # noqa: PLC0415 - each command loads only what it needs

    made = make_agent(name, folder, modality)
    _out.print(f"made {made}", markup=False, soft_wrap=True)
    _out.print(f"next: polyclinic agent test {made}", markup=False, soft_wrap=True)


@agent_app.command("list")
def list_agents() -> None:
    """Show the installed agents and whether their model files are those of their manifests."""
    from polyclinic.agentkit.bench import weights_fault  # noqa: PLC0415
    from polyclinic.agentkit.manifest import installed_agents  # noqa: PLC0415
    from polyclinic.app.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    table = Table(header_style="bold")
    for column in ("Agent", "Version", "Stage", "Modality", "Weights"):
        table.add_column(column)
    wrong = False
    for agent_id, agent in sorted(installed_agents(settings.agents_extra).items()):
        manifest = agent.manifest
        every = manifest.weights.values()
        faults = [f for w in every if (f := weights_fault(w, lambda file: (settings.models / file).read_bytes()))]
        wrong = wrong or bool(faults)
        weights = "; ".join(faults) or (f"{len(every)} verified" if every else "none needed")
        cells = (agent_id, manifest.version, manifest.stage.value, ", ".join(manifest.inputs.modality), weights)
        table.add_row(*map(escape, cells))
    _out.print(table)
    if wrong:
        raise typer.Exit(1)


@agent_app.command("test")
def put_on_bench(
    target: Annotated[str, typer.Argument(metavar="AGENT", help="Id of an installed agent, or a folder with one.")],
    case: Annotated[
        list[Path] | None, typer.Option("--case", help="Folder of DICOM files of its population (repeatable).")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer changes and one process, while developing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document instead of a table.")] = False,
) -> None:
    """Put an agent on the bench; exit code 1 when a rule fails."""
    from polyclinic.app.agent_bench import run_bench  # noqa: PLC0415
    from polyclinic.app.agent_sources import agent_source  # noqa: PLC0415
    from polyclinic.app.console import progress_bar  # noqa: PLC0415
    from polyclinic.app.settings import load_settings  # noqa: PLC0415

    source = agent_source(target, load_settings().models)
    with progress_bar(_err) as progress:
        task = progress.add_task(source.package, total=1.0)
        result = run_bench(
            source,
            cases=_named(case or []),
            quick=quick,
            on_probe=lambda name, share: progress.update(task, completed=share, description=escape(name)),
        )
        progress.update(task, completed=1.0)
    if as_json:
        sys.stdout.write(orjson.dumps(_document(result, source.package), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        _print(result, source.package)
    if not result.passed:
        raise typer.Exit(1)


def _named(folders: list[Path]) -> dict[str, str]:
    """A short name for each folder, which tells nothing but its number."""
    for folder in folders:
        if not folder.is_dir():
            raise Rejected("folder.missing", f"There is no folder {folder}; give a folder of DICOM files")
    return {f"case {number}": str(folder.resolve()) for number, folder in enumerate(folders, 1)}


def _print(result: BenchResult, package: str) -> None:
    table = Table(header_style="bold")
    for column in ("Rule", "State", "About", "Found", "What to do"):
        table.add_column(column, overflow="fold")
    for verdict in result.verdicts:
        state = f"[{_STYLES[verdict.state.value]}]{verdict.state.value}[/]"
        table.add_row(verdict.rule, state, escape(verdict.about), escape(verdict.reason), escape(verdict.advice))
    _out.print(table)
    version = f" {result.manifest.version}" if result.manifest else ""
    failed = sorted({verdict.rule for verdict in result.verdicts if verdict.state.value == "failed"})
    said = f"[red]failed[/]: {', '.join(failed)}" if failed else "[green]passed[/]"
    _out.print(f"{escape(package)}{version} {said}")


def _document(result: BenchResult, package: str) -> dict[str, object]:
    return {
        "schema": 1,
        "agent": {"package": package, "version": result.manifest.version if result.manifest else ""},
        "passed": result.passed,
        "verdicts": [
            {"rule": v.rule, "state": v.state.value, "about": v.about, "reason": v.reason, "advice": v.advice}
            for v in result.verdicts
        ],
        "runs": [
            {
                "probe": probe.title,
                "end": record.end.value,
                "elapsed_s": record.elapsed_s,
                "peak_memory_mb": record.peak_memory_mb,
                "findings": record.findings,
                "reason": record.reason,
            }
            for probe, record in result.records.items()
        ],
    }

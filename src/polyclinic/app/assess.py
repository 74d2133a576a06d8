"""`polyclinic assess`: an agent on annotated data, with a record, a report and tables on the terminal."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import platform
import resource
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from polyclinic.agentkit.assessment.bench import CaseResult, figures, judge
from polyclinic.agentkit.assessment.dataset import Lineage, independence, read_dataset, read_lineage
from polyclinic.agentkit.assessment.record import (
    SCHEMA_VERSION,
    AgentSheet,
    Assessment,
    DatasetSheet,
    MachineSheet,
    write_record,
)
from polyclinic.agentkit.assessment.tables import one_line, tables_of
from polyclinic.agentkit.manifest import InstalledAgent, installed_agents
from polyclinic.app.analyse import AgentTools
from polyclinic.app.assess_card import write_card
from polyclinic.app.assess_data import AssessData, open_data
from polyclinic.app.assess_pictures import Gallery
from polyclinic.app.assess_report import write_report
from polyclinic.app.settings import load_settings
from polyclinic.app.terminal import wide_console
from polyclinic.core.errors import Rejected
from polyclinic.edges.inference import ModelShelf

TOPIC = "Chest CT: lung nodules and routine measurements"
HIT_RULE = "A mark within the nodule's radius of its centre (LUNA16); further marks on a nodule count nothing"
RESAMPLES, QUICK_RESAMPLES, SEED = 2000, 100, 20261122


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessing:
    """What one call of the command was asked for."""

    agent: InstalledAgent
    lineage: Lineage
    quick: bool
    console: Console


def assess_and_write(
    agent_id: str, data: Sequence[Path], *, images: Path | None, out: Path, quick: bool, card: Path | None
) -> None:
    """Assess, write record and report below `out`, print the tables; with `card`, rewrite that page's block.

    Raises
    ------
    Rejected
        ``assessment.quick-card``, ``assessment.no-agent``, or a code of `run_assessment`.
    """
    console = wide_console()
    if quick and card is not None:
        raise Rejected("assessment.quick-card", "A quick run is no evidence: leave out --quick or --card")
    installed = installed_agents(only=(agent_id,))
    if agent_id not in installed:
        raise Rejected("assessment.no-agent", f"No agent {agent_id} is installed")
    chosen = installed[agent_id]
    asked = Assessing(agent=chosen, lineage=read_lineage(chosen.folder), quick=quick, console=console)
    record, gallery = run_assessment(asked, data, images)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{agent_id}_assessment.json"
    plain = write_record(record, path)
    report = write_report(plain, gallery, path.with_suffix(".html"))
    for dataset in plain["datasets"]:
        print_dataset(console, dataset)
    for written in (path, report):
        console.print(escape(str(written)), soft_wrap=True)
    if card is not None:
        write_card(plain, card)
        for suffix in ("", ".sha256"):
            shutil.copyfile(f"{path}{suffix}", f"{card.with_name(path.name)}{suffix}")


def run_assessment(asked: Assessing, data: Sequence[Path], images: Path | None) -> tuple[Assessment, Gallery]:
    """Assess on every dataset in turn.

    Raises
    ------
    Rejected
        ``assessment.dataset``, ``assessment.listing``, ``assessment.leak`` or a code of the readers.
    """
    began, load = time.perf_counter(), tuple(round(value, 1) for value in os.getloadavg())
    gallery, code_sha256 = Gallery(), _code_sha256(asked.agent)  # before the run: it loads the code of this moment
    sheets = tuple(_dataset(asked, open_data(read_dataset(folder), folder, images), gallery) for folder in data)
    manifest = asked.agent.manifest
    record = Assessment(
        schema_version=SCHEMA_VERSION,
        topic=TOPIC,
        agent=AgentSheet(
            id=manifest.id,
            version=manifest.version,
            stage=manifest.stage.value,
            intended_use=manifest.intended_use,
            population=manifest.population,
            weights_sha256={name: weights.sha256 for name, weights in manifest.weights.items()},
            code_sha256=code_sha256,
        ),
        datasets=sheets,
        hit_rule=HIT_RULE,
        bootstrap=f"{QUICK_RESAMPLES if asked.quick else RESAMPLES} draws of patients with replacement, seed {SEED}",
        made_at=dt.datetime.now(dt.UTC).replace(microsecond=0).isoformat(),
        seconds=round(time.perf_counter() - began, 1),
        peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        machine=MachineSheet(
            system=platform.system(),
            processor=_processor(),
            cores=os.cpu_count() or 0,
            load=load,
            python=platform.python_version(),
        ),
    )
    return record, gallery


def _dataset(asked: Assessing, data: AssessData, gallery: Gallery) -> DatasetSheet:
    manifest, console = data.manifest, asked.console
    shared = independence(manifest, data.patients, asked.lineage)
    shelf = ModelShelf(load_settings().models)
    total = 1 if asked.quick else data.count
    results: list[CaseResult] = []
    for number, truth in enumerate(data.cases(), 1):
        begin = time.perf_counter()
        tools = AgentTools(agent=asked.agent, shelf=shelf, on_progress=lambda _step, _fraction: None)
        outcome = asked.agent.run(truth.case, tools)
        seconds = time.perf_counter() - begin
        result = judge(truth, outcome, seconds)
        results.append(result)
        gallery.add(manifest.name, truth, outcome)
        false = len(result.false_confidences)
        console.print(
            f"{manifest.name} {number} of {total}: {seconds:.1f} s, "
            + (escape(result.abstained) if result.abstained else f"{false} marks on nothing"),
            soft_wrap=True,
        )
        if number == total:
            break
    return DatasetSheet(
        name=manifest.name,
        version=manifest.version,
        provenance=manifest.provenance,
        licence=manifest.licence,
        truth=manifest.truth.kind.value,
        proves=manifest.proves,
        split=manifest.split.use if manifest.split else "simulated test split",
        listing_sha256=manifest.listing_sha256,
        independence=shared.text,
        figures=figures(results, resamples=QUICK_RESAMPLES if asked.quick else RESAMPLES, seed=SEED),
        cases=tuple(results),
    )


def print_dataset(console: Console, dataset: dict[str, Any]) -> None:
    """The tables of one dataset on the terminal."""
    console.print(f"\n[bold]{escape(dataset['name'])}[/] (truth: {dataset['truth']}): {one_line(dataset)}")
    console.print(f"{escape(dataset['proves'])} Independence: {escape(dataset['independence'])}.", soft_wrap=True)
    for content in tables_of(dataset):
        table = Table(title=content.title, title_justify="left", header_style="bold", caption=content.note or None)
        for name in content.header:
            table.add_column(name)
        for row in content.rows:
            table.add_row(*(escape(cell) for cell in row))
        console.print(table)


def _code_sha256(agent: InstalledAgent) -> str:
    """Hash of name and content of every Python file of the agent's package."""
    digest = hashlib.sha256()
    for entry in sorted(agent.folder.iterdir(), key=lambda item: item.name):
        if entry.is_file() and entry.name.endswith(".py"):
            digest.update(entry.name.encode() + b"\0" + entry.read_bytes() + b"\0")
    return digest.hexdigest()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

"""Tables that the command line and the demo print."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from polyclinic.agentkit.outcome import Abstained, Outcome
from polyclinic.core import codes
from polyclinic.core.findings import Finding, Measurement
from polyclinic.core.units import PRINTED

_SIDES = {codes.LEFT.code: "left", codes.RIGHT.code: "right"}


def progress_bar(console: Console) -> Progress:
    """Bars with description, share and time; plain lines where there is no terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def printed(measurement: Measurement) -> str:
    """Value with unit, e.g. ``"7.5 mm"``."""
    unit = PRINTED[measurement.unit]
    separator = "" if unit in ("", "%") else " "
    digits = 0 if abs(measurement.value) >= 1000 else 1
    return f"{measurement.value:.{digits}f}{separator}{unit}"


def findings_table(findings: Sequence[Finding], title: str = "Findings") -> Table:
    """One row for each finding: what, side, measurements, confidence, centre in LPS mm."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in ("#", "Finding", "Side", "Type", "Measurements", "Conf.", "Centre LPS mm", "State"):
        right = name in ("#", "Conf.", "Centre LPS mm")
        table.add_column(name, justify="right" if right else "left", no_wrap=name in ("#", "Conf.", "State"))
    for number, finding in enumerate(findings, 1):
        attenuation = finding.attribute(codes.NODULE_ATTENUATION)
        centre = finding.region.centre_mm if finding.region else None
        table.add_row(
            str(number),
            finding.code.display,
            _SIDES.get(finding.laterality.code, "") if finding.laterality else "",
            attenuation.display if attenuation else "",
            measured(finding),
            "" if finding.confidence is None else f"{finding.confidence:.2f}",
            "" if centre is None else " ".join(f"{v:.0f}" for v in centre),
            finding.state.value,
        )
    return table


def measured(finding: Finding) -> str:
    """All measurements on one line; a nodule's two axes together, e.g. ``"7.5 x 6.0 mm, volume 180.2 mm³"``."""
    long_axis, short_axis = finding.measurement(codes.LONG_AXIS), finding.measurement(codes.SHORT_AXIS)
    if long_axis is None or short_axis is None:
        return ", ".join(f"{m.code.display} {printed(m)}" for m in finding.measurements)
    axes = f"{long_axis.value:.1f} x {printed(short_axis)}"
    volume = finding.measurement(codes.VOLUME)
    return axes if volume is None else f"{axes}, volume {printed(volume)}"


def print_outcome(console: Console, outcome: Outcome) -> None:
    """What one agent said, with its facts, limits and times."""
    who = f"{outcome.agent.id} {outcome.agent.version}"
    if isinstance(outcome, Abstained):
        console.print(Text(f"{who} abstained: {outcome.reason} [{outcome.reason_code}]", style="yellow"))
        return
    console.print(findings_table(outcome.findings, title=who))
    for limit in dict.fromkeys(limit for finding in outcome.findings for limit in finding.limits):
        console.print(Text(f"Limit: {limit}", style="yellow"))
    if outcome.facts:
        console.print(Text("; ".join(f"{fact.name}: {fact.value}" for fact in outcome.facts), style="dim"))
    if outcome.seconds:
        console.print(Text("Seconds: " + ", ".join(f"{name} {s:.2f}" for name, s in outcome.seconds), style="dim"))

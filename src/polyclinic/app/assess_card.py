"""The assessment block of an agent's page: Markdown between two markers, made from the record and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polyclinic.agentkit.assessment.tables import TextTable, one_line, tables_of
from polyclinic.core.errors import Rejected

BEGIN, END = "<!-- assessment: begin (written by `polyclinic assess --card`) -->", "<!-- assessment: end -->"


def card_block(record: dict[str, Any]) -> str:
    """Everything between the markers, without them."""
    agent, machine = record["agent"], record["machine"]
    load = ", ".join(f"{value:g}" for value in machine["load"])
    parts = [
        f"`{agent['id']}` {agent['version']}, {record['made_at'][:10]}; code {agent['code_sha256'][:12]}, "
        f"{record['peak_memory_mb']:.0f} MB at most, {record['seconds'] / 60:.0f} min on "
        f"{machine['cores']} shared cores (load {load}). Hit: {_lower(record['hit_rule'])}.",
    ]
    for dataset in record["datasets"]:
        parts.append(f"### {dataset['name']}, truth: {dataset['truth']}")
        parts.append(f"{dataset['proves']} Independence: {dataset['independence']}.")
        parts.append(f"{one_line(dataset)}.")
        parts += [_markdown(table) for table in tables_of(dataset)]
    return "\n\n".join(parts)


def write_card(record: dict[str, Any], page: Path) -> None:
    """Replace the block of `page`.

    Raises
    ------
    Rejected
        ``assessment.card`` when the page has no markers.
    """
    text = page.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise Rejected(
            "assessment.card", f"{page.name} has no assessment markers; add them where the block shall stand"
        )
    page.write_text(f"{before}{BEGIN}\n{card_block(record)}\n{END}{after}", "utf-8")


def block_of(text: str) -> str:
    """What stands between the markers of a page."""
    return text.partition(BEGIN)[2].partition(END)[0].strip("\n")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _markdown(table: TextTable) -> str:
    rows = [table.header, tuple("---" for _ in table.header), *table.rows]
    lines = "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows)
    return f"**{table.title}**\n\n{lines}" + (f"\n\n{table.note}" if table.note else "")

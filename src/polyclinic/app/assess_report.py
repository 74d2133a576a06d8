"""The assessment as one HTML file that needs nothing else: tables, FROC curve, gallery of failures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from polyclinic.agentkit.assessment.tables import TextTable, one_line, tables_of
from polyclinic.app.assess_pictures import Gallery, Picture

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1b1f24; }
table { border-collapse: collapse; margin: .4rem 0 .2rem; } caption { text-align: left; font-weight: 600; }
th, td { border-bottom: 1px solid #d0d7de; padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
.note { color: #57606a; font-size: 13px; margin: 0 0 1.2rem; max-width: 46rem; } .warn { border-left: 4px solid #bf8700;
padding-left: .8rem; } figure { display: inline-block; width: 160px; margin: 0 .6rem .8rem 0; vertical-align: top; }
figcaption { font-size: 12px; } svg text { font: 12px system-ui, sans-serif; }
"""


def write_report(record: dict[str, Any], gallery: Gallery, path: Path) -> Path:
    """Write the report of a record and return its path."""
    agent, machine = record["agent"], record["machine"]
    head = f"Assessment of {agent['id']} {agent['version']}"
    facts = [
        ("Topic", record["topic"]),
        ("Intended use", agent["intended_use"]),
        ("Population", agent["population"]),
        ("Stage", agent["stage"]),
        *((f"Weights {name}, SHA-256", value) for name, value in sorted(agent["weights_sha256"].items())),
        ("Code, SHA-256", agent["code_sha256"]),
        ("Made", record["made_at"]),
        ("Machine", f"{machine['processor']}, {machine['cores']} cores, load {machine['load']} at the start"),
        ("Run", f"{record['seconds']:.0f} s, {record['peak_memory_mb']:.0f} MB at most"),
        ("Hit rule", record["hit_rule"]),
        ("Bootstrap", record["bootstrap"]),
    ]
    body = [f"<h1>{escape(head)}</h1>", _table(TextTable(title="", header=("", ""), rows=tuple(facts)))]
    for dataset in record["datasets"]:
        body.append(_dataset(dataset, gallery))
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(head)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
    path.write_text(page, "utf-8")
    return path


def _dataset(dataset: dict[str, Any], gallery: Gallery) -> str:
    facts = (
        ("Version", dataset["version"]),
        ("Provenance", dataset["provenance"]),
        ("Licence", dataset["licence"]),
        ("Truth", dataset["truth"]),
        ("Split", dataset["split"]),
        ("Listing, SHA-256", dataset["listing_sha256"]),
        ("Independence", dataset["independence"]),
        ("Extent", one_line(dataset)),
    )
    parts = [
        f"<h2>{escape(dataset['name'])}</h2>",
        f'<p class="warn">{escape(dataset["proves"])}</p>',
        _table(TextTable(title="", header=("", ""), rows=facts)),
        _curve(dataset),
        *(_table(table) for table in tables_of(dataset)),
        _pictures("Missed, largest first", gallery.pictures(dataset["name"], "missed")),
        _pictures("Marked for nothing, most confident first", gallery.pictures(dataset["name"], "false")),
    ]
    return "".join(parts)


def _table(table: TextTable) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.header)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    caption = f"<caption>{escape(table.title)}</caption>" if table.title else ""
    header = f"<thead><tr>{head}</tr></thead>" if any(table.header) else ""
    return f'<table>{caption}{header}<tbody>{rows}</tbody></table><p class="note">{escape(table.note)}</p>'


def _curve(dataset: dict[str, Any]) -> str:
    """FROC at the seven rates with its intervals, drawn on a logarithmic axis."""
    froc = dataset["figures"]["froc"]
    if froc is None or froc["patients"] < 2:
        return ""
    xs = [60 + 70 * n for n in range(len(froc["points"]))]

    def y(value: float) -> float:
        return 230 - 200 * value

    lines = [
        f'<line x1="60" x2="480" y1="{y(v)}" y2="{y(v)}" stroke="#d0d7de"/><text x="28" y="{y(v) + 4}">{v:.1f}</text>'
        for v in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    ]
    for x, point in zip(xs, froc["points"], strict=True):
        low, high = point["interval"]["low"], point["interval"]["high"]
        lines.append(f'<path d="M{x} {y(low):.1f}V{y(high):.1f}" stroke="#0969da" stroke-width="2"/>')
        lines.append(f'<circle cx="{x}" cy="{y(point["sensitivity"]):.1f}" r="4" fill="#0969da"/>')
        lines.append(f'<text x="{x}" y="248" text-anchor="middle">{point["rate"]:g}</text>')
    lines.append('<text x="270" y="268" text-anchor="middle">false positives per scan</text>')
    return (
        '<svg width="520" height="275" role="img" aria-label="FROC: sensitivity at the seven rates">'
        + "".join(lines)
        + "</svg>"
    )


def _pictures(title: str, pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    figures = "".join(
        f'<figure><img width="160" height="160" alt="{escape(one.text)}" '
        f'src="data:image/png;base64,{base64.b64encode(one.png).decode()}">'
        f"<figcaption>{escape(one.text)}</figcaption></figure>"
        for one in pictures
    )
    return f"<h3>{escape(title)}</h3>{figures}"

"""``polyclinic conformance``: what this version conforms to, printed from its own tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from polyclinic.app.conformance import Format, Standard, rendered, statement


def conformance(
    standard: Annotated[Standard, typer.Argument(help="Which statement.")] = Standard.DICOM,
    wanted: Annotated[Format, typer.Option("--format", help="Markdown, or JSON of the same tables.")] = Format.MARKDOWN,
    into: Annotated[
        Path | None, typer.Option("--all-into", help="Write all statements as Markdown into this folder instead.")
    ] = None,
) -> None:
    """Print a conformance statement: DICOM (PS3.2), DICOMweb, FHIR or HL7 v2."""
    if into is None:
        sys.stdout.write(rendered(statement(standard), wanted))
        return
    into.mkdir(parents=True, exist_ok=True)
    for one in Standard:
        (into / f"{one}.md").write_text(rendered(statement(one), Format.MARKDOWN), "utf-8")

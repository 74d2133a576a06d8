"""The command `polyclinic assess`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def assess(  # noqa: PLR0917 - typer makes options of them
    agent: Annotated[str, typer.Argument(help="Id of an installed agent.")],
    data: Annotated[list[Path], typer.Option("--data", help="Folder with a dataset.toml (repeatable).")],
    images: Annotated[
        Path | None, typer.Option("--images", help="Where the images lie, when not beside dataset.toml.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for record and report.")] = Path(".assessment"),
    quick: Annotated[bool, typer.Option("--quick", help="The first scan of each dataset only.")] = False,
    card: Annotated[
        Path | None, typer.Option("--card", help="Page whose assessment block is rewritten; the record goes beside it.")
    ] = None,
) -> None:
    """Measure an agent on annotated data: FROC, agreement, masks, calibration, subgroups, with intervals."""
    from polyclinic.app.assess import assess_and_write  # noqa: PLC0415 - each command loads only what it needs

    assess_and_write(agent, data, images=images, out=out, quick=quick, card=card)

"""``models/chest_xray/metrics.json``: what training and assessment found, one section each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MODELS = Path(__file__).resolve().parents[2] / "models" / "chest_xray"
METRICS = MODELS / "metrics.json"


def read_metrics(path: Path = METRICS) -> dict[str, Any]:
    """All sections; empty when there is no file yet."""
    if not path.exists():
        return {}
    loaded: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return loaded


def write_metrics(metrics: dict[str, Any], path: Path = METRICS) -> None:
    """Write all sections."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metrics, indent=2, sort_keys=True) + "\n", "utf-8")


def write_section(name: str, section: dict[str, Any], path: Path) -> None:
    """Replace one section, keep the others."""
    write_metrics({**read_metrics(path), name: section}, path)

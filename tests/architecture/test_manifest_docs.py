"""docs/manifest.md names every key of a manifest, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel

from polyclinic.agentkit.manifest import (
    CodedOutput,
    Command,
    Inputs,
    Manifest,
    Resources,
    Risk,
    Weights,
    installed_agents,
)

DOC = Path(__file__).resolve().parents[2] / "docs" / "manifest.md"


def keys(model: type[BaseModel], prefix: str) -> set[str]:
    return {prefix + name for name in model.model_fields}


def test_every_key_is_documented() -> None:
    nested = {
        "inputs": Inputs,
        "resources": Resources,
        "risk": Risk,
        "command": Command,
        "outputs[]": CodedOutput,
        "weights.NAME": Weights,
    }
    want = keys(Manifest, "") - {"inputs", "resources", "risk", "outputs", "weights", "command"}
    for prefix, model in nested.items():
        want |= keys(model, prefix + ".")
    documented = set(re.findall(r"^\| `([^`]+)` \|", DOC.read_text("utf-8"), flags=re.MULTILINE))
    assert documented == want


def test_installed_agents_are_valid_and_carry_a_card() -> None:
    agents = installed_agents()
    assert "chest_ct" in agents
    for agent in agents.values():
        assert (agent.folder / "card.md").read_text("utf-8").strip()

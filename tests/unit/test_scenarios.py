"""Scenarios are data: those of the project are sound, and a wrong one is refused by file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyclinic.agentkit.manifest import installed_agents
from polyclinic.app.scenarios import load_scenarios
from polyclinic.core.errors import Rejected

FOLDER = Path(__file__).resolve().parents[2] / "scenarios"


def test_the_projects_scenarios_name_installed_agents_that_take_their_modality() -> None:
    agents = installed_agents()
    for scenario in load_scenarios(FOLDER):
        for agent_id in scenario.agents:
            assert set(scenario.modality) & set(agents[agent_id].manifest.inputs.modality), (scenario.id, agent_id)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "id"),
        ('id = "a b"', "id"),
        ('id = "ab"\ntitle = "T"\n[trigger]\nmodality = []', "trigger.modality"),
        ('id = "ab"\ntitle = "T"\n[trigger]\nmodality = ["CT"]\ncolour = 1', "trigger.colour"),
        (
            'id = "ab"\ntitle = "T"\n[trigger]\nmodality = ["CT"]\n[outputs]\nagents = ["a"]\nobjects = ["JPG"]',
            "outputs",
        ),
        ("id = ", "wrong.toml"),
    ],
)
def test_a_wrong_scenario_is_named(tmp_path: Path, text: str, where: str) -> None:
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(Rejected, match=r"wrong\.toml") as caught:
        load_scenarios(tmp_path)
    assert where in caught.value.message


def test_a_folder_without_scenarios_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="POLYCLINIC_SCENARIOS"):
        load_scenarios(tmp_path)

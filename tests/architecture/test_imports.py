"""The import contracts hold, and each is known to bite: a planted violation is caught."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PLANTED = [
    # file below src, line to add, contract that must break
    ("polyclinic/core/codes.py", "import polyclinic.dicom.geometry", "Imports go down the house"),
    ("polyclinic/dicom/geometry.py", "import polyclinic.agentkit.case", "Imports go down the house"),
    ("polyclinic/departments/reading/rules.py", "import polyclinic.journeys", "Imports go down the house"),
    ("polyclinic/journeys/__init__.py", "import polyclinic.app", "Imports go down the house"),
    ("polyclinic/journeys/__init__.py", "import polyclinic.edges", "Imports go down the house"),
    (
        "polyclinic/departments/reading/contracts.py",
        "import polyclinic.departments.archive.contracts",
        "No department imports another",
    ),
    ("polyclinic/departments/reading/rules.py", "import sqlalchemy", "Nouns, rules, ports and contracts"),
    ("polyclinic/departments/archive/ports.py", "import socket", "Nouns, rules, ports and contracts"),
    ("polyclinic/core/units.py", "import subprocess", "Nouns, rules, ports and contracts"),
    ("polyclinic/dicom/geometry.py", "import pynetdicom", "Nouns, rules, ports and contracts"),
    ("polyclinic_agents/chest_ct/agent.py", "import polyclinic.edges", "Agents see agentkit"),
    ("polyclinic_agents/chest_ct/agent.py", "import socket", "Agents see agentkit"),
    ("polyclinic/agentkit/manifest.py", "import polyclinic_agents.chest_ct", "The platform finds agents"),
]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the tree in `folder`, whichever packages are installed elsewhere."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1] + '/src');"
        "from importlinter.cli import lint_imports;"
        "sys.exit(lint_imports(config_filename=sys.argv[1] + '/pyproject.toml', no_cache=True))"
    )
    return subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_house_holds() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.fixture(scope="module")
def copy_of_house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize(("file", "line", "contract"), PLANTED)
def test_planted_violation_is_caught(copy_of_house: Path, file: str, line: str, contract: str) -> None:
    path = copy_of_house / "src" / file
    before = path.read_text("utf-8")
    path.write_text(before + f"\n{line}\n", "utf-8")
    try:
        result = lint(copy_of_house)
    finally:
        path.write_text(before, "utf-8")
    assert result.returncode == 1, result.stdout
    broken = [row for row in result.stdout.splitlines() if row.endswith("BROKEN")]
    assert any(row.startswith(contract) for row in broken), result.stdout


def test_every_department_is_under_the_independence_contract() -> None:
    import tomllib

    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = {c["id"]: c for c in config["tool"]["importlinter"]["contracts"]}
    named = set(contracts["departments"]["modules"])
    folder = ROOT / "src" / "polyclinic" / "departments"
    there = {f"polyclinic.departments.{p.name}" for p in folder.iterdir() if (p / "__init__.py").exists()}
    assert named == there

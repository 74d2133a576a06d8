"""`polyclinic agent new`: what it refuses, and that nothing half-written stays."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from polyclinic.agentkit.manifest import read_manifest
from polyclinic.app import agent_new
from polyclinic.app.agent_new import make_agent
from polyclinic.app.agent_sources import agent_source
from polyclinic.core.errors import Rejected

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "name", ["", "a", "Big", "1st", "with-dash", "a/b", "../up", "class", "match", "json", "numpy", "tests", "x" * 60]
)
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Rejected) as refused:
        make_agent(name, tmp_path)
    assert refused.value.code == "agent.name"
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept", "utf-8")
    with pytest.raises(Rejected) as refused:
        make_agent("mine", tmp_path)
    assert refused.value.code == "agent.exists"
    assert (tmp_path / "mine").read_text("utf-8") == "kept"
    with pytest.raises(Rejected, match=r"agent\.no-folder"):
        make_agent("another", tmp_path / "mine")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def some(self: Path, text: str, encoding: str) -> int:
        written.append(self)
        if len(written) > 2:
            raise OSError(28, "No space left on device")
        return len(self.open("w", encoding=encoding).name)

    monkeypatch.setattr(agent_new.Path, "write_text", some)
    with pytest.raises(Rejected, match=r"agent\.no-folder"):
        make_agent("half", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bad_modality(tmp_path: Path) -> None:
    for modality in ("ct", "", 'CT"]', "COMPUTED"):
        with pytest.raises(Rejected, match=r"agent\.modality"):
            make_agent("fine", tmp_path, modality)


@pytest.mark.parametrize("modality", ["CT", "MR", "DX", "US"])
def test_what_is_made_is_valid_and_clean(tmp_path: Path, modality: str) -> None:
    project = make_agent("clean_one", tmp_path, modality)
    package = project / "clean_one"
    manifest = read_manifest(package)
    assert manifest.id == "clean_one"
    assert manifest.inputs.modality == [modality]
    entry = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    assert entry == {"polyclinic.agents": {"clean_one": "clean_one"}}
    assert agent_source(str(project), ROOT).package == agent_source(str(package), ROOT).package == "clean_one"
    ruff = [sys.executable, "-m", "ruff", "check", "-q", "--config", str(ROOT / "pyproject.toml"), str(package)]
    assert subprocess.run(ruff, check=False).returncode == 0
    assert "$" not in "".join(path.read_text("utf-8") for path in project.rglob("*") if path.is_file())


def test_sources_are_told_apart(tmp_path: Path) -> None:
    make_agent("one_agent", tmp_path)
    assert agent_source("chest_ct", ROOT).search_path == ()
    for folder in (tmp_path / "nothing", tmp_path):
        with pytest.raises(Rejected) as refused:
            agent_source(str(folder), ROOT)
        assert refused.value.code == "agent.not-found"

"""docs/tutorial-agent.md does what it says: its blocks are run in order, in an empty folder, without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(?:^Write `(?P<path>[^`]+)`:\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str, str]]:
    page = (ROOT / "docs" / "tutorial-agent.md").read_text("utf-8")
    return [(m["path"] or "", m["kind"], m["text"]) for m in BLOCK.finditer(page)]


@pytest.mark.slow
def test_every_block_of_the_tutorial_works(tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("the tutorial's shell blocks need bash")
    environment = dict(os.environ) | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "POLYCLINIC_MODELS": str(ROOT / "models"),
    }
    said = ""
    for path, kind, text in blocks():
        if path:
            (tmp_path / path).write_text(text, "utf-8")
            continue
        assert kind == "bash", "a block that is not written to a file must be one for bash"
        if "pip install" in text and (find_spec("pip") is None or find_spec("setuptools") is None):
            continue  # this environment cannot build packages; what is left of the page is still checked
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
        said += done.stdout
    assert said.count("fat_share 0.1.0 passed") == 2
    assert "fat_share 0.1.0 failed: abstains" in said
    assert "the bench refused it" in said
    assert re.search(r"fat_share\s*│ 0\.1\.0\s*│ research\s*│ CT\s*│ none needed", said)


def test_the_page_has_files_and_commands() -> None:
    found = blocks()
    assert len([path for path, _, _ in found if path]) == 3
    assert len([kind for _, kind, _ in found if kind == "bash"]) == 5

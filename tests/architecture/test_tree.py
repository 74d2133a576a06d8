"""Rules about the tree itself: sizes, unfinished marks, machine paths, vague module names."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VAGUE = re.compile(r"(^|_)(util|utils|helper|helpers|manager|common|misc|base)(_|$)")
MARKS = re.compile(
    "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "raise NotImplemented" + "Error", "coming " + "soon"))
)


def tracked(*patterns: str) -> list[Path]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout, so there is no list of tracked files")
    return [path for name in listed.split("\0") if name and (path := ROOT / name).exists()]


def test_modules_have_one_subject_and_a_plain_name() -> None:
    sources = tracked("src/*.py", "web/src/*.ts", "web/src/*.tsx")
    assert sources
    assert [p.name for p in sources if VAGUE.search(p.stem)] == []
    generated = re.compile(r"generated|\.gen\.")
    long = [
        f"{p.relative_to(ROOT)}: {n}"
        for p in sources
        if not generated.search(p.as_posix()) and (n := len(p.read_text("utf-8").splitlines())) > 500
    ]
    assert long == []


def test_nothing_is_marked_unfinished() -> None:
    marked = [
        f"{p.relative_to(ROOT)}:{i}"
        for p in tracked("src/*.py", "web/src/*.ts", "web/src/*.tsx")
        for i, line in enumerate(p.read_text("utf-8").splitlines(), 1)
        if MARKS.search(line)
    ]
    assert marked == []


def test_no_lock_file_names_a_registry() -> None:
    for name in ("constraints.txt", "web/package-lock.json"):
        text = (ROOT / name).read_text("utf-8")
        assert not re.search(r'"resolved":\s*"|registry\.|--(extra-)?index-url|--find-links', text), name


def test_large_files_are_models_with_a_card() -> None:
    large = [p for p in tracked("*") if p.stat().st_size > 1_000_000]
    for path in large:
        assert path.is_relative_to(ROOT / "models"), path
        assert (path.parent / "card.md").exists(), path


def test_each_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text("utf-8")
    for page in folder.glob("[0-9]*.md"):
        assert page.name in index, f"{page.name} is not listed in docs/decisions/README.md"


def test_each_dependency_has_its_line() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = (ROOT / "docs" / "decisions" / "dependencies.md").read_text("utf-8").lower()
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    names = {re.split(r"[=<>;\[ ]", item)[0].lower() for item in wanted}
    assert {name for name in names if f"| {name} |" not in lines} == set()

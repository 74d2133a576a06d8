"""`polyclinic agent new`: the folder of a new agent, made from the templates of the agent kit."""

from __future__ import annotations

import keyword
import re
import shutil
import sys
import tempfile
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from string import Template

from polyclinic.agentkit.bench.synthetic import RADIOGRAPHS, VOLUMES
from polyclinic.core.errors import Rejected

_NAME = re.compile(r"[a-z][a-z0-9_]{1,40}")
_MODALITY = re.compile(r"[A-Z]{2,4}")


def make_agent(name: str, folder: Path, modality: str = "CT") -> Path:
    """Make the project ``folder/name`` with the package ``name`` in it; complete or not at all.

    Raises
    ------
    Rejected
        ``agent.name``, ``agent.modality``, ``agent.exists`` or ``agent.no-folder``.
    """
    _check_name(name)
    if not _MODALITY.fullmatch(modality):
        raise Rejected("agent.modality", "A modality is a DICOM Modality value such as CT, MR or DX")
    target = folder / name
    if target.exists() or target.is_symlink():
        raise Rejected("agent.exists", f"There is something at {target} already; choose another name or folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that the last step is one rename.
        made = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder))
    except OSError as error:
        raise Rejected("agent.no-folder", f"{folder} cannot be written: {error.strerror}") from error
    try:
        for path, text in _files(name, modality):
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_text(text, "utf-8")
        made.chmod(0o755)
        made.rename(target)
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        raise Rejected("agent.no-folder", f"{target} cannot be written: {error.strerror}") from error
    return target


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or keyword.issoftkeyword(name):
        text = "The name of an agent is 2 to 41 lower case letters, digits and underscores, and begins with a letter"
        raise Rejected("agent.name", text)
    if name in sys.stdlib_module_names or name == "tests" or find_spec(name) is not None:
        raise Rejected("agent.name", f"There is a Python package {name} already; choose another name")


def _files(name: str, modality: str) -> list[tuple[str, str]]:
    kind = "ct" if modality == "CT" else "image"
    fields = _fields(name, modality)
    layout = {
        "README.md": "README.md",
        "pyproject.toml": "pyproject.toml",
        f"{name}/__init__.py": "__init__.py",
        f"{name}/manifest.toml": f"manifest_{kind}.toml",
        f"{name}/agent.py": f"agent_{kind}.py",
        f"{name}/card.md": "card.md",
        f"tests/test_{name}.py": "test_agent.py",
    }
    templates = resources.files("polyclinic.agentkit") / "template"
    return [
        (path, Template((templates / f"{source}.txt").read_text("utf-8")).substitute(fields))
        for path, source in layout.items()
    ]


def _fields(name: str, modality: str) -> dict[str, str]:
    fields = {
        "name": name,
        "dashed": name.replace("_", "-"),
        "title": name.replace("_", " ").capitalize(),
        "modality": modality,
    }
    if modality == "CT":
        return fields | {
            "population": "CT series of the chest with at least 20 images that cover at least 120 mm.",
            "does": "It measures the mean attenuation of all voxels from -150 to 150 HU.",
            "plausible": "(-150, 150)",
        }
    minimum = 10 if modality in VOLUMES else 1
    return fields | {
        "population": f"Series of modality {modality} with {minimum} grey images or more.",
        "does": "It measures the mean of all pixels of a series.",
        "plausible": "(0, 65535)",
        "minimum": str(minimum),
        "body_parts": '"CHEST"' if modality in RADIOGRAPHS else "",
    }

"""Where the agent that a command names lies: an installed one, or a folder that is not installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from polyclinic.core.errors import Rejected

GROUP = "polyclinic.agents"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSource:
    """Enough to import the agent in another process."""

    package: str
    """Import name."""
    folder: Path
    """The package's folder, with manifest.toml."""
    models: Path
    """Folder of the weights."""
    search_path: tuple[str, ...] = ()
    """What must be put before ``sys.path``; empty for an installed agent."""


def agent_source(target: str, models: Path) -> AgentSource:
    """Find the agent without importing it.

    Parameters
    ----------
    target
        Id of an installed agent, or a folder: the package's own, or a project that has it as its only package, at its
        top or below ``src``. A project's own ``models`` folder goes before `models`.

    Raises
    ------
    Rejected
        ``agent.not-found`` with what is there instead.
    """
    entries = {entry.name: entry.value for entry in metadata.entry_points(group=GROUP)}
    if target in entries:
        return AgentSource(package=entries[target], folder=_folder_of(entries[target]), models=models)
    if not Path(target).is_dir():
        known = ", ".join(sorted(entries)) or "none"
        raise Rejected("agent.not-found", f"{target} is no folder and no installed agent; installed are: {known}")
    top = Path(target).resolve()
    if (top / "manifest.toml").is_file():
        return _of_folder(top, models)
    found = sorted(path.parent for pattern in ("*", "src/*") for path in top.glob(f"{pattern}/manifest.toml"))
    if len(found) != 1:
        told = "several agents" if found else "no manifest.toml"
        raise Rejected("agent.not-found", f"{target} holds {told}; give the folder that has manifest.toml")
    return _of_folder(found[0], models)


def _of_folder(package: Path, models: Path) -> AgentSource:
    own = next((p for p in (package.parent / "models", package.parent.parent / "models") if p.is_dir()), models)
    return AgentSource(package=package.name, folder=package, models=own, search_path=(str(package.parent),))


def _folder_of(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise Rejected("agent.not-found", f"The package {package} of an installed agent is not there; install it again")
    return Path(next(iter(spec.submodule_search_locations)))

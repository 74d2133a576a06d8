"""`manifest.toml`: what an agent says of itself before it may run."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from enum import StrEnum
from importlib import import_module, metadata, resources
from importlib.resources.abc import Traversable
from types import ModuleType
from typing import Annotated, Protocol, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polyclinic.agentkit.case import Case, Tools
from polyclinic.agentkit.outcome import Outcome
from polyclinic.core.errors import Rejected
from polyclinic.core.findings import Source, SourceKind


class Stage(StrEnum):
    """How far an agent is trusted."""

    RESEARCH = "research"
    SHADOW = "shadow"
    ASSIST = "assist"
    RETIRED = "retired"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Inputs(_Strict):
    """Which studies the agent is planned for; the agent itself still abstains where it must."""

    modality: list[str] = Field(min_length=1, description="DICOM Modality values, e.g. CT")
    body_part: list[str] = Field(default=[], description="Body parts it is meant for; empty means any")
    minimum_instances: Annotated[int, Field(ge=1)] = Field(default=1, description="Fewest images in a series")


class CodedOutput(_Strict):
    """A concept the agent may propose."""

    system: str = Field(description="FHIR URI of the code system")
    code: str = Field(description="Code in that system")
    display: str = Field(description="Display text")


class Weights(_Strict):
    """One model file."""

    file: str = Field(description="Path below models/")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Hash of the file")


class Resources(_Strict):
    """What one run may take; the worker enforces time and memory."""

    time_limit_s: Annotated[float, Field(gt=0)] = Field(default=300, description="Wall time of one run")
    memory_limit_mb: Annotated[int, Field(gt=0)] = Field(default=4096, description="Peak memory of one run")
    queue: str = Field(default="cpu", description="Worker queue: cpu or gpu")


class Risk(_Strict):
    """Risk class that the intended use would fall under; a self-assessment, not an approval."""

    nmpa: str = Field(default="", description="China, NMPA class")
    eu_mdr: str = Field(default="", description="EU MDR rule 11 class")
    fda: str = Field(default="", description="US FDA class")


class Command(_Strict):
    """A program that does the work; see `polyclinic.agentkit.adapters.command`."""

    argv: list[str] = Field(min_length=1, description="Program and arguments; {in}, {out}, {agent}, {python} filled in")


class Manifest(_Strict):
    """The whole manifest. Every key is documented in docs/manifest.md, and a test compares the two."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]{1,40}$", description="Agent id, the name of its folder")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$", description="Semantic version; a changed result changes it")
    title: str = Field(description="Name a reader sees")
    intended_use: str = Field(description="What it is for, in one sentence")
    population: str = Field(description="Whom it may judge; outside it abstains")
    stage: Stage = Field(description="research, shadow, assist or retired")
    inputs: Inputs = Field(description="Which studies it is planned for")
    outputs: list[CodedOutput] = Field(min_length=1, description="Every concept it may propose")
    weights: dict[str, Weights] = Field(default={}, description="Model files by the name the agent asks for")
    resources: Resources = Field(default=Resources(), description="Limits of one run")
    risk: Risk = Field(default=Risk(), description="Risk classes")
    command: Command | None = Field(default=None, description="The program, for an agent that is one")

    @property
    def source(self) -> Source:
        """The Source that its Findings carry."""
        return Source(kind=SourceKind.AGENT, id=self.id, version=self.version)


class Agent(Protocol):
    """An installed agent package: `manifest.toml` and `agent.py` with one function `run`."""

    @property
    def manifest(self) -> Manifest: ...

    def run(self, case: Case, tools: Tools) -> Outcome: ...


class InstalledAgent:
    """An agent found by its entry point."""

    def __init__(self, package: ModuleType) -> None:
        self._package = package.__name__
        self.folder: Traversable = resources.files(package)
        self.manifest = read_manifest(self.folder)

    def run(self, case: Case, tools: Tools) -> Outcome:
        """Import the agent's code on first use and run it."""
        return cast(Outcome, self._code().run(case, tools))

    def warm(self) -> None:
        """Import the agent's code and, when it has a function ``warm``, let it prepare for the first run."""
        prepare = getattr(self._code(), "warm", None)
        if prepare is not None:
            prepare()

    def _code(self) -> ModuleType:
        return import_module(f"{self._package}.agent")  # heavy agents load only where they run


def read_manifest(folder: Traversable) -> Manifest:
    """Read and validate ``manifest.toml`` in `folder`.

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``agent.manifest`` naming the first wrong key.
    """
    try:
        return Manifest.model_validate(tomllib.loads((folder / "manifest.toml").read_text("utf-8")))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Rejected("agent.manifest", f"manifest.toml cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Rejected("agent.manifest", f"manifest.toml: {where}: {first['msg']}") from error


def installed_agents(extra: Sequence[str] = (), only: Sequence[str] = ()) -> dict[str, InstalledAgent]:
    """Every agent that a package offers under the entry point group ``polyclinic.agents``, by id.

    Parameters
    ----------
    extra
        Import names of agent packages that are not installed, for development.
    only
        Ids of the agents wanted, which are the names of their entry points; empty means all.
    """
    entries = metadata.entry_points(group="polyclinic.agents")
    packages = [entry.load() for entry in entries if not only or entry.name in only]
    packages += [import_module(name) for name in extra]
    return {agent.manifest.id: agent for agent in map(InstalledAgent, packages)}

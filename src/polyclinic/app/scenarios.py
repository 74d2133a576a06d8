"""Clinical scenarios as data: one TOML file each in the folder ``scenarios``."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polyclinic.core.errors import Rejected
from polyclinic.departments.reading.contracts import ObjectKind, Scenario


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Trigger(_Strict):
    modality: tuple[str, ...] = Field(min_length=1)
    body_part: tuple[str, ...] = ()
    minimum_instances: int = Field(default=1, ge=1)


class _Outputs(_Strict):
    agents: tuple[str, ...] = Field(min_length=1)
    objects: tuple[ObjectKind, ...]


class _File(_Strict):
    id: str = Field(pattern=r"^[a-z][a-z0-9-]{1,40}$")
    title: str
    trigger: _Trigger
    outputs: _Outputs


def load_scenarios(folder: Path) -> tuple[Scenario, ...]:
    """Every scenario of the folder, by file name.

    Raises
    ------
    Rejected
        ``scenario.invalid`` naming file and key, or ``scenario.none`` when there is no file.
    """
    found = tuple(_load(path) for path in sorted(folder.glob("*.toml")))
    if not found:
        raise Rejected("scenario.none", f"No scenario in {folder}; set POLYCLINIC_SCENARIOS to the folder with *.toml")
    return found


def _load(path: Path) -> Scenario:
    try:
        file = _File.model_validate(tomllib.loads(path.read_text("utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise Rejected("scenario.invalid", f"{path.name}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Rejected("scenario.invalid", f"{path.name}: {where}: {first['msg']}") from error
    return Scenario(
        id=file.id,
        title=file.title,
        modality=file.trigger.modality,
        body_part=file.trigger.body_part,
        minimum_instances=file.trigger.minimum_instances,
        agents=file.outputs.agents,
        outputs=tuple(file.outputs.objects),
    )

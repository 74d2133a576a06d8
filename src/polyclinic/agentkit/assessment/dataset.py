"""`dataset.toml`: what a dataset says of itself before an agent is assessed on it, and whom both must not share."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from polyclinic.core.errors import Rejected

MANIFEST_NAME = "dataset.toml"
LINEAGE_NAME = "training.toml"
T = TypeVar("T", bound=BaseModel)
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ImageLayout(StrEnum):
    DICOM = "dicom"
    METAIMAGE = "metaimage"
    PHANTOM = "phantom"


class TruthLayout(StrEnum):
    PHANTOM = "phantom"
    LUNA16 = "luna16"
    LIDC_XML = "lidc-xml"
    LIDC_JSON = "lidc-json"
    PN9 = "pn9"


class TruthKind(StrEnum):
    """Where the truth comes from; the report says it beside every figure."""

    EXACT = "exact"
    READERS = "readers"
    CONSENSUS = "consensus"
    FOLLOW_UP = "follow-up"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Images(_Strict):
    layout: ImageLayout
    folder: str = Field(default=".", description="Below the images folder; DICOM files or .mhd files, at any depth")


class Truth(_Strict):
    kind: TruthKind
    layout: TruthLayout
    file: str = Field(default="", description="Below the images folder; a folder for lidc-xml")
    excluded: str = Field(default="", description="LUNA16's annotations_excluded.csv")
    readers: Annotated[int, Field(ge=1)] = Field(default=3, description="Readers who must agree, where each is listed")


class Split(_Strict):
    use: str = Field(default="test", description="Name of the split that is assessed")
    patients: dict[str, list[str]] = Field(description="Patient IDs of each split; no patient stands in two")

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        every = [patient for patients in self.patients.values() for patient in patients]
        if len(set(every)) != len(every):
            raise ValueError("a patient stands in two splits, or twice in one")
        if not self.patients.get(self.use):
            raise ValueError(f"the split {self.use} has no patients")
        return self


class Phantoms(_Strict):
    """How many chests of each kind the simulator makes; see `polyclinic.agentkit.assessment.chest_phantoms`."""

    first_seed: Annotated[int, Field(ge=100)] = Field(description="Seeds below 100 belong to development")
    small: Annotated[int, Field(ge=0)] = Field(description="256 x 256 x 100 of 3 mm")
    large: Annotated[int, Field(ge=0)] = Field(description="512 x 512 x 300 of 1 mm")
    opacities: Annotated[int, Field(ge=0)] = Field(description="Small ones with one opacity and no nodules")


class DatasetManifest(_Strict):
    """The whole manifest."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{1,60}$")
    version: str
    provenance: str = Field(min_length=10)
    licence: str = Field(min_length=3)
    collection: str = Field(description="Public collection that the patients come from; empty for simulated ones")
    proves: str = Field(min_length=20, description="What a figure on it shows, and what it does not")
    listing_sha256: _Sha256
    images: Images
    truth: Truth
    split: Split | None = None
    phantoms: Phantoms | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.images.layout is ImageLayout.PHANTOM) != (self.phantoms is not None):
            raise ValueError("phantoms are described under [phantoms], and nothing else is")
        if self.phantoms is None and self.split is None:
            raise ValueError("a dataset of patients needs [split.patients]")
        return self


class Lineage(_Strict):
    """``training.toml`` of an agent: whom its parts have seen."""

    collections: list[str] = Field(default=[], description="Collections used whose patients cannot be listed")
    training_patients: list[_Sha256] = Field(default=[], description="SHA-256 of each Patient ID trained on")
    development_patients: list[_Sha256] = Field(
        default=[], description="The same of those who were looked at while thresholds were set"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Independence:
    """What is known of the patients that agent and dataset share."""

    development: int
    """Patients of the split on whom thresholds were set."""
    same_collection: bool
    """Whether some part was trained on the collection, without a list of whom."""

    @property
    def text(self) -> str:
        parts = []
        if self.development:
            parts.append(f"{self.development} of its patients were looked at while thresholds were set")
        if self.same_collection:
            parts.append("a part of the agent was trained on this collection without a list of patients")
        return "; ".join(parts) or "no patient shared with training or development"


def read_dataset(folder: Path) -> DatasetManifest:
    """Read ``dataset.toml``.

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``assessment.dataset`` naming the first wrong key.
    """
    return _read(folder / MANIFEST_NAME, DatasetManifest)


def read_lineage(folder: Traversable) -> Lineage:
    """Read an agent's ``training.toml``; an agent without one cannot be assessed.

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``assessment.dataset``.
    """
    return _read(folder / LINEAGE_NAME, Lineage)


def _read(path: Path | Traversable, model: type[T]) -> T:
    try:
        return model.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Rejected("assessment.dataset", f"{path.name} cannot be read: {type(error).__name__}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "whole"
        raise Rejected("assessment.dataset", f"{path.name}: {where}: {first['msg']}") from error


def independence(manifest: DatasetManifest, patients: Sequence[str], lineage: Lineage) -> Independence:
    """Compare the patients to be assessed with those the agent has seen.

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``assessment.leak`` when one of them was trained on; the message counts and never names.
    """
    hashes = {hashlib.sha256(patient.encode()).hexdigest() for patient in patients}
    trained = len(hashes & set(lineage.training_patients))
    if trained:
        raise Rejected(
            "assessment.leak",
            f"{trained} patients of the split stand in the agent's training data; leave them out of [split.patients]",
        )
    return Independence(
        development=len(hashes & set(lineage.development_patients)),
        same_collection=bool(manifest.collection) and manifest.collection in lineage.collections,
    )


def listing_sha256(folder: Path, truth: Sequence[Path]) -> str:
    """Hash of the listing of a dataset: path and size of every file, for files of truth their content too."""
    rows = [
        f"{path.stat().st_size} {path.relative_to(folder).as_posix()}" for path in folder.rglob("*") if path.is_file()
    ]
    for source in truth:
        files = sorted(source.rglob("*.xml")) if source.is_dir() else [source]
        rows += [f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.name}" for path in files]
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()


def check_listing(manifest: DatasetManifest, found: str) -> None:
    """Refuse data that are not those the manifest was written for.

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``assessment.listing`` with the hash that was found.
    """
    if found != manifest.listing_sha256:
        raise Rejected(
            "assessment.listing",
            f"The data of {manifest.name} are not those of its manifest: their listing has the SHA-256 {found}",
        )

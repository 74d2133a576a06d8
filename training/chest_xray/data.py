"""The development images as lists of examples, split by patient.

`cxr/adult/{normal,pneumonia}` come from NIH ChestX-ray (file name ``PATIENT_study``), `cxr/adult/covid` from many other
sources, `cxr/shenzhen-96/{tuberculosis,normal}` from Shenzhen, one image per person.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from polyclinic_agents.chest_xray.crop import prepare, view_box
from polyclinic_agents.chest_xray.fields import Box, Fields, find_fields

GreyArray = npt.NDArray[np.float32]

FOLDS = 5
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "cxr"
"""Where the development images lie beside a checkout; every script takes another folder with ``--data``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One radiograph; `label` is 1 for what the model looks for."""

    path: Path
    patient: str
    label: int
    group: str


def _draw(salt: str, patient: str, sides: int) -> int:
    return int(hashlib.sha256(f"{salt}{patient}".encode()).hexdigest(), 16) % sides


def is_test(example: Example) -> bool:
    """Whether the patient belongs to the fifth that is looked at once, for the final figure."""
    return _draw("t", example.patient, 5) == 0


def fold(example: Example) -> int:
    """Cross-validation part of the patient, 0 to FOLDS - 1."""
    return _draw("", example.patient, FOLDS)


def _folder(folder: Path, label: int, group: str, *, split_name: bool) -> list[Example]:
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    return [
        Example(path=p, patient=p.stem.split("_")[0] if split_name else p.stem, label=label, group=group) for p in paths
    ]


def nih(root: Path) -> list[Example]:
    """Normal (0) and pneumonia (1), one source."""
    adult = root / "adult"
    return [
        *_folder(adult / "normal", 0, "normal", split_name=True),
        *_folder(adult / "pneumonia", 1, "pneumonia", split_name=True),
    ]


def covid(root: Path) -> list[Example]:
    """COVID images of another source (1); only for the confounding checks."""
    return _folder(root / "adult" / "covid", 1, "covid", split_name=False)


def shenzhen(root: Path) -> list[Example]:
    """Normal (0) and tuberculosis (1) at 96 x 96."""
    folder = root / "shenzhen-96"
    return [
        *_folder(folder / "normal", 0, "normal", split_name=False),
        *_folder(folder / "tuberculosis", 1, "tuberculosis", split_name=False),
    ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Film:
    """A decoded radiograph and its fields."""

    image: GreyArray
    fields: Fields

    @property
    def box(self) -> Box:
        """What the agent would cut out."""
        return view_box(self.fields.box)

    def view(self, side: int) -> GreyArray:
        """As the agent prepares it."""
        return prepare(self.image, self.box, side)


def read_film(path: Path) -> Film:
    """Decode one file, dense tissue bright, values 0..255."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ValueError(f"{path.name} is not an image that OpenCV reads")
    grey = image.astype(np.float32)
    return Film(image=grey, fields=find_fields(grey))

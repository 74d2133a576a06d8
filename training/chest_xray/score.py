"""Score a folder of radiographs with the shipped models: ``python -m training.chest_xray.score FOLDER``.

Prints one line per image (JPEG, PNG or DICOM): file, opacity probability, tuberculosis score. Scores are given even
where the agent would abstain for quality, so that a set can be scored whole. When the files lie in two folders whose
names say which is positive (``--positive tuberculosis``), the area under the curve is printed too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pydicom
from training.chest_xray.data import read_film
from training.chest_xray.manifest import manifest
from training.chest_xray.scores import auc

from polyclinic.agentkit.case import Model
from polyclinic.edges.inference import ModelShelf
from polyclinic_agents.chest_xray.agent import ask, opacity_view, tuberculosis_view
from polyclinic_agents.chest_xray.fields import GreyArray, find_fields
from polyclinic_agents.chest_xray.plate import read_plate

MODELS = Path(__file__).resolve().parents[2] / "models"
_PICTURES = {".jpg", ".jpeg", ".png"}


def load_models(threads: int = 0) -> dict[str, Model]:
    """The models that the manifest names, hash checked."""
    shelf = ModelShelf(MODELS, threads=threads)
    return {name: shelf.model(weights) for name, weights in manifest().weights.items()}


def read_image(path: Path) -> GreyArray:
    """Grey image of a picture or DICOM file, dense is bright."""
    if path.suffix.lower() in _PICTURES:
        return read_film(path).image
    return read_plate(pydicom.dcmread(path)).image


def score(image: GreyArray, models: dict[str, Model]) -> tuple[float, float]:
    """Opacity probability and tuberculosis score of one image, dense is bright, any size from 90 pixels."""
    opacity, _ = ask(models["opacity"], opacity_view(image, find_fields(image)))
    tuberculosis, _ = ask(models["tuberculosis"], tuberculosis_view(image))
    return opacity, tuberculosis


def main() -> None:
    """Print scores, and the area under the curve where labels are known."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--positive", default="", help="name of the folder that holds the positive images")
    chosen = arguments.parse_args()
    models = load_models()
    rows = []
    print("file,opacity,tuberculosis")
    for path in sorted(p for p in chosen.folder.rglob("*") if p.is_file()):
        opacity, tuberculosis = score(read_image(path), models)
        rows.append((path.parent.name == chosen.positive, opacity, tuberculosis))
        print(f"{path.relative_to(chosen.folder)},{opacity:.4f},{tuberculosis:.4f}")
    if chosen.positive:
        labels = np.asarray([int(row[0]) for row in rows])
        for name, column in (("opacity", 1), ("tuberculosis", 2)):
            print(f"AUC of {name} for {chosen.positive}: {auc(labels, np.asarray([r[column] for r in rows])):.3f}")


if __name__ == "__main__":
    main()

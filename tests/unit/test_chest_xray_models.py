"""The shipped networks: they are those the manifest and the record name, and answer as recorded."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from polyclinic.agentkit.case import Model, SilentTools
from polyclinic.agentkit.manifest import read_manifest
from polyclinic.agentkit.outcome import Abstained, Assessed
from polyclinic.edges.inference import ModelShelf
from polyclinic_agents.chest_xray.agent import (
    CAM,
    INPUT,
    OPACITY_QUESTION,
    PROBABILITY,
    SIDE,
    TUBERCULOSIS_QUESTION,
    ask,
    opacity_view,
    run,
    tuberculosis_view,
)
from polyclinic_agents.chest_xray.fields import find_fields

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # `training` is a folder of scripts beside the package, not installed

from training.chest_xray.data import is_test, nih, read_film, shenzhen  # noqa: E402
from training.chest_xray.films import as_case, read_dicom  # noqa: E402
from training.chest_xray.scores import auc  # noqa: E402

MANIFEST = read_manifest(ROOT / "src" / "polyclinic_agents" / "chest_xray")
RECORD = json.loads((ROOT / "models" / "chest_xray" / "metrics.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    shelf = ModelShelf(ROOT / "models")
    return {name: shelf.model(weights) for name, weights in MANIFEST.weights.items()}


@pytest.mark.parametrize("question", [OPACITY_QUESTION, TUBERCULOSIS_QUESTION], ids=lambda q: q.weights)
def test_file_manifest_record_and_threshold_agree(question: object) -> None:
    name = question.weights  # type: ignore[attr-defined]
    weights = MANIFEST.weights[name]
    content = (ROOT / "models" / weights.file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == weights.sha256 == RECORD[name]["sha256"]
    assert len(content) < 10_000_000
    assert question.threshold == pytest.approx(RECORD[name]["threshold"], abs=0.005)  # type: ignore[attr-defined]


def test_each_network_gives_a_probability_and_a_map_for_any_batch(models: dict[str, Model]) -> None:
    draw = np.random.default_rng(0)
    batch = draw.random((3, 1, SIDE, SIDE), dtype=np.float32)
    for model in models.values():
        together = model.run({INPUT: batch})
        assert together[PROBABILITY].shape == (3,)
        assert together[CAM].shape == (3, SIDE // 32, SIDE // 32)
        assert ((together[PROBABILITY] > 0) & (together[PROBABILITY] < 1)).all()
        alone = model.run({INPUT: batch[1:2]})
        assert alone[PROBABILITY][0] == pytest.approx(together[PROBABILITY][1], abs=1e-3)


@pytest.mark.data
def test_the_networks_tell_classes_apart_on_a_few_films(shared_data: Path, models: dict[str, Model]) -> None:
    """A smoke test of the whole way in, not a figure: figures come from `make assess-chest-xray`."""
    test = [e for e in nih(shared_data / "cxr") if is_test(e)]
    films = [e for label in (0, 1) for e in [x for x in test if x.label == label][::4][:20]]
    images = [read_film(e.path).image for e in films]
    said = [ask(models["opacity"], opacity_view(i, find_fields(i)))[0] for i in images]
    assert auc(np.asarray([e.label for e in films]), np.asarray(said)) > 0.65
    small = [e for label in (0, 1) for e in [x for x in shenzhen(shared_data / "cxr") if x.label == label][:15]]
    said = [ask(models["tuberculosis"], tuberculosis_view(read_film(e.path).image))[0] for e in small]
    assert auc(np.asarray([e.label for e in small]), np.asarray(said)) > 0.8


@pytest.mark.data
def test_a_film_goes_from_dicom_to_the_same_answer_twice(shared_data: Path, models: dict[str, Model]) -> None:
    path = next(e.path for e in nih(shared_data / "cxr") if e.label == 1)
    outcomes = [run(as_case(read_dicom(path)), SilentTools(models)) for _ in range(2)]
    assert isinstance(outcomes[0], Assessed)
    assert isinstance(outcomes[1], Assessed)
    assert outcomes[0].findings == outcomes[1].findings
    assert outcomes[0].facts == outcomes[1].facts


@pytest.mark.data
def test_it_abstains_on_films_turned_inverted_or_of_the_abdomen(shared_data: Path, models: dict[str, Model]) -> None:
    examples = [e for e in nih(shared_data / "cxr") if not is_test(e)][::25]
    refused = {"as it is": 0, "turned": 0, "inverted": 0, "lower part": 0}
    for example in examples:
        dataset = read_dicom(example.path)
        image = dataset.pixel_array
        changed = {
            "as it is": image,
            "turned": np.rot90(image),
            "inverted": 255 - image,
            "lower part": image[int(0.6 * len(image)) :],
        }
        for name, pixels in changed.items():
            dataset = read_dicom(example.path)
            dataset.Rows, dataset.Columns = pixels.shape
            dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
            refused[name] += isinstance(run(as_case(dataset), SilentTools(models)), Abstained)
    count = len(examples)
    assert refused["as it is"] <= 0.2 * count
    assert refused["turned"] >= 0.6 * count
    assert refused["inverted"] >= 0.8 * count
    assert refused["lower part"] >= 0.9 * count


@pytest.mark.data
def test_exposure_and_size_hardly_change_the_answer(shared_data: Path, models: dict[str, Model]) -> None:
    examples = [e for e in nih(shared_data / "cxr") if not is_test(e)][::50]
    moved = []
    for example in examples:
        image = read_film(example.path).image
        larger = np.asarray(cv2.resize(image, (1024, 1024), interpolation=cv2.INTER_CUBIC), dtype=np.float32)
        answers = [
            ask(models["opacity"], opacity_view(i, find_fields(i)))[0] for i in (image, image * 16 + 300, larger)
        ]
        moved.append(max(answers) - min(answers))
    assert float(np.median(moved)) < 0.05

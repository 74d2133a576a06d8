"""The shipped nodule patch network: the file its card describes, the same on both engines."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from polyclinic.agentkit.manifest import Weights
from polyclinic.edges.inference import Engine, ModelShelf

MODELS = Path(__file__).resolve().parents[2] / "models"
METRICS: dict[str, Any] = json.loads((MODELS / "nodule_patch" / "metrics.json").read_text())
WEIGHTS = Weights(file="nodule_patch/model.onnx", sha256=METRICS["model_sha256"])


def _patches(count: int) -> npt.NDArray[np.float32]:
    """Bright discs of growing size on dark noise."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:50, :50] - 25.0
    discs = [np.hypot(x, y) < 2 + 0.6 * number for number in range(count)]
    noise = rng.normal(0.1, 0.03, (count, 50, 50))
    return np.clip(noise + 0.6 * np.asarray(discs), 0, 1).astype(np.float32)[:, None]


@pytest.fixture(scope="module")
def answers() -> dict[Engine, npt.NDArray[np.float32]]:
    return {
        engine: ModelShelf(MODELS, threads=1, engine=engine).model(WEIGHTS).run({"patch": _patches(24)})["probability"]
        for engine in Engine
    }


def test_the_file_is_the_one_the_card_was_written_for() -> None:
    content = (MODELS / WEIGHTS.file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == METRICS["model_sha256"]
    assert METRICS["model_sha256"] in (MODELS / "nodule_patch" / "card.md").read_text()


def test_both_engines_give_the_same_probability(answers: dict[Engine, npt.NDArray[np.float32]]) -> None:
    first, second = answers.values()
    assert first.shape == (24,)
    assert ((first >= 0) & (first <= 1)).all()
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_a_row_does_not_depend_on_its_batch(answers: dict[Engine, npt.NDArray[np.float32]]) -> None:
    model = ModelShelf(MODELS, threads=1).model(WEIGHTS)
    patches = _patches(24)
    alone = np.concatenate([model.run({"patch": patches[i : i + 1]})["probability"] for i in (0, 5, 23)])
    np.testing.assert_allclose(alone, answers[Engine.OPENVINO][[0, 5, 23]], atol=1e-5)
    again = model.run({"patch": patches})["probability"]
    assert np.array_equal(again, model.run({"patch": patches})["probability"])


def test_a_round_nodule_is_likelier_than_empty_lung(answers: dict[Engine, npt.NDArray[np.float32]]) -> None:
    empty = np.clip(np.random.default_rng(8).normal(0.1, 0.03, (8, 1, 50, 50)), 0, 1).astype(np.float32)
    nothing = ModelShelf(MODELS, threads=1).model(WEIGHTS).run({"patch": empty})["probability"]
    assert answers[Engine.OPENVINO][4:12].min() > nothing.max()


@pytest.mark.data
def test_the_card_states_what_the_model_does_on_the_test_block(shared_data: Path) -> None:
    folder = shared_data / "ct" / "luna16-patches"
    first, last = METRICS["test"]["first_row"], METRICS["test"]["last_row"]
    with (folder / "labels.csv").open(newline="") as file:
        table = [(int(r["candidate_row"]), int(r["label"])) for r in csv.DictReader(file)]
    table = sorted(row for row in table if first <= row[0] <= last)
    assert len(table) == METRICS["test"]["patches"]
    images = [cv2.imread(str(folder / f"{row}.jpg"), cv2.IMREAD_GRAYSCALE) for row, _ in table]
    # Candidates at the border of a scan were cut off; training fills them up by repeating the border.
    missing = [50 - len(image) for image in images]
    full = [
        np.pad(image, ((m // 2, m - m // 2), (0, 0)), mode="edge") for image, m in zip(images, missing, strict=True)
    ]
    patches = (np.asarray(full)[:, None] / 255.0).astype(np.float32)
    values = ModelShelf(MODELS, threads=1).model(WEIGHTS).run({"patch": patches})["probability"]
    labels = np.asarray([label for _, label in table])
    positive, negative = values[labels == 1], values[labels == 0]
    auc = (positive[:, None] > negative[None]).mean() + 0.5 * (positive[:, None] == negative[None]).mean()
    assert auc == pytest.approx(METRICS["test"]["auc"]["value"], abs=5e-4)
    assert values.mean() == pytest.approx(labels.mean(), abs=0.05)

"""A linear head on frozen ImageNet features: on a few hundred films it did better than fine-tuning, see the card.

The head is ridge regression on many augmented views of each film, so that it cannot lean on directions of feature space
in which field of view, exposure or sharpness move a film.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from training.chest_xray.augment import augmented
from training.chest_xray.data import FOLDS, Example, Film, fold
from training.chest_xray.network import Backbone, Pooled
from training.chest_xray.scores import auc

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
RIDGES = (3e2, 1e3, 3e3, 1e4, 3e4, 1e5)
TOLERATED_LOSS = 0.01
"""The strongest ridge that costs no more area than this is taken: stronger ones held up better on other sources."""
_BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Head:
    """Logit = features @ weights + offset."""

    weights: FloatArray
    offset: float

    def logits(self, features: FloatArray) -> FloatArray:
        """Features (n, 1280) -> logits (n,)."""
        return features @ self.weights + self.offset


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CrossValidated:
    """The head of all films and the scores of each film by a head that did not see its patient."""

    head: Head
    ridge: float
    out_of_fold: FloatArray
    auc_of_folds: tuple[float, ...]
    auc_of_ridges: dict[float, float]


def features(backbone: Backbone, films: Sequence[Film], side: int, *, views: int, seed: int) -> npt.NDArray[np.float32]:
    """Shape (1 + views, n, 1280); the first view is the agent's own, the others are augmented."""
    pooled = _pooled(backbone, side)
    made = []
    began = time.monotonic()
    for view in range(views + 1):
        rows = []
        for start in range(0, len(films), _BATCH):
            images = [
                film.view(side) if view == 0 else augmented(film, side, np.random.default_rng((seed, view, start + i)))
                for i, film in enumerate(films[start : start + _BATCH])
            ]
            rows.append(pooled(np.stack(images)[:, None]))
        made.append(np.concatenate(rows))
        print(f"view {view}: {time.monotonic() - began:.0f} s", flush=True)
    return np.stack(made)


def _pooled(backbone: Backbone, side: int) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """The backbone's mean features, by ONNX Runtime: the same arithmetic several times faster than torch eager."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "backbone.onnx"
        torch.onnx.export(
            Pooled(backbone),
            (torch.rand(2, 1, side, side),),
            str(path),
            input_names=["image"],
            output_names=["features"],
            dynamic_axes={"image": {0: "n"}, "features": {0: "n"}},
            opset_version=17,
            dynamo=False,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(None, {"image": images})[0], dtype=np.float32)


def fit_head(kept: FloatArray, labels: IntArray, rows: IntArray, ridge: float) -> Head:
    """Ridge regression of -1 and 1 on all views of `rows`; kept has shape (views, n, 1280)."""
    seen = kept[:, rows].reshape(-1, kept.shape[2])
    target = np.tile(np.where(labels[rows] == 1, 1.0, -1.0), kept.shape[0])
    mean, spread = seen.mean(axis=0), seen.std(axis=0) + 1e-3
    scaled = (seen - mean) / spread
    square = scaled.T @ scaled / kept.shape[0] + ridge * np.eye(scaled.shape[1])
    weights = np.linalg.solve(square, scaled.T @ (target - target.mean()) / kept.shape[0]) / spread
    return Head(weights=weights, offset=float(target.mean() - mean @ weights))


def cross_validate(kept: npt.NDArray[np.float32], examples: Sequence[Example]) -> CrossValidated:
    """Five folds by patient for each strength of the ridge; the chosen one is fitted again on all films."""
    values = kept.astype(np.float64)
    labels = np.asarray([e.label for e in examples])
    folds = np.asarray([fold(e) for e in examples])
    scores = {ridge: _out_of_fold(values, labels, folds, ridge) for ridge in RIDGES}
    areas = {ridge: auc(labels, score) for ridge, score in scores.items()}
    best = max(ridge for ridge, area in areas.items() if area > max(areas.values()) - TOLERATED_LOSS)
    return CrossValidated(
        head=fit_head(values, labels, np.arange(len(labels)), best),
        ridge=best,
        out_of_fold=scores[best],
        auc_of_folds=tuple(auc(labels[folds == k], scores[best][folds == k]) for k in range(FOLDS)),
        auc_of_ridges=areas,
    )


def _out_of_fold(values: FloatArray, labels: IntArray, folds: IntArray, ridge: float) -> FloatArray:
    score = np.zeros(len(labels))
    for number in range(FOLDS):
        held = folds == number
        score[held] = fit_head(values, labels, np.flatnonzero(~held), ridge).logits(values[0, held])
    return score

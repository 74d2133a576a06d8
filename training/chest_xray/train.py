"""Train the pneumonia-type opacity model: ``python -m training.chest_xray.train``.

Five-fold cross-validation by patient on the training part gives the strength of the ridge, the calibration and the
threshold. The test fifth is not read here; ``training.chest_xray.assess`` reads it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training.chest_xray.data import SHARED, Example, is_test, nih, read_film
from training.chest_xray.export import write_onnx
from training.chest_xray.heads import CrossValidated, cross_validate, features
from training.chest_xray.network import Backbone, Classifier, imagenet
from training.chest_xray.record import METRICS, MODELS, write_section
from training.chest_xray.scores import (
    FloatArray,
    auc,
    bootstrap,
    calibration_error,
    platt,
    sensitivity,
    specificity,
    youden_threshold,
)

SIDE = 256
VIEWS = 4
SEED = 20261122


def main() -> None:
    """Train, calibrate, export, record."""
    chosen = options(__doc__)
    torch.set_num_threads(1)
    began = time.monotonic()
    examples = [e for e in nih(chosen.data) if not is_test(e)]
    backbone = imagenet()
    kept = features(backbone, [read_film(e.path) for e in examples], SIDE, views=VIEWS, seed=SEED)
    if chosen.features:
        np.save(chosen.features, kept)
    result = cross_validate(kept, examples)
    record, probability = finish(backbone, examples, result, chosen.out / "opacity.onnx")
    labels = np.asarray([e.label for e in examples])
    patients = [e.patient for e in examples]
    threshold = youden_threshold(labels, probability)
    called = probability >= threshold
    record["threshold"] = round(threshold, 4)
    record["cross_validation"] |= {
        "sensitivity": bootstrap(lambda r: sensitivity(labels[r], called[r]), patients).plain(),
        "specificity": bootstrap(lambda r: specificity(labels[r], called[r]), patients).plain(),
    }
    record["training_minutes"] = round((time.monotonic() - began) / 60, 1)
    write_section("opacity", record, chosen.out / METRICS.name)
    print(json.dumps(record, indent=2))


def options(about: str | None) -> argparse.Namespace:
    """``--data``, ``--out`` and ``--features`` of a training script."""
    arguments = argparse.ArgumentParser(description=about)
    arguments.add_argument("--data", type=Path, default=SHARED)
    arguments.add_argument("--out", type=Path, default=MODELS)
    arguments.add_argument("--features", type=Path, help="also keep the features of all views in this .npy file")
    return arguments.parse_args()


def finish(
    backbone: Backbone, examples: Sequence[Example], result: CrossValidated, path: Path
) -> tuple[dict[str, Any], FloatArray]:
    """Calibrate on the out-of-fold logits, export; returns the record and the out-of-fold probabilities."""
    labels = np.asarray([e.label for e in examples])
    patients = [e.patient for e in examples]
    slope, offset = platt(labels, result.out_of_fold)
    probability = 1 / (1 + np.exp(-(slope * result.out_of_fold + offset)))
    weights = torch.from_numpy(slope * result.head.weights)
    model = Classifier(backbone, weights, slope * result.head.offset + offset)
    record: dict[str, Any] = {
        "file": path.name,
        "sha256": write_onnx(model, SIDE, path),
        "bytes": path.stat().st_size,
        "seed": SEED,
        "side": SIDE,
        "augmented_views": VIEWS,
        "ridge": result.ridge,
        "training_images": len(examples),
        "training_patients": len(set(patients)),
        "cross_validation": {
            "auc": bootstrap(lambda r: auc(labels[r], probability[r]), patients).plain(),
            "auc_of_folds": [round(a, 4) for a in result.auc_of_folds],
            "auc_of_ridges": {f"{ridge:g}": round(area, 4) for ridge, area in result.auc_of_ridges.items()},
            "calibration_error": round(calibration_error(labels, probability), 4),
        },
    }
    return record, probability


if __name__ == "__main__":
    main()

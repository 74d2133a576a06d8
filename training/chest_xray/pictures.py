"""Draw the curves of the documentation from the record: ``python -m training.chest_xray.pictures``.

No radiograph is drawn: the development images may not leave their folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from training.chest_xray.record import read_metrics
from training.chest_xray.scores import roc

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
Picture = npt.NDArray[np.uint8]
Points = Sequence[tuple[float, float]]

_SIDE, _LEFT, _TOP = 420, 80, 60
_BLACK, _GREY, _BLUE, _RED = (30, 30, 30), (200, 200, 200), (170, 90, 30), (40, 40, 190)


def panel(title: str, across: str, up: str) -> Picture:
    """An empty unit square with ticks."""
    picture = np.full((_SIDE + _TOP + 80, _SIDE + _LEFT + 40, 3), 255, dtype=np.uint8)
    for tick in range(6):
        share = tick / 5
        x, y = _at(share, share)
        cv2.line(picture, (x, _TOP), (x, _TOP + _SIDE), _GREY, 1)
        cv2.line(picture, (_LEFT, y), (_LEFT + _SIDE, y), _GREY, 1)
        _write(picture, f"{share:.1f}", (x - 12, _TOP + _SIDE + 22), 0.45)
        _write(picture, f"{share:.1f}", (_LEFT - 36, y + 5), 0.45)
    cv2.rectangle(picture, (_LEFT, _TOP), (_LEFT + _SIDE, _TOP + _SIDE), _BLACK, 1)
    _write(picture, title, (_LEFT, 36), 0.6)
    _write(picture, f"across: {across}, up: {up}", (_LEFT, _TOP + _SIDE + 54), 0.45)
    return picture


def curve(picture: Picture, points: Points, colour: tuple[int, int, int], name: str, line: int) -> None:
    """A polyline in unit coordinates with its name in the legend."""
    pixels = np.array([_at(x, y) for x, y in points], dtype=np.int32)
    cv2.polylines(picture, [pixels], isClosed=False, color=colour, thickness=2, lineType=cv2.LINE_AA)
    y = _TOP + _SIDE - 20 - 22 * line
    cv2.line(picture, (_LEFT + 130, y - 5), (_LEFT + 155, y - 5), colour, 2)
    _write(picture, name, (_LEFT + 162, y), 0.45)


def _at(x: float, y: float) -> tuple[int, int]:
    return _LEFT + round(x * _SIDE), _TOP + round((1 - y) * _SIDE)


def _write(picture: Picture, text: str, place: tuple[int, int], scale: float) -> None:
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _BLACK, 1, cv2.LINE_AA)


def main() -> None:
    """Write the pictures below docs/images."""
    record = read_metrics()
    test, tuberculosis = record["test"], record["tuberculosis"]
    curves = panel("ROC", "1 - specificity", "sensitivity")
    curve(curves, test["roc"], _BLUE, f"opacity, NIH test fifth, AUC {_area(test):.2f}", 1)
    names = tuberculosis["out_of_fold"]
    labels = np.asarray([int(name.rsplit("_", 1)[1][0]) for name in names])
    area = tuberculosis["cross_validation"]["auc"][0]
    points = roc(labels, np.asarray(list(names.values())))
    curve(curves, points, _RED, f"TB, Shenzhen out of fold, AUC {area:.2f}", 0)
    cv2.drawMarker(curves, _at(0.30, 0.90), _BLACK, cv2.MARKER_CROSS, 14, 2)
    _write(curves, "WHO target", (_at(0.30, 0.90)[0] - 40, _at(0.30, 0.90)[1] - 12), 0.45)
    calibration = panel("Calibration, opacity, NIH test fifth", "probability said", "share that is true")
    curve(calibration, [(0, 0), (1, 1)], _GREY, "perfect", 1)
    curve(calibration, [(said, true) for said, true, _ in test["reliability"]], _BLUE, "opacity", 0)
    IMAGES.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(IMAGES / "chest_xray_curves.png"), np.hstack([curves, calibration]))


def _area(test: dict[str, dict[str, dict[str, list[float]]]]) -> float:
    return test["figures"]["all films, network alone"]["AUC"][0]


if __name__ == "__main__":
    main()

"""Dark places inside a denser ring."""

from __future__ import annotations

import cv2
import numpy as np

from polyclinic_agents.chest_ct.scan import BoolArray, Float32Array

CAVITY_LEVELS_HU = (-700.0, -550.0, -400.0)
MAX_CAVITY_MM2 = 110.0


def fill_cavities(image: Float32Array, allowed: BoolArray, pixel_mm2: float) -> None:
    """Raise small dark places that a denser ring encloses to the ring's level, in place.

    A cavitary nodule then counts as one body. Airways in cross-section are filled too; they stay tubes.
    """
    for level in CAVITY_LEVELS_HU:
        dense = ((image > level) | ~allowed).astype(np.uint8)
        contours, tree = cv2.findContours(dense, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        if tree is None:
            continue
        holes = [
            contour
            for contour, links in zip(contours, tree.reshape(-1, 4), strict=True)
            if links[3] >= 0 and cv2.contourArea(contour) * pixel_mm2 < MAX_CAVITY_MM2
        ]
        if holes:
            filled = np.zeros(image.shape, dtype=np.uint8)
            cv2.drawContours(filled, holes, -1, 1, thickness=cv2.FILLED)
            raised = (filled > 0) & allowed & (image < level)
            image[raised] = level

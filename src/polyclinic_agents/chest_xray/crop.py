"""What a network sees: the lung fields with a margin, at a fixed size, with exposure and contrast evened out.

Cropping by the fields takes most text, markers and borders away and makes the field of view alike between sites;
percentiles and local equalisation make exposure alike. Training and the agent call the same functions.
"""

from __future__ import annotations

import cv2
import numpy as np

from polyclinic_agents.chest_xray.fields import Box, GreyArray, cut, stretch

MARGIN_TOP, MARGIN_BOTTOM, MARGIN_SIDE = 0.22, 0.12, 0.12
"""Added around the fields' box, as a fraction of its size. Opaque apices escape the search for the fields, and a tight
box lost area under the curve in cross-validation; so it is wide, widest at the top."""
COARSE = 96
"""Side of the small copies that the tuberculosis model was trained on."""

_EQUALISE = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(4, 4))


def view_box(fields: Box) -> Box:
    """The box of the fields with its margin, inside the image."""
    side = MARGIN_SIDE * fields.width
    return Box(
        top=max(fields.top - MARGIN_TOP * fields.height, 0.0),
        bottom=min(fields.bottom + MARGIN_BOTTOM * fields.height, 1.0),
        left=max(fields.left - side, 0.0),
        right=min(fields.right + side, 1.0),
    )


def prepare(image: GreyArray, box: Box, side: int) -> GreyArray:
    """Cut `box` out of `image` (row, column; dense is bright) and make it (side, side), 0..1."""
    part = cut(image, box)
    shrink = min(part.shape) >= side
    sized = cv2.resize(
        np.ascontiguousarray(part), (side, side), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC
    )
    return equalise(stretch(np.asarray(sized, dtype=np.float32), 0.5, 99.5))


def equalise(image: GreyArray) -> GreyArray:
    """Half-way between the stretched image and its locally equalised copy, 0..1."""
    bytes_ = np.round(image * 255).astype(np.uint8)
    equal = _EQUALISE.apply(bytes_).astype(np.float32) / 255
    return np.asarray((image + equal) / 2, dtype=np.float32)


def coarse(image: GreyArray) -> GreyArray:
    """The whole image as COARSE x COARSE area means, as the tuberculosis training images were made."""
    shrink = min(image.shape) >= COARSE
    small = cv2.resize(image, (COARSE, COARSE), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC)
    return np.asarray(small, dtype=np.float32)

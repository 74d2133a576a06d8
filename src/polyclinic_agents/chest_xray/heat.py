"""Where the network looked: the class activation map on the image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from polyclinic_agents.chest_xray.fields import Box, GreyArray, cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The strongest cell of the map; `row` and `column` are fractions of the image."""

    row: float
    column: float
    zone: str
    """Third of the view: upper, middle or lower."""
    image_side: str
    """Half of the view: left or right as displayed."""


def find_peak(cam: GreyArray, view: Box) -> Peak:
    """Peak of a class activation map, shape (h, w), made from the part `view` of the image."""
    row, column = np.unravel_index(int(np.argmax(cam)), cam.shape)
    y, x = (row + 0.5) / cam.shape[0], (column + 0.5) / cam.shape[1]
    return Peak(
        row=float(view.top + y * view.height),
        column=float(view.left + x * view.width),
        zone=("upper", "middle", "lower")[min(int(y * 3), 2)],
        image_side="left" if x < 0.5 else "right",
    )


def overlay(image: GreyArray, cam: GreyArray, view: Box, side: int = 384) -> npt.NDArray[np.uint8]:
    """The part `view` of the image with the positive part of the map in colour, (side, side, 3) BGR."""
    part = cv2.resize(np.ascontiguousarray(cut(image, view)), (side, side), interpolation=cv2.INTER_AREA)
    low, high = np.percentile(part, (1, 99))
    grey = np.clip((part - low) / max(float(high - low), 1e-6), 0, 1)
    warm = np.clip(cv2.resize(cam, (side, side), interpolation=cv2.INTER_LINEAR), 0, None)
    heat = np.asarray(warm / max(float(warm.max()), 1e-6), dtype=np.float32)
    colour = cv2.applyColorMap(np.round(heat * 255).astype(np.uint8), cv2.COLORMAP_JET).astype(np.float32)
    share = 0.45 * heat[..., None]
    return np.asarray(np.round(grey[..., None] * 255 * (1 - share) + colour * share), dtype=np.uint8)

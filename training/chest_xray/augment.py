"""Other films of the same chest: field of view, rotation, exposure, sharpness, noise, shadows, hidden parts.

Strong on purpose: the models are used at sites whose films differ from the training films in exactly these ways.
"""

from __future__ import annotations

import cv2
import numpy as np
from training.chest_xray.data import Film

from polyclinic_agents.chest_xray.crop import equalise
from polyclinic_agents.chest_xray.fields import Box, GreyArray, stretch


def augmented(film: Film, side: int, draw: np.random.Generator) -> GreyArray:
    """One random view, (side, side), 0..1, made like `crop.prepare` but from a shifted, scaled, turned box."""
    image = _cut_turned(film.image, film.box, side, draw)
    image = stretch(image, float(draw.uniform(0, 2)), float(draw.uniform(98, 100)))
    image = image ** float(np.exp(draw.uniform(-0.4, 0.4)))
    image = _shade(image, draw)
    image = _blur_and_noise(image, draw)
    image = equalise(stretch(image, 0.5, 99.5))
    if draw.random() < 0.5:
        image = image[:, ::-1]
    return np.ascontiguousarray(_hide(image, draw), dtype=np.float32)


def _cut_turned(image: GreyArray, box: Box, side: int, draw: np.random.Generator) -> GreyArray:
    height, width = image.shape
    scale = np.exp(draw.uniform(-0.15, 0.2)) * np.exp(draw.uniform(-0.1, 0.1, 2))
    wide, high = box.width * width * scale[0], box.height * height * scale[1]
    centre = np.array([(box.left + box.right) / 2 * width, (box.top + box.bottom) / 2 * height])
    centre += draw.uniform(-0.07, 0.07, 2) * (wide, high)
    angle = np.deg2rad(draw.uniform(-8, 8))
    axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([wide, high])
    corners = centre + np.array([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5]]) @ axes.T
    target = np.array([[0, 0], [side, 0], [0, side]], dtype=np.float32)
    if min(wide, high) > 1.6 * side:  # avoid aliasing where the warp shrinks
        image = cv2.GaussianBlur(image, (0, 0), 0.4 * min(wide, high) / side)
    turn = cv2.getAffineTransform(corners.astype(np.float32), target)
    return cv2.warpAffine(image, turn, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(
        np.float32
    )


def _shade(image: GreyArray, draw: np.random.Generator) -> GreyArray:
    """A slow change of brightness over the film: scatter, heel effect, an arm or breast shadow."""
    side = image.shape[0]
    slow = draw.normal(0, 1, (3, 3)).astype(np.float32)
    field = cv2.resize(slow, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + 0.06 * field, 0, 1).astype(np.float32)


def _blur_and_noise(image: GreyArray, draw: np.random.Generator) -> GreyArray:
    if draw.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), float(draw.uniform(0.3, 1.5)))
    elif draw.random() < 0.3:
        image = image + 0.7 * (image - cv2.GaussianBlur(image, (0, 0), 2.0))  # edge enhancement of some devices
    if draw.random() < 0.5:
        image = image + draw.normal(0, draw.uniform(0.0, 0.04), image.shape).astype(np.float32)
    return np.asarray(image, dtype=np.float32)


def _hide(image: GreyArray, draw: np.random.Generator) -> GreyArray:
    """Flat rectangles, as markers, pacemakers and wires hide parts; now and then the outermost edge."""
    image = image.copy()
    side = image.shape[0]
    for _ in range(draw.integers(0, 3)):
        high, wide = draw.integers(side // 16, side // 5, 2)
        top, left = draw.integers(0, side - high), draw.integers(0, side - wide)
        image[top : top + high, left : left + wide] = draw.random()
    if draw.random() < 0.2:
        edge = int(draw.integers(2, side // 14))
        value = float(draw.integers(0, 2))
        image[:edge] = image[-edge:] = value
        image[:, :edge] = image[:, -edge:] = value
    return image

"""Random views of a batch of patches: what another scanner, reader or reconstruction might have shown."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

JPEG_SHARE = 0.25


def augment(pixels: npt.NDArray[np.uint8], rng: np.random.Generator, strength: float = 1.0) -> Tensor:
    """Patches (n, 50, 50) as bytes -> float32 (n, 1, 50, 50) in 0..1.

    Quarter turns and flips, zoom 0.8 to 1.25, shift up to 3 pixels, small rotation, blur or noise, gain and
    offset of intensity, and JPEG once more for some.
    """
    n = len(pixels)
    images = np.stack([_recompress(image, rng) for image in pixels])
    batch = torch.from_numpy(images).float().div_(255.0)[:, None]
    batch = functional.grid_sample(
        batch,
        functional.affine_grid(_affine(n, rng, strength), list(batch.shape), align_corners=False),
        padding_mode="border",
        align_corners=False,
    )
    gain = torch.from_numpy(rng.normal(1.0, 0.06 * strength, (n, 1, 1, 1)).astype(np.float32))
    offset = torch.from_numpy(rng.normal(0.0, 0.025 * strength, (n, 1, 1, 1)).astype(np.float32))
    sigma = torch.from_numpy((rng.uniform(0, 0.03, (n, 1, 1, 1)) * strength).astype(np.float32))
    grain = torch.from_numpy(rng.standard_normal(tuple(batch.shape), dtype=np.float32))
    return (batch * gain + offset + sigma * grain).clamp_(0.0, 1.0)


def _affine(n: int, rng: np.random.Generator, strength: float) -> Tensor:
    turn = rng.integers(0, 4, n) * (np.pi / 2) + rng.normal(0, 0.15 * strength, n)
    zoom = np.exp(rng.uniform(np.log(0.8), np.log(1.25), n) * strength)
    mirror = rng.choice([-1.0, 1.0], n)
    matrix = np.zeros((n, 2, 3), dtype=np.float32)
    matrix[:, 0, 0] = np.cos(turn) * mirror / zoom
    matrix[:, 0, 1] = -np.sin(turn) / zoom
    matrix[:, 1, 0] = np.sin(turn) * mirror / zoom
    matrix[:, 1, 1] = np.cos(turn) / zoom
    matrix[:, :, 2] = rng.uniform(-3, 3, (n, 2)) * 2 / 50 * strength
    return torch.from_numpy(matrix)


def _recompress(image: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    if rng.random() > JPEG_SHARE:
        return image
    _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 95))])
    return cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE).astype(np.uint8)

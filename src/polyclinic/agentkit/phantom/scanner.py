"""What the scanner adds: blur and noise of the reconstruction kernel, streaks at the shoulders, the table."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from polyclinic.agentkit.phantom.spec import ChestPhantom, Kernel
from polyclinic.dicom.geometry import VolumeGeometry

_BLUR_MM = {Kernel.SMOOTH: 0.85, Kernel.STANDARD: 0.55, Kernel.SHARP: 0.28}
_NOISE_GAIN = {Kernel.SMOOTH: 0.6, Kernel.STANDARD: 1.0, Kernel.SHARP: 1.9}
_NOISE_GRAIN_MM = {Kernel.SMOOTH: 1.0, Kernel.STANDARD: 0.7, Kernel.SHARP: 0.35}
_TABLE_TOP_Y_MM = 116.0
_SHOULDER_Z_MM = 92.0

Plane = npt.NDArray[np.float32]


def finish_slice(image: Plane, index: int, spec: ChestPhantom, geometry: VolumeGeometry) -> npt.NDArray[np.int16]:
    """Blur, lay the patient on the table, add noise, and round to whole HU from -1024 to 3071."""
    _draw_table(image, geometry)
    sigma = _BLUR_MM[spec.kernel] / np.asarray(geometry.spacing_mm[1:])
    if sigma.max() > 0.15:
        cv2.GaussianBlur(image, (0, 0), sigmaX=float(sigma[1]), sigmaY=float(sigma[0]), dst=image)
    if spec.noise_hu > 0:
        image = image + _noise(index, spec, geometry)
    result: npt.NDArray[np.int16] = np.rint(np.clip(image, -1024, 3071)).astype(np.int16)
    return result


def _noise(index: int, spec: ChestPhantom, geometry: VolumeGeometry) -> Plane:
    rng = np.random.default_rng((spec.seed, 14, index))
    white = rng.standard_normal(geometry.shape[1:], dtype=np.float32)
    grain = max(_NOISE_GRAIN_MM[spec.kernel] / float(np.mean(geometry.spacing_mm[1:])), 0.2)
    fine = cv2.GaussianBlur(white, (0, 0), grain)
    # Filtered backprojection leaves little noise at low frequencies.
    noise = fine - cv2.GaussianBlur(white, (0, 0), 3 * grain)
    z = geometry.origin_mm[2] + index * geometry.spacing_mm[0]
    gain = np.float32(1.0 + 0.9 / (1.0 + np.exp(-(z - _SHOULDER_Z_MM) / 8.0)))
    if z > _SHOULDER_Z_MM - 15:
        streaks = cv2.GaussianBlur(white, (0, 0), sigmaX=12 * grain, sigmaY=grain)
        noise = noise + streaks * np.float32(3.0 * (gain - 1.0))
    scale = np.float32(spec.noise_hu * _NOISE_GAIN[spec.kernel]) / np.float32(fine.std())
    return noise * scale * gain * _sensitivity(geometry)


def _sensitivity(geometry: VolumeGeometry) -> Plane:
    """More noise where more tissue surrounds the pixel: 1 in the middle, about a half outside the body."""
    y, x = (
        geometry.origin_mm[axis] + np.arange(geometry.shape[2 - axis], dtype=np.float32) * geometry.spacing_mm[2 - axis]
        for axis in (1, 0)
    )
    distance2 = (x[None, :] / 150.0) ** 2 + (y[:, None] / 105.0) ** 2
    result: Plane = (0.5 + 0.5 * np.exp(-distance2)).astype(np.float32)
    return result


def _draw_table(image: Plane, geometry: VolumeGeometry) -> None:
    y, x = (
        geometry.origin_mm[axis] + np.arange(geometry.shape[2 - axis], dtype=np.float32) * geometry.spacing_mm[2 - axis]
        for axis in (1, 0)
    )
    below = y[:, None] - (_TABLE_TOP_Y_MM - np.float32(0.0011) * x[None, :] ** 2)
    width = np.float32(max(geometry.spacing_mm[1], 1.0))
    wide = np.abs(x[None, :]) < 170
    for depth, level in ((0.0, -180.0), (14.0, -420.0)):
        share = np.clip(1.2 - np.abs(below - depth) / width, 0, 1) * wide * (image < -300)
        image += (share * (np.float32(level) - image)).astype(np.float32)
    foam = (below > 1.5) & (below < 13) & wide & (image < -900)
    image[foam] = -930.0

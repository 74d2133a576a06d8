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


class Scanner:
    """Turns ideal slices into reconstructed ones; what does not change from slice to slice is made once."""

    def __init__(self, spec: ChestPhantom, geometry: VolumeGeometry) -> None:
        self._spec, self._geometry = spec, geometry
        y, x = (
            geometry.origin_mm[axis]
            + np.arange(geometry.shape[2 - axis], dtype=np.float32) * geometry.spacing_mm[2 - axis]
            for axis in (1, 0)
        )
        # More noise where more tissue surrounds the pixel: 1 in the middle, about a half outside the body.
        distance2 = (x[None, :] / 150.0) ** 2 + (y[:, None] / 105.0) ** 2
        gain = spec.noise_hu * _NOISE_GAIN[spec.kernel]
        self._sigma: Plane = (gain * (0.5 + 0.5 * np.exp(-distance2))).astype(np.float32)
        self._table = _table(x, y, max(geometry.spacing_mm[1], 1.0))
        self._grain = max(_NOISE_GRAIN_MM[spec.kernel] / float(np.mean(geometry.spacing_mm[1:])), 0.2)
        self._blur = _BLUR_MM[spec.kernel] / np.asarray(geometry.spacing_mm[1:])

    def finish(self, image: Plane, index: int) -> npt.NDArray[np.int16]:
        """Lay the patient on the table, blur, add noise, and round to whole HU from -1024 to 3071."""
        self._lay_on_table(image)
        if self._blur.max() > 0.15:
            cv2.GaussianBlur(image, (0, 0), sigmaX=float(self._blur[1]), sigmaY=float(self._blur[0]), dst=image)
        if self._spec.noise_hu > 0:
            image += self._noise(index)
        np.clip(image, -1024, 3071, out=image)
        np.rint(image, out=image)
        return image.astype(np.int16)

    def _noise(self, index: int) -> Plane:
        rng = np.random.default_rng((self._spec.seed, 14, index))
        white = rng.standard_normal(self._geometry.shape[1:], dtype=np.float32)
        grain = self._grain
        noise: Plane = np.empty_like(white)
        cv2.GaussianBlur(white, (0, 0), grain, dst=noise)
        scale = 1.0 / float(noise[::4, ::4].std())
        # Filtered backprojection leaves little noise at low frequencies.
        coarse = np.empty_like(white)
        cv2.GaussianBlur(white, (0, 0), 3 * grain, dst=coarse)
        noise -= coarse
        z = self._geometry.origin_mm[2] + index * self._geometry.spacing_mm[0]
        if z > _SHOULDER_Z_MM - 15:
            gain = 1.0 + 0.9 / (1.0 + float(np.exp(-(z - _SHOULDER_Z_MM) / 8.0)))
            cv2.GaussianBlur(white, (0, 0), sigmaX=12 * grain, sigmaY=grain, dst=coarse)
            noise += coarse * np.float32(3 * (gain - 1))
            scale *= gain
        noise *= self._sigma * np.float32(scale)
        return noise

    def _lay_on_table(self, image: Plane) -> None:
        first, share, level = self._table
        lower = image[first:]
        weight = share * (lower < -300)
        lower += weight * (level - lower)


def _table(x: Plane, y: Plane, width_mm: float) -> tuple[int, Plane, Plane]:
    """First row that the table reaches, and from there its share of each pixel and its HU."""
    below = y[:, None] - (_TABLE_TOP_Y_MM - np.float32(0.0011) * x[None, :] ** 2)
    wide = np.abs(x[None, :]) < 170
    share = np.where((below > 1.5) & (below < 13) & wide, 1.0, 0.0)
    level = np.full(below.shape, -930.0)
    for depth, surface_hu in ((0.0, -180.0), (14.0, -420.0)):
        sheet = np.clip(1.2 - np.abs(below - depth) / width_mm, 0, 1) * wide
        level = np.where(sheet > 0, surface_hu, level)
        share = np.maximum(share * (sheet == 0), sheet)
    rows = np.flatnonzero(share.any(axis=1))
    first = int(rows[0]) if len(rows) else len(y)
    return first, share[first:].astype(np.float32), level[first:].astype(np.float32)

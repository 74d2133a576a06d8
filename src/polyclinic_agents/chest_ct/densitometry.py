"""Emphysema index and percentile density of the lungs, and why to trust them less.

%LAA-950 is the share of lung voxels below -950 HU, Perc15 the value below which 15 % of them lie. Both are quantities
of CT densitometry; no grade is derived from them here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polyclinic_agents.chest_ct.lungs import LEFT, RIGHT
from polyclinic_agents.chest_ct.scan import LabelArray, Scan
from polyclinic_agents.chest_ct.series_choice import is_sharp

LOW_ATTENUATION_HU = -950
AERATED_BELOW_HU = -250
"""Vessels and consolidation that lie inside the lung masks are no lung density."""
SLICE_LIMIT_MM = 2.5
SHALLOW_MEAN_HU = -760.0
OPAQUE_SHARE = 0.1
"""Hilar vessels alone leave `Lungs.opaque_share` well below."""

_LOWEST = -1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """Of one lung or both."""

    laa_950_percent: float
    perc_15_hu: float
    mean_hu: float


def densities(scan: Scan, labels: LabelArray) -> dict[int, Density]:
    """By lung label, and 0 for both together; a lung that is not there is left out."""
    counts = {label: np.zeros(1 - _LOWEST + 3072, dtype=np.int64) for label in (RIGHT, LEFT)}
    for image, mask in zip(scan.hu, labels, strict=True):
        for label in (RIGHT, LEFT):
            values = image[mask == label]
            if values.size:
                shifted = np.clip(values, _LOWEST, 3071).astype(np.int64) - _LOWEST
                counts[label] += np.bincount(shifted, minlength=counts[label].size)
    counts[0] = counts[RIGHT] + counts[LEFT]
    return {label: _density(histogram) for label, histogram in sorted(counts.items()) if histogram.sum()}


def _density(histogram: npt.NDArray[np.int64]) -> Density:
    aerated = histogram[: AERATED_BELOW_HU - _LOWEST].astype(np.float64)
    total = max(1.0, float(aerated.sum()))
    cumulated = np.cumsum(aerated)
    at = int(np.searchsorted(cumulated, 0.15 * total))
    before = float(cumulated[at - 1]) if at else 0.0
    part = (0.15 * total - before) / max(1.0, float(aerated[at]))
    values = np.arange(aerated.size) + _LOWEST
    return Density(
        laa_950_percent=100.0 * float(aerated[: LOW_ATTENUATION_HU - _LOWEST].sum()) / total,
        perc_15_hu=float(values[at]) + part - 0.5,
        mean_hu=float(aerated @ values) / total,
    )


def density_limits(scan: Scan, whole: Density, opaque_share: float) -> tuple[str, ...]:
    """Why the densitometry of this scan is less reliable, one sentence each."""
    facts = scan.volume.facts
    limits = []
    if not facts.kernel:
        limits.append("The reconstruction kernel is not stated; densitometry depends on it.")
    elif is_sharp(facts.kernel):
        limits.append("A sharp reconstruction kernel raises noise and overstates low attenuation.")
    if (facts.slice_thickness_mm or facts.slice_spacing_mm) >= SLICE_LIMIT_MM:
        limits.append("Slices of 2.5 mm or more average lung with its surroundings and understate low attenuation.")
    if facts.contrast_agent:
        limits.append("Contrast agent raises lung attenuation and understates emphysema.")
    if whole.mean_hu > SHALLOW_MEAN_HU:
        limits.append("The lungs are dense on the whole; inspiration may be shallow or disease may raise attenuation.")
    if opaque_share > OPAQUE_SHARE:
        limits.append("Extensive opacities hide lung density.")
    return tuple(limits)

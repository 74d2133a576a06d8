"""A case with its truth, and what an agent's outcome says about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from polyclinic.agentkit.assessment.annotations import Nodule
from polyclinic.agentkit.assessment.marks import Mark
from polyclinic.agentkit.case import Case
from polyclinic.agentkit.outcome import Assessed
from polyclinic.core import codes
from polyclinic.core.codes import Code
from polyclinic.core.findings import Finding
from polyclinic.dicom.geometry import VolumeGeometry


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """Something measured on every scan that shows it."""

    name: str
    unit: str


LUNG_VOLUME = Quantity(name="Lung volume", unit="mL")
OPACITY_VOLUME = Quantity(name="Opacity volume", unit="mL")
CALCIUM = Quantity(name="Coronary calcium (Agatston)", unit="points")
ASCENDING = Quantity(name="Ascending aorta", unit="mm")
DESCENDING = Quantity(name="Descending aorta", unit="mm")
SPINE = Quantity(name="Spongy bone of the spine", unit="HU")
LIVER = Quantity(name="Liver", unit="HU")
NODULE_DIAMETER = Quantity(name="Nodule mean diameter", unit="mm")
NODULE_VOLUME = Quantity(name="Nodule volume, difference", unit="%")
OF_SCAN = (LUNG_VOLUME, OPACITY_VOLUME, CALCIUM, ASCENDING, DESCENDING, SPINE, LIVER)

_CODED: dict[str, tuple[Code, Code]] = {
    LUNG_VOLUME.name: (codes.LUNG_VOLUME_FINDING, codes.VOLUME),
    OPACITY_VOLUME.name: (codes.LUNG_OPACITY, codes.VOLUME),
    CALCIUM.name: (codes.CORONARY_CALCIUM, codes.AGATSTON),
    ASCENDING.name: (codes.ASCENDING_AORTA_DIAMETER, codes.DIAMETER),
    DESCENDING.name: (codes.DESCENDING_AORTA_DIAMETER, codes.DIAMETER),
    SPINE.name: (codes.BONE_DENSITY, codes.MEAN_ATTENUATION),
    LIVER.name: (codes.LIVER_ATTENUATION, codes.MEAN_ATTENUATION),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CaseTruth:
    """One scan to assess and all that is known of it; what is None or absent is not assessed on it."""

    name: str
    patient: str
    case: Case
    nodules: tuple[Nodule, ...] | None
    groups: Mapping[str, str]
    """Subgroup of the scan by attribute, e.g. ``{"grid": "3 mm slices"}``."""
    read_volume: Callable[[], tuple[npt.NDArray[np.int16], VolumeGeometry]]
    """The image for pictures, axes (slice, row, column)."""
    lungs: npt.NDArray[np.uint8] | None = None
    """1 right, 2 left, on the grid of the images in the order of their positions."""
    quantities: Mapping[str, float] = field(default_factory=dict)
    """True value by `Quantity.name`."""
    sizes: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    """Exact mean diameter in mm and volume in mm3 of a nodule, by its index."""


def marks_of(outcome: Assessed) -> tuple[Mark, ...]:
    """The nodules an agent proposes, in its order."""
    return tuple(
        Mark(
            centre_mm=finding.region.centre_mm,
            confidence=finding.confidence if finding.confidence is not None else 1.0,
            diameter_mm=_value(finding, codes.MEAN_DIAMETER),
            volume_mm3=_value(finding, codes.VOLUME),
        )
        for finding in outcome.findings
        if finding.code.same_as(codes.PULMONARY_NODULE) and finding.region is not None
    )


def measured(outcome: Assessed, quantity: Quantity) -> float | None:
    """The agent's value; 0 where it looked for it and found nothing, None where it did not measure."""
    concept, measure = _CODED[quantity.name]
    own = [finding for finding in outcome.findings if finding.code.same_as(concept)]
    values = [value for finding in own if (value := _value(finding, measure)) is not None]
    if not values:
        return 0.0 if any(code.same_as(concept) for code in outcome.normal) else None
    return sum(values) if quantity is OPACITY_VOLUME else values[0]  # opacities are given for each lung


def lungs_of(outcome: Assessed) -> npt.NDArray[np.uint8] | None:
    """The agent's lung mask, 1 right and 2 left, or None."""
    mask = next((mask for mask in outcome.masks if mask.id == "lungs"), None)
    if mask is None:
        return None
    labels = np.zeros_like(mask.voxels)
    for label in mask.labels:
        for number, code in ((1, codes.RIGHT_LUNG), (2, codes.LEFT_LUNG)):
            if label.code.same_as(code):
                labels[mask.voxels == label.number] = number
    return labels


def _value(finding: Finding, code: Code) -> float | None:
    found = finding.measurement(code)
    return found.value if found is not None else None

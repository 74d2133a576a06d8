"""What an agent returns: `Assessed` with Findings and masks, or `Abstained` with a reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polyclinic.core.codes import Code
from polyclinic.core.findings import Finding, ImageReference, Source
from polyclinic.dicom.geometry import VolumeGeometry


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskLabel:
    """One segment of a mask. `code` is the segmented property type, e.g. Left lung structure."""

    number: int
    """Voxel value, from 1."""
    code: Code
    title: str
    finding_id: str = ""
    """The Finding that this segment outlines; empty for anatomy."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mask:
    """Label map on the grid of one source series."""

    id: str
    """Unique within the outcome, e.g. ``"lungs"``; a Region names it."""
    title: str
    geometry: VolumeGeometry
    voxels: npt.NDArray[np.uint8]
    """Shape ``geometry.shape``, axes (slice, row, column); 0 is background."""
    labels: tuple[MaskLabel, ...]
    images: tuple[ImageReference, ...]
    """The source image of each slice, in slice order; length ``geometry.shape[0]``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyImage:
    """An image worth keeping at hand and why."""

    image: ImageReference
    reason: str
    finding_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something noted about the acquisition or the run, e.g. slice thickness = "2.5 mm"."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assessed:
    """The agent judged the study."""

    agent: Source
    series_instance_uid: str
    findings: tuple[Finding, ...]
    masks: tuple[Mask, ...] = ()
    key_images: tuple[KeyImage, ...] = ()
    facts: tuple[Fact, ...] = ()
    normal: tuple[Code, ...] = ()
    """What was looked for and not found; the draft says so."""
    not_assessed: tuple[str, ...] = ()
    """What a reader might expect and this agent did not look at, one phrase each."""
    seconds: tuple[tuple[str, float], ...] = ()
    """Step name and its wall time in seconds, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abstained:
    """The agent cannot judge this study; a result, not an error."""

    agent: Source
    reason_code: str
    """Stable, e.g. ``"chest-ct.incomplete-lungs"``."""
    reason: str
    """One sentence a radiologist understands, without patient data."""
    series_instance_uid: str = ""
    facts: tuple[Fact, ...] = ()


Outcome = Assessed | Abstained

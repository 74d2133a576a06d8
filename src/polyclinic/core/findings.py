"""The Finding: what agents propose, physicians decide, reports are made of.

All coordinates are patient space in millimetres, LPS (DICOM PS3.3 C.7.6.2.1.1): +x to the patient's left,
+y to the back, +z to the head.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from polyclinic.core.codes import Code

Point = tuple[float, float, float]


class FindingState(StrEnum):
    """Proposed until a physician decides; rejected findings are kept, never deleted."""

    PROPOSED = "proposed"
    ACCEPTED = "accepted"
    EDITED = "edited"
    REJECTED = "rejected"

    @property
    def counts(self) -> bool:
        """Whether a finding in this state stands in the report."""
        return self in (FindingState.ACCEPTED, FindingState.EDITED)


class SourceKind(StrEnum):
    AGENT = "agent"
    PERSON = "person"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who says so: an agent with its version, or a person."""

    kind: SourceKind
    id: str
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """One frame of one instance; `frame` counts from 1 as DICOM does."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    frame: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Contour:
    """Closed outline on one image; `points_mm` are LPS, at least three, first not repeated."""

    image: ImageReference
    points_mm: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Where a finding is. A mask, when there is one, is segment `segment` of the outcome's mask `mask`."""

    frame_of_reference_uid: str
    centre_mm: Point
    bounds_mm: tuple[Point, Point] | None = None
    """Opposite corners of the axis-aligned box, smallest coordinates first."""
    contours: tuple[Contour, ...] = ()
    mask: str = ""
    segment: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A number with its concept, UCUM unit and the method that made it."""

    code: Code
    value: float
    unit: str
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """A coded property, e.g. nodule attenuation type = part-solid."""

    code: Code
    value: Code


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The rule that classified a finding, with the primary source it is taken from."""

    id: str
    citation: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a finding stands on: images, guideline rules, earlier findings."""

    images: tuple[ImageReference, ...] = ()
    rules: tuple[Rule, ...] = ()
    prior_finding_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One observation about one study."""

    id: str
    study_instance_uid: str
    code: Code
    source: Source
    state: FindingState = FindingState.PROPOSED
    body_site: Code | None = None
    laterality: Code | None = None
    region: Region | None = None
    measurements: tuple[Measurement, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    confidence: float | None = None
    """Calibrated probability in [0, 1] that a reader would agree; None for measurements of what is surely there."""
    limits: tuple[str, ...] = ()
    """Reasons for which a reader should trust this less, one sentence each."""
    evidence: Evidence = field(default_factory=Evidence)
    note: str = ""
    """Free text of a physician."""

    def measurement(self, code: Code) -> Measurement | None:
        """The first measurement of that concept, or None."""
        return next((m for m in self.measurements if m.code.same_as(code)), None)

    def attribute(self, code: Code) -> Code | None:
        """The value of that attribute, or None."""
        return next((a.value for a in self.attributes if a.code.same_as(code)), None)

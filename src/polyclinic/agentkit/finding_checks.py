"""Checks that a finding of any agent must stand: whose it is, which code, finite numbers, a place inside the images.

Each function gives the first fault as words that follow "it is withheld because", or an empty string.
"""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Protocol

from polyclinic.core.findings import Contour, Finding, FindingState, Measurement, Point, Region
from polyclinic.core.units import PRINTED

EDGE_MM = 5.0
"""How far outside the images a region may reach: half a thick slice."""


class Extent(Protocol):
    """Where the images of a series lie: the box of all pixels in LPS mm, and which images there are."""

    @property
    def frame_of_reference_uid(self) -> str: ...
    @property
    def low_mm(self) -> Point: ...
    @property
    def high_mm(self) -> Point: ...
    @property
    def sop_instance_uids(self) -> frozenset[str]: ...


def identity_fault(finding: Finding, study_instance_uid: str, allowed: Set[tuple[str, str]]) -> str:
    """Study, state, declared code (pairs of system and code) and confidence."""
    if finding.study_instance_uid != study_instance_uid:
        return "it belongs to another study"
    if finding.state is not FindingState.PROPOSED:
        return "an agent may only propose"
    if (finding.code.system, finding.code.code) not in allowed:
        return "its code is not among the outputs that the agent declares"
    if finding.confidence is not None and not 0.0 <= finding.confidence <= 1.0:
        return "its confidence is not between 0 and 1"
    return ""


def number_fault(measurement: Measurement) -> str:
    """A known UCUM unit and a finite value."""
    if measurement.unit not in PRINTED:
        return f"{measurement.code.display} has a unit that is not known"
    if not math.isfinite(measurement.value):
        return f"{measurement.code.display} is not a number"
    return ""


def region_fault(region: Region, extent: Extent | None) -> str:
    """Frame of reference, centre, box and outlines; None as extent means that the series has no place in space."""
    if extent is None:
        return "it lies in a series that is not part of the study"
    if region.frame_of_reference_uid != extent.frame_of_reference_uid:
        return "its frame of reference is not that of the images"
    corners = region.bounds_mm or ()
    if not all(_inside(point, extent) for point in (region.centre_mm, *corners)):
        return "it lies outside the images"
    return next((fault for contour in region.contours if (fault := _contour_fault(contour, extent))), "")


def _contour_fault(contour: Contour, extent: Extent) -> str:
    if contour.image.sop_instance_uid not in extent.sop_instance_uids:
        return "its outline is on an image that is not part of the series"
    if len(contour.points_mm) < 3:
        return "its outline has fewer than three points"
    if not all(_inside(point, extent) for point in contour.points_mm):
        return "its outline leaves the images"
    return ""


def _inside(point: Point, extent: Extent) -> bool:
    return all(
        math.isfinite(value) and low - EDGE_MM <= value <= high + EDGE_MM
        for value, low, high in zip(point, extent.low_mm, extent.high_mm, strict=True)
    )

"""Whether a volume is a chest CT that can be judged, and what a reader must know when it barely is."""

from __future__ import annotations

from polyclinic.dicom.stack import ProblemKind
from polyclinic.dicom.volume import Volume
from polyclinic_agents.chest_ct.lungs import MIN_LUNG_ML, Lungs
from polyclinic_agents.chest_ct.scan import Scan, is_axial

MIN_LENGTH_MM = 120.0
"""Shorter than any adult's lungs."""
MAX_SPACING_MM = 10.0
MAX_GAP_MM = 12.0
MAX_MISSING_SHARE = 0.1
MIN_TOTAL_ML = 700.0
MAX_TOTAL_ML = 11000.0


class Unsuitable(Exception):
    """The series cannot be judged; becomes an Abstained result."""

    def __init__(self, reason_code: str, reason: str) -> None:
        super().__init__(reason_code)
        self.reason_code = reason_code
        self.reason = reason


def check_volume(volume: Volume) -> None:
    """Refuse what is no axial CT of a chest's length.

    Raises
    ------
    Unsuitable
        With reason code and sentence.
    """
    geometry = volume.geometry
    if volume.facts.modality and volume.facts.modality != "CT":
        raise Unsuitable("chest-ct.not-ct", "The series is not CT.")
    if "LOCALIZER" in (part.upper() for part in volume.facts.image_type):
        raise Unsuitable("chest-ct.localizer", "The series is a localizer.")
    if not is_axial((geometry.slice_direction, geometry.row_direction, geometry.column_direction)):
        raise Unsuitable("chest-ct.not-axial", "The series is not axial.")
    spacing = geometry.spacing_mm[0]
    if spacing > MAX_SPACING_MM:
        raise Unsuitable("chest-ct.slices-too-far-apart", f"The slices lie {spacing:.1f} mm apart; 10 mm is the most.")
    length = spacing * geometry.shape[0]
    if length < MIN_LENGTH_MM:
        raise Unsuitable(
            "chest-ct.incomplete-lungs",
            f"The series is incomplete: its {geometry.shape[0]} slices cover {length:.0f} mm, less than any lungs.",
        )
    missing = len(volume.interpolated) if volume.has(ProblemKind.MISSING) else 0
    if volume.longest_gap_mm > max(MAX_GAP_MM, 1.5 * spacing) or missing > MAX_MISSING_SHARE * geometry.shape[0]:
        raise Unsuitable(
            "chest-ct.missing-slices",
            f"Slices are missing: the longest gap is {volume.longest_gap_mm:.1f} mm.",
        )
    conflicting = sum(problem.count for problem in volume.problems if problem.kind is ProblemKind.CONFLICTING)
    if conflicting > MAX_MISSING_SHARE * geometry.shape[0]:
        raise Unsuitable(
            "chest-ct.mixed-series", "Several different images lie at the same positions; the series is mixed."
        )


def check_lungs(scan: Scan, lungs: Lungs | None) -> Lungs:
    """Refuse a series that does not show both ends of the lungs.

    Raises
    ------
    Unsuitable
        With reason code and sentence.
    """
    if lungs is None or sum(lungs.volumes_ml) < 2 * MIN_LUNG_ML:
        raise Unsuitable("chest-ct.no-lungs", "No lungs were found in the series.")
    cut = [
        name
        for name, is_cut in (("top", lungs.cut_at_top), ("bottom", lungs.cut_at_bottom), ("side", lungs.cut_at_side))
        if is_cut
    ]
    if cut:
        raise Unsuitable(
            "chest-ct.incomplete-lungs", f"The lungs are cut off at the {' and '.join(cut)} of the images."
        )
    total = sum(lungs.volumes_ml)
    if not MIN_TOTAL_ML < total < MAX_TOTAL_ML:
        raise Unsuitable("chest-ct.implausible-lungs", f"What was found as lungs has {total:.0f} mL, which cannot be.")
    return lungs


def lung_limits(scan: Scan, lungs: Lungs) -> tuple[str, ...]:
    """What a reader must know of the lung masks."""
    limits = []
    right, left = lungs.volumes_ml
    if min(right, left) < MIN_LUNG_ML:
        limits.append("Only one lung was found.")
    elif max(right, left) > 3.0 * min(right, left):
        limits.append("The lungs differ much in volume; one may be collapsed, resected or incompletely outlined.")
    if lungs.airway_ml < 5.0:
        limits.append("The trachea was not found; airways may be counted as lung.")
    if scan.volume.has(ProblemKind.MISSING):
        limits.append("Missing slices were filled by interpolation.")
    if scan.volume.has(ProblemKind.TILT):
        limits.append("A tilted gantry was corrected by shifting slices.")
    return tuple(limits)

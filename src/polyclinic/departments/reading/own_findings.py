"""A finding from a reader's own ruler: pure geometry in patient space (LPS, mm)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from polyclinic.core import codes
from polyclinic.core.codes import Code
from polyclinic.core.errors import Rejected
from polyclinic.core.findings import (
    Attribute,
    Contour,
    Evidence,
    Finding,
    FindingState,
    Point,
    Region,
    Source,
    SourceKind,
)
from polyclinic.core.ids import stable_id
from polyclinic.core.people import Person
from polyclinic.departments.reading.contracts import ImagePlane
from polyclinic.departments.reading.rules import DIAMETER_LIMITS_MM, SIDE_OF_LUNG, axes

_OUTLINE_POINTS = 24
_OFF_PLANE_MM = 5.0

Line = tuple[Point, Point]


def own_nodule(
    *,
    study_instance_uid: str,
    plane: ImagePlane,
    long_axis: Line,
    short_axis: Line | None,
    attenuation: Code | None,
    note: str,
    person: Person,
    site: Code | None = None,
) -> Finding:
    """A lung nodule that a reader measured, accepted from the start; equal rulers give the same finding.

    Its outline is the ellipse of the two axes in the plane of the image, a circle when there is one axis only. The
    longer ruler is the long axis, whichever was drawn first.

    Parameters
    ----------
    site
        Anatomy at the middle of the long axis, where it is known; a lung gives the side.

    Raises
    ------
    Rejected
        ``reading.bad-ruler``.
    """
    long_mm, short_mm = _length(long_axis), _length(short_axis) if short_axis else None
    if short_axis is not None and short_mm is not None and short_mm > long_mm:
        long_axis, short_axis, long_mm, short_mm = short_axis, long_axis, short_mm, long_mm
    low, high = DIAMETER_LIMITS_MM
    if not low <= long_mm <= high or (short_mm is not None and short_mm < low):
        raise Rejected("reading.bad-ruler", f"A diameter must be from {low:g} to {high:g} mm; measure again")
    if not all(_on_image(plane, point) for line in (long_axis, short_axis) if line for point in line):
        raise Rejected("reading.bad-ruler", "The ruler lies beside its image; measure on the image that it names")
    outline = _ellipse(plane, long_axis, long_mm, short_mm if short_mm is not None else long_mm)
    points = tuple(_point(row) for row in outline)
    return Finding(
        id=stable_id("own-finding", study_instance_uid, person.person_id, plane.image, long_axis, short_axis),
        study_instance_uid=study_instance_uid,
        code=codes.PULMONARY_NODULE,
        source=Source(kind=SourceKind.PERSON, id=person.person_id),
        state=FindingState.ACCEPTED,
        body_site=site,
        laterality=next((side for lung, side in SIDE_OF_LUNG if site and site.same_as(lung)), None),
        region=Region(
            frame_of_reference_uid=plane.frame_of_reference_uid,
            centre_mm=middle(long_axis),
            bounds_mm=(_point(outline.min(axis=0)), _point(outline.max(axis=0))),
            contours=(Contour(image=plane.image, points_mm=points),),
        ),
        measurements=tuple(axes(long_mm, short_mm)),
        attributes=(Attribute(code=codes.NODULE_ATTENUATION, value=attenuation),) if attenuation else (),
        evidence=Evidence(images=(plane.image,)),
        note=note.strip(),
    )


def middle(line: Line) -> Point:
    """Half way between the ends."""
    return _point(np.mean(np.asarray(line, dtype=np.float64), axis=0))


def _length(line: Line) -> float:
    if not all(math.isfinite(value) for point in line for value in point):
        raise Rejected("reading.bad-ruler", "A ruler needs two points in patient space; measure again")
    return math.dist(*line)


def _on_image(plane: ImagePlane, point: Point) -> bool:
    """Whether the point lies in the picture; True where the image does not say where it is."""
    if plane.origin_mm is None or plane.size_mm is None:
        return True
    row, column = np.asarray(plane.row_direction), np.asarray(plane.column_direction)
    from_origin = np.asarray(point, dtype=np.float64) - np.asarray(plane.origin_mm)
    inside = all(
        -_OFF_PLANE_MM <= float(np.dot(from_origin, direction)) <= reach + _OFF_PLANE_MM
        for direction, reach in zip((row, column), plane.size_mm, strict=True)
    )
    return inside and abs(float(np.dot(from_origin, np.cross(row, column)))) <= _OFF_PLANE_MM


def _ellipse(plane: ImagePlane, long_axis: Line, long_mm: float, short_mm: float) -> npt.NDArray[np.float64]:
    start, end = np.asarray(long_axis, dtype=np.float64)
    normal = np.cross(plane.row_direction, plane.column_direction)
    along = (end - start) / 2.0
    if abs(float(np.dot(along, normal))) * 2 > _OFF_PLANE_MM:
        raise Rejected("reading.bad-ruler", "The ruler leaves the plane of its image; measure on one image")
    across = np.cross(normal, along)
    across *= short_mm / 2.0 / np.linalg.norm(across)
    angles = np.linspace(0.0, 2.0 * np.pi, _OUTLINE_POINTS, endpoint=False)
    outline: npt.NDArray[np.float64] = (start + end) / 2.0 + np.outer(np.cos(angles), along)
    outline += np.outer(np.sin(angles), across)
    return outline


def _point(values: npt.NDArray[np.float64]) -> Point:
    return float(values[0]), float(values[1]), float(values[2])

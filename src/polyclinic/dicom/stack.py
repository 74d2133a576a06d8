"""From placed planes to one regular stack: order, mixtures, doubled and missing slices, tilt. Pure.

Slices are ordered by their position along the normal (DICOM PS3.3 C.7.6.2.1.1), never by Instance Number.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from polyclinic.core.errors import Rejected
from polyclinic.core.findings import ImageReference, Point
from polyclinic.dicom.geometry import FloatArray, VolumeGeometry
from polyclinic.dicom.planes import Plane

_SAME_POSITION_MM = 0.01
_SAME_DIRECTION = 1e-3
_GAP = 1.5
"""A step longer than this many spacings hides at least one slice."""
_JITTER = 0.1
"""A slice that lies this part of a spacing beside its place is taken as it is."""
_MAX_FILLED = 4000


class ProblemKind(StrEnum):
    """What was wrong with a series although a volume could be made."""

    MIXED = "mixed-series"
    UNPLACED = "unplaced-images"
    DOUBLED = "doubled-slices"
    CONFLICTING = "conflicting-slices"
    MISSING = "missing-slices"
    UNEVEN = "uneven-spacing"
    TILT = "gantry-tilt"
    SHIFTED = "shifted-slices"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeProblem:
    """A fault of the series, `count` slices wide, in words a reader understands."""

    kind: ProblemKind
    count: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One slice of the grid: a plane as it is, or a weighted mean of two where none was."""

    planes: tuple[int, ...]
    """Indices into `Stack.planes`; one, or the neighbours below and above."""
    weight_above: float = 0.0
    """Share of the second plane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A regular grid and how to fill it."""

    geometry: VolumeGeometry
    planes: tuple[Plane, ...]
    """Planes that are used, by rising position along the slice direction, no two at one position."""
    twins: tuple[tuple[int, Plane], ...]
    """Planes at the position of ``planes[i]``; their pixels must be compared."""
    layers: tuple[Layer, ...]
    shifts_px: tuple[tuple[float, float], ...]
    """Per plane, how far (row, column) its content must move to lie on the orthogonal grid."""
    tilt_degrees: float
    longest_gap_mm: float
    problems: tuple[VolumeProblem, ...]


def arrange(planes: Sequence[Plane]) -> Stack:
    """Choose the planes that belong together and lay them on one regular grid.

    The result does not depend on the order of `planes`.

    Raises
    ------
    Rejected
        ``volume.no-planes``, ``volume.too-few-slices`` or ``volume.not-orthogonal``.
    """
    if not planes:
        raise Rejected("volume.no-planes", "No image carries position, orientation and pixel spacing; send a CT series")
    problems: list[VolumeProblem] = []
    chosen = _largest_group(planes, problems)
    normal = _normal(chosen[0])
    distance = {plane.image: float(np.dot(normal, plane.position_mm)) for plane in chosen}
    chosen = _one_acquisition(chosen, distance, problems)
    chosen.sort(key=lambda plane: (round(distance[plane.image], 3), *_identity(plane)))
    unique, twins = _split_twins(chosen, distance)
    if len(unique) < 2:
        raise Rejected("volume.too-few-slices", "A volume needs at least two slices at different positions")
    at_mm = np.asarray([distance[plane.image] for plane in unique])
    spacing, longest = _spacing(at_mm, problems)
    layers = _layers(at_mm, spacing, problems)
    shifts, tilt, moved_mm = _shifts(unique, at_mm, normal, problems)
    first = unique[0]
    geometry = VolumeGeometry(
        frame_of_reference_uid=first.frame_of_reference_uid,
        shape=(len(layers), first.rows, first.columns),
        origin_mm=_point(np.asarray(first.position_mm) + moved_mm),
        slice_direction=_point(normal),
        row_direction=first.along_rows,
        column_direction=first.along_columns,
        spacing_mm=(spacing, *first.pixel_spacing_mm),
    )
    return Stack(
        geometry=geometry,
        planes=tuple(unique),
        twins=tuple(twins),
        layers=layers,
        shifts_px=shifts,
        tilt_degrees=tilt,
        longest_gap_mm=longest,
        problems=tuple(problems),
    )


def _identity(plane: Plane) -> tuple[str, int]:
    return plane.image.sop_instance_uid, plane.image.frame


def _point(vector: FloatArray) -> Point:
    return float(vector[0]), float(vector[1]), float(vector[2])


def _normal(plane: Plane) -> FloatArray:
    if abs(float(np.dot(plane.along_columns, plane.along_rows))) > 1e-2:
        raise Rejected("volume.not-orthogonal", "Image Orientation is not two perpendicular directions; correct it")
    normal = np.cross(plane.along_columns, plane.along_rows)
    return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)


def _largest_group(planes: Sequence[Plane], problems: list[VolumeProblem]) -> list[Plane]:
    """Planes that share everything a volume shares; localizers only when there is nothing else."""
    groups: dict[tuple[object, ...], list[Plane]] = defaultdict(list)
    for plane in planes:
        directions = tuple(round(v / _SAME_DIRECTION / 2) for v in (*plane.along_columns, *plane.along_rows))
        spacing = tuple(round(v, 4) for v in plane.pixel_spacing_mm)
        shape = (plane.rows, plane.columns)
        groups[(shape, spacing, directions, plane.frame_of_reference_uid, plane.kind, plane.kernel)].append(plane)

    def rank(item: tuple[tuple[object, ...], list[Plane]]) -> tuple[bool, int, str]:
        return item[0][4] == "LOCALIZER", -len(item[1]), min(_identity(plane)[0] for plane in item[1])

    ordered = sorted(groups.items(), key=rank)
    left_out = len(planes) - len(ordered[0][1])
    if left_out:
        text = f"{left_out} images of another size, orientation, kernel or kind were left out"
        problems.append(VolumeProblem(kind=ProblemKind.MIXED, count=left_out, text=text))
    return list(ordered[0][1])


def _one_acquisition(
    planes: list[Plane], distance: dict[ImageReference, float], problems: list[VolumeProblem]
) -> list[Plane]:
    """Where positions repeat, keep one acquisition, if one alone covers nearly all positions."""

    def positions(members: Sequence[Plane]) -> int:
        return len({round(distance[plane.image] / _SAME_POSITION_MM) for plane in members})

    covered = positions(planes)
    if covered > 0.9 * len(planes):
        return planes
    by_acquisition: dict[str, list[Plane]] = defaultdict(list)
    for plane in planes:
        by_acquisition[plane.acquisition].append(plane)
    best = max(sorted(by_acquisition), key=lambda name: positions(by_acquisition[name]))
    if len(by_acquisition) < 2 or positions(by_acquisition[best]) < 0.9 * covered:
        return planes
    left_out = len(planes) - len(by_acquisition[best])
    text = f"{left_out} images of other acquisitions of the same positions were left out"
    problems.append(VolumeProblem(kind=ProblemKind.MIXED, count=left_out, text=text))
    return by_acquisition[best]


def _split_twins(
    planes: Sequence[Plane], distance: dict[ImageReference, float]
) -> tuple[list[Plane], list[tuple[int, Plane]]]:
    unique: list[Plane] = []
    twins: list[tuple[int, Plane]] = []
    for plane in planes:
        if unique and distance[plane.image] - distance[unique[-1].image] < _SAME_POSITION_MM:
            twins.append((len(unique) - 1, plane))
        else:
            unique.append(plane)
    return unique, twins


def _spacing(at_mm: FloatArray, problems: list[VolumeProblem]) -> tuple[float, float]:
    """Distance between grid slices and the longest step, in mm."""
    steps = np.diff(at_mm)
    usual = float(np.median(steps))
    longest = float(steps.max())
    if np.all(np.abs(steps - usual) < _JITTER * usual):
        return float(steps.mean()), longest
    missing = int(sum(max(0, round(step / usual) - 1) for step in steps if step > _GAP * usual))
    if missing:
        text = f"{missing} slices are missing (longest step {longest:.1f} mm); they were filled by interpolation"
        problems.append(VolumeProblem(kind=ProblemKind.MISSING, count=missing, text=text))
    whole = np.abs(steps / usual - np.round(steps / usual)) * usual
    uneven = int(np.count_nonzero(whole > _JITTER * usual))
    if uneven:
        text = f"{uneven} slices are not evenly spaced; the volume was resampled to {usual:.2f} mm"
        problems.append(VolumeProblem(kind=ProblemKind.UNEVEN, count=uneven, text=text))
    return usual, longest


def _layers(at_mm: FloatArray, spacing: float, problems: list[VolumeProblem]) -> tuple[Layer, ...]:
    length = float(at_mm[-1] - at_mm[0])
    count = round(length / spacing) + 1
    if count > max(_MAX_FILLED, len(at_mm)):
        raise Rejected("volume.too-sparse", "The slices lie too far apart for one volume; send one contiguous series")
    if not {ProblemKind.MISSING, ProblemKind.UNEVEN} & {problem.kind for problem in problems}:
        return tuple(Layer(planes=(index,)) for index in range(len(at_mm)))
    layers: list[Layer] = []
    for place in at_mm[0] + spacing * np.arange(count):
        above = min(int(np.searchsorted(at_mm, place)), len(at_mm) - 1)
        below = max(above - 1, 0)
        nearest = above if at_mm[above] - place <= place - at_mm[below] else below
        step = at_mm[above] - at_mm[below]
        if abs(at_mm[nearest] - place) <= _JITTER * spacing or step <= 0 or place > at_mm[above]:
            layers.append(Layer(planes=(nearest,)))
        else:
            layers.append(Layer(planes=(below, above), weight_above=float((place - at_mm[below]) / step)))
    return tuple(layers)


def _shifts(
    planes: Sequence[Plane], at_mm: FloatArray, normal: FloatArray, problems: list[VolumeProblem]
) -> tuple[tuple[tuple[float, float], ...], float, FloatArray]:
    """Per plane the in-plane offset in pixels against the middle one, the gantry tilt in degrees, and how far the
    grid's origin lies beside the first plane's in mm.

    Shifting about the middle slice keeps as much as possible inside the field of view.
    """
    first, middle = planes[0], planes[len(planes) // 2]
    offset = np.asarray([plane.position_mm for plane in planes]) - np.asarray(middle.position_mm)
    offset = offset - np.outer(offset @ normal, normal)
    in_plane = np.stack([offset @ np.asarray(first.along_rows), offset @ np.asarray(first.along_columns)], axis=1)
    if np.all(np.abs(in_plane - in_plane[0]) < 0.25 * min(first.pixel_spacing_mm)):
        return tuple((0.0, 0.0) for _ in planes), 0.0, np.zeros(3)
    along = at_mm - at_mm[len(planes) // 2]
    slope = (along @ in_plane) / float(along @ along)
    tilt = math.degrees(math.atan(float(np.hypot(*slope))))
    residual = np.abs(in_plane - np.outer(along, slope)).max(axis=1)
    if tilt > 0.2:
        text = f"The gantry is tilted by {tilt:.1f} degrees; slices were shifted onto an orthogonal grid"
        problems.append(VolumeProblem(kind=ProblemKind.TILT, count=len(planes), text=text))
    moved = int(np.count_nonzero(residual > 0.5 * min(first.pixel_spacing_mm)))
    if moved:
        text = f"{moved} slices lie sideways of the others; they were shifted onto one grid"
        problems.append(VolumeProblem(kind=ProblemKind.SHIFTED, count=moved, text=text))
    shifts = in_plane / np.asarray(first.pixel_spacing_mm)
    return tuple((float(row), float(column)) for row, column in shifts), tilt, -offset[0]

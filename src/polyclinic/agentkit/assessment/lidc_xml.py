"""The XML that LIDC-IDRI gives with each scan: what each of its readers drew in the unblinded session.

A nodule of 3 mm or more has outlines of several points; a smaller one has a single point, and is kept as a place of
3 mm that never counts. Coordinates are pixels (xCoord is the column), the outline is the first pixel outside.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from polyclinic.agentkit.assessment.annotations import Nodule, agreed, bounded_text, texture_group
from polyclinic.core.errors import Rejected
from polyclinic.dicom.geometry import VolumeGeometry

SMALL_MM = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """One region of interest: pixels (column, row) at one height of one image."""

    sop_instance_uid: str
    z_mm: float
    inclusion: bool
    column_row: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnNodule:
    outlines: tuple[Outline, ...]
    texture: float | None

    @property
    def is_small(self) -> bool:
        """Marked as smaller than 3 mm, by one point."""
        return all(len(outline.column_row) < 3 for outline in self.outlines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All readers of one scan, in the order of the file."""

    series_instance_uid: str
    sessions: tuple[tuple[DrawnNodule, ...], ...]


def read_lidc_xml(path: Path) -> Reading:
    """Read one ``LidcReadMessage``; element names count, the namespace does not.

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``assessment.annotations`` for anything else, for a document type (entities) and for what is no number.
    """
    text = bounded_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise _bad(path, "it declares a document type")
    try:
        root = ET.fromstring(text)  # noqa: S314 - bounded above, and document types are refused, so no entity expands
        uid = next((str(e.text or "").strip() for e in root.iter() if _name(e) == "SeriesInstanceUid"), "")
        sessions = tuple(
            tuple(drawn for e in session if _name(e) == "unblindedReadNodule" and (drawn := _drawn(e)).outlines)
            for session in root.iter()
            if _name(session) == "readingSession"
        )
    except (ET.ParseError, ValueError) as error:
        raise _bad(path, "it is no LidcReadMessage") from error
    if not uid or not sessions:
        raise _bad(path, "it is no LidcReadMessage of a CT")
    return Reading(series_instance_uid=uid, sessions=sessions)


def nodules_of(reading: Reading, geometry: VolumeGeometry, readers: int) -> tuple[Nodule, ...]:
    """The readers' drawings joined in patient space; those of at least `readers` readers and 3 mm count."""
    joined = agreed([[_placed(one, geometry) for one in session] for session in reading.sessions], readers)
    return tuple(
        nodule
        if nodule.diameter_mm > SMALL_MM or not nodule.counts
        else Nodule(centre_mm=nodule.centre_mm, diameter_mm=SMALL_MM, counts=False, readers=nodule.readers)
        for nodule in joined
    )


def _placed(drawn: DrawnNodule, geometry: VolumeGeometry) -> Nodule:
    groups: Mapping[str, str] = {} if drawn.texture is None else {"kind": texture_group(drawn.texture)}
    areas, middles, longest = [], [], 0.0
    for outline in drawn.outlines:
        points = np.asarray(outline.column_row, dtype=np.float64)
        x, y, _ = geometry.to_patient((0.0, float(points[:, 1].mean()), float(points[:, 0].mean())))
        area = abs(cv2.contourArea(points.astype(np.float32))) if len(points) > 2 else 0.0
        areas.append(max(area, 1e-3) * (1 if outline.inclusion else 0))
        middles.append((float(x), float(y), outline.z_mm))
        if outline.inclusion and len(points) > 2:
            # The outline runs outside the nodule, so the nodule is one pixel narrower than it.
            spacing = np.asarray((geometry.spacing_mm[2], geometry.spacing_mm[1]))
            away = points[:, None] - points[None]
            lengths = np.hypot(*np.moveaxis(away * spacing, -1, 0))
            longest = max(longest, float(lengths.max()) - float(spacing.mean()))
    weights = areas if sum(areas) > 0 else [1.0] * len(areas)
    x, y, z = (float(v) for v in np.average(np.asarray(middles), axis=0, weights=weights))
    return Nodule(centre_mm=(x, y, z), diameter_mm=max(longest, SMALL_MM), readers=1, groups=groups)


def _drawn(element: ET.Element) -> DrawnNodule:
    texture = next((float(e.text or "") for e in element.iter() if _name(e) == "texture"), None)
    return DrawnNodule(outlines=tuple(_outline(e) for e in element if _name(e) == "roi"), texture=texture)


def _outline(element: ET.Element) -> Outline:
    values = {_name(e): str(e.text or "").strip() for e in element}
    edges = [{_name(e): int(str(e.text or "")) for e in edge} for edge in element if _name(edge) == "edgeMap"]
    if not edges or "imageZposition" not in values or any(set(e) < {"xCoord", "yCoord"} for e in edges):
        raise ValueError("a region has no height or no points")
    return Outline(
        sop_instance_uid=values.get("imageSOP_UID", ""),
        z_mm=float(values["imageZposition"]),
        inclusion=values.get("inclusion", "TRUE").upper() == "TRUE",
        column_row=tuple((edge["xCoord"], edge["yCoord"]) for edge in edges),
    )


def _name(element: ET.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


def _bad(path: Path, why: str) -> Rejected:
    return Rejected("assessment.annotations", f"The annotations {path.name} cannot be used: {why}")

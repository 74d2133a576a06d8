"""Outlines of a finding as spatial coordinates of structured documents (DICOM PS3.3 C.18.6, C.18.9)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from highdicom.sr import (
    GraphicTypeValues,
    GraphicTypeValues3D,
    ImageRegion,
    ImageRegion3D,
    SourceImageForRegion,
)
from pydicom.dataset import Dataset

from polyclinic.core.findings import Contour, Finding, ImageReference, Point

FloatArray = npt.NDArray[np.float64]


def image_regions(finding: Finding, headers: Mapping[str, Dataset]) -> list[ImageRegion | ImageRegion3D]:
    """One region for each contour: on its image where the header says where that lies, else in patient space."""
    if finding.region is None:
        return []
    return [
        _region(contour, headers.get(contour.image.sop_instance_uid), finding.region.frame_of_reference_uid)
        for contour in finding.region.contours
    ]


def image_point(finding: Finding, headers: Mapping[str, Dataset]) -> ImageRegion | None:
    """The centre of a finding without outlines, on the first image of its evidence; None where there is none."""
    if finding.region is None or not finding.evidence.images:
        return None
    image = finding.evidence.images[0]
    header = headers.get(image.sop_instance_uid)
    if header is None or not _is_single_plane(header):
        return None
    return ImageRegion(
        graphic_type=GraphicTypeValues.POINT,
        graphic_data=to_image_coordinates(header, [finding.region.centre_mm]),
        source_image=_source(image),
    )


def to_image_coordinates(header: Dataset, points_mm: list[Point] | tuple[Point, ...]) -> FloatArray:
    """LPS mm -> (column, row) of an image, shape ``(n, 2)``.

    The centre of the first pixel is (0.5, 0.5), because spatial coordinates of SR count from the corner of the
    image (DICOM PS3.3 C.18.6.1.2), not from the centre of its first pixel as Image Position (Patient) does.
    """
    orientation = np.asarray(header.ImageOrientationPatient, dtype=np.float64)
    offset = np.asarray(points_mm, dtype=np.float64) - np.asarray(header.ImagePositionPatient, dtype=np.float64)
    row_spacing, column_spacing = (float(v) for v in header.PixelSpacing)
    column = offset @ orientation[:3] / column_spacing + 0.5
    row = offset @ orientation[3:] / row_spacing + 0.5
    inside = np.stack([np.clip(column, 0, header.Columns), np.clip(row, 0, header.Rows)], axis=1)
    return np.asarray(inside, dtype=np.float64)


def _region(contour: Contour, header: Dataset | None, frame_of_reference_uid: str) -> ImageRegion | ImageRegion3D:
    closed = len(contour.points_mm) > 2
    points = (*contour.points_mm, contour.points_mm[0]) if closed else contour.points_mm
    if header is not None and _is_single_plane(header):
        return ImageRegion(
            graphic_type=GraphicTypeValues.POLYLINE if len(points) > 1 else GraphicTypeValues.POINT,
            graphic_data=to_image_coordinates(header, points),
            source_image=_source(contour.image),
        )
    return ImageRegion3D(
        graphic_type=GraphicTypeValues3D.POLYGON if closed else GraphicTypeValues3D.POLYLINE,
        graphic_data=np.asarray(points, dtype=np.float64),
        frame_of_reference_uid=frame_of_reference_uid,
    )


def _is_single_plane(header: Dataset) -> bool:
    return all(header.get(k) for k in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))


def _source(image: ImageReference) -> SourceImageForRegion:
    return SourceImageForRegion(image.sop_class_uid, image.sop_instance_uid)

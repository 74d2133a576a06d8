"""Key images of a report's findings, drawn with their outlines, for the PDF."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from polyclinic.core import codes
from polyclinic.core.findings import Finding, ImageReference
from polyclinic.edges.report_pdf import ReportImage, key_image_png

MOST_PICTURES = 6
_MARGIN_MM = 30.0
_LUNG_WINDOW_HU = (-600.0, 1500.0)
_SOFT_TISSUE_WINDOW_HU = (40.0, 400.0)
_BONE_WINDOW_HU = (400.0, 1500.0)
_WINDOWS_HU = {
    codes.CORONARY_CALCIUM.code: _SOFT_TISSUE_WINDOW_HU,
    codes.ASCENDING_AORTA_DIAMETER.code: _SOFT_TISSUE_WINDOW_HU,
    codes.DESCENDING_AORTA_DIAMETER.code: _SOFT_TISSUE_WINDOW_HU,
    codes.LIVER_ATTENUATION.code: _SOFT_TISSUE_WINDOW_HU,
    codes.BONE_DENSITY.code: _BONE_WINDOW_HU,
}
"""Centre and width by what a picture shows; everything else is shown as lung."""


def report_pictures(
    findings: Sequence[Finding],
    key_images: Mapping[str, ImageReference],
    read: Callable[[str], Dataset],
    captions: Mapping[str, str],
) -> tuple[ReportImage, ...]:
    """One picture for each finding that has an outline, in order, at most `MOST_PICTURES`.

    Parameters
    ----------
    key_images
        Image to show by finding id.
    read
        Dataset with pixel data by SOP Instance UID.
    captions
        Caption by finding id.
    """
    pictures = []
    for finding in findings:
        image = key_images.get(finding.id)
        if image is None or finding.region is None or not finding.region.contours:
            continue
        pictures.append(ReportImage(png=_draw(finding, image, read), caption=captions.get(finding.id, "")))
        if len(pictures) == MOST_PICTURES:
            break
    return tuple(pictures)


def _draw(finding: Finding, image: ImageReference, read: Callable[[str], Dataset]) -> bytes:
    dataset = read(image.sop_instance_uid)
    hu = dataset.pixel_array * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
    region = finding.region
    outlines = [
        _column_row(dataset, contour.points_mm)
        for contour in (region.contours if region else ())
        if contour.image.sop_instance_uid == image.sop_instance_uid
    ]
    everything = np.concatenate(outlines) if outlines else _column_row(dataset, [region.centre_mm] if region else [])
    spacing = [float(v) for v in dataset.PixelSpacing]
    margin = np.array([_MARGIN_MM / spacing[1], _MARGIN_MM / spacing[0]])
    low = np.floor(everything.min(axis=0) - margin).astype(int)
    high = np.ceil(everything.max(axis=0) + margin).astype(int) + 1
    centre_hu, width_hu = _WINDOWS_HU.get(finding.code.code, _LUNG_WINDOW_HU)
    return key_image_png(
        np.clip(hu, -32768, 32767).astype(np.int16),
        outlines,
        window_centre_hu=centre_hu,
        window_width_hu=width_hu,
        crop=(int(low[1]), int(high[1]), int(low[0]), int(high[0])),
        left_marker="R" if float(dataset.ImageOrientationPatient[0]) > 0 else "",
    )


def _column_row(dataset: Dataset, points_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """LPS mm ``(n, 3)`` -> (column, row) ``(n, 2)`` on the image plane (DICOM PS3.3 C.7.6.2.1.1)."""
    orientation = np.array([float(v) for v in dataset.ImageOrientationPatient])
    origin = np.array([float(v) for v in dataset.ImagePositionPatient])
    row_spacing, column_spacing = (float(v) for v in dataset.PixelSpacing)
    relative = np.atleast_2d(np.asarray(points_mm, dtype=np.float64)) - origin
    return np.stack([relative @ orientation[:3] / column_spacing, relative @ orientation[3:] / row_spacing], axis=1)

"""A CT slice with the outline of a finding, as PNG."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from polyclinic.core.errors import Rejected

_SHIFT = 4
"""Fraction bits of the coordinates that OpenCV draws with."""
_OUTLINE_BGR = (60, 200, 255)


def key_image_png(
    hu_slice: npt.NDArray[np.int16],
    contours: Sequence[npt.ArrayLike] = (),
    *,
    window_centre_hu: float = -600.0,
    window_width_hu: float = 1500.0,
    crop: tuple[int, int, int, int] | None = None,
    longest_side_px: int = 512,
    left_marker: str = "",
) -> bytes:
    """Window the slice, cut it out, enlarge it and draw the outlines.

    Parameters
    ----------
    hu_slice
        One plane ``(row, column)`` in HU.
    contours
        Outlines, each ``(n, 2)`` in (column, row) with the centre of the first pixel at (0, 0); three points or
        more are closed, two are a line.
    window_centre_hu, window_width_hu
        Linear window (DICOM PS3.3 C.11.2.1.2.1); values outside are black or white.
    crop
        First row, end row, first column, end column; cut to the image. None shows the whole plane.
    longest_side_px
        Size of the picture.
    left_marker
        One or two ASCII letters at the left edge, e.g. ``"R"`` where the left edge is the patient's right.

    Raises
    ------
    Rejected
        ``report-pdf.key-image`` when the slice is not a plane, the window has no width or the crop is empty.
    """
    if hu_slice.ndim != 2 or window_width_hu < 1:
        raise Rejected("report-pdf.key-image", "A key image needs a plane of HU and a window of at least 1 HU")
    first_row, end_row, first_column, end_column = _inside(hu_slice.shape, crop)
    plane = hu_slice[first_row:end_row, first_column:end_column].astype(np.float32)
    low = window_centre_hu - window_width_hu / 2
    grey = np.clip((plane - low) * (255.0 / window_width_hu), 0, 255).astype(np.uint8)
    scale = longest_side_px / max(grey.shape)
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    picture = cv2.cvtColor(cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2BGR)
    for contour in contours:
        points = np.asarray(contour, dtype=np.float64).reshape(-1, 2) - (first_column, first_row)
        # A pixel centre at k lies at (k + 0.5) * scale - 0.5 of the enlarged picture.
        drawn = np.rint(((points + 0.5) * scale - 0.5) * (1 << _SHIFT)).astype(np.int32)
        cv2.polylines(picture, [drawn], len(drawn) > 2, _OUTLINE_BGR, 2, cv2.LINE_AA, _SHIFT)
    if left_marker:
        place = (6, size[1] // 2 + 8)
        cv2.putText(picture, left_marker[:2], place, cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2, cv2.LINE_AA)
    written, encoded = cv2.imencode(".png", picture)
    if not written:
        raise Rejected("report-pdf.key-image", "The key image could not be encoded")
    return bytes(encoded)


def _inside(shape: tuple[int, ...], crop: tuple[int, int, int, int] | None) -> tuple[int, int, int, int]:
    if crop is None:
        return 0, shape[0], 0, shape[1]
    first_row, end_row = max(crop[0], 0), min(crop[1], shape[0])
    first_column, end_column = max(crop[2], 0), min(crop[3], shape[1])
    if first_row >= end_row or first_column >= end_column:
        raise Rejected("report-pdf.key-image", "The crop of the key image lies outside the slice")
    return first_row, end_row, first_column, end_column

"""Dark places inside a denser ring."""

from __future__ import annotations

import cv2
import numba
import numpy as np
import numpy.typing as npt

from polyclinic_agents.chest_ct.scan import BoolArray, Float32Array

CAVITY_LEVELS_HU = (-700.0, -550.0, -400.0)
MAX_CAVITY_MM2 = 110.0


def fill_cavities(image: Float32Array, allowed: BoolArray, pixel_mm2: float) -> None:
    """Raise small dark places that a denser ring encloses to the ring's level, in place.

    A cavitary nodule then counts as one body. Airways in cross-section are filled too; they stay tubes.
    """
    for level in CAVITY_LEVELS_HU:
        _fill_below(level, image, allowed, pixel_mm2)


def fill_small_cavities(planes: Float32Array, allowed: BoolArray, pixel_mm2: float) -> None:
    """`fill_cavities` for each of many small images, most of which have no cavity at most levels."""
    # Filling raises nothing above its level, so it makes or closes no ring at the levels after it.
    levels = np.asarray(CAVITY_LEVELS_HU, dtype=np.float32)
    for index, number in np.argwhere(_enclosing(planes, allowed, levels, MAX_CAVITY_MM2 / pixel_mm2)):
        _fill_below(CAVITY_LEVELS_HU[number], planes[index], allowed[index], pixel_mm2)


def _fill_below(level: float, image: Float32Array, allowed: BoolArray, pixel_mm2: float) -> None:
    dense = ((image > level) | ~allowed).astype(np.uint8)
    contours, tree = cv2.findContours(dense, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if tree is None:
        return
    holes = [
        contour
        for contour, links in zip(contours, tree.reshape(-1, 4), strict=True)
        if links[3] >= 0 and cv2.contourArea(contour) * pixel_mm2 < MAX_CAVITY_MM2
    ]
    if holes:
        filled = np.zeros(image.shape, dtype=np.uint8)
        cv2.drawContours(filled, holes, -1, 1, thickness=cv2.FILLED)
        raised = (filled > 0) & allowed & (image < level)
        image[raised] = level


@numba.njit(
    "UniTuple(int64, 2)(boolean[::1], int64[::1], int64, int64, int64)", cache=True, nogil=True, error_model="numpy"
)
def _spread(seen: BoolArray, waiting: npt.NDArray[np.int64], start: int, rows: int, columns: int) -> tuple[int, int]:
    """Number of pixels of the unseen region at `start`, which is seen then, and how many of them lie on the border."""
    seen[start] = True
    waiting[0] = start
    count, size, border = 1, 0, 0
    while count:
        count -= 1
        size += 1
        at = waiting[count]
        row, column = at // columns, at % columns
        if row == 0 or column == 0 or row == rows - 1 or column == columns - 1:
            border += 1
        for direction in range(4):
            if direction == 0 and row > 0:
                to = at - columns
            elif direction == 1 and row < rows - 1:
                to = at + columns
            elif direction == 2 and column > 0:
                to = at - 1
            elif direction == 3 and column < columns - 1:
                to = at + 1
            else:
                continue
            if not seen[to]:
                seen[to] = True
                waiting[count] = to
                count += 1
    return size, border


@numba.njit("boolean[:,::1](float32[:,:,::1], boolean[:,:,::1], float32[::1], float64)", cache=True, nogil=True)
def _enclosing(planes: Float32Array, allowed: BoolArray, levels: Float32Array, most: float) -> BoolArray:
    """Whether each plane has, at each level, a dark region of less than `most` pixels that does not reach its border.

    The outline of such a region runs through the ring around it, so its area is more than its number of pixels.
    """
    slices, rows, columns = planes.shape
    out = np.zeros((slices, levels.size), np.bool_)
    seen = np.empty(rows * columns, np.bool_)
    waiting = np.empty(rows * columns, np.int64)
    for index in range(slices):
        hu, inside = planes[index].ravel(), allowed[index].ravel()
        for number in range(levels.size):
            for at in range(seen.size):
                seen[at] = hu[at] > levels[number] or not inside[at]
            for start in range(seen.size):
                if not seen[start]:
                    size, border = _spread(seen, waiting, start, rows, columns)
                    if border == 0 and size < most:
                        out[index, number] = True
                        break
    return out

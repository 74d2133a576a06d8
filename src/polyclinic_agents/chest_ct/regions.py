"""The connected part of a mask at one place."""

from __future__ import annotations

import numba
import numpy as np

from polyclinic_agents.chest_ct.scan import BoolArray


def part_at(mask: BoolArray, place: tuple[np.intp, ...]) -> BoolArray:
    """The six-connected part of `mask` that holds the voxel at `place`; empty where that is not in the mask."""
    return np.asarray(_part_at(np.ascontiguousarray(mask), int(place[0]), int(place[1]), int(place[2])), dtype=np.bool_)


@numba.njit("boolean[:,:,::1](boolean[:,:,::1], int64, int64, int64)", cache=True, nogil=True)
def _part_at(mask: BoolArray, plane: int, row: int, column: int) -> BoolArray:
    slices, rows, columns = mask.shape
    out = np.zeros((slices, rows, columns), np.bool_)
    if not mask[plane, row, column]:
        return out
    area = rows * columns
    flat, inside = out.ravel(), mask.ravel()
    waiting = np.empty(flat.size, np.int64)
    waiting[0] = plane * area + row * columns + column
    flat[waiting[0]] = True
    count = 1
    while count:
        count -= 1
        at = waiting[count]
        z, rest = at // area, at % area
        y, x = rest // columns, rest % columns
        for direction in range(6):
            if direction == 0 and z > 0:
                to = at - area
            elif direction == 1 and z < slices - 1:
                to = at + area
            elif direction == 2 and y > 0:
                to = at - columns
            elif direction == 3 and y < rows - 1:
                to = at + columns
            elif direction == 4 and x > 0:
                to = at - 1
            elif direction == 5 and x < columns - 1:
                to = at + 1
            else:
                continue
            if inside[to] and not flat[to]:
                flat[to] = True
                waiting[count] = to
                count += 1
    return out

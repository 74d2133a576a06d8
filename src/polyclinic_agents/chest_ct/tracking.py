"""Following a structure from slice to slice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from polyclinic_agents.chest_ct.scan import Float32Array


def best_path(scores: Float32Array, reach: int = 2, bend: float = 6.0) -> npt.NDArray[np.int64]:
    """Rows and columns of the path of highest sum through ``scores`` (slice, row, column), ``(slices, 2)``.

    A step may be `reach` voxels along each axis and costs `bend` times its squared length.
    """
    steps = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
    total = scores[0].copy()
    came = np.zeros(scores.shape, dtype=np.int16)
    rows, columns = scores.shape[1:]
    for index in range(1, len(scores)):
        around = np.pad(total, reach, constant_values=-np.inf)
        choices = np.stack(
            [
                around[reach + dy : reach + dy + rows, reach + dx : reach + dx + columns] - bend * (dy * dy + dx * dx)
                for dy, dx in steps
            ]
        )
        came[index] = choices.argmax(axis=0)
        total = choices.max(axis=0) + scores[index]
    row, column = (int(i) for i in np.unravel_index(int(total.argmax()), total.shape))
    path = [(row, column)]
    for index in range(len(scores) - 1, 0, -1):
        dy, dx = steps[came[index, row, column]]
        row, column = row + dy, column + dx
        path.append((row, column))
    return np.asarray(path[::-1], dtype=np.int64)

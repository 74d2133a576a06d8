"""What a model takes and gives, and the checks and batching that every engine shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polyclinic.core.errors import Rejected

Arrays = dict[str, npt.NDArray[np.float32]]
Shape = tuple[int | None, ...]
"""Length of each axis; None where the model takes any."""

ROWS_AT_ONCE = 256
"""Longest batch given to an engine, so that many candidates cannot exhaust the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Shapes of the inputs by name. Values are float32."""

    inputs: Mapping[str, Shape]

    def check(self, arrays: Mapping[str, npt.NDArray[np.float32]]) -> int:
        """Number of rows in the batch.

        Raises
        ------
        Rejected
            ``inference.input`` naming the first input that does not fit.
        """
        if arrays.keys() != self.inputs.keys():
            raise Rejected("inference.input", f"The model takes the inputs {sorted(self.inputs)}, no others")
        for name, shape in self.inputs.items():
            array = arrays[name]
            fits = array.ndim == len(shape) and all(
                want in (None, have) for want, have in zip(shape, array.shape, strict=False)
            )
            if not fits or array.dtype != np.float32:
                wanted = " x ".join("n" if axis is None else str(axis) for axis in shape)
                raise Rejected("inference.input", f"Input {name} must be float32 of {wanted}, not {array.shape}")
        rows = {array.shape[0] for array in arrays.values()}
        if len(rows) != 1:
            raise Rejected("inference.input", "All inputs need the same number of rows")
        return int(rows.pop())

    @property
    def any_batch(self) -> bool:
        """Whether rows may be split over several calls."""
        return all(shape and shape[0] is None for shape in self.inputs.values())


def run_in_batches(
    signature: Signature, arrays: Mapping[str, npt.NDArray[np.float32]], call: Callable[[Arrays], Arrays]
) -> Arrays:
    """Check the inputs, give them to `call` at most ROWS_AT_ONCE rows at a time, and join the outputs."""
    rows = signature.check(arrays)
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    if rows <= ROWS_AT_ONCE or not signature.any_batch:
        return call(whole)
    parts = [
        call({name: array[start : start + ROWS_AT_ONCE] for name, array in whole.items()})
        for start in range(0, rows, ROWS_AT_ONCE)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

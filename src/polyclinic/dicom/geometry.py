"""Where voxels lie in patient space (DICOM PS3.3 C.7.6.2.1.1, LPS, millimetres)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polyclinic.core.findings import Point

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeGeometry:
    """Regular grid of voxels with axes (slice, row, column).

    `origin_mm` is the centre of voxel (0, 0, 0). The three directions are unit vectors along which the slice,
    row and column *index* grows; they are orthogonal (a tilted gantry is resampled or refused before this).
    """

    frame_of_reference_uid: str
    shape: tuple[int, int, int]
    origin_mm: Point
    slice_direction: Point
    row_direction: Point
    column_direction: Point
    spacing_mm: tuple[float, float, float]

    @property
    def voxel_volume_mm3(self) -> float:
        return self.spacing_mm[0] * self.spacing_mm[1] * self.spacing_mm[2]

    def index_to_patient_matrix(self) -> FloatArray:
        """4 x 4 affine: homogeneous (slice, row, column) index -> LPS mm."""
        matrix = np.eye(4)
        directions = (self.slice_direction, self.row_direction, self.column_direction)
        for axis, (direction, spacing) in enumerate(zip(directions, self.spacing_mm, strict=True)):
            matrix[:3, axis] = np.asarray(direction) * spacing
        matrix[:3, 3] = self.origin_mm
        return matrix

    def to_patient(self, index: npt.ArrayLike) -> FloatArray:
        """Indices ``(..., 3)`` in (slice, row, column), fractions allowed -> LPS mm ``(..., 3)``."""
        matrix = self.index_to_patient_matrix()
        return np.asarray(np.asarray(index, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3])

    def to_index(self, point_mm: npt.ArrayLike) -> FloatArray:
        """LPS mm ``(..., 3)`` -> fractional (slice, row, column) indices ``(..., 3)``."""
        inverse = np.linalg.inv(self.index_to_patient_matrix())
        return np.asarray(np.asarray(point_mm, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3])

"""What a synthetic chest CT should be, and what is true of the one that was made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from polyclinic.core.errors import Rejected
from polyclinic.core.findings import Point
from polyclinic.dicom.geometry import VolumeGeometry

RIGHT_LUNG_LABEL = 1
LEFT_LUNG_LABEL = 2


class NoduleKind(StrEnum):
    """Attenuation type, in the words of Lung-RADS v2022."""

    SOLID = "solid"
    PART_SOLID = "part-solid"
    GROUND_GLASS = "ground-glass"
    CALCIFIED = "calcified"


class Kernel(StrEnum):
    """Reconstruction kernel: how sharp the image is and how its noise is correlated."""

    SMOOTH = "SOFT"
    STANDARD = "STANDARD"
    SHARP = "LUNG"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoduleSpec:
    """A nodule to plant: an ellipsoid, so that its volume is known exactly.

    `semi_axis_ratios` scale the radius along LPS x, y, z; their product is normalised to 1, so that the volume is
    that of a sphere of `diameter_mm`. Without `centre_mm` the seed chooses a free place in either lung.
    """

    diameter_mm: float
    kind: NoduleKind = NoduleKind.SOLID
    centre_mm: Point | None = None
    semi_axis_ratios: Point = (1.0, 1.0, 1.0)
    spiculated: bool = False
    """Adds thin spicules around the ellipsoid; they are drawn, and not counted in volume and diameters."""

    def __post_init__(self) -> None:
        if not 1.0 <= self.diameter_mm <= 60.0:
            raise Rejected("phantom.nodule-size", "Nodule diameter must be between 1 and 60 mm")
        if min(self.semi_axis_ratios) <= 0.3 or max(self.semi_axis_ratios) > 3.0:
            raise Rejected("phantom.nodule-shape", "Semi-axis ratios must lie between 0.3 and 3")

    @property
    def semi_axes_mm(self) -> Point:
        """Semi-axes along x, y, z in mm."""
        x, y, z = self.semi_axis_ratios
        scale = 0.5 * self.diameter_mm / (x * y * z) ** (1.0 / 3.0)
        return (x * scale, y * scale, z * scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChestPhantom:
    """Specification; equal specifications give equal bytes.

    The anatomy has a fixed size in mm and is centred in the field of view, so 300 mm along z hold both lungs
    whole, and fewer make a truncated study.
    """

    seed: int = 1
    slices: int = 300
    rows: int = 512
    columns: int = 512
    spacing_mm: tuple[float, float] = (0.7, 0.7)
    """(row, column) spacing, as DICOM Pixel Spacing."""
    slice_spacing_mm: float = 1.0
    slice_thickness_mm: float = 1.0
    kernel: Kernel = Kernel.STANDARD
    noise_hu: float = 22.0
    """Standard deviation of the noise in the middle of the body, for the STANDARD kernel's texture."""
    nodules: tuple[NoduleSpec, ...] | None = None
    """The nodules to plant; None lets the seed draw `nodule_count` of `nodule_diameter_mm`."""
    nodule_count: int = 4
    nodule_diameter_mm: tuple[float, float] = (5.0, 14.0)
    emphysema_fraction: float = 0.0
    """Wanted share of lung volume turned into emphysema, 0 to 0.6; the study says what came out."""
    ground_glass_opacities: int = 0
    """Number of hazy peripheral areas, as in viral pneumonia."""
    contrast: bool = False
    """Whether the blood carries contrast medium (about 220 HU)."""
    sex: str = "F"
    age_years: int = 61
    patient_id: str = "SYN-CHEST-0001"
    patient_name: str = "Synthetic^Chest=合成^胸部"
    accession_number: str = "SYN0001"
    study_description: str = "Synthetic chest CT"
    acquired_at: datetime = datetime(2026, 1, 15, 9, 30)  # noqa: DTZ001 - DICOM dates carry no zone here
    lung_hu: float = -865.0

    def __post_init__(self) -> None:
        if min(self.slices, self.rows, self.columns) < 8 or max(self.rows, self.columns) > 2048:
            raise Rejected("phantom.size", "A phantom needs 8 to 2048 rows and columns and at least 8 slices")
        if min(*self.spacing_mm, self.slice_spacing_mm, self.slice_thickness_mm) <= 0:
            raise Rejected("phantom.spacing", "Spacing and thickness must be positive millimetres")
        if not 0.0 <= self.emphysema_fraction <= 0.6:
            raise Rejected("phantom.emphysema", "The emphysema fraction must lie between 0 and 0.6")
        if self.sex not in ("F", "M"):
            raise Rejected("phantom.sex", "Sex must be F or M")

    @staticmethod
    def small(seed: int = 1, **changes: object) -> ChestPhantom:
        """256 x 256 x 100 voxels of 1.4 x 1.4 x 3 mm: whole lungs, quick enough for a test of an agent."""
        fields: dict[str, object] = {
            "seed": seed, "slices": 100, "rows": 256, "columns": 256, "spacing_mm": (1.4, 1.4),
            "slice_spacing_mm": 3.0, "slice_thickness_mm": 3.0, "noise_hu": 15.0,
            "nodule_diameter_mm": (8.0, 16.0),
        }  # fmt: skip
        return ChestPhantom(**(fields | changes))  # type: ignore[arg-type]

    @staticmethod
    def tiny(seed: int = 1, **changes: object) -> ChestPhantom:
        """128 x 128 x 60 voxels of 2.8 x 2.8 x 5 mm: whole lungs, for tests that only move instances about."""
        fields: dict[str, object] = {
            "seed": seed, "slices": 60, "rows": 128, "columns": 128, "spacing_mm": (2.8, 2.8),
            "slice_spacing_mm": 5.0, "slice_thickness_mm": 5.0, "noise_hu": 10.0,
            "nodule_diameter_mm": (12.0, 20.0), "nodule_count": 2,
        }  # fmt: skip
        return ChestPhantom(**(fields | changes))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoduleTruth:
    """One planted nodule as it is."""

    number: int
    """Voxel value in `PhantomStudy.nodule_labels`, from 1."""
    centre_mm: Point
    kind: NoduleKind
    semi_axes_mm: Point
    long_axis_mm: float
    """Largest diameter in the axial plane through the centre."""
    short_axis_mm: float
    """Diameter perpendicular to it in the same plane."""
    volume_mm3: float
    """Of the ellipsoid, analytic."""
    side: str
    """``"left"`` or ``"right"``."""
    hu: float
    """Attenuation of the nodule (of its rim when part-solid), before blur and noise."""
    core_diameter_mm: float
    """Diameter of the solid core of equal volume; 0 unless part-solid."""

    @property
    def mean_diameter_mm(self) -> float:
        """Mean of long and short axis."""
        return 0.5 * (self.long_axis_mm + self.short_axis_mm)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PhantomStudy:
    """The image and its exact truth, all on one grid with axes (slice, row, column); slice 0 is lowest."""

    spec: ChestPhantom
    geometry: VolumeGeometry
    hu: npt.NDArray[np.int16]
    lung_labels: npt.NDArray[np.uint8]
    """`RIGHT_LUNG_LABEL`, `LEFT_LUNG_LABEL` or 0; vessels and nodules inside the pleura belong to the lung."""
    nodule_labels: npt.NDArray[np.uint8]
    """Number of the nodule that fills at least half of the voxel, else 0."""
    nodules: tuple[NoduleTruth, ...]
    emphysema_share: float
    """Share of all lung voxels that were made emphysematous."""

    @property
    def lung_volume_ml(self) -> dict[str, float]:
        """Volume of each lung in millilitres, by counting voxels."""
        voxel_ml = self.geometry.voxel_volume_mm3 / 1000.0
        counts = np.bincount(self.lung_labels.ravel(), minlength=3)
        return {"right": float(counts[1] * voxel_ml), "left": float(counts[2] * voxel_ml)}

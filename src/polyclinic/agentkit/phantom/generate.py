"""`make_chest_phantom`: from a specification to an image and its truth."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import numpy.typing as npt

from polyclinic.agentkit.phantom import draw, nodules
from polyclinic.agentkit.phantom.bones import CORTEX_MM, bone_capsules, cartilage_field, vertebral_fields
from polyclinic.agentkit.phantom.chest import MIDLINE_X_MM, Chest, build_chest
from polyclinic.agentkit.phantom.fields import CoarseGrid, Field
from polyclinic.agentkit.phantom.parenchyma import lung_tissue
from polyclinic.agentkit.phantom.scanner import finish_slice
from polyclinic.agentkit.phantom.spec import ChestPhantom, PhantomStudy
from polyclinic.agentkit.phantom.trees import grow_trees
from polyclinic.core.ids import stable_uid
from polyclinic.dicom.geometry import VolumeGeometry

_CENTRE_Z_MM = -24.0
_CENTRE_Y_MM = 6.0
_EMPHYSEMA_HU = -950.0
_CORTEX_HU = 780.0
_MARROW_HU = 210.0


def make_chest_phantom(spec: ChestPhantom) -> PhantomStudy:
    """Make the image and its truth; equal specifications give equal arrays.

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``phantom.nodule-outside-lungs`` or ``phantom.no-room``.
    """
    geometry = phantom_geometry(spec)
    grid = _coarse_grid(spec, geometry)
    body_rng, nodule_rng, texture_rng = (np.random.default_rng((spec.seed, stream)) for stream in (11, 12, 13))
    chest = build_chest(grid, spec.sex, spec.contrast)
    trees = grow_trees(grid, chest.lungs, body_rng, max(8.5, 3.0 * float(np.mean(geometry.spacing_mm))))
    specs = nodules.draw_specs(spec, nodule_rng)
    tubes = np.concatenate([trees.vessels, trees.airway_walls])
    truth = nodules.place(specs, grid, chest.lungs, tubes, geometry, nodule_rng)
    vessels = np.concatenate([nodules.clear_of(trees.vessels, truth), nodules.spicules(truth, specs, nodule_rng)])
    volumes = _Volumes(
        bone=draw.draw_depth(bone_capsules(), geometry),
        vessel=draw.draw_coverage(vessels, geometry, spec.slice_thickness_mm),
        wall=draw.draw_coverage(nodules.clear_of(trees.airway_walls, truth), geometry, spec.slice_thickness_mm),
        lumen=draw.draw_coverage(nodules.clear_of(trees.airway_lumens, truth), geometry, spec.slice_thickness_mm),
    )
    painter = _Painter(spec, geometry, grid, chest, volumes, lung_tissue(grid, chest.lungs, spec, texture_rng))
    study = painter.paint(truth)
    return study


def phantom_geometry(spec: ChestPhantom) -> VolumeGeometry:
    """Grid of the image; slice 0 is the lowest, as z grows to the head."""
    row_mm, column_mm = spec.spacing_mm
    return VolumeGeometry(
        frame_of_reference_uid=stable_uid("phantom-frame", spec),
        shape=(spec.slices, spec.rows, spec.columns),
        origin_mm=(
            -(spec.columns - 1) / 2 * column_mm,
            _CENTRE_Y_MM - (spec.rows - 1) / 2 * row_mm,
            _CENTRE_Z_MM - (spec.slices - 1) / 2 * spec.slice_spacing_mm,
        ),
        slice_direction=(0.0, 0.0, 1.0),
        row_direction=(0.0, 1.0, 0.0),
        column_direction=(1.0, 0.0, 0.0),
        spacing_mm=(spec.slice_spacing_mm, row_mm, column_mm),
    )


def _coarse_grid(spec: ChestPhantom, geometry: VolumeGeometry) -> CoarseGrid:
    step = float(np.clip(1.6 * np.mean(geometry.spacing_mm), 3.0, 5.0))
    low, high = geometry.to_patient([[0, 0, 0], np.asarray(geometry.shape) - 1])
    low = np.maximum(low, (-200.0, -160.0, -400.0)) - step
    high = np.minimum(high, (200.0, 160.0, 400.0)) + 2 * step
    shape = np.ceil((high - low) / step).astype(int)[::-1] + 1
    x, y, z = (float(v) for v in low)
    return CoarseGrid(origin_mm=(x, y, z), step_mm=step, shape=(int(shape[0]), int(shape[1]), int(shape[2])))


class _Volumes:
    """What was drawn at full resolution before the slices are painted."""

    def __init__(
        self, *, bone: draw.Coverage, vessel: draw.Coverage, wall: draw.Coverage, lumen: draw.Coverage
    ) -> None:
        self.bone, self.vessel, self.wall, self.lumen = bone, vessel, wall, lumen


class _Painter:
    """Lays the fields over each other slice by slice."""

    def __init__(
        self,
        spec: ChestPhantom,
        geometry: VolumeGeometry,
        grid: CoarseGrid,
        chest: Chest,
        volumes: _Volumes,
        tissue: Field,
    ) -> None:
        self.spec, self.geometry, self.grid, self.volumes = spec, geometry, grid, volumes
        bodies, column, canal = vertebral_fields(grid)
        self.layers: list[tuple[Field, float]] = [
            (chest.body, 25.0),
            (chest.body + 2.0, -105.0),
            (chest.outer_muscle, 50.0),
            (chest.cage - 15.5, -85.0),
            (chest.cage - 12.5, 46.0),
            *chest.organs,
            (cartilage_field(grid), 98.0),
            (column, 88.0),
            (bodies, 430.0),
            (bodies + CORTEX_MM, 190.0),
            (canal, 24.0),
        ]
        self.lungs, self.cage, self.tissue = chest.lungs, chest.cage, tissue
        self.edge_mm = float(np.mean(geometry.spacing_mm[1:]))
        self.emphysema_voxels = np.zeros(spec.slices, dtype=np.int64)
        self.map = np.array(
            [
                [geometry.spacing_mm[2] / grid.step_mm, 0, (geometry.origin_mm[0] - grid.origin_mm[0]) / grid.step_mm],
                [0, geometry.spacing_mm[1] / grid.step_mm, (geometry.origin_mm[1] - grid.origin_mm[1]) / grid.step_mm],
            ]
        )

    def paint(self, truth: tuple[nodules.NoduleTruth, ...]) -> PhantomStudy:
        hu = np.empty(self.geometry.shape, dtype=np.int16)
        labels = np.zeros(self.geometry.shape, dtype=np.uint8)
        nodule_labels = np.zeros(self.geometry.shape, dtype=np.uint8)
        with ThreadPoolExecutor(draw.THREADS) as pool:
            list(pool.map(lambda index: self._paint_slice(index, hu, labels, nodule_labels, truth), range(len(hu))))
        lung_voxels = max(int(np.count_nonzero(labels)), 1)
        return PhantomStudy(
            spec=self.spec,
            geometry=self.geometry,
            hu=hu,
            lung_labels=labels,
            nodule_labels=nodule_labels,
            nodules=truth,
            emphysema_share=float(self.emphysema_voxels.sum()) / lung_voxels,
        )

    def _paint_slice(
        self,
        index: int,
        hu: npt.NDArray[np.int16],
        labels: npt.NDArray[np.uint8],
        nodule_labels: npt.NDArray[np.uint8],
        truth: tuple[nodules.NoduleTruth, ...],
    ) -> None:
        height = (
            self.geometry.origin_mm[2] + index * self.geometry.spacing_mm[0] - self.grid.origin_mm[2]
        ) / self.grid.step_mm
        image = np.full(self.geometry.shape[1:], -1000.0, dtype=np.float32)
        planes, levels = [], []
        for field, level in self.layers:
            plane = self._coarse_plane(field, height)
            if plane.min() < self.grid.step_mm:
                planes.append(self._fine(plane))
                levels.append(level)
        if planes:
            draw.paint_slice(image, np.stack(planes), np.asarray(levels, np.float32), np.float32(self.edge_mm))
        split = (MIDLINE_X_MM - self.geometry.origin_mm[0]) / self.geometry.spacing_mm[2]
        self.emphysema_voxels[index] = draw.paint_lung_and_tubes(
            image,
            self._fine(self._coarse_plane(self.lungs, height)),
            self._fine(self._coarse_plane(self.cage, height)),
            self._fine(self._coarse_plane(self.tissue, height)),
            self.volumes.bone[index],
            self.volumes.vessel[index],
            self.volumes.wall[index],
            self.volumes.lumen[index],
            np.float32(self.edge_mm),
            np.float32(220.0 if self.spec.contrast else 42.0),
            np.float32(_CORTEX_HU),
            np.float32(_MARROW_HU),
            np.float32(CORTEX_MM),
            np.float32(_EMPHYSEMA_HU),
            labels[index],
            np.float32(split),
        )
        for nodule in truth:
            nodules.render_slice(
                image, nodule_labels[index], nodule, self.geometry, index, self.spec.slice_thickness_mm
            )
        hu[index] = finish_slice(image, index, self.spec, self.geometry)

    def _coarse_plane(self, field: Field, height: float) -> Field:
        low = min(max(int(height), 0), field.shape[0] - 2)
        part = np.float32(height - low)
        plane: Field = field[low] * (1 - part) + field[low + 1] * part
        return plane

    def _fine(self, plane: Field) -> Field:
        fine: Field = cv2.warpAffine(
            plane,
            self.map,
            (self.geometry.shape[2], self.geometry.shape[1]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return fine

"""`make_chest_phantom`: from a specification to an image and its truth."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from polyclinic.agentkit.phantom import draw, nodules
from polyclinic.agentkit.phantom.bones import CORTEX_MM, bone_capsules, cartilage_field, scaled, vertebral_fields
from polyclinic.agentkit.phantom.chest import MIDLINE_X_MM, Chest, build_chest, draw_build
from polyclinic.agentkit.phantom.fields import CoarseGrid, Field
from polyclinic.agentkit.phantom.parenchyma import lung_tissue
from polyclinic.agentkit.phantom.scanner import Scanner
from polyclinic.agentkit.phantom.spec import ChestPhantom, NoduleTruth, PhantomStudy
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
    body_rng, nodule_rng, texture_rng, build_rng = (
        np.random.default_rng((spec.seed, stream)) for stream in (11, 12, 13, 15)
    )
    build = draw_build(build_rng)
    model_grid = grid.rescaled(build.scale)
    chest = build_chest(model_grid, spec.sex, spec.contrast, build)
    twig_spacing_mm = max(7.5, 3.0 * float(np.mean(geometry.spacing_mm)))
    trees = grow_trees(model_grid, chest.lungs, body_rng, twig_spacing_mm).scaled(build.scale)
    specs = nodules.draw_specs(spec, nodule_rng)
    tubes = np.concatenate([trees.vessels, trees.airway_walls])
    room = nodules.Room(grid=grid, lungs=chest.lungs, tubes=tubes, geometry=geometry)
    truth = nodules.place(specs, room, nodule_rng)
    vessels = np.concatenate([nodules.clear_of(trees.vessels, truth), nodules.spicules(truth, specs, nodule_rng)])
    thickness_mm = spec.slice_thickness_mm
    scene = _Scene(
        spec=spec,
        geometry=geometry,
        grid=grid,
        model_grid=model_grid,
        chest=chest,
        tissue=lung_tissue(grid, chest.lungs, spec, texture_rng),
        nodules=truth,
        bone=draw.draw_depth(scaled(bone_capsules(), build.scale), geometry),
        vessel=draw.draw_coverage(vessels, geometry, thickness_mm),
        wall=draw.draw_coverage(nodules.clear_of(trees.airway_walls, truth), geometry, thickness_mm),
        lumen=draw.draw_coverage(nodules.clear_of(trees.airway_lumens, truth), geometry, thickness_mm),
    )
    return _Painter(scene).paint()


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
    """A grid whose cells cover the image edge to edge, so that an ordinary image resize brings it to the pixels."""
    wanted = float(np.clip(1.6 * np.mean(geometry.spacing_mm), 3.2, 5.0))
    starts, steps, counts = [], [], []
    for axis, coordinate in ((2, 0), (1, 1)):
        spacing = geometry.spacing_mm[axis]
        extent = geometry.shape[axis] * spacing
        count = max(round(extent / wanted), 4)
        counts.append(count)
        steps.append(extent / count)
        starts.append(geometry.origin_mm[coordinate] - spacing / 2 + extent / count / 2)
    length = (geometry.shape[0] - 1) * geometry.spacing_mm[0]
    return CoarseGrid(
        origin_mm=(starts[0], starts[1], geometry.origin_mm[2] - wanted),
        steps_mm=(steps[0], steps[1], wanted),
        shape=(math.ceil(length / wanted) + 3, counts[1], counts[0]),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scene:
    """Everything that is to be painted: organs on the coarse grid, tubes and bones drawn at full resolution."""

    spec: ChestPhantom
    geometry: VolumeGeometry
    grid: CoarseGrid
    model_grid: CoarseGrid
    """The same nodes in the coordinates of the drawing."""
    chest: Chest
    tissue: Field
    nodules: tuple[NoduleTruth, ...]
    bone: draw.Coverage
    vessel: draw.Coverage
    wall: draw.Coverage
    lumen: draw.Coverage


class _Painter:
    """Lays the fields of a scene over each other slice by slice."""

    def __init__(self, scene: _Scene) -> None:
        self.scene = scene
        chest, geometry = scene.chest, scene.geometry
        bodies, column, canal = vertebral_fields(scene.model_grid)
        self.layers: list[tuple[Field, float]] = [
            (chest.body, 25.0),
            (chest.body + 2.0, -105.0),
            (chest.outer_muscle, 50.0),
            (chest.cage - 15.5, -85.0),
            (chest.cage - 12.5, 46.0),
            *chest.organs,
            (cartilage_field(scene.model_grid), 98.0),
            (column, 88.0),
            (bodies, 430.0),
            (bodies + CORTEX_MM, 190.0),
            (canal, 24.0),
        ]
        self.lowest = [field.min(axis=(1, 2)) for field, _ in self.layers]
        self.edge_mm = np.float32(np.mean(geometry.spacing_mm[1:]))
        self.scanner = Scanner(scene.spec, geometry)

    def paint(self) -> PhantomStudy:
        """Paint every slice; slices are independent, so the threads cannot change the result."""
        scene, shape = self.scene, self.scene.geometry.shape
        hu = np.empty(shape, dtype=np.int16)
        lungs = np.zeros(shape, dtype=np.uint8)
        nodule_labels = np.zeros(shape, dtype=np.uint8)
        with ThreadPoolExecutor(draw.THREADS) as pool:
            emphysema = pool.map(
                lambda index: self._paint_slice(index, hu[index], lungs[index], nodule_labels[index]),
                range(shape[0]),
            )
            low_voxels = sum(emphysema)
        return PhantomStudy(
            spec=scene.spec,
            geometry=scene.geometry,
            hu=hu,
            lung_labels=lungs,
            nodule_labels=nodule_labels,
            nodules=scene.nodules,
            emphysema_share=low_voxels / max(int(np.count_nonzero(lungs)), 1),
        )

    def _paint_slice(
        self,
        index: int,
        hu: npt.NDArray[np.int16],
        lungs: npt.NDArray[np.uint8],
        nodule_labels: npt.NDArray[np.uint8],
    ) -> int:
        scene = self.scene
        z = scene.geometry.origin_mm[2] + index * scene.geometry.spacing_mm[0]
        height = (z - scene.grid.origin_mm[2]) / scene.grid.steps_mm[2]
        image = np.full(scene.geometry.shape[1:], -1000.0, dtype=np.float32)
        present = [
            layer
            for layer, lowest in zip(self.layers, self.lowest, strict=True)
            if lowest[int(height) : int(height) + 2].min() < self.edge_mm
        ]
        for field, level in present:
            draw.paint_layer(image, self._fine(field, height), np.float32(level), self.edge_mm)
        split = (MIDLINE_X_MM - scene.geometry.origin_mm[0]) / scene.geometry.spacing_mm[2]
        low_voxels: int = draw.paint_lung_and_tubes(
            image,
            self._fine(scene.chest.lungs, height),
            self._fine(scene.tissue, height),
            scene.bone[index],
            scene.vessel[index],
            scene.wall[index],
            scene.lumen[index],
            self.edge_mm,
            np.float32(220.0 if scene.spec.contrast else 42.0),
            np.float32(_CORTEX_HU),
            np.float32(_MARROW_HU),
            np.float32(CORTEX_MM),
            np.float32(_EMPHYSEMA_HU),
            lungs,
            np.float32(split),
        )
        for nodule in scene.nodules:
            nodules.render_slice(
                image, nodule_labels, nodule,
                geometry=scene.geometry, index=index, slice_thickness_mm=scene.spec.slice_thickness_mm,
            )  # fmt: skip
        hu[...] = self.scanner.finish(image, index)
        return low_voxels

    def _fine(self, field: Field, height: float) -> Field:
        """The field at one height in units of the coarse grid, on the pixels of the image."""
        low = min(max(int(height), 0), field.shape[0] - 2)
        plane = cv2.addWeighted(field[low], 1.0 - (height - low), field[low + 1], height - low, 0.0)
        fine = np.empty(self.scene.geometry.shape[1:], dtype=np.float32)
        cv2.resize(plane, fine.shape[::-1], dst=fine, interpolation=cv2.INTER_LINEAR)
        return fine

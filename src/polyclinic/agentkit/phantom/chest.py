"""The soft organs of a chest, in mm of LPS with the carina at the origin, lying supine with the arms up.

Sizes are those of an average adult; they are drawn for recognition and for exact truth, not for dosimetry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polyclinic.agentkit.phantom.fields import (
    CoarseGrid,
    Field,
    ellipsoid,
    intersection,
    profile,
    superellipse,
    tube,
    union,
)
from polyclinic.core.findings import Point

MIDLINE_X_MM = 3.0
"""Plane that parts right from left lung."""

TRACHEA: tuple[Point, ...] = ((0, 6, 150), (0, 12, 90), (0, 18, 40), (0, 21, 2))
RIGHT_MAIN_BRONCHUS: tuple[Point, ...] = ((0, 21, 2), (-14, 22, -6), (-30, 23, -14))
LEFT_MAIN_BRONCHUS: tuple[Point, ...] = ((0, 21, 2), (18, 23, -8), (40, 26, -20))
RIGHT_HILUM: Point = (-34, 14, -7)
LEFT_HILUM: Point = (44, 17, -12)
RIGHT_VEIN_HILUM: Point = (-34, 10, -34)
LEFT_VEIN_HILUM: Point = (40, 14, -38)

CAGE_POWER = 2.25
CAGE_HALF_WIDTH = (
    (-190, 124), (-120, 130), (-60, 130), (0, 124), (40, 110), (70, 90), (92, 66), (108, 44), (122, 18),
)  # fmt: skip
CAGE_HALF_DEPTH = (
    (-190, 80), (-120, 84), (-60, 85), (0, 80), (40, 69), (70, 56), (92, 43), (108, 30), (122, 14),
)  # fmt: skip
CAGE_CENTRE_Y = ((-190, -2), (-60, 0), (0, 3), (40, 11), (70, 19), (92, 26), (122, 30))

_BODY_HALF_WIDTH = (
    (-200, 148), (-120, 153), (-60, 158), (0, 163), (50, 167), (85, 164), (110, 150), (130, 112), (160, 70),
)  # fmt: skip

_AORTA: tuple[Point, ...] = (
    (6, -18, -36), (-10, -26, -16), (-18, -28, 12), (-14, -24, 36), (-2, -10, 48), (12, 8, 50),
    (21, 24, 40), (25, 34, 18), (25, 38, -20), (23, 38, -70), (17, 36, -120), (8, 32, -190),
)  # fmt: skip
_AORTA_RADII = (14, 15.5, 15.5, 14.5, 13.5, 13, 12.5, 12, 12, 11.5, 11, 10)
_SVC: tuple[Point, ...] = ((-30, -10, 78), (-26, -12, 50), (-27, -8, 10), (-24, -8, -32))
_IVC: tuple[Point, ...] = ((-22, -2, -66), (-22, 6, -110), (-22, 14, -190))
_PULMONARY_TRUNK: tuple[Point, ...] = ((10, -46, -30), (16, -38, -8), (18, -22, 6), (20, -6, 10))
_RIGHT_PULMONARY_ARTERY: tuple[Point, ...] = ((18, -12, 6), (2, -2, -2), (-20, 4, -6), RIGHT_HILUM)
_LEFT_PULMONARY_ARTERY: tuple[Point, ...] = ((20, -10, 9), (30, 6, 10), (40, 18, 0), LEFT_HILUM)
_ARCH_BRANCHES: tuple[tuple[tuple[Point, ...], float], ...] = (
    (((-10, -18, 48), (-18, -8, 76), (-24, -2, 100), (-26, 2, 160)), 6.5),
    (((2, -4, 52), (14, 2, 84), (22, 4, 110), (24, 4, 160)), 4.5),
    (((14, 12, 52), (24, 16, 76), (34, 14, 100), (60, 2, 118)), 5.0),
)
_BRACHIOCEPHALIC_VEINS: tuple[tuple[tuple[Point, ...], float], ...] = (
    (((-28, -10, 74), (-32, -10, 96), (-34, -6, 120), (-34, 0, 160)), 7.0),
    (((-26, -14, 68), (-4, -26, 74), (20, -22, 88), (34, -12, 108), (36, -4, 160)), 6.5),
)
_OESOPHAGUS: tuple[Point, ...] = ((2, 24, 150), (4, 34, 60), (6, 38, 0), (8, 30, -60), (18, 18, -110))
_VEINS: tuple[tuple[Point, ...], ...] = (
    ((-8, 10, -36), RIGHT_VEIN_HILUM),
    ((14, 12, -36), LEFT_VEIN_HILUM),
    ((-10, 6, -26), (-32, 4, -12)),
    ((14, 8, -26), (38, 6, -10)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How one person differs from the drawn average."""

    scale: Point
    """Patient mm over drawn mm along x, y, z; every coordinate below is multiplied by it in the end."""
    heart: float
    """Size of the heart over the drawn one."""
    dome_mm: float
    """How much higher the diaphragm stands."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chest:
    """Fields of everything that is drawn from the coarse grid."""

    body: Field
    outer_muscle: Field
    cage: Field
    """Inner surface of the rib cage, above and below the diaphragm."""
    lungs: Field
    below_diaphragm: Field
    organs: tuple[tuple[Field, float], ...]
    """What is painted over muscle and lungs, in order, with its HU."""


def spine_y_mm(z: Field | float) -> Field | float:
    """Height of the centre of the vertebral bodies above the middle of the body: the thoracic kyphosis."""
    return 54.0 - 0.0005 * (z - 5.0) ** 2


def cage_profiles(grid: CoarseGrid) -> tuple[Field, Field, Field]:
    """Half width, half depth and centre y of the inside of the rib cage along z, each (nz, 1, 1)."""
    return profile(grid, CAGE_HALF_WIDTH), profile(grid, CAGE_HALF_DEPTH), profile(grid, CAGE_CENTRE_Y)


def draw_build(rng: np.random.Generator) -> Build:
    """A person; the limits keep the lungs within 300 mm and the body within 358 mm."""
    wide, deep, tall = rng.uniform((0.95, 0.94, 0.95), (1.05, 1.06, 1.03))
    return Build(
        scale=(float(wide), float(deep), float(tall)),
        heart=float(rng.uniform(0.92, 1.06)),
        dome_mm=float(rng.uniform(-5.0, 5.0)),
    )


def build_chest(grid: CoarseGrid, sex: str, contrast: bool, build: Build) -> Chest:
    """All fields on `grid`, which lies in the coordinates of the drawing: patient mm over `build.scale`."""
    body = _body(grid, sex)
    cage = superellipse(grid, *cage_profiles(grid), power=CAGE_POWER)
    vessels = _great_vessels(grid)
    heart, cavities = _heart(grid, build.heart)
    oesophagus = tube(grid, _OESOPHAGUS, (6, 6, 6, 6.5, 8))
    diaphragm = _diaphragm(grid, build.dome_mm)
    lungs = _lungs(grid, cage, diaphragm, union(*vessels, oesophagus), heart)
    below = intersection(cage, -diaphragm)
    blood_hu, muscle_hu = (220.0, 95.0) if contrast else (39.0, 47.0)
    organs = (
        (cage, -95.0),
        (below, 48.0),
        (below + 3.5, -102.0),
        *_abdomen(grid, cage, diaphragm),
        (heart, muscle_hu),
        (cavities, blood_hu),
        (oesophagus, 34.0),
        *((field, blood_hu) for field in vessels),
        *_neck(grid),
    )
    return Chest(
        body=body,
        outer_muscle=_outer_muscle(grid, body),
        cage=cage,
        lungs=lungs,
        below_diaphragm=below,
        organs=organs,
    )


def _body(grid: CoarseGrid, sex: str) -> Field:
    width = profile(grid, _BODY_HALF_WIDTH)
    depth = profile(grid, ((-200, 104), (-60, 109), (0, 108), (50, 102), (90, 90), (115, 78), (160, 62)))
    centre = profile(grid, ((-200, 0), (20, 0), (90, 10), (160, 16)))
    body = superellipse(grid, width, depth, centre, power=2.5)
    furrow = np.float32(6.0) * np.exp(-((grid.x / 16) ** 2)) * (grid.y > 40)
    body = body + furrow
    if sex == "F":
        for side in (-1.0, 1.0):
            breast = ellipsoid(grid, (side * 78, -92, -20), (58, 40, 52))
            body = union(body, breast, rounding_mm=18)
    return body


def _outer_muscle(grid: CoarseGrid, body: Field) -> Field:
    parts = [ellipsoid(grid, (0, 28, 140), (70, 46, 44))]
    for side in (-1.0, 1.0):
        spine = [(side * 24.0, float(spine_y_mm(z)) + 33.0, float(z)) for z in range(-200, 161, 40)]
        parts += [
            tube(grid, spine, [19.0] * len(spine)),
            ellipsoid(grid, (side * 74, -74, 40), (58, 15, 56)),
            ellipsoid(grid, (side * 118, 42, 20), (34, 46, 110)),
            ellipsoid(grid, (side * 82, 72, 60), (56, 26, 62)),
            ellipsoid(grid, (side * 122, 12, 112), (46, 48, 46)),
        ]
    subcutaneous_mm = np.where(grid.y < -40, np.float32(13.0), np.float32(10.0))
    return intersection(union(*parts, rounding_mm=4), body + subcutaneous_mm, rounding_mm=4)


def _great_vessels(grid: CoarseGrid) -> tuple[Field, ...]:
    arteries = [
        tube(grid, _AORTA, _AORTA_RADII),
        *(tube(grid, path, [radius] * len(path)) for path, radius in _ARCH_BRANCHES),
    ]
    pulmonary = [
        tube(grid, _PULMONARY_TRUNK, (14, 14, 13, 12)),
        tube(grid, _RIGHT_PULMONARY_ARTERY, (11, 11, 10, 8)),
        tube(grid, _LEFT_PULMONARY_ARTERY, (11, 11, 10, 8)),
    ]
    veins = [
        tube(grid, _SVC, (8, 9, 9.5, 10)),
        tube(grid, _IVC, (12, 11, 11)),
        *(tube(grid, path, [radius] * len(path)) for path, radius in _BRACHIOCEPHALIC_VEINS),
        *(tube(grid, path, (8, 6)) for path in _VEINS),
    ]
    return union(*arteries), union(*pulmonary), union(*veins)


def _heart(grid: CoarseGrid, size: float) -> tuple[Field, Field]:
    def chamber(centre_mm: Point, semi_axes_mm: Point, long_axis: Point | None = None) -> Field:
        a, b, c = semi_axes_mm
        return ellipsoid(grid, centre_mm, (a * size, b * size, c * size), long_axis)

    ventricles = chamber((28, -28, -58), (60, 42, 38), (0.74, -0.46, -0.42))
    right_atrium = chamber((-22, -16, -50), (25, 31, 33))
    left_atrium = chamber((2, 10, -36), (32, 19, 22))
    outflow = chamber((8, -48, -32), (25, 20, 26))
    heart = union(ventricles, right_atrium, left_atrium, outflow, rounding_mm=10)
    left_ventricle = chamber((40, -24, -60), (38, 20, 19), (0.74, -0.46, -0.42))
    right_ventricle = chamber((18, -50, -60), (40, 13, 24), (0.8, -0.1, -0.3))
    cavities = union(left_ventricle, right_ventricle, right_atrium + 2.5, left_atrium + 2.5, outflow + 3.5)
    return heart, cavities


def _diaphragm(grid: CoarseGrid, raised_mm: float) -> Field:
    """Negative above the diaphragm."""
    domes = []
    for x0, top, outward in ((-60.0, -60.0, -1.0), (60.0, -74.0, 1.0)):
        dx = (grid.x - np.float32(x0)) * np.float32(outward)
        dy = grid.y + np.float32(6.0)
        across = np.where(dx > 0, dx / 80, dx / 125) ** 2
        along = np.where(dy > 0, dy / 88, dy / 112) ** 2
        domes.append(np.float32(top + raised_mm) - 94 * (across + along))
    middle = np.clip((grid.x + 22) / 44, 0, 1)
    height = domes[0] * (1 - middle) + domes[1] * middle
    gy, gx = np.gradient(height[0], grid.steps_mm[1], grid.steps_mm[0])
    field: Field = ((height - grid.z) / np.sqrt(1 + gx**2 + gy**2)).astype(np.float32)
    return field


def _lungs(grid: CoarseGrid, cage: Field, diaphragm: Field, contents: Field, heart: Field) -> Field:
    trachea = tube(grid, TRACHEA, (9, 9, 9, 9))
    bronchi = [tube(grid, path, (7.5, 7, 6)) for path in (RIGHT_MAIN_BRONCHUS, LEFT_MAIN_BRONCHUS)]
    # The vessels of the inlet are wrapped in fat; towards the hila the pleura lies close to the vessels.
    wrap_mm = profile(grid, ((-200, 4.5), (30, 4.5), (70, 8), (110, 14)))
    septum_mm = profile(grid, ((-200, 9), (-100, 6), (20, 5), (60, 9), (85, 20), (115, 27)))
    septum = np.abs(grid.x - np.float32(MIDLINE_X_MM)) - septum_mm + np.zeros(grid.shape, np.float32)
    bodies = np.sqrt(grid.x**2 + ((grid.y - spine_y_mm(grid.z)) * np.float32(1.1)) ** 2) - np.float32(22.0)
    behind = intersection(np.abs(grid.x) - np.float32(20.0), spine_y_mm(grid.z) - grid.y)
    wrapped = union(contents, trachea, *bronchi) - wrap_mm
    necks = union(*(_rib_necks(grid, side) for side in (-1.0, 1.0)))
    mediastinum = union(wrapped, heart - np.float32(5.0), septum, bodies, behind, necks, rounding_mm=9)
    return intersection(cage + np.float32(1.5), -mediastinum, diaphragm, rounding_mm=7)


def _rib_necks(grid: CoarseGrid, side: float) -> Field:
    """The wall beside the spine that covers necks of ribs and transverse processes, at every height alike."""
    x = grid.x * np.float32(side) - np.float32(16.0)
    y = grid.y - (spine_y_mm(grid.z) + np.float32(11.0))
    dx, dy = np.float32(30.0), np.float32(22.0)
    along = np.clip((x * dx + y * dy) / (dx * dx + dy * dy), 0, 1)
    field: Field = np.sqrt((x - along * dx) ** 2 + (y - along * dy) ** 2) - np.float32(8.0)
    return field


def _abdomen(grid: CoarseGrid, cage: Field, diaphragm: Field) -> tuple[tuple[Field, float], ...]:
    room = intersection(cage + 5, -diaphragm + 5, rounding_mm=6)
    right_lobe = ellipsoid(grid, (-66, -6, -152), (92, 88, 98))
    left_lobe = ellipsoid(grid, (14, -48, -124), (62, 32, 38))
    liver = intersection(union(right_lobe, left_lobe, rounding_mm=10), room, rounding_mm=6)
    spleen = intersection(ellipsoid(grid, (94, 38, -142), (30, 42, 46)), room, rounding_mm=6)
    stomach = intersection(ellipsoid(grid, (62, -16, -140), (42, 44, 46)), room, rounding_mm=6)
    gas = intersection(stomach + 4, (grid.y + 22) + np.zeros(grid.shape, np.float32))
    hepatic_veins = union(
        tube(grid, ((-22, 4, -100), (-60, -10, -120), (-95, -20, -140)), (5, 3.5, 1.5)),
        tube(grid, ((-22, 2, -100), (-40, -40, -116), (-50, -62, -130)), (5, 3.5, 1.5)),
        tube(grid, ((-30, 0, -150), (-70, 10, -150), (-105, 20, -152)), (6, 4, 2)),
    )
    return (
        (liver, 57.0), (intersection(hepatic_veins, liver + 2), 42.0), (spleen, 49.0),
        (stomach, 40.0), (stomach + 4, 14.0), (gas, -960.0),
    )  # fmt: skip


def _neck(grid: CoarseGrid) -> tuple[tuple[Field, float], ...]:
    lobes = [ellipsoid(grid, (side * 16, 0, 128), (9, 10, 22)) for side in (-1.0, 1.0)]
    return ((union(*lobes), 105.0),)

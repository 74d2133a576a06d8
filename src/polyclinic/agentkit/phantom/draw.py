"""Kernels that draw tubes and organs into a volume; edges carry the share of the voxel that they fill."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import numpy.typing as npt

from polyclinic.agentkit.phantom.bones import Capsules
from polyclinic.dicom.geometry import VolumeGeometry

Coverage = npt.NDArray[np.uint8]
THREADS = 2
DEPTH_RANGE_MM = 12.75
"""`draw_depth` stores 128 - 20 x signed distance in mm, which a byte holds up to 6.4 mm each way."""


def draw_coverage(capsules: Capsules, geometry: VolumeGeometry, slice_thickness_mm: float) -> Coverage:
    """Share of each voxel inside any capsule, 0 to 255, averaged over the thickness of the slice."""
    edge_mm = float(np.mean(geometry.spacing_mm[1:]))
    samples = max(1, round(slice_thickness_mm / 1.2))
    return _draw(
        capsules, geometry, edge_mm=edge_mm, margin_mm=edge_mm / 2, thickness_mm=slice_thickness_mm,
        samples=samples, thin=True,
    )  # fmt: skip


def draw_depth(capsules: Capsules, geometry: VolumeGeometry) -> Coverage:
    """Signed distance to the union of the capsules, encoded as 128 - 20 x mm; 0 farther than a pixel outside."""
    margin_mm = min(max(geometry.spacing_mm[1:]), DEPTH_RANGE_MM / 2)
    return _draw(
        capsules, geometry, edge_mm=DEPTH_RANGE_MM, margin_mm=margin_mm, thickness_mm=0.0, samples=1, thin=False
    )


def _draw(
    capsules: Capsules,
    geometry: VolumeGeometry,
    *,
    edge_mm: float,
    margin_mm: float,
    thickness_mm: float,
    samples: int,
    thin: bool,
) -> Coverage:
    volume = np.zeros(geometry.shape, dtype=np.uint8)
    # A capsule is drawn by the thread that owns the slice, so the result does not depend on the threads.
    bounds = np.linspace(0, geometry.shape[0], THREADS * 4 + 1).astype(int)
    offsets = (np.arange(samples, dtype=np.float32) + 0.5) / samples - 0.5
    origin = np.asarray(geometry.origin_mm, dtype=np.float32)
    spacing = np.asarray(geometry.spacing_mm, dtype=np.float32)

    def slab(index: int) -> None:
        _capsule_kernel(
            volume, bounds[index], bounds[index + 1], capsules, origin, spacing,
            np.float32(edge_mm), np.float32(margin_mm), offsets * np.float32(thickness_mm), thin,
        )  # fmt: skip

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(slab, range(len(bounds) - 1)))
    return volume


@numba.njit(cache=True, nogil=True, fastmath=True)
def _capsule_kernel(  # type: ignore[no-untyped-def] # noqa: PLR0917 - numba infers types and wants positions
    volume, first, last, capsules, origin, spacing, edge, margin, offsets, thin
):
    rows, columns = volume.shape[1], volume.shape[2]
    dz, dy, dx = spacing[0], spacing[1], spacing[2]
    for n in range(capsules.shape[0]):
        ax, ay, az = capsules[n, 0], capsules[n, 1], capsules[n, 2]
        vx, vy, vz = capsules[n, 3] - ax, capsules[n, 4] - ay, capsules[n, 5] - az
        r0, r1, flat = capsules[n, 6], capsules[n, 7], capsules[n, 8]
        reach = max(r0, r1) + margin
        reach_z = reach / flat + np.float32(0.5) * (offsets[-1] - offsets[0])
        k0 = max(first, int(np.ceil((min(az, az + vz) - reach_z - origin[2]) / dz)))
        k1 = min(last, int(np.floor((max(az, az + vz) + reach_z - origin[2]) / dz)) + 1)
        if k0 >= k1:
            continue
        i0 = max(0, int(np.ceil((min(ay, ay + vy) - reach - origin[1]) / dy)))
        i1 = min(rows, int(np.floor((max(ay, ay + vy) + reach - origin[1]) / dy)) + 1)
        j0 = max(0, int(np.ceil((min(ax, ax + vx) - reach - origin[0]) / dx)))
        j1 = min(columns, int(np.floor((max(ax, ax + vx) + reach - origin[0]) / dx)) + 1)
        wz = vz * flat
        length2 = max(vx * vx + vy * vy + wz * wz, np.float32(1e-6))
        for k in range(k0, k1):
            for i in range(i0, i1):
                py = origin[1] + i * dy - ay
                for j in range(j0, j1):
                    px = origin[0] + j * dx - ax
                    total = np.float32(0.0)
                    for s in range(offsets.shape[0]):
                        pz = (origin[2] + k * dz + offsets[s] - az) * flat
                        t = (px * vx + py * vy + pz * wz) / length2
                        t = min(max(t, np.float32(0.0)), np.float32(1.0))
                        qx, qy, qz = px - t * vx, py - t * vy, pz - t * wz
                        radius = r0 + t * (r1 - r0)
                        share = np.float32(0.5) - (np.sqrt(qx * qx + qy * qy + qz * qz) - radius) / edge
                        share = min(max(share, np.float32(0.0)), np.float32(1.0))
                        if thin:
                            # A tube thinner than the voxel cannot fill it.
                            share *= min(np.float32(1.0), np.float32(3.1416) * radius * radius / (edge * edge))
                        total += share
                    value = np.uint8(np.float32(255.0) * total / offsets.shape[0] + np.float32(0.5))
                    volume[k, i, j] = max(volume[k, i, j], value)


@numba.njit(cache=True, nogil=True, fastmath=True)
def paint_layer(hu, distance, level, edge):  # type: ignore[no-untyped-def] # numba infers
    """Lay one organ of HU `level` over `hu` (float32 (row, column), changed in place).

    `distance` is the signed distance in mm at each pixel; the edge is blended over `edge` mm, the size of a pixel.
    """
    for i in range(hu.shape[0]):
        for j in range(hu.shape[1]):
            share = np.float32(0.5) - distance[i, j] / edge
            share = min(max(share, np.float32(0.0)), np.float32(1.0))
            hu[i, j] += share * (level - hu[i, j])


@numba.njit(cache=True, nogil=True, fastmath=True)
def paint_lung_and_tubes(  # type: ignore[no-untyped-def] # noqa: PLR0917 - numba infers types and wants positions
    hu,
    lung,
    parenchyma,
    bone,
    vessel,
    wall,
    lumen,
    edge,
    blood,
    cortex_hu,
    marrow_hu,
    cortex,
    emphysema,
    labels,
    split,
):
    """Lay lung tissue, vessels, airways and bones over one slice, and write the lung label.

    All planes are (row, column); `bone` is encoded by `draw_depth`, `vessel`, `wall`, `lumen` by `draw_coverage`.
    Returns the number of lung voxels whose tissue is below `emphysema` HU; `split` is the column of the midline.
    """
    low = 0
    scale = np.float32(1.0 / 255.0)
    for i in range(hu.shape[0]):
        for j in range(hu.shape[1]):
            value = hu[i, j]
            in_lung = np.float32(0.5) - lung[i, j] / edge
            if in_lung > 0:
                value += min(in_lung, np.float32(1.0)) * (parenchyma[i, j] - value)
            # A straight branch may cut across the mediastinum or the diaphragm: it is drawn near the lung only.
            if vessel[i, j] > 0 and lung[i, j] < 6.0:
                value = max(value, value + scale * vessel[i, j] * (blood - value))
            if wall[i, j] > 0:
                value = max(value, value + scale * wall[i, j] * (np.float32(25.0) - value))
            if lumen[i, j] > 0:
                value += scale * lumen[i, j] * (np.float32(-990.0) - value)
            if bone[i, j] > 0:
                depth = (np.float32(128.0) - bone[i, j]) * np.float32(0.05)
                share = np.float32(0.5) - depth / edge
                if share > 0:
                    value += min(share, np.float32(1.0)) * (cortex_hu - value)
                    inner = np.float32(0.5) - (depth + cortex) / edge
                    if inner > 0:
                        value += min(inner, np.float32(1.0)) * (marrow_hu - value)
            hu[i, j] = value
            if lung[i, j] < 0 and lumen[i, j] < 128:
                labels[i, j] = 1 if j < split else 2
                if value < emphysema and parenchyma[i, j] < emphysema:
                    low += 1
    return low

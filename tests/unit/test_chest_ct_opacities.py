"""Opacities: planted ground glass and consolidation of known volume, clean lungs, real scans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chest_ct_scans import chest_of, phantom, real

from polyclinic.core import codes
from polyclinic_agents.chest_ct import lungs, opacities
from polyclinic_agents.chest_ct.check import Chest
from polyclinic_agents.chest_ct.grid import Coarse
from polyclinic_agents.chest_ct.lungs import LEFT, RIGHT


def planted(radius_mm: float, hu: int, shift: tuple[int, int, int] = (-8, 0, -14)) -> Chest:
    """A ball in the middle of the right lung, away from its surface; the lungs' outlines stay those without it."""
    chest = phantom()
    scan = chest.scan
    centre = np.argwhere(chest.lungs.labels == RIGHT).mean(axis=0) + np.array(shift)
    index = np.indices(scan.hu.shape).reshape(3, -1).T
    away = np.linalg.norm((index - centre) * scan.spacing_mm, axis=1).reshape(scan.hu.shape)
    voxels = np.where(away <= radius_mm, np.maximum(scan.hu, hu), scan.hu).astype(np.int16)
    return chest_of(replace(scan, hu=voxels))


@pytest.mark.parametrize("seed", [3, 5])
def test_vessels_of_clean_lungs_are_no_opacity(seed: int) -> None:
    seen = opacities.look(phantom(seed))
    assert seen.findings == ()
    assert [code.code for code in seen.normal] == [codes.LUNG_OPACITY.code]


def test_ground_glass_is_measured_and_outlined() -> None:
    radius_mm = 26.0
    seen = opacities.look(planted(radius_mm, -550))
    finding = seen.findings[0]
    assert finding.laterality.same_as(codes.RIGHT)
    true_ml = 4 / 3 * np.pi * radius_mm**3 / 1000
    assert finding.measurement(codes.VOLUME).value == pytest.approx(true_ml, rel=0.25)
    assert finding.measurement(codes.CONSOLIDATED_SHARE).value < 15
    mask = seen.masks[0]
    assert mask.labels[finding.region.segment - 1].finding_id == finding.id
    voxel_ml = np.prod(phantom().scan.spacing_mm) / 1000
    volume_ml = np.count_nonzero(mask.voxels == finding.region.segment) * voxel_ml
    assert volume_ml == pytest.approx(finding.measurement(codes.VOLUME).value, rel=0.05)


def test_what_is_dense_counts_as_consolidated() -> None:
    found = opacities.find_opacities(planted(15.0, 20, shift=(5, 0, -12)).lungs.coarse)
    assert np.count_nonzero(found.consolidated) > 0.5 * np.count_nonzero(found.mask) > 0


def test_the_top_of_the_liver_is_no_lung_but_a_ball_in_it_is() -> None:
    """The dome is an island in its highest slices; filling holes once took it for consolidation."""
    shape, spacing_mm = (24, 60, 60), (2.0, 2.0, 2.0)
    z, row, column = np.indices(shape)
    away = np.hypot(row - 30, column - 30)
    liver = z <= 14 - (away / 18) ** 2 * 14
    ball = np.hypot(away, z - 16) <= 5
    for solid, is_dome in ((liver, True), (ball, False)):
        hu = np.where(solid, 50, -850).astype(np.int16)
        closed = np.ones(shape, dtype=np.bool_)
        closed[:5] &= ~solid[:5]  # lower down the liver meets the chest wall, and no hole is filled
        grid = Coarse(hu=hu, spacing_mm=spacing_mm, full_shape=shape)
        box = (slice(None), slice(None), slice(None))
        found = lungs._dome(closed & solid, closed, box, grid)
        assert found.any() == is_dome
        if is_dome:
            assert np.count_nonzero(found) > 0.7 * np.count_nonzero(closed & solid)


def test_shares_of_thirds_add_up_to_what_was_found() -> None:
    chest = planted(26.0, -550)
    lung = chest.lungs.coarse.lungs
    mask = opacities.find_opacities(chest.lungs.coarse).mask
    assert not np.any(mask & (lung == 0))
    assert np.count_nonzero(mask & (lung == LEFT)) < 0.1 * np.count_nonzero(mask)
    names = [fact.name for fact in opacities.look(chest).facts]
    assert names[1:] == [f"opacities in the {third} third" for third in ("upper", "middle", "lower")]


@pytest.mark.data
@pytest.mark.parametrize(("name", "low", "high"), [("lidc-0063", 0.0, 1.0), ("covid-thin", 4.0, 20.0)])
def test_real_scans(shared_data: Path, name: str, low: float, high: float) -> None:
    chest = real(shared_data / "ct" / name)
    mask = opacities.find_opacities(chest.lungs.coarse).mask
    share = 100 * np.count_nonzero(mask) / np.count_nonzero(chest.lungs.coarse.lungs)
    assert low <= share <= high

"""Calibre of the aorta: phantom with known radii, a wide one, a lost one, real scans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chest_ct_scans import phantom, real

from polyclinic.agentkit.phantom.chest import draw_build
from polyclinic.core import codes
from polyclinic.core.findings import Finding
from polyclinic_agents.chest_ct import aorta
from polyclinic_agents.chest_ct.check import NotSeen
from polyclinic_agents.chest_ct.lungs import find_lungs

ASCENDING_MM, DESCENDING_MM = 31.0, 24.0
"""Of the drawing; a phantom's build scales it."""


def diameters(found: tuple[Finding, ...]) -> dict[str, float]:
    return {finding.code.code: finding.measurements[0].value for finding in found}


@pytest.mark.parametrize(("seed", "contrast"), [(3, False), (5, False), (3, True)])
def test_both_parts_are_as_wide_as_they_were_drawn(seed: int, contrast: bool) -> None:
    found = diameters(aorta.look(phantom(seed, contrast=contrast)).findings)
    wide = float(np.mean(draw_build(np.random.default_rng((seed, 15))).scale[:2]))
    assert found["ascending-aorta-diameter"] == pytest.approx(ASCENDING_MM * wide, abs=1.5)
    assert found["descending-aorta-diameter"] == pytest.approx(DESCENDING_MM * wide, abs=1.5)


def test_the_outline_lies_around_the_vessel_and_on_its_image() -> None:
    for finding in aorta.look(phantom(3)).findings:
        contour = finding.region.contours[0]
        points = np.asarray(contour.points_mm)
        away = np.linalg.norm(points - np.asarray(finding.region.centre_mm), axis=1)
        assert 2 * away == pytest.approx(finding.measurements[0].value, abs=3.0)
        assert contour.image in finding.evidence.images


def test_a_wide_ascending_aorta_is_beyond_the_limit_with_its_source() -> None:
    chest = phantom(3)
    scan = chest.scan
    hu = scan.hu.copy()
    finding = next(f for f in aorta.look(chest).findings if f.code.same_as(codes.ASCENDING_AORTA_DIAMETER))
    assert finding.attribute(codes.INTERPRETATION).same_as(codes.WITHIN_LIMITS)
    index = scan.from_patient(finding.region.centre_mm)
    rows, columns = np.meshgrid(np.arange(hu.shape[1]), np.arange(hu.shape[2]), indexing="ij")
    away = np.hypot((rows - index[1]) * scan.spacing_mm[1], (columns - index[2]) * scan.spacing_mm[2])
    carina = aorta.find_carina(chest.lungs.coarse)
    hu[carina - 16 : carina + 3, (away <= 22.0)] = 40
    wide = next(
        f
        for f in aorta.look(replace(chest, scan=replace(scan, hu=hu), lungs=find_lungs(replace(scan, hu=hu)))).findings
        if f.code.same_as(codes.ASCENDING_AORTA_DIAMETER)
    )
    assert wide.measurements[0].value == pytest.approx(44.0, abs=2.0)
    assert wide.attribute(codes.INTERPRETATION).same_as(codes.BEYOND_LIMITS)
    assert wide.evidence.rules[0].id == "reference-limits:ascending-aorta"


def test_without_an_airway_or_with_thick_slices_nothing_is_said() -> None:
    chest = phantom(3)
    coarse = replace(chest.lungs.coarse, airway=np.zeros_like(chest.lungs.coarse.airway))
    with pytest.raises(NotSeen, match="carina"):
        aorta.look(replace(chest, lungs=replace(chest.lungs, coarse=coarse)))
    with pytest.raises(NotSeen, match="too far apart"):
        aorta.look(replace(chest, scan=replace(chest.scan, spacing_mm=(6.0, 1.4, 1.4))))


def test_a_vessel_without_a_wall_to_see_is_left_out_with_a_reason() -> None:
    chest = phantom(3)
    hu = np.where(chest.lungs.coarse.grid.hu > -300, np.int16(45), chest.lungs.coarse.grid.hu)
    flooded = np.where(chest.scan.hu > -300, 45, np.maximum(chest.scan.hu, 20)).astype(np.int16)
    coarse = replace(chest.lungs.coarse, grid=replace(chest.lungs.coarse.grid, hu=hu.astype(np.int16)))
    seen = aorta.look(replace(chest, scan=replace(chest.scan, hu=flooded), lungs=replace(chest.lungs, coarse=coarse)))
    assert seen.findings == ()
    assert len(seen.not_assessed) == 2


@pytest.mark.data
def test_real_aortas_are_of_human_calibre(shared_data: Path) -> None:
    found = diameters(aorta.look(real(shared_data / "ct" / "lidc-0063")).findings)
    assert 30 < found["ascending-aorta-diameter"] < 39
    assert 24 < found["descending-aorta-diameter"] < 31

"""Attenuation of the liver: phantom with known parenchyma, fat, contrast medium, a scan that ends too high."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chest_ct_scans import chest_of, phantom, real

from polyclinic.core import codes
from polyclinic_agents.chest_ct import liver
from polyclinic_agents.chest_ct.check import NotSeen

LIVER_HU = 57
"""Of the phantom's parenchyma."""


@pytest.mark.parametrize("seed", [3, 7])
def test_the_parenchyma_is_measured_as_it_was_painted(seed: int) -> None:
    finding = liver.look(phantom(seed)).findings[0]
    assert finding.measurements[0].value == pytest.approx(LIVER_HU, abs=2)
    assert finding.attribute(codes.INTERPRETATION).same_as(codes.WITHIN_LIMITS)
    assert finding.region.centre_mm[0] < 0, "the liver lies to the patient's right, which is negative x"
    assert finding.region.contours[0].image in finding.evidence.images


def test_a_fatty_liver_is_beyond_the_limit() -> None:
    scan = phantom().scan
    hu = scan.hu.copy()
    # The phantom's soft organs below the domes: liver, its veins and spleen become fat-laden together.
    low = hu[: int(hu.shape[0] * 0.4)]
    low[(low > 35) & (low < 85)] -= 35
    finding = liver.look(chest_of(replace(scan, hu=hu))).findings[0]
    assert finding.measurements[0].value < 40
    assert finding.attribute(codes.INTERPRETATION).same_as(codes.BEYOND_LIMITS)
    assert finding.evidence.rules[0].id == "reference-limits:liver-48"


def test_after_contrast_medium_nothing_is_said() -> None:
    with pytest.raises(NotSeen, match="contrast"):
        liver.look(phantom(contrast=True))
    scan = phantom().scan
    hu = scan.hu.copy()
    hu[(hu > 35) & (hu < 85)] += 60  # enhanced, and the header does not say so
    with pytest.raises(NotSeen):
        liver.look(chest_of(replace(scan, hu=hu)))


def test_gas_under_the_right_dome_is_no_liver() -> None:
    chest = phantom()
    grid = chest.lungs.coarse.grid
    gas = np.where(grid.hu > -200, np.int16(-990), grid.hu).astype(np.int16)
    coarse = replace(chest.lungs.coarse, grid=replace(grid, hu=gas))
    with pytest.raises(NotSeen, match="too little"):
        liver.look(replace(chest, lungs=replace(chest.lungs, coarse=coarse)))


@pytest.mark.data
@pytest.mark.parametrize("name", ["lidc-0063", "covid-thin"])
def test_real_livers_lie_where_livers_lie(shared_data: Path, name: str) -> None:
    finding = liver.look(real(shared_data / "ct" / name)).findings[0]
    assert 40 <= finding.measurements[0].value <= 75

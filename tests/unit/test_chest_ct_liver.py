"""Attenuation of the liver: phantom with known parenchyma, fat, contrast medium, a scan that ends too high."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from polyclinic.agentkit.phantom import ChestPhantom, make_chest_phantom, to_datasets
from polyclinic.app.dicom_folder import read_folder
from polyclinic.core import codes
from polyclinic.core.findings import Source, SourceKind
from polyclinic.dicom.volume import read_volume
from polyclinic_agents.chest_ct import liver
from polyclinic_agents.chest_ct.check import Chest, NotSeen
from polyclinic_agents.chest_ct.lungs import find_lungs
from polyclinic_agents.chest_ct.origin import Origin
from polyclinic_agents.chest_ct.scan import Scan, turn

LIVER_HU = 57
"""Of the phantom's parenchyma."""


def chest_of(scan: Scan) -> Chest:
    lungs = find_lungs(scan)
    assert lungs is not None
    source = Source(kind=SourceKind.AGENT, id="a", version="1")
    origin = Origin(study_instance_uid="1.2", series_instance_uid="1.2.3", source=source)
    return Chest(scan=scan, lungs=lungs, origin=origin, context={})


@cache
def scan_of(seed: int = 3, *, contrast: bool = False) -> Scan:
    spec = ChestPhantom.small(seed=seed, contrast=contrast)
    return turn(read_volume(list(to_datasets(make_chest_phantom(spec)))))


@pytest.mark.parametrize("seed", [3, 7])
def test_the_parenchyma_is_measured_as_it_was_painted(seed: int) -> None:
    finding = liver.look(chest_of(scan_of(seed))).findings[0]
    assert finding.measurements[0].value == pytest.approx(LIVER_HU, abs=2)
    assert finding.attribute(codes.INTERPRETATION).same_as(codes.WITHIN_LIMITS)
    assert finding.region.centre_mm[0] < 0, "the liver lies to the patient's right, which is negative x"
    assert finding.region.contours[0].image in finding.evidence.images


def test_a_fatty_liver_is_beyond_the_limit() -> None:
    scan = scan_of()
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
        liver.look(chest_of(scan_of(contrast=True)))
    scan = scan_of()
    hu = scan.hu.copy()
    hu[(hu > 35) & (hu < 85)] += 60  # enhanced, and the header does not say so
    with pytest.raises(NotSeen):
        liver.look(chest_of(replace(scan, hu=hu)))


def test_gas_under_the_right_dome_is_no_liver() -> None:
    chest = chest_of(scan_of())
    grid = chest.lungs.coarse.grid
    gas = np.where(grid.hu > -200, np.int16(-990), grid.hu).astype(np.int16)
    coarse = replace(chest.lungs.coarse, grid=replace(grid, hu=gas))
    with pytest.raises(NotSeen, match="too little"):
        liver.look(replace(chest, lungs=replace(chest.lungs, coarse=coarse)))


@pytest.mark.data
@pytest.mark.parametrize("name", ["lidc-0063", "covid-thin"])
def test_real_livers_lie_where_livers_lie(shared_data: Path, name: str) -> None:
    case = read_folder(shared_data / "ct" / name).studies[0].case()
    finding = liver.look(chest_of(turn(read_volume(case.series[0].datasets)))).findings[0]
    assert 40 <= finding.measurements[0].value <= 75

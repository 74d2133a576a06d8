"""Calcium in the heart: planted plaques of known points, what must not count, and what stops the score."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from chest_ct_scans import phantom, real

from polyclinic.core import codes
from polyclinic.core.findings import Finding
from polyclinic_agents.chest_ct import heart
from polyclinic_agents.chest_ct.aorta import find_carina
from polyclinic_agents.chest_ct.check import Chest, NotSeen
from polyclinic_agents.chest_ct.scan import BoolArray
from polyclinic_agents.chest_ct.spine import follow_spine


@cache
def region() -> BoolArray:
    coarse = phantom().lungs.coarse
    return heart.heart_region(coarse, follow_spine(coarse), find_carina(coarse))


def planted(places: list[tuple[int, int, int]], hu: int, edge: int = 2) -> Chest:
    """Squares of ``edge`` x ``edge`` voxels on one slice each."""
    chest = phantom()
    voxels = chest.scan.hu.copy()
    for z, row, column in places:
        voxels[z, row : row + edge, column : column + edge] = hu
    return replace(chest, scan=replace(chest.scan, hu=voxels))


def in_the_heart() -> tuple[int, int, int]:
    coarse = phantom().lungs.coarse
    middle = np.argwhere(region()).mean(axis=0)
    full = (middle + 0.5) * np.asarray(coarse.grid.spacing_mm) / np.asarray(phantom().scan.spacing_mm)
    return int(full[0]), int(full[1]) - 12, int(full[2]) + 8


def score(chest: Chest) -> float:
    found = heart.look(chest).findings
    return found[0].measurements[0].value if found else 0.0


def test_a_heart_without_calcium_is_said_to_have_none() -> None:
    seen = heart.look(phantom())
    assert seen.findings == ()
    assert [code.code for code in seen.normal] == [codes.CORONARY_CALCIUM.code]


@pytest.mark.parametrize(("hu", "weight"), [(150, 1), (250, 2), (350, 3), (900, 4)])
def test_points_are_area_times_weight(hu: int, weight: int) -> None:
    area_mm2 = 9 * 1.4 * 1.4  # a slab of the phantom is one slice of 3 mm, so nothing is scaled
    assert score(planted([in_the_heart()], hu, edge=3)) == round(area_mm2 * weight)


def test_class_rule_and_outline_come_with_the_score() -> None:
    z, row, column = in_the_heart()
    places = [(z - n, row, column) for n in range(6)]
    finding: Finding = heart.look(planted(places, 500, edge=3)).findings[0]
    assert finding.measurements[0].value == round(6 * 9 * 1.96 * 4)
    assert finding.attribute(codes.CAC_DRS).same_as(codes.CAC_DRS_A3)
    assert finding.evidence.rules[0].result == "A3"
    assert len(finding.region.contours) == 6


def test_calcium_of_aorta_bone_and_right_hilum_does_not_count() -> None:
    chest = phantom()
    spine = follow_spine(chest.lungs.coarse)
    carina = find_carina(chest.lungs.coarse)
    ratio = chest.lungs.coarse.grid.spacing_mm[1] / chest.scan.spacing_mm[1]
    track = heart.follow(chest.lungs.coarse, spine, carina, heart.ASCENDING, enhanced=False)
    places = [
        (track.first_slice + n, int(centre[0] * ratio), int(centre[1] * ratio))
        for n, centre in enumerate(track.centres)
    ]
    z, row, column = in_the_heart()
    places.append((z, row + 45, column - 35))  # behind and to the right
    assert score(planted(places, 600)) == 0.0


def test_what_cannot_be_scored_is_not() -> None:
    with pytest.raises(NotSeen, match="contrast"):
        heart.look(phantom(contrast=True))
    unstated = phantom(contrast=True)
    facts = replace(unstated.scan.volume.facts, contrast_agent="")
    volume = replace(unstated.scan.volume, facts=facts)
    with pytest.raises(NotSeen, match="as dense as after"):
        heart.look(replace(unstated, scan=replace(unstated.scan, volume=volume)))
    chest = phantom()
    with pytest.raises(NotSeen, match="too far apart"):
        heart.look(replace(chest, scan=replace(chest.scan, spacing_mm=(6.0, 1.4, 1.4))))
    rng = np.random.default_rng(1)
    noisy = np.clip(chest.scan.hu + rng.normal(0, 60, chest.scan.hu.shape), -1024, 3071).astype(np.int16)
    with pytest.raises(NotSeen, match="noisy"):
        heart.look(replace(chest, scan=replace(chest.scan, hu=noisy)))


def test_points_begin_at_130_hu_and_grow_with_density() -> None:
    outline = np.zeros((4, 2))
    points = [
        heart.Lesion(slice_index=0, area_mm2=10.0, peak_hu=hu, outline=outline).points
        for hu in (130, 199.9, 200, 299, 300, 399, 400, 2000)
    ]
    assert points == [10, 10, 20, 20, 30, 30, 40, 40]


@pytest.mark.data
def test_coronary_plaques_of_a_real_scan_are_found_and_calcified_hilar_nodes_left_out(shared_data: Path) -> None:
    chest = real(shared_data / "ct" / "lidc-0063")
    finding = heart.look(chest).findings[0]
    assert 100 < finding.measurements[0].value < 300
    points = np.concatenate([contour.points_mm for contour in finding.region.contours])
    spine_row = chest.scan.to_patient([60, follow_spine(chest.lungs.coarse)[60, 0] * 2.56, 256])[1]
    assert points[:, 1].max() < spine_row - 30, "the nodes lie beside the bronchi, behind the heart"

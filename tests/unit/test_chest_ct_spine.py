"""The attenuation of vertebral bodies: phantom with known marrow, hostile profiles, real scans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from chest_ct_scans import chest_of, phantom, real

from polyclinic.core import codes
from polyclinic_agents.chest_ct import spine
from polyclinic_agents.chest_ct.check import NotSeen
from polyclinic_agents.chest_ct.lungs import find_lungs

MARROW_HU = 190
"""Of the phantom's vertebral bodies."""
BODY_MM = 20.0, 30.0
"""Distance of its discs, see `polyclinic.agentkit.phantom.bones.vertebra_height_mm`."""


@pytest.mark.parametrize("seed", [3, 7])
def test_the_marrow_of_the_phantom_is_measured_as_it_was_painted(seed: int) -> None:
    finding = spine.look(phantom(seed)).findings[0]
    assert finding.measurements[0].value == pytest.approx(MARROW_HU, abs=15)
    assert finding.attribute(codes.INTERPRETATION).same_as(codes.WITHIN_LIMITS)
    assert finding.evidence.rules[0].result == "within the limit"


def test_discs_are_where_bodies_end() -> None:
    found = spine.bodies(phantom().scan, phantom().lungs.coarse)
    assert len(found) >= 8
    assert all(BODY_MM[0] <= body.height_mm <= BODY_MM[1] for body in found)
    steps = np.diff([body.centre_mm[0] for body in found])
    assert np.all(steps > 0), "lowest first"


def test_thin_bone_is_said_to_be_beyond_the_limit_with_its_study() -> None:
    scan = phantom().scan
    thin = scan.hu.copy()
    brightest = np.stack([cv2.dilate(image, np.ones((3, 3), np.uint8)) for image in scan.hu])
    brightest = np.maximum(brightest, np.maximum(np.roll(brightest, 1, axis=0), np.roll(brightest, -1, axis=0)))
    thin[(thin > 120) & (brightest < 300)] -= 100  # spongy bone of about 90 HU, cortex as it was
    finding = spine.look(chest_of(replace(scan, hu=thin))).findings[0]
    assert 85 < finding.measurements[0].value < 130, "beside the endplates the slices of 3 mm still hold cortex"
    assert finding.attribute(codes.INTERPRETATION).same_as(codes.BEYOND_LIMITS)
    assert finding.evidence.rules[0].id in ("reference-limits:bone-l1-110", "reference-limits:bone-l1-160")


def test_metal_and_cement_are_not_measured() -> None:
    scan = phantom().scan
    hu = scan.hu.copy()
    low, high = (int(b.centre_mm[0] / scan.spacing_mm[0]) for b in spine.bodies(scan, phantom().lungs.coarse)[:2])
    hu[low : high + 1][hu[low : high + 1] > 120] = 1500
    filled = chest_of(replace(scan, hu=hu))
    assert all(body.attenuation_hu < 300 for body in spine.bodies(filled.scan, filled.lungs.coarse))


def test_what_is_no_spine_is_not_measured() -> None:
    scan = phantom().scan
    soft = np.minimum(scan.hu, 40).astype(np.int16)
    with pytest.raises(NotSeen):
        spine.look(replace(phantom(), scan=replace(scan, hu=soft), lungs=find_lungs(replace(scan, hu=soft))))
    with pytest.raises(NotSeen, match="too far apart"):
        spine.look(replace(phantom(), scan=replace(scan, spacing_mm=(6.0, 1.4, 1.4))))


@pytest.mark.data
def test_real_scans_give_bodies_of_human_height(shared_data: Path) -> None:
    chest = real(shared_data / "ct" / "lidc-0063")
    found = spine.bodies(chest.scan, chest.lungs.coarse)
    assert len(found) >= 6
    assert all(18 <= body.height_mm <= 36 for body in found)
    assert 120 < spine.look(chest).findings[0].measurements[0].value < 260

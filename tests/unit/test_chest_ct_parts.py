"""Measures of the chest CT agent on shapes whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import cc3d
import cv2
import edt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.core import codes
from polyclinic.core.findings import ImageReference
from polyclinic.dicom.geometry import VolumeGeometry
from polyclinic.dicom.volume import Acquisition, Volume
from polyclinic_agents.chest_ct.candidates import Candidate, find_candidates
from polyclinic_agents.chest_ct.cavities import fill_cavities, fill_small_cavities
from polyclinic_agents.chest_ct.densitometry import densities, density_limits
from polyclinic_agents.chest_ct.distance import box_around, distance_mm
from polyclinic_agents.chest_ct.measure import Nodule, measure
from polyclinic_agents.chest_ct.regions import part_at
from polyclinic_agents.chest_ct.scan import Scan, turn
from polyclinic_agents.chest_ct.score import combined, confidences, patch, shape_score
from polyclinic_agents.chest_ct.segmentation import segment
from polyclinic_agents.chest_ct.series_choice import is_sharp

SHAPE = (48, 72, 72)
SPACING = (1.0, 0.7, 0.7)
MIDDLE = (24.0, 36.0, 36.0)


def scan_of(hu: np.ndarray, spacing: tuple[float, float, float] = SPACING, kernel: str = "STANDARD") -> Scan:
    geometry = VolumeGeometry(
        frame_of_reference_uid="2.25.1",
        shape=hu.shape,
        origin_mm=(0.0, 0.0, 0.0),
        slice_direction=(0.0, 0.0, 1.0),
        row_direction=(0.0, 1.0, 0.0),
        column_direction=(1.0, 0.0, 0.0),
        spacing_mm=spacing,
    )
    images = tuple(
        ImageReference(series_instance_uid="2.25.2", sop_class_uid="2.25.3", sop_instance_uid=f"2.25.4{n}")
        for n in range(hu.shape[0])
    )
    facts = Acquisition(
        modality="CT", manufacturer="", model="", kernel=kernel, contrast_agent="", image_type=(), body_part="",
        kvp=120.0, slice_thickness_mm=spacing[0], slice_spacing_mm=spacing[0], tilt_degrees=0.0,
    )  # fmt: skip
    return turn(
        Volume(
            hu=hu.astype(np.int16), geometry=geometry, images=images, interpolated=(), longest_gap_mm=spacing[0],
            facts=facts, problems=(),
        )
    )  # fmt: skip


def away_mm(spacing: tuple[float, float, float] = SPACING) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    axes = [(np.arange(n) - m) * s for n, m, s in zip(SHAPE, MIDDLE, spacing, strict=True)]
    return np.meshgrid(*axes, indexing="ij")  # type: ignore[return-value]


def blurred(share: np.ndarray, inside_hu: float, outside_hu: float = -860.0, noise_hu: float = 15.0) -> np.ndarray:
    """A shape as a scanner would show it: point spread of 0.6 mm, noise from a fixed seed."""
    soft = np.stack([cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.85) for image in share])
    noise = np.random.default_rng(1).normal(0, noise_hu, share.shape)
    return outside_hu + soft * (inside_hu - outside_hu) + noise


def ellipsoid(a_mm: float, b_mm: float, c_mm: float) -> np.ndarray:
    """Semi-axes along slices, rows, columns."""
    z, y, x = away_mm()
    return ((z / a_mm) ** 2 + (y / b_mm) ** 2 + (x / c_mm) ** 2 <= 1.0).astype(np.float32)


def measured(hu: np.ndarray, diameter_mm: float) -> Nodule:
    scan = scan_of(hu)
    lungs = np.ones(SHAPE, dtype=np.uint8)
    body = segment(scan, lungs, Candidate(index=MIDDLE, diameter_mm=diameter_mm, response_hu=50.0))
    assert body is not None
    nodule = measure(scan, lungs, body, contrast_agent=False)
    assert nodule is not None
    return nodule


@pytest.mark.parametrize("diameter_mm", [5.0, 8.0, 12.0, 18.0])
def test_a_ball_has_its_diameter_and_volume(diameter_mm: float) -> None:
    nodule = measured(blurred(ellipsoid(*[diameter_mm / 2] * 3), 30.0), diameter_mm)
    assert nodule.long_axis_mm == pytest.approx(diameter_mm, abs=0.8)
    assert nodule.short_axis_mm == pytest.approx(diameter_mm, abs=0.8)
    assert nodule.volume_mm3 == pytest.approx(np.pi / 6 * diameter_mm**3, rel=0.2)
    assert np.linalg.norm((np.asarray(nodule.centre) - MIDDLE) * SPACING) < 0.5
    assert nodule.attenuation.same_as(codes.SOLID)
    assert shape_score(nodule) > 0.8


def test_an_ellipsoid_has_two_axes() -> None:
    nodule = measured(blurred(ellipsoid(5.0, 4.0, 7.0), 30.0), 10.0)
    assert nodule.long_axis_mm == pytest.approx(14.0, abs=0.9)
    assert nodule.short_axis_mm == pytest.approx(8.0, abs=0.9)
    assert nodule.long_axis_mm >= nodule.short_axis_mm


@pytest.mark.parametrize(("hu", "kind"), [(-600.0, codes.GROUND_GLASS), (20.0, codes.SOLID), (500.0, codes.CALCIFIED)])
def test_density_types(hu: float, kind: codes.Code) -> None:
    assert measured(blurred(ellipsoid(5, 5, 5), hu), 10.0).attenuation.same_as(kind)


def test_ground_glass_around_a_core_is_part_solid_and_measured_whole() -> None:
    image = blurred(ellipsoid(8, 8, 8), -600.0)
    core = blurred(ellipsoid(4, 4, 4), 20.0, noise_hu=0.0)
    nodule = measured(np.maximum(image, core), 12.0)
    assert nodule.attenuation.same_as(codes.PART_SOLID)
    assert nodule.long_axis_mm == pytest.approx(16.0, abs=1.5)


def test_a_vessel_through_a_nodule_is_cut_off() -> None:
    z, y, _ = away_mm()
    vessel = (np.hypot(z, y) <= 1.2).astype(np.float32)
    nodule = measured(blurred(np.maximum(ellipsoid(5, 5, 5), vessel), 30.0), 10.0)
    assert nodule.long_axis_mm < 13.0
    assert shape_score(nodule) > 0.5


def test_a_tube_is_no_nodule() -> None:
    z, y, _ = away_mm()
    scan = scan_of(blurred((np.hypot(z, y) <= 2.5).astype(np.float32), 30.0))
    lungs = np.ones(SHAPE, dtype=np.uint8)
    body = segment(scan, lungs, Candidate(index=MIDDLE, diameter_mm=5.0, response_hu=50.0))
    nodule = None if body is None else measure(scan, lungs, body, contrast_agent=False)
    assert nodule is None or shape_score(nodule) < 0.2


def test_a_cavity_belongs_to_its_nodule() -> None:
    ring = ellipsoid(6, 6, 6) - ellipsoid(2.5, 2.5, 2.5)
    assert measured(blurred(ring, 30.0), 11.0).volume_mm3 == pytest.approx(np.pi / 6 * 12**3, rel=0.3)


def test_a_ball_is_a_candidate_and_a_plate_is_not() -> None:
    lungs = np.zeros(SHAPE, dtype=np.uint8)
    lungs[4:-4, 4:-4, 4:-4] = 1
    ball = find_candidates(scan_of(blurred(ellipsoid(4, 4, 4), 30.0)), lungs)
    assert np.linalg.norm((np.asarray(ball[0].index) - MIDDLE) * SPACING) < 1.0
    z, _, _ = away_mm()
    plate = find_candidates(scan_of(blurred((np.abs(z) <= 2).astype(np.float32), 30.0, noise_hu=0.0)), lungs)
    # Only where the plate ends at the border of the lungs is there a corner that looks like a spot.
    assert all(min(one.index[1:]) < 8 or max(one.index[1:]) > 64 for one in plate)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.02, 0.98), st.tuples(*[st.floats(0.3, 3.0)] * 3))
def test_distances_are_those_of_the_library(seed: int, share: float, spacing: tuple[float, float, float]) -> None:
    mask = np.random.default_rng(seed).random((9, 11, 7)) < share
    mask[4, 5, 3] = False
    expected = edt.edt(mask, anisotropy=spacing, black_border=False, parallel=1)
    assert np.allclose(distance_mm(mask, spacing), expected, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.4, 6.0), st.tuples(*[st.floats(0.3, 3.0)] * 3))
def test_a_box_and_a_longest_distance_change_nothing_nearby(
    seed: int, reach_mm: float, spacing: tuple[float, float, float]
) -> None:
    mask = np.random.default_rng(seed).random((12, 14, 13)) < 0.01
    mask[6, 7, 5] = True
    box = box_around(mask, reach_mm, spacing)
    near = np.zeros_like(mask)
    near[box] = distance_mm(~mask[box], spacing, reach_mm) <= reach_mm
    assert np.array_equal(near, distance_mm(~mask, spacing) <= reach_mm)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.2, 0.8))
def test_the_part_at_a_place_is_the_connected_one(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((9, 11, 7)) < share
    labels = cc3d.connected_components(mask, connectivity=6)
    expected = mask & (labels == labels[4, 5, 3]) & mask[4, 5, 3]
    assert np.array_equal(part_at(mask, (np.intp(4), np.intp(5), np.intp(3))), expected)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.5, 2.5), st.floats(0.3, 3.0))
def test_cavities_of_many_small_images_are_filled_as_of_each(seed: int, blur: float, pixel_mm2: float) -> None:
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(3, 33, 31)).astype(np.float32)
    planes = np.stack([cv2.GaussianBlur(image, (0, 0), blur) for image in noise]) * np.float32(900.0 * blur) - 600
    allowed = generator.random(planes.shape) < 0.95
    expected = planes.copy()
    for image, inside in zip(expected, allowed, strict=True):
        fill_cavities(image, inside, pixel_mm2)
    fill_small_cavities(planes, allowed, pixel_mm2)
    assert np.array_equal(planes, expected)


def test_turned_scans_lead_back_to_the_same_place() -> None:
    plain = scan_of(np.random.default_rng(0).integers(-1000, 100, SHAPE))
    volume = plain.volume
    geometry = VolumeGeometry(
        frame_of_reference_uid="2.25.1", shape=SHAPE, origin_mm=(49.7, 49.7, 47.0), slice_direction=(0.0, 0.0, -1.0),
        row_direction=(0.0, -1.0, 0.0), column_direction=(-1.0, 0.0, 0.0), spacing_mm=SPACING,
    )  # fmt: skip
    turned = turn(
        Volume(
            hu=volume.hu[::-1, ::-1, ::-1], geometry=geometry, images=volume.images, interpolated=(),
            longest_gap_mm=1.0, facts=volume.facts, problems=(),
        )
    )  # fmt: skip
    assert np.array_equal(turned.hu, plain.hu)
    assert turned.to_patient([3, 4, 5]) == pytest.approx(plain.to_patient([3, 4, 5]))
    assert turned.from_patient(turned.to_patient([3, 4, 5])) == pytest.approx([3, 4, 5])
    labels = (plain.hu > 0).astype(np.uint8)
    assert np.array_equal(turned.unturned(labels)[::-1, ::-1, ::-1], labels)


def test_densitometry_counts_what_it_says() -> None:
    hu = np.full(SHAPE, -860)
    hu[:, :18] = -980
    hu[:, 18:20] = 30  # a vessel: no lung density
    labels = np.full(SHAPE, 1, dtype=np.uint8)
    labels[:, 36:] = 2
    found = densities(scan_of(hu), labels)
    assert found[0].laa_950_percent == pytest.approx(100 * 18 / 70)
    assert found[1].laa_950_percent == pytest.approx(100 * 18 / 34)
    assert found[2].laa_950_percent == 0.0
    assert found[0].perc_15_hu == pytest.approx(-980, abs=1.0)
    assert found[2].perc_15_hu == pytest.approx(-860, abs=1.0)


def test_densitometry_says_why_not_to_trust_it() -> None:
    hu = np.full(SHAPE, -860)
    labels = np.ones(SHAPE, dtype=np.uint8)
    plain = scan_of(hu)
    assert density_limits(plain, densities(plain, labels)[0], 0.02) == ()
    hard = scan_of(hu, spacing=(5.0, 0.7, 0.7), kernel="LUNG")
    limits = density_limits(hard, densities(hard, labels)[0], 0.3)
    assert [any(word in text for text in limits) for word in ("kernel", "Slices", "opacities")] == [True] * 3


@pytest.mark.parametrize(
    ("kernel", "sharp"),
    [("STANDARD", False), ("B31f", False), ("B70f", True), ("LUNG", True), ("BONEPLUS", True), ("FC51", True),
     ("FC08", False), ("Br40d\\3", False), ("Bl57d", True), ("", False)],
)  # fmt: skip
def test_kernels_are_sharp_by_name(kernel: str, sharp: bool) -> None:
    assert is_sharp(kernel) is sharp


def test_patches_are_original_pixels_around_the_centre() -> None:
    nodule = measured(blurred(ellipsoid(5, 5, 5), 30.0), 10.0)
    scan = scan_of(blurred(ellipsoid(5, 5, 5), 30.0))
    window = patch(scan, nodule, 24)
    assert window.shape == (50, 50)
    assert window[25, 25] == pytest.approx((scan.hu[24, 36, 36] + 1000) / 1400, abs=1e-6)
    far = patch(scan, nodule, 400)
    assert np.array_equal(far, patch(scan, nodule, SHAPE[0] - 1))


class _Answers:
    """A network whose answer depends on the patch, and which counts what it saw."""

    def __init__(self, scale: float) -> None:
        self.seen: list[int] = []
        self.scale = scale

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.seen.append(len(inputs["patch"]))
        return {"probability": self.scale * inputs["patch"][:, 0, 25, 25]}


def test_a_likely_nodule_is_judged_on_three_slices() -> None:
    scan = scan_of(blurred(ellipsoid(5, 5, 5), 30.0))
    nodule = measured(blurred(ellipsoid(5, 5, 5), 30.0), 10.0)
    network = _Answers(1.0)
    values = confidences(scan, [nodule, nodule], network, least=0.25)
    assert network.seen == [2, 2, 2]
    seen = [float(patch(scan, nodule, nodule.main.slice_index + step)[25, 25]) for step in (-1, 0, 1)]
    mean = 0.25 * seen[0] + 0.5 * seen[1] + 0.25 * seen[2]
    assert values == pytest.approx([combined(shape_score(nodule), mean)] * 2, rel=1e-6)


def test_what_cannot_be_proposed_any_more_is_not_shown_to_the_network_again() -> None:
    scan = scan_of(blurred(ellipsoid(5, 5, 5), 30.0))
    ball = measured(blurred(ellipsoid(5, 5, 5), 30.0), 10.0)
    vessel = replace(ball, shape=replace(ball.shape, branches=6.0))
    some, every = _Answers(0.01), _Answers(0.01)
    bounded = confidences(scan, [vessel, ball], some, least=0.25)
    exact = confidences(scan, [vessel, ball], every)
    assert some.seen == [2, 1, 1]
    assert every.seen == [2, 2, 2]
    assert exact[0] < bounded[0] < 0.25
    assert bounded[1] == exact[1]


def test_both_opinions_count() -> None:
    assert combined(0.9, 0.9) > combined(0.9, 0.5) > combined(0.9, 0.1)

"""The synthetic chest CT: the same every time, and true to its own truth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.agentkit.phantom import (
    LEFT_LUNG_LABEL,
    RIGHT_LUNG_LABEL,
    ChestPhantom,
    NoduleKind,
    NoduleSpec,
    PhantomStudy,
    make_chest_phantom,
    phantom_geometry,
)
from polyclinic.agentkit.phantom.nodules import coverage
from polyclinic.core.errors import Rejected


@pytest.fixture(scope="module")
def small() -> PhantomStudy:
    return make_chest_phantom(ChestPhantom.small(seed=4))


def test_equal_specifications_give_equal_voxels_and_other_seeds_do_not() -> None:
    first, again = (make_chest_phantom(ChestPhantom.tiny(seed=9)) for _ in range(2))
    other = make_chest_phantom(ChestPhantom.tiny(seed=10))
    assert np.array_equal(first.hu, again.hu)
    assert np.array_equal(first.lung_labels, again.lung_labels)
    assert first.nodules == again.nodules
    assert not np.array_equal(first.hu, other.hu)
    assert first.nodules != other.nodules


def test_lungs_are_of_adult_size_on_their_sides_and_inside_the_image(small: PhantomStudy) -> None:
    volume_ml = small.lung_volume_ml
    assert 1300 < volume_ml["left"] < volume_ml["right"] < 3500
    for label, sign in ((RIGHT_LUNG_LABEL, -1), (LEFT_LUNG_LABEL, 1)):
        centre = small.geometry.to_patient(np.argwhere(small.lung_labels == label).mean(axis=0))
        assert sign * centre[0] > 30
    edges = (small.lung_labels[0], small.lung_labels[-1], small.lung_labels[:, 0], small.lung_labels[:, :, 0])
    assert not any(edge.any() for edge in edges)


def test_people_of_different_seeds_differ_in_size_and_all_fit_the_image() -> None:
    volumes = set()
    for seed in range(6):
        study = make_chest_phantom(ChestPhantom.tiny(seed=seed, nodules=()))
        assert not study.lung_labels[0].any()
        assert not study.lung_labels[-1].any()
        sides = study.hu[:, :, [0, -1]]
        assert (sides < -500).mean() > 0.99, "the body stays within the field of view"
        volumes.add(round(sum(study.lung_volume_ml.values()) / 20))
    assert len(volumes) >= 4


def test_tissues_have_their_attenuation(small: PhantomStudy) -> None:
    lung = small.hu[small.lung_labels > 0]
    assert -900 < np.median(lung) < -800

    def median_at(x_mm: float, y_mm: float, z_mm: float) -> float:
        k, i, j = np.round(small.geometry.to_index((x_mm, y_mm, z_mm))).astype(int)
        return float(np.median(small.hu[k - 1 : k + 2, i - 2 : i + 3, j - 2 : j + 3]))

    assert median_at(0, 15, 60) < -900, "trachea"
    assert 20 < median_at(25, 37, -40) < 70, "descending aorta"
    assert 30 < median_at(-70, 0, -120) < 80, "liver"
    assert median_at(0, 54, 0) > 90, "vertebral body"
    assert median_at(0, -140, 0) < -950, "air in front"


@pytest.mark.parametrize("kind", list(NoduleKind))
def test_a_planted_nodule_is_where_and_what_it_should_be(kind: NoduleKind) -> None:
    wanted = NoduleSpec(diameter_mm=14.0, kind=kind, centre_mm=(-85.0, 20.0, -25.0))
    spec = ChestPhantom(
        slices=60, rows=256, columns=256, spacing_mm=(1.4, 1.4), slice_spacing_mm=1.0, slice_thickness_mm=1.0,
        nodules=(wanted,), noise_hu=0.0,
    )  # fmt: skip
    study = make_chest_phantom(spec)
    (nodule,) = study.nodules
    where = np.argwhere(study.nodule_labels == nodule.number)
    centre = study.geometry.to_patient(where.mean(axis=0))
    assert np.abs(centre - wanted.centre_mm).max() < 0.4
    assert nodule.volume_mm3 == pytest.approx(4 / 3 * math.pi * 7**3)
    assert len(where) * study.geometry.voxel_volume_mm3 == pytest.approx(nodule.volume_mm3, rel=0.05)
    assert nodule.side == "right"
    assert nodule.mean_diameter_mm == pytest.approx(14.0)
    middle = tuple(np.round(study.geometry.to_index(wanted.centre_mm)).astype(int))
    expected = {"solid": (10, 70), "part-solid": (0, 60), "ground-glass": (-650, -530), "calcified": (330, 670)}
    low, high = expected[kind.value]
    assert low < study.hu[middle] < high


@settings(max_examples=25, deadline=None)
@given(
    diameter_mm=st.floats(4, 30),
    ratios=st.tuples(*[st.floats(0.7, 1.4)] * 3),
    shift_mm=st.tuples(*[st.floats(-2, 2)] * 3),
    thickness_mm=st.sampled_from([0.7, 1.25, 3.0]),
)
def test_partial_volumes_add_up_to_the_analytic_volume(
    diameter_mm: float, ratios: tuple[float, float, float], shift_mm: tuple[float, float, float], thickness_mm: float
) -> None:
    spec = ChestPhantom(
        slices=40, rows=96, columns=96, spacing_mm=(0.8, 0.8),
        slice_spacing_mm=thickness_mm, slice_thickness_mm=thickness_mm,
    )  # fmt: skip
    geometry = phantom_geometry(spec)
    semi_axes_mm = NoduleSpec(diameter_mm=diameter_mm, semi_axis_ratios=ratios).semi_axes_mm
    x, y, z = geometry.to_patient((np.asarray(geometry.shape) - 1) / 2) + shift_mm
    _, share = coverage((x, y, z), semi_axes_mm, geometry, thickness_mm)
    if 2 * semi_axes_mm[2] < 0.9 * thickness_mm * geometry.shape[0]:
        volume = float(share.sum(dtype=np.float64)) * geometry.voxel_volume_mm3
        assert volume == pytest.approx(math.pi / 6 * diameter_mm**3, rel=0.03)


def test_drawn_nodules_lie_in_the_lungs_apart_from_each_other_and_from_vessels(small: PhantomStudy) -> None:
    assert len(small.nodules) == small.spec.nodule_count
    solid_tissue = small.hu > -500
    for nodule in small.nodules:
        inside = small.nodule_labels == nodule.number
        assert inside.sum() * small.geometry.voxel_volume_mm3 == pytest.approx(nodule.volume_mm3, rel=0.15)
        assert (small.lung_labels[inside] > 0).all()
        side = small.lung_labels[inside]
        assert (side == (RIGHT_LUNG_LABEL if nodule.side == "right" else LEFT_LUNG_LABEL)).all()
        # In the slice through its middle, a ring between 1.0 and 1.6 mm outside holds lung and no vessel.
        k = round(float(small.geometry.to_index(nodule.centre_mm)[0]))
        rows, columns = np.indices(small.hu.shape[1:])
        points = small.geometry.to_patient(np.stack([np.full(rows.shape, k), rows, columns], axis=-1))
        offset = (points - nodule.centre_mm)[..., :2]
        distance = np.linalg.norm(offset, axis=-1) - max(nodule.semi_axes_mm)
        ring = (distance > 1.4) & (distance < 1.9)
        assert (small.lung_labels[k][ring] > 0).all()
        assert solid_tissue[k][ring].mean() < 0.02
        for other in small.nodules:
            if other.number != nodule.number:
                gap = math.dist(nodule.centre_mm, other.centre_mm)
                assert gap > max(nodule.semi_axes_mm) + max(other.semi_axes_mm)


@pytest.mark.parametrize("wanted", [0.0, 0.08, 0.25])
def test_emphysema_comes_out_near_the_wanted_share_and_is_counted_on_the_image(wanted: float) -> None:
    study = make_chest_phantom(ChestPhantom.small(emphysema_fraction=wanted, noise_hu=0.0, nodules=()))
    assert study.emphysema_share == pytest.approx(wanted, abs=0.3 * wanted + 0.002)
    counted = (study.hu[study.lung_labels > 0] < -950).mean()
    assert counted == pytest.approx(study.emphysema_share, abs=0.15 * wanted + 0.005)


def test_ground_glass_opacities_raise_attenuation() -> None:
    plain, hazy = (make_chest_phantom(ChestPhantom.tiny(ground_glass_opacities=count, nodules=())) for count in (0, 8))
    dense = [((s.hu > -720) & (s.hu < -450))[s.lung_labels > 0].mean() for s in (plain, hazy)]
    assert dense[1] > dense[0] + 0.01


def test_sharper_kernels_are_noisier() -> None:
    from polyclinic.agentkit.phantom import Kernel

    spread = []
    for kernel in (Kernel.SMOOTH, Kernel.STANDARD, Kernel.SHARP):
        study = make_chest_phantom(ChestPhantom.tiny(kernel=kernel, noise_hu=20.0, nodules=()))
        k, i, j = np.round(study.geometry.to_index((-70.0, 0.0, -135.0))).astype(int)
        spread.append(float(study.hu[k, i - 7 : i + 8, j - 7 : j + 8].std()))
    assert spread[0] < spread[1] < spread[2]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"slices": 2}, "phantom.size"),
        ({"spacing_mm": (0.0, 1.0)}, "phantom.spacing"),
        ({"emphysema_fraction": 0.9}, "phantom.emphysema"),
        ({"sex": "?"}, "phantom.sex"),
    ],
)
def test_an_impossible_specification_is_rejected(change: dict[str, object], code: str) -> None:
    with pytest.raises(Rejected) as caught:
        replace(ChestPhantom.tiny(), **change)  # type: ignore[arg-type]
    assert caught.value.code == code


@pytest.mark.parametrize("centre_mm", [(0.0, 54.0, 0.0), (-85.0, 20.0, 60.0)])
def test_a_nodule_outside_the_lungs_or_the_image_is_rejected(centre_mm: tuple[float, float, float]) -> None:
    nodule = NoduleSpec(diameter_mm=10.0, centre_mm=centre_mm)
    with pytest.raises(Rejected) as caught:
        make_chest_phantom(ChestPhantom.tiny(slices=16, nodules=(nodule,)))
    assert caught.value.code == "phantom.nodule-outside-lungs"


def test_too_many_nodules_are_rejected() -> None:
    nodules = tuple(NoduleSpec(diameter_mm=40.0) for _ in range(40))
    with pytest.raises(Rejected) as caught:
        make_chest_phantom(ChestPhantom.tiny(nodules=nodules))
    assert caught.value.code == "phantom.no-room"

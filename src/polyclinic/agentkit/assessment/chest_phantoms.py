"""The simulator's test split: synthetic chests of fixed seeds with exact truth.

Each small chest carries three nodules free in the lung, which the phantom plants, and one each at pleura and vessel,
which `insertion` adds; every fifth carries none, so that scans can be told apart. Sizes are log-uniform from 4 to
14 mm. Kernel, noise, sex and contrast medium vary with the seed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import edt
import numpy as np

from polyclinic.agentkit.assessment import cases
from polyclinic.agentkit.assessment.annotations import Nodule
from polyclinic.agentkit.assessment.cases import CaseTruth
from polyclinic.agentkit.assessment.dataset import Phantoms
from polyclinic.agentkit.assessment.insertion import Attached, Site, insert
from polyclinic.agentkit.case import Case, CaseSeries
from polyclinic.agentkit.phantom import (
    ChestPhantom,
    Kernel,
    NoduleKind,
    NoduleSpec,
    PhantomStudy,
    make_chest_phantom,
    to_datasets,
)
from polyclinic.agentkit.phantom.chest import draw_build
from polyclinic.core.plain import to_plain

LEAST_MM, MOST_MM = 4.0, 14.0
MARROW_HU, LIVER_HU, ASCENDING_MM, DESCENDING_MM = 190.0, 57.0, 31.0, 24.0
"""As the phantom paints them; the calibres are those of the drawing, before a person's build scales them."""
_KINDS = (NoduleKind.SOLID, NoduleKind.PART_SOLID, NoduleKind.GROUND_GLASS, NoduleKind.CALCIFIED)
_SHARES = (0.4, 0.2, 0.25, 0.15)
_OPACITY_HU = -560
_STREAM = 91
"""Of the random numbers that plan a chest; the phantom's own streams are 11 to 15."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomPlan:
    """One chest to make; equal plans give equal scans."""

    seed: int
    spec: ChestPhantom
    attached: tuple[Attached, ...] = ()
    opacity_radius_mm: float = 0.0

    @property
    def patient(self) -> str:
        return f"SYN-{self.seed}"


def plans(wanted: Phantoms) -> tuple[PhantomPlan, ...]:
    """All chests of the split, small ones first."""
    seeds = iter(range(wanted.first_seed, wanted.first_seed + wanted.small + wanted.large + wanted.opacities))
    made = [_plan(next(seeds), large=False, empty=n % 5 == 4) for n in range(wanted.small)]
    made += [_plan(next(seeds), large=True, empty=False) for _ in range(wanted.large)]
    return (*made, *(_opacity(next(seeds)) for _ in range(wanted.opacities)))


def plans_sha256(wanted: Phantoms) -> str:
    """Hash of every plan: the listing of a dataset that is made when it is needed."""
    text = json.dumps([to_plain(plan) for plan in plans(wanted)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def make(plan: PhantomPlan) -> CaseTruth:
    """Make the scan of a plan with its truth."""
    study = make_chest_phantom(plan.spec)
    rng = np.random.default_rng((plan.seed, _STREAM + 1))
    nodules = [_planted(study, n) for n in range(len(study.nodules))]
    nodules += [replace(one, counts=one.diameter_mm >= LEAST_MM) for one in insert(study, plan.attached, rng)]
    quantities = _quantities(plan, study)
    if plan.opacity_radius_mm:
        ball, quantities[cases.OPACITY_VOLUME.name] = _add_opacity(study, plan.opacity_radius_mm, rng)
        nodules.append(ball)
    images = tuple(to_datasets(study))
    series = CaseSeries(
        series_instance_uid=str(images[0].SeriesInstanceUID), modality="CT", description="", datasets=images
    )
    return CaseTruth(
        name=plan.patient,
        patient=plan.patient,
        case=Case(study_instance_uid=str(images[0].StudyInstanceUID), revision=1, series=(series,)),
        nodules=tuple(_grouped(one) for one in nodules),
        groups={
            "slices": f"{plan.spec.slice_spacing_mm:g} mm",
            "kernel": plan.spec.kernel.value,
            "contrast medium": "yes" if plan.spec.contrast else "no",
        },
        read_volume=lambda: (study.hu, study.geometry),
        lungs=study.lung_labels,
        quantities=quantities,
        sizes={n: (truth.mean_diameter_mm, truth.volume_mm3) for n, truth in enumerate(study.nodules)},
    )


def scans(wanted: Phantoms) -> Iterator[CaseTruth]:
    """Every scan of the split, made one at a time."""
    return map(make, plans(wanted))


def _plan(seed: int, *, large: bool, empty: bool) -> PhantomPlan:
    rng = np.random.default_rng((seed, _STREAM))
    kernel = (Kernel.STANDARD, Kernel.SMOOTH, Kernel.SHARP)[seed % 3]
    count = 0 if empty else 6 if large else 3
    free = tuple(_nodule(rng) for _ in range(count))
    spec = ChestPhantom.small(seed=seed) if not large else ChestPhantom(seed=seed)
    noise_hu = round(float(rng.uniform(0.7, 1.2)) * spec.noise_hu, 1)
    spec = replace(
        spec, nodules=free, kernel=kernel, noise_hu=noise_hu, contrast=seed % 6 == 5, sex="FM"[seed % 2],
        patient_id=f"SYN-{seed}", accession_number=f"SYN{seed}",
    )  # fmt: skip
    sites = () if empty else (Site.PLEURA, Site.VESSEL) * (2 if large else 1)
    return PhantomPlan(
        seed=seed, spec=spec, attached=tuple(Attached(spec=_nodule(rng, at_least=5.0), site=site) for site in sites)
    )


def _opacity(seed: int) -> PhantomPlan:
    rng = np.random.default_rng((seed, _STREAM))
    spec = replace(ChestPhantom.small(seed=seed), nodules=(), patient_id=f"SYN-{seed}", accession_number=f"SYN{seed}")
    return PhantomPlan(seed=seed, spec=spec, opacity_radius_mm=round(float(rng.uniform(18.0, 30.0)), 1))


def _nodule(rng: np.random.Generator, at_least: float = LEAST_MM) -> NoduleSpec:
    """An attached one starts larger, as the part outside the lung is cut off."""
    kind = _KINDS[int(rng.choice(len(_KINDS), p=_SHARES))]
    x, y, z = np.exp(rng.normal(0.0, 0.1, 3))
    return NoduleSpec(
        diameter_mm=round(math.exp(rng.uniform(math.log(at_least), math.log(MOST_MM))), 2),
        kind=kind,
        semi_axis_ratios=(round(float(x), 3), round(float(y), 3), round(float(z), 3)),
        spiculated=kind is NoduleKind.SOLID and bool(rng.random() < 0.25),
    )


def _planted(study: PhantomStudy, index: int) -> Nodule:
    truth = study.nodules[index]
    return Nodule(
        centre_mm=truth.centre_mm,
        diameter_mm=truth.mean_diameter_mm,
        groups={"kind": truth.kind.value, "site": Site.FREE.value},
    )


def _grouped(nodule: Nodule) -> Nodule:
    size = nodule.diameter_mm
    group = "below 6 mm" if size < 6 else "6 to 8 mm" if size < 8 else "8 mm and more"
    return replace(nodule, groups={**nodule.groups, "size": group})


def _quantities(plan: PhantomPlan, study: PhantomStudy) -> dict[str, float]:
    wide = float(np.mean(draw_build(np.random.default_rng((plan.seed, 15))).scale[:2]))
    found = {
        cases.LUNG_VOLUME.name: sum(study.lung_volume_ml.values()),
        cases.ASCENDING.name: ASCENDING_MM * wide,
        cases.DESCENDING.name: DESCENDING_MM * wide,
        cases.SPINE.name: MARROW_HU,
        cases.OPACITY_VOLUME.name: 0.0,
    }
    if not plan.spec.contrast:
        found |= {cases.LIVER.name: LIVER_HU, cases.CALCIUM.name: 0.0}
    return found


def _add_opacity(study: PhantomStudy, radius_mm: float, rng: np.random.Generator) -> tuple[Nodule, float]:
    """A ball of ground glass well inside one lung; marks on it cost nothing. Returns it and its volume in mL."""
    geometry = study.geometry
    lungs = study.lung_labels > 0
    deep = edt.edt(lungs, anisotropy=geometry.spacing_mm)
    places = np.flatnonzero(deep > min(0.8 * radius_mm, 0.9 * float(deep.max())))
    centre = np.asarray(np.unravel_index(int(rng.choice(places)), lungs.shape))
    axes = [((np.arange(n) - c) * s) ** 2 for n, c, s in zip(geometry.shape, centre, geometry.spacing_mm, strict=True)]
    away = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]
    ball = (away <= radius_mm**2) & lungs
    # A quarter of the lung's own texture stays in the ground glass; vessels keep their density.
    hazy = _OPACITY_HU + (study.hu[ball] - study.spec.lung_hu) / 4
    study.hu[ball] = np.maximum(study.hu[ball], np.rint(hazy).astype(np.int16))
    x, y, z = (float(v) for v in geometry.to_patient(centre))
    volume_ml = float(np.count_nonzero(ball)) * geometry.voxel_volume_mm3 / 1000
    return Nodule(centre_mm=(x, y, z), diameter_mm=2 * radius_mm + 10.0, counts=False), volume_ml

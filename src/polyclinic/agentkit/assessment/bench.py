"""From outcomes to figures: each case judged against its truth, then all of a dataset together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from polyclinic.agentkit.assessment import cases
from polyclinic.agentkit.assessment.agreement import Agreement, bland_altman
from polyclinic.agentkit.assessment.annotations import Nodule
from polyclinic.agentkit.assessment.calibration import Calibration, calibration
from polyclinic.agentkit.assessment.cases import CaseTruth, Quantity
from polyclinic.agentkit.assessment.discrimination import Auc, auc
from polyclinic.agentkit.assessment.froc import Froc, ScanMarks, froc
from polyclinic.agentkit.assessment.marks import Mark, match
from polyclinic.agentkit.assessment.overlap import overlap
from polyclinic.agentkit.assessment.proportions import Confusion, confusion
from polyclinic.agentkit.assessment.subgroups import Item, SubgroupRow, subgroup_table
from polyclinic.agentkit.outcome import Assessed, Outcome

CALLED_FROM = 0.5
"""Confidence of the best mark from which a scan counts as called positive; set before any figure was seen."""
ORDER = {
    "size": ("below 6 mm", "6 to 8 mm", "8 mm and more"),
    "kind": ("solid", "part-solid", "ground-glass", "calcified"),
    "site": ("free in the lung", "at the pleura", "at a vessel"),
    "class": ("0-3SN", "3-10SN", "10-30SN", "0-5GGN", ">5GGN", "0-5PSN", ">5PSN", "CN", "PT"),
    "slices": ("1 mm", "3 mm"),
    "kernel": ("STANDARD", "SOFT", "LUNG"),
    "contrast medium": ("no", "yes"),
    "sex": ("F", "M"),
    "age": ("below 50", "50 to 69", "70 and more"),
    "device": (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NoduleResult:
    """One nodule of the truth and the mark that found it."""

    diameter_mm: float
    counts: bool
    readers: int
    groups: Mapping[str, str]
    confidence: float | None
    """Of the mark that found it; None when none did."""
    nearest_mm: float | None
    """Distance to the nearest mark; None without marks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A measured value and the true one; measured is None where the agent did not measure."""

    quantity: str
    unit: str
    measured: float | None
    true: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskResult:
    structure: str
    dice: float
    mean_distance_mm: float | None
    distance_95_mm: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    name: str
    patient: str
    abstained: str
    """Reason code, empty when the agent judged."""
    seconds: float
    groups: Mapping[str, str]
    nodules: tuple[NoduleResult, ...] | None
    false_confidences: tuple[float, ...]
    ignored_marks: int
    masks: tuple[MaskResult, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementRow:
    quantity: str
    unit: str
    agreement: Agreement | None
    """None below two pairs."""
    not_measured: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRow:
    structure: str
    count: int
    dice_mean: float
    dice_least: float
    mean_distance_mm: float
    distance_95_mm: float
    """Mean over the scans of each scan's 95th percentile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a dataset shows; a part is None where the data cannot show it."""

    scans: int
    abstained: int
    froc: Froc | None
    subgroups: tuple[SubgroupRow, ...]
    scan_level: Confusion | None
    scan_auc: Auc | None
    marks: Calibration | None
    """Of the confidence of marks, over all that are on a nodule or on nothing."""
    masks: tuple[MaskRow, ...]
    agreement: tuple[AgreementRow, ...]
    seconds_median: float
    seconds_longest: float
    notes: tuple[str, ...] = field(default=())


def judge(truth: CaseTruth, outcome: Outcome, seconds: float) -> CaseResult:
    """Compare one outcome with its truth. A case abstained from misses all its nodules."""
    judged = outcome if isinstance(outcome, Assessed) else None
    marks = cases.marks_of(judged) if judged else ()
    found = match(truth.nodules or (), marks)
    nodules = None
    if truth.nodules is not None:
        nodules = tuple(
            _nodule(one, marks[found.found[n]] if n in found.found else None, found.nearest_mm[n])
            for n, one in enumerate(truth.nodules)
        )
    return CaseResult(
        name=truth.name,
        patient=truth.patient,
        abstained="" if judged else getattr(outcome, "reason_code", ""),
        seconds=round(seconds, 2),
        groups=dict(truth.groups),
        nodules=nodules,
        false_confidences=tuple(marks[n].confidence for n in found.false) if nodules is not None else (),
        ignored_marks=len(found.ignored),
        masks=_masks(truth, judged) if judged else (),
        pairs=_pairs(truth, judged, marks, found.found),
    )


def _nodule(nodule: Nodule, mark: Mark | None, nearest_mm: float) -> NoduleResult:
    return NoduleResult(
        diameter_mm=round(nodule.diameter_mm, 2),
        counts=nodule.counts,
        readers=nodule.readers,
        groups=dict(nodule.groups),
        confidence=mark.confidence if mark else None,
        nearest_mm=round(nearest_mm, 2) if math.isfinite(nearest_mm) else None,
    )


def _masks(truth: CaseTruth, judged: Assessed) -> tuple[MaskResult, ...]:
    labels = cases.lungs_of(judged)
    if truth.lungs is None or labels is None or labels.shape != truth.lungs.shape:
        return ()
    spacing = next(mask for mask in judged.masks if mask.id == "lungs").geometry.spacing_mm
    rows = []
    for number, name in ((1, "Right lung"), (2, "Left lung")):
        own, true = labels == number, truth.lungs == number
        dice = overlap(own, true, spacing).dice
        # Bronchi inside the lung are holes of one mask and not of the other; distances are those of the outlines.
        outlines = overlap(_filled(own), _filled(true), spacing)
        rows.append(
            MaskResult(
                structure=name,
                dice=round(dice, 4),
                mean_distance_mm=_finite(outlines.mean_distance_mm),
                distance_95_mm=_finite(outlines.distance_95_mm),
            )
        )
    return tuple(rows)


def _filled(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The mask with the holes of each axial slice filled."""
    return np.stack([ndimage.binary_fill_holes(image) if image.any() else image for image in mask])


def _pairs(
    truth: CaseTruth, judged: Assessed | None, marks: Sequence[Mark], found: Mapping[int, int]
) -> tuple[Pair, ...]:
    rows = []
    for quantity in cases.OF_SCAN:
        if quantity.name in truth.quantities:
            value = cases.measured(judged, quantity) if judged else None
            rows.append(_pair(quantity, value, truth.quantities[quantity.name]))
    for index, (diameter_mm, volume_mm3) in truth.sizes.items():
        mark = marks[found[index]] if index in found else None
        if mark is not None and mark.diameter_mm is not None and mark.volume_mm3 is not None:
            rows.append(_pair(cases.NODULE_DIAMETER, mark.diameter_mm, diameter_mm))
            rows.append(_pair(cases.NODULE_VOLUME, 100 * (mark.volume_mm3 - volume_mm3) / volume_mm3, 0.0))
    return tuple(rows)


def _pair(quantity: Quantity, measured: float | None, true: float) -> Pair:
    return Pair(
        quantity=quantity.name,
        unit=quantity.unit,
        measured=None if measured is None else round(measured, 2),
        true=round(true, 2),
    )


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None


def figures(results: Sequence[CaseResult], *, resamples: int, seed: int) -> Figures:
    """All figures of one dataset, in the same order and of the same digits for the same results and seed."""
    annotated = [one for one in results if one.nodules is not None]
    counting = [n for one in annotated for n in one.nodules or () if n.counts]
    seconds = [one.seconds for one in results] or [0.0]
    return Figures(
        scans=len(results),
        abstained=sum(1 for one in results if one.abstained),
        froc=froc([_scan(one) for one in annotated], resamples=resamples, seed=seed) if counting else None,
        subgroups=_subgroups(annotated),
        scan_level=_scan_level(annotated)[0],
        scan_auc=_scan_level(annotated)[1],
        marks=_calibration(annotated),
        masks=_mask_rows(results),
        agreement=_agreement_rows(results),
        seconds_median=round(float(np.median(seconds)), 2),
        seconds_longest=max(seconds),
    )


def _scan(result: CaseResult) -> ScanMarks:
    own = [nodule for nodule in result.nodules or () if nodule.counts]
    return ScanMarks(
        patient=result.patient,
        found=tuple(nodule.confidence for nodule in own if nodule.confidence is not None),
        nodules=len(own),
        false=result.false_confidences,
    )


def _subgroups(results: Sequence[CaseResult]) -> tuple[SubgroupRow, ...]:
    items = [
        Item(found=nodule.confidence is not None, groups={**result.groups, **nodule.groups})
        for result in results
        for nodule in result.nodules or ()
        if nodule.counts
    ]
    order = {
        attribute: groups or tuple(sorted({item.groups[attribute] for item in items if attribute in item.groups}))
        for attribute, groups in ORDER.items()
    }
    return subgroup_table(items, order)


def _scan_level(results: Sequence[CaseResult]) -> tuple[Confusion | None, Auc | None]:
    """Scans with a nodule that counts against scans without any, by the best mark; other scans are left out."""
    rows = [(bool(_scan(one).nodules), _best(one)) for one in results if _scan(one).nodules or not one.nodules]
    truth, score = [ill for ill, _ in rows], [best for _, best in rows]
    if len(set(truth)) < 2:
        return None, None
    return confusion(truth, [best >= CALLED_FROM for best in score]), auc(truth, score)


def _best(result: CaseResult) -> float:
    return max((*_scan(result).found, *result.false_confidences), default=0.0)


def _calibration(results: Sequence[CaseResult]) -> Calibration | None:
    rows = [(True, c) for one in results for c in _scan(one).found]
    rows += [(False, c) for one in results for c in one.false_confidences]
    return calibration([hit for hit, _ in rows], [c for _, c in rows]) if rows else None


def _mask_rows(results: Sequence[CaseResult]) -> tuple[MaskRow, ...]:
    rows = []
    for name in dict.fromkeys(mask.structure for one in results for mask in one.masks):
        own = [mask for one in results for mask in one.masks if mask.structure == name]
        dice = [mask.dice for mask in own]
        mean = [mask.mean_distance_mm for mask in own if mask.mean_distance_mm is not None]
        high = [mask.distance_95_mm for mask in own if mask.distance_95_mm is not None]
        if mean and high:
            rows.append(
                MaskRow(
                    structure=name,
                    count=len(own),
                    dice_mean=float(np.mean(dice)),
                    dice_least=min(dice),
                    mean_distance_mm=float(np.mean(mean)),
                    distance_95_mm=float(np.mean(high)),
                )
            )
    return tuple(rows)


def _agreement_rows(results: Sequence[CaseResult]) -> tuple[AgreementRow, ...]:
    rows = []
    for quantity in (*cases.OF_SCAN, cases.NODULE_DIAMETER, cases.NODULE_VOLUME):
        own = [pair for one in results for pair in one.pairs if pair.quantity == quantity.name]
        both = [(pair.measured, pair.true) for pair in own if pair.measured is not None]
        if own:
            agreement = bland_altman([m for m, _ in both], [t for _, t in both]) if len(both) > 1 else None
            rows.append(
                AgreementRow(
                    quantity=quantity.name, unit=quantity.unit, agreement=agreement, not_measured=len(own) - len(both)
                )
            )
    return tuple(rows)

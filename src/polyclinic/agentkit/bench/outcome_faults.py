"""What is wrong with an Assessed outcome, whichever agent made it: values, codes, geometry."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from polyclinic.agentkit.case import Case, CaseSeries
from polyclinic.agentkit.finding_checks import identity_fault, number_fault, region_fault
from polyclinic.agentkit.manifest import Manifest
from polyclinic.agentkit.outcome import Assessed, Mask
from polyclinic.core.findings import Finding, ImageReference, Point
from polyclinic.core.plain import to_plain
from polyclinic.dicom.extent import series_box

MOST_FAULTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Which rule of the bench is broken, and how."""

    rule: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesPlace:
    """Where the images of a series lie; an `Extent`."""

    frame_of_reference_uid: str
    low_mm: Point
    high_mm: Point
    sop_instance_uids: frozenset[str]


def outcome_faults(outcome: Assessed, manifest: Manifest, case: Case) -> tuple[Fault, ...]:
    """The first faults, at most `MOST_FAULTS`; none for an outcome that may go to the checks of the platform."""
    found = []
    for fault in _faults(outcome, manifest, case):
        if fault not in found:
            found.append(fault)
        if len(found) == MOST_FAULTS:
            break
    return tuple(found)


def _faults(outcome: Assessed, manifest: Manifest, case: Case) -> Iterator[Fault]:
    series = next((one for one in case.series if one.series_instance_uid == outcome.series_instance_uid), None)
    if series is None:
        yield Fault(rule="geometry", text="the outcome names a series that was not given")
        return
    for where in _not_finite(to_plain({"findings": outcome.findings}), ""):
        yield Fault(rule="values", text=f"{where} is not a finite number")
    if outcome.agent != manifest.source:
        yield Fault(rule="codes", text="the outcome does not name the agent and version of the manifest")
    allowed = {(output.system, output.code) for output in manifest.outputs}
    for code in outcome.normal:
        if (code.system, code.code) not in allowed:
            text = f"'{code.display}' is called normal and its code is not among the outputs that the agent declares"
            yield Fault(rule="codes", text=text)
    ids = [finding.id for finding in outcome.findings]
    if len(set(ids)) < len(ids):
        yield Fault(rule="codes", text="two findings have the same id")
    place = _place(series)
    images = {str(one.datasets[i].SOPInstanceUID) for one in case.series for i in range(len(one.datasets))}
    for finding in outcome.findings:
        yield from _finding(finding, case, allowed, place, outcome)
        yield from _images(finding.evidence.images, images, "evidence")
    for mask in outcome.masks:
        yield from _mask(mask, set(ids))
        yield from _images(mask.images, images, f"mask {mask.id}")
    yield from _images(tuple(key.image for key in outcome.key_images), images, "a key image")


def _finding(
    finding: Finding, case: Case, allowed: set[tuple[str, str]], place: SeriesPlace | None, outcome: Assessed
) -> Iterator[Fault]:
    name = finding.code.display
    if finding.source != outcome.agent:
        yield Fault(rule="codes", text=f"{name}: the finding does not name the agent that made it")
    confident = finding.confidence is None or math.isfinite(finding.confidence)
    if confident and (fault := identity_fault(finding, case.study_instance_uid, allowed)):
        yield Fault(rule="codes", text=f"{name}: {fault}")
    for measurement in finding.measurements:
        if math.isfinite(measurement.value) and (fault := number_fault(measurement)):
            yield Fault(rule="codes", text=f"{name}: {fault}")
    if finding.region is None:
        return
    finite = not list(_not_finite(to_plain(finding.region), ""))
    if finite and (fault := region_fault(finding.region, place)):
        yield Fault(rule="geometry", text=f"{name}: {fault}")
    if finding.region.mask:
        mask = next((m for m in outcome.masks if m.id == finding.region.mask), None)
        if mask is None or finding.region.segment not in {label.number for label in mask.labels}:
            yield Fault(rule="geometry", text=f"{name}: its region names a mask or segment that is not there")


def _mask(mask: Mask, finding_ids: set[str]) -> Iterator[Fault]:
    if tuple(mask.voxels.shape) != tuple(mask.geometry.shape):
        yield Fault(rule="geometry", text=f"mask {mask.id} has not the shape of its geometry")
        return
    if len(mask.images) != mask.geometry.shape[0]:
        yield Fault(rule="geometry", text=f"mask {mask.id} does not name one image for each slice")
    numbers = {label.number for label in mask.labels}
    unnamed = set(np.unique(mask.voxels).tolist()) - numbers - {0}
    if unnamed:
        yield Fault(rule="geometry", text=f"mask {mask.id} has voxels of value {min(unnamed)} without a label")
    if lost := {label.finding_id for label in mask.labels if label.finding_id} - finding_ids:
        yield Fault(rule="geometry", text=f"mask {mask.id} outlines {len(lost)} findings that are not there")


def _images(references: tuple[ImageReference, ...], known: set[str], what: str) -> Iterator[Fault]:
    if any(image.sop_instance_uid not in known for image in references):
        yield Fault(rule="geometry", text=f"{what} refers to an image that was not given")


def _place(series: CaseSeries) -> SeriesPlace | None:
    held = [series.datasets[index] for index in range(len(series.datasets))]
    box = series_box(held)
    if box is None:
        return None
    uids = frozenset(str(image.SOPInstanceUID) for image in held)
    return SeriesPlace(frame_of_reference_uid=box[0], low_mm=box[1], high_mm=box[2], sop_instance_uids=uids)


def _not_finite(plain: Any, where: str) -> Iterator[str]:
    if isinstance(plain, dict):
        for key, value in plain.items():
            yield from _not_finite(value, f"{where}.{key}" if where else str(key))
    elif isinstance(plain, list):
        for index, value in enumerate(plain):
            yield from _not_finite(value, f"{where}[{index}]")
    elif isinstance(plain, (float, np.floating)) and not math.isfinite(plain):
        yield where

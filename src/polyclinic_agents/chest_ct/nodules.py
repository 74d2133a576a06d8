"""From the lungs to a ranked list of measured nodules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polyclinic.agentkit.case import Model
from polyclinic_agents.chest_ct.candidates import find_candidates
from polyclinic_agents.chest_ct.measure import Nodule, measure
from polyclinic_agents.chest_ct.scan import LabelArray, Scan
from polyclinic_agents.chest_ct.score import confidences
from polyclinic_agents.chest_ct.segmentation import segment

MIN_LONG_AXIS_MM, MIN_MEAN_MM = 4.0, 3.5
PROPOSE_FROM = 0.25
"""Confidence below which a mark would cost a reader more than it is worth."""
MAX_PROPOSED = 15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """A nodule with its confidence; below `PROPOSE_FROM` that is an upper bound."""

    nodule: Nodule
    confidence: float


def find_nodules(scan: Scan, lungs: LabelArray, *, contrast_agent: bool, network: Model) -> tuple[Scored, ...]:
    """Every measured candidate of at least `MIN_LONG_AXIS_MM`, most likely first, none inside another."""
    measured = []
    for candidate in find_candidates(scan, lungs):
        body = segment(scan, lungs, candidate)
        nodule = measure(scan, lungs, body, contrast_agent=contrast_agent) if body is not None else None
        if nodule is not None and _large_enough(nodule):
            measured.append(nodule)
    values = confidences(scan, measured, network, least=PROPOSE_FROM)
    scored = [Scored(nodule=nodule, confidence=float(value)) for nodule, value in zip(measured, values, strict=True)]
    scored.sort(key=lambda one: (-one.confidence, one.nodule.centre))
    return _distinct(scored, scan)


def _large_enough(nodule: Nodule) -> bool:
    return nodule.long_axis_mm >= MIN_LONG_AXIS_MM and nodule.mean_diameter_mm >= MIN_MEAN_MM


def proposed(scored: tuple[Scored, ...]) -> tuple[Scored, ...]:
    """What a reader is shown."""
    return tuple(one for one in scored if one.confidence >= PROPOSE_FROM)[:MAX_PROPOSED]


def _distinct(scored: list[Scored], scan: Scan) -> tuple[Scored, ...]:
    spacing = np.asarray(scan.spacing_mm)
    kept: list[Scored] = []
    places, lengths = np.empty((len(scored), 3)), np.empty(len(scored))
    for one in scored:
        place, length = np.asarray(one.nodule.centre) * spacing, one.nodule.long_axis_mm
        count = len(kept)
        away = np.linalg.norm(places[:count] - place, axis=1)
        if not np.any(away < 0.5 * np.maximum(lengths[:count], length)):
            places[count], lengths[count] = place, length
            kept.append(one)
    return tuple(kept)

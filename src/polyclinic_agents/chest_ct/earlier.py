"""Nodules between two registered scans: what each was on the earlier one, and which of the earlier ones are gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from polyclinic.agentkit.case import CasePrior, Model
from polyclinic.core import codes
from polyclinic.core.findings import Finding
from polyclinic.core.guidelines.lung_rads_v2022 import mean_diameter_mm
from polyclinic_agents.chest_ct.candidates import DIAMETERS_MM, Candidate, find_candidates
from polyclinic_agents.chest_ct.lungs import Lungs
from polyclinic_agents.chest_ct.matching import LIKELY_FROM, Seen, gate_mm, pair
from polyclinic_agents.chest_ct.measure import measure
from polyclinic_agents.chest_ct.nodules import Scored
from polyclinic_agents.chest_ct.registration import Registration
from polyclinic_agents.chest_ct.scan import FloatArray, LabelArray, Scan
from polyclinic_agents.chest_ct.score import confidences
from polyclinic_agents.chest_ct.segmentation import segment

MIN_LOCAL_AGREEMENT = 0.35
"""Correlation around a place below which the place is not known well enough to say that nothing was there."""
AROUND_MM = 24.0
"""Lung around the reach of a place that the measuring code needs."""
RESOLVED_FROM = 0.5
"""Confidence that a mark of an unsigned earlier study needs to be missed on this one."""
RESOLVED_DIAMETERS_MM = DIAMETERS_MM[2:]
"""Spots tuned to from 8 mm, which answer from about 6 mm: smaller nodules that went matter to no guideline."""
MAX_RESOLVED_TRIED = 40
ALIKE_RATIO = 1.4
"""Of two diameters that may be one body."""
SAME_PLACE_MM = 5.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Followed:
    """What one nodule of this scan was on the earlier one."""

    before: Seen | None
    """None when nothing was there."""
    certain: bool
    """Whether its place on the earlier scan is known well enough to tell new from not found."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gone:
    """A nodule of the earlier scan where this one shows none."""

    before: Seen
    index: tuple[float, float, float]
    """Its place in the turned view of this scan."""
    lung: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Now:
    """This scan as far as it was judged."""

    scan: Scan
    lungs: Lungs
    every: tuple[Scored, ...]
    shown: tuple[Scored, ...]
    network: Model


class Earlier:
    """The earlier scan, registered: what its nodules are on this one, and the other way round."""

    def __init__(self, prior: CasePrior, registration: Registration, now: Now, in_time: Callable[[], None]) -> None:
        self._prior = prior
        self._scan, self._labels = registration.before.scan, registration.before_labels
        self._registration = registration
        self._now = now
        self._in_time = in_time
        self._signed = tuple(_signed(prior.findings))
        self._centres = np.asarray([one.nodule.centre for one in now.every]).reshape(-1, 3)
        self._sizes_mm = np.asarray([_mean_mm(one) for one in now.every])

    def follow(self) -> tuple[Followed, ...]:
        """What each shown nodule of this scan was."""
        places: list[Seen] = []
        agreements: list[float] = []
        found: list[Seen] = []
        residual_mm = self._registration.residual_mm
        for one in self._now.shown:
            self._in_time()
            place_mm, agreement = self._place(one)
            mean_mm = _mean_mm(one)
            places.append(
                Seen(place_mm=place_mm, mean_mm=mean_mm, volume_mm3=one.nodule.volume_mm3, confidence=one.confidence)
            )
            agreements.append(agreement)
            found += self._seen_at(place_mm, gate_mm(residual_mm, mean_mm))
        before = _distinct(self._with_signed(found))
        pairs = pair(places, before, residual_mm)
        return tuple(
            Followed(
                before=before[pairs[n]] if n in pairs else None,
                certain=agreement >= MIN_LOCAL_AGREEMENT and self._in_view(places[n].place_mm),
            )
            for n, agreement in enumerate(agreements)
        )

    def gone(self, followed: Sequence[Followed]) -> tuple[Gone, ...]:
        """Nodules of the earlier scan that this one shows no more."""
        matched = [one.before.place_mm for one in followed if one.before is not None]
        made: list[Gone] = []
        for seen, lung in self._expected():
            self._in_time()
            near = [*matched, *(one.before.place_mm for one in made)]
            if any(np.linalg.norm(seen.place_mm - place) < max(SAME_PLACE_MM, seen.mean_mm / 2) for place in near):
                continue
            index = self._missing_at(seen, lung)
            if index is not None:
                made.append(Gone(before=seen, index=index, lung=lung))
        return tuple(made)

    def _place(self, one: Scored) -> tuple[FloatArray, float]:
        scan = self._now.scan
        lung = _lung_near(self._now.lungs.labels, one.nodule.centre, scan.spacing_mm)
        if lung not in self._registration.maps:
            return np.asarray(scan.to_patient(one.nodule.centre)), 0.0
        without_mm = one.nodule.long_axis_mm / 2 + 2.0
        return self._registration.to_before(np.asarray(scan.to_patient(one.nodule.centre)), lung, without_mm)

    def _seen_at(self, place_mm: FloatArray, reach_mm: float) -> list[Seen]:
        part = _part(self._scan, self._labels, self._scan.from_patient(place_mm), reach_mm + AROUND_MM)
        if part is None:
            return []
        scan, labels, start = part
        middle = self._scan.from_patient(place_mm) - start
        spacing = np.asarray(scan.spacing_mm)
        near = [
            one
            for one in find_candidates(scan, labels)
            if np.linalg.norm((np.asarray(one.index) - middle) * spacing) < reach_mm
        ]
        seen = [self._seen(one, start) for one in self._measured(scan, labels, near, LIKELY_FROM)]
        return [one for one in seen if np.linalg.norm(one.place_mm - place_mm) < reach_mm]

    def _measured(
        self, scan: Scan, labels: LabelArray, candidates: Sequence[Candidate], least: float
    ) -> tuple[Scored, ...]:
        """Candidates of any size, measured; a confidence below `least` is an upper bound."""
        contrast = bool(scan.volume.facts.contrast_agent)
        nodules = []
        for candidate in candidates:
            self._in_time()
            body = segment(scan, labels, candidate)
            nodule = measure(scan, labels, body, contrast_agent=contrast) if body is not None else None
            if nodule is not None:
                nodules.append(nodule)
        values = confidences(scan, nodules, self._now.network, least=least)
        return tuple(Scored(nodule=n, confidence=float(value)) for n, value in zip(nodules, values, strict=True))

    def _seen(self, one: Scored, start: FloatArray) -> Seen:
        return Seen(
            place_mm=np.asarray(self._scan.to_patient(np.asarray(one.nodule.centre) + start)),
            mean_mm=_mean_mm(one),
            volume_mm3=one.nodule.volume_mm3,
            confidence=one.confidence,
        )

    def _with_signed(self, found: Iterable[Seen]) -> list[Seen]:
        """What was measured, with the signed finding at its place; those that were not measured stay as signed."""
        named: list[Seen] = []
        used: set[str] = set()
        for one in found:
            away = [(float(np.linalg.norm(s.place_mm - one.place_mm)), s) for s in self._signed]
            distance_mm, nearest = min(away, key=lambda pair: pair[0], default=(np.inf, one))
            if distance_mm < max(SAME_PLACE_MM, nearest.mean_mm / 2):
                used.add(nearest.finding_id)
                named.append(replace(one, confidence=1.0, finding_id=nearest.finding_id))
            else:
                named.append(one)
        return [*named, *(s for s in self._signed if s.finding_id not in used)]

    def _in_view(self, place_mm: FloatArray) -> bool:
        return _lung_near(self._labels, self._scan.from_patient(place_mm), self._scan.spacing_mm) > 0

    def _expected(self) -> list[tuple[Seen, int]]:
        """Nodules of the earlier scan with their lungs: the signed ones, or the likely ones where nobody signed."""
        if self._prior.signed:
            return [(one, lung) for one in self._signed if (lung := self._lung_before(one.place_mm))]
        return [(one, lung) for one in self._likely() if (lung := self._lung_before(one.place_mm))]

    def _lung_before(self, place_mm: FloatArray) -> int:
        lung = _lung_near(self._labels, self._scan.from_patient(place_mm), self._scan.spacing_mm)
        return lung if lung in self._registration.maps else 0

    def _likely(self) -> list[Seen]:
        found = find_candidates(self._scan, self._labels, RESOLVED_DIAMETERS_MM)
        candidates = [one for one in found if not self._known(one)][:MAX_RESOLVED_TRIED]
        measured = self._measured(self._scan, self._labels, candidates, RESOLVED_FROM)
        return _distinct([self._seen(one, np.zeros(3)) for one in measured if one.confidence >= RESOLVED_FROM])

    def _known(self, candidate: Candidate) -> bool:
        """Whether something of its size was measured on this scan where it would be: then it is not gone."""
        place_mm = np.asarray(self._scan.to_patient(candidate.index))
        lung = self._lung_before(place_mm)
        if not lung:
            return True
        index = self._now.scan.from_patient(self._registration.roughly_now(place_mm, lung))
        away_mm = np.linalg.norm((self._centres - index) * np.asarray(self._now.scan.spacing_mm), axis=1)
        near = away_mm < gate_mm(self._registration.residual_mm, candidate.diameter_mm)
        return bool(np.any(near & (np.abs(np.log(self._sizes_mm / candidate.diameter_mm)) < np.log(ALIKE_RATIO))))

    def _missing_at(self, seen: Seen, lung: int) -> tuple[float, float, float] | None:
        """Where the nodule would be on this scan; None when something is there, or the place is not known."""
        now, registration = self._now, self._registration
        place_mm = registration.to_now(seen.place_mm, lung)
        _there, agreement = registration.to_before(place_mm, lung, seen.mean_mm / 2 + 2.0)
        index = now.scan.from_patient(place_mm)
        if agreement < MIN_LOCAL_AGREEMENT or _lung_near(now.lungs.labels, index, now.scan.spacing_mm) != lung:
            return None
        reach_mm = gate_mm(registration.residual_mm, seen.mean_mm)
        spacing = np.asarray(now.scan.spacing_mm)
        for one in now.every:
            away_mm = float(np.linalg.norm((np.asarray(one.nodule.centre) - index) * spacing))
            likely = one.confidence >= LIKELY_FROM or away_mm < reach_mm / 2
            if away_mm < reach_mm and likely and _mean_mm(one) > seen.mean_mm / 2:
                return None
        return float(index[0]), float(index[1]), float(index[2])


def _signed(findings: Iterable[Finding]) -> Iterable[Seen]:
    for finding in findings:
        mean = finding.measurement(codes.MEAN_DIAMETER) or finding.measurement(codes.LONG_AXIS)
        if finding.code.same_as(codes.PULMONARY_NODULE) and finding.region and mean is not None:
            volume = finding.measurement(codes.VOLUME)
            yield Seen(
                place_mm=np.asarray(finding.region.centre_mm),
                mean_mm=mean.value,
                volume_mm3=volume.value if volume else None,
                confidence=1.0,
                finding_id=finding.id,
            )


def _mean_mm(one: Scored) -> float:
    return mean_diameter_mm(round(one.nodule.long_axis_mm, 1), round(one.nodule.short_axis_mm, 1))


def _distinct(found: Sequence[Seen]) -> list[Seen]:
    """Each nodule once: signed ones first, then the likelier."""
    kept: list[Seen] = []
    for one in sorted(found, key=lambda seen: (not seen.finding_id, -seen.confidence, tuple(seen.place_mm))):
        if all(np.linalg.norm(one.place_mm - other.place_mm) > 0.5 * max(one.mean_mm, other.mean_mm) for other in kept):
            kept.append(one)
    return kept


def _lung_near(labels: LabelArray, index: Sequence[float] | FloatArray, spacing_mm: Sequence[float]) -> int:
    """The lung at an index of the turned view, or the one that fills most of a centimetre around it; 0 for none."""
    box = tuple(
        slice(max(0, round(float(i) - 5.0 / step)), max(0, round(float(i) + 5.0 / step) + 1))
        for i, step in zip(index, spacing_mm, strict=True)
    )
    counts = np.bincount(labels[box].ravel(), minlength=3)
    return int(np.argmax(counts[1:])) + 1 if counts[1:].any() else 0


def _part(
    scan: Scan, labels: LabelArray, index: FloatArray, half_mm: float
) -> tuple[Scan, LabelArray, FloatArray] | None:
    """A cube of the scan around a place, its labels and its first index; None when it holds no lung.

    Its indices count from that first one; its geometry is still that of the whole scan.
    """
    box = tuple(
        slice(max(0, round(float(i) - half_mm / step)), max(0, min(n, round(float(i) + half_mm / step) + 1)))
        for i, step, n in zip(index, scan.spacing_mm, scan.hu.shape, strict=True)
    )
    own = labels[box]
    if not own.any() or min(own.shape) < 4:
        return None
    start = np.asarray([side.start for side in box], dtype=np.float64)
    return replace(scan, hu=np.ascontiguousarray(scan.hu[box])), np.ascontiguousarray(own), start

"""Which mark belongs to which nodule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from polyclinic.agentkit.assessment.annotations import Nodule
from polyclinic.core.findings import Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    centre_mm: Point
    confidence: float
    diameter_mm: float | None = None
    volume_mm3: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Marks of one scan judged; indices are those of the lists that were given."""

    found: dict[int, int]
    """Nodule that counts -> its most confident mark."""
    false: tuple[int, ...]
    """Marks on nothing."""
    ignored: tuple[int, ...]
    """Marks on what does not count, and second marks on a nodule."""
    nearest_mm: tuple[float, ...]
    """For each nodule, the distance to the nearest mark; infinite without marks."""


def match(nodules: Sequence[Nodule], marks: Sequence[Mark]) -> Match:
    """Each mark belongs to the nodule whose centre is nearest among those within whose radius it lies."""
    found: dict[int, int] = {}
    false, ignored = [], []
    for number in sorted(range(len(marks)), key=lambda n: -marks[n].confidence):
        mark = marks[number]
        near = [
            (math.dist(mark.centre_mm, nodule.centre_mm), not nodule.counts, index)
            for index, nodule in enumerate(nodules)
            if math.dist(mark.centre_mm, nodule.centre_mm) <= nodule.diameter_mm / 2
        ]
        if not near:
            false.append(number)
        elif (index := min(near)[2]) in found or not nodules[index].counts:
            ignored.append(number)
        else:
            found[index] = number
    nearest = (min((math.dist(n.centre_mm, m.centre_mm) for m in marks), default=math.inf) for n in nodules)
    return Match(found=found, false=tuple(sorted(false)), ignored=tuple(sorted(ignored)), nearest_mm=tuple(nearest))

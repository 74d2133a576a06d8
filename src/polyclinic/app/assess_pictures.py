"""Pictures of what an agent missed and what it marked for nothing: axial crops as PNG."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from polyclinic.agentkit.assessment.cases import CaseTruth, marks_of
from polyclinic.agentkit.assessment.marks import match
from polyclinic.agentkit.outcome import Assessed, Outcome
from polyclinic.core.findings import Point
from polyclinic.dicom.geometry import VolumeGeometry

CROP_MM, PIXELS = 50.0, 160
MOST_OF_A_KIND = 24
_WINDOW_HU = (-1350.0, 150.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    dataset: str
    kind: str
    """``"missed"`` or ``"false"``."""
    text: str
    png: bytes


class Gallery:
    """At most `MOST_OF_A_KIND` of each kind and dataset: the largest missed, the most confident false."""

    def __init__(self) -> None:
        self._ranked: list[tuple[float, Picture]] = []

    def add(self, dataset: str, truth: CaseTruth, outcome: Outcome) -> None:
        """Picture the failures of one judged scan."""
        if not isinstance(outcome, Assessed) or truth.nodules is None:
            return
        marks = marks_of(outcome)
        found = match(truth.nodules, marks)
        missed = [one for n, one in enumerate(truth.nodules) if one.counts and n not in found.found]
        if not missed and not found.false:
            return
        hu, geometry = truth.read_volume()
        for nodule in missed:
            details = ", ".join(nodule.groups[name] for name in ("kind", "site") if name in nodule.groups)
            text = f"{truth.name}: missed, {nodule.diameter_mm:.1f} mm{', ' if details else ''}{details}"
            self._keep(nodule.diameter_mm, dataset, "missed", text, _crop(hu, geometry, nodule.centre_mm))
        for number in found.false:
            mark = marks[number]
            text = f"{truth.name}: marked at {mark.confidence:.2f}, nothing there"
            self._keep(mark.confidence, dataset, "false", text, _crop(hu, geometry, mark.centre_mm))

    def _keep(self, rank: float, dataset: str, kind: str, text: str, png: bytes) -> None:
        self._ranked.append((rank, Picture(dataset=dataset, kind=kind, text=text, png=png)))
        own = sorted((r for r in self._ranked if (r[1].dataset, r[1].kind) == (dataset, kind)), key=lambda r: -r[0])
        if len(own) > MOST_OF_A_KIND:
            self._ranked.remove(own[-1])

    def pictures(self, dataset: str, kind: str) -> tuple[Picture, ...]:
        """In order of rank."""
        own = [(rank, picture) for rank, picture in self._ranked if (picture.dataset, picture.kind) == (dataset, kind)]
        return tuple(picture for _, picture in sorted(own, key=lambda row: -row[0]))


def _crop(hu: npt.NDArray[np.int16], geometry: VolumeGeometry, centre_mm: Point) -> bytes:
    """PNG of `PIXELS` pixels around a place, lung window, a ring of 10 mm around the middle."""
    index = geometry.to_index(centre_mm)
    plane = hu[int(np.clip(round(float(index[0])), 0, hu.shape[0] - 1))].astype(np.float32)
    scale = CROP_MM / PIXELS
    row_mm, column_mm = geometry.spacing_mm[1:]
    matrix = np.asarray(
        [
            [scale / column_mm, 0.0, float(index[2]) - CROP_MM / 2 / column_mm],
            [0.0, scale / row_mm, float(index[1]) - CROP_MM / 2 / row_mm],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crop = cv2.warpAffine(plane, matrix, (PIXELS, PIXELS), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    low, high = _WINDOW_HU
    grey = np.clip((crop - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    shown = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    cv2.circle(shown, (PIXELS // 2, PIXELS // 2), round(10.0 / scale), (60, 200, 255), 1, cv2.LINE_AA)
    done, data = cv2.imencode(".png", shown)
    assert done
    return bytes(data)

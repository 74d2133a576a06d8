"""Which series of a study to judge, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from pydicom.dataset import Dataset

from polyclinic.agentkit.case import Case, CaseSeries
from polyclinic.dicom.planes import Plane, planes_of
from polyclinic_agents.chest_ct.scan import AXIAL_COSINE

MIN_IMAGES = 8
"""Fewer images are a localizer or a sample, never lungs."""
THIN_MM, MEDIUM_MM, THICK_MM = 1.5, 3.0, 5.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """A series that may be judged."""

    series: CaseSeries
    images: int
    thickness_mm: float
    kernel: str
    reason: str
    study_date: date | None = None


def choose(case: Case) -> tuple[tuple[Choice, ...], str]:
    """Axial CT series, best first, and why the others were passed over.

    Best is thin before thick, a soft kernel before a sharp one (densitometry depends on it), then more images. Three
    images of each series are looked at; the volume is checked in full when it is read.
    """
    choices: list[tuple[tuple[float, ...], str, Choice]] = []
    passed: list[str] = []
    for series in case.series:
        why, plane, images = _look(series)
        if plane is None:
            passed.append(why)
            continue
        thickness = plane.thickness_mm or 10.0
        order = (_band(thickness), float(is_sharp(plane.kernel)), round(thickness, 1), -float(images))
        text = f"{images} axial images of {thickness:g} mm" + (f", kernel {plane.kernel}" if plane.kernel else "")
        choice = Choice(
            series=series,
            images=images,
            thickness_mm=thickness,
            kernel=plane.kernel,
            reason=f"thinnest usable: {text}",
            study_date=study_date(series.datasets[0]),
        )
        choices.append((order, series.series_instance_uid, choice))
    choices.sort(key=lambda one: one[:2])
    return tuple(choice for _, _, choice in choices), "; ".join(sorted(set(passed)))


def is_sharp(kernel: str) -> bool:
    """Whether the kernel's name is that of an edge-enhancing reconstruction.

    Names are the makers' own and not standardised; an unknown name counts as soft.
    """
    name = kernel.upper()
    if re.search(r"LUNG|BONE|EDGE|SHARP|DETAIL|ULTRA", name):
        return True
    # Siemens and others number their kernels by sharpness: B31f is soft, B50f and above are sharp.
    siemens = re.match(r"[A-Z]{1,2}(\d\d)", name)
    if siemens and not name.startswith("FC"):
        return int(siemens.group(1)) >= 50
    toshiba = re.match(r"FC(\d\d)", name)
    return bool(toshiba) and int(toshiba.group(1)) >= 30 if toshiba else False


def study_date(header: Dataset) -> date | None:
    """Study Date (DA, PS3.5 6.2); None when it is missing or no date."""
    value = str(header.get("StudyDate", "") or "")
    try:
        return date(int(value[:4]), int(value[4:6]), int(value[6:8])) if len(value) == 8 else None
    except ValueError:
        return None


def _band(thickness_mm: float) -> float:
    return float(sum(thickness_mm > limit for limit in (THIN_MM, MEDIUM_MM, THICK_MM)))


def _look(series: CaseSeries) -> tuple[str, Plane | None, int]:
    if series.modality != "CT":
        return f"{series.modality or 'unknown'} is not CT", None, 0
    count = len(series.datasets)
    sampled = [series.datasets[index] for index in sorted({0, count // 2, count - 1})] if count else []
    images = max((int(one.get("NumberOfFrames", 1) or 1) for one in sampled), default=0)
    images = images if images > 1 else count
    if images < MIN_IMAGES:
        return "a CT series has too few images", None, images
    axial = [plane for plane in _planes(sampled) if _is_axial(plane)]
    if not axial:
        return "a CT series is a localizer, not axial or without position", None, images
    return "", axial[len(axial) // 2], images


def _planes(sampled: list[Dataset]) -> tuple[Plane, ...]:
    return planes_of(sampled)[0]


def _is_axial(plane: Plane) -> bool:
    across, down = abs(plane.along_columns[0]), abs(plane.along_rows[1])
    return plane.kind != "LOCALIZER" and across > AXIAL_COSINE and down > AXIAL_COSINE

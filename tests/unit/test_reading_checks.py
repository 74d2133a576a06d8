"""Each check holds back what it is there for, with its reason, and lets the rest through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from polyclinic.agentkit.manifest import Manifest
from polyclinic.agentkit.outcome import Assessed
from polyclinic.core import codes
from polyclinic.core.findings import Contour, Finding, FindingState, ImageReference, Measurement, Region
from polyclinic.departments.reading.checks import check_outcome
from polyclinic.departments.reading.contracts import SeriesExtent

MANIFEST = Manifest.model_validate(
    {
        "id": "aa",
        "version": "1.0.0",
        "title": "A",
        "intended_use": "u",
        "population": "p",
        "stage": "research",
        "inputs": {"modality": ["CT"]},
        "outputs": [{"system": codes.PULMONARY_NODULE.system, "code": "427359005", "display": "nodule"}],
    }
)
EXTENT = SeriesExtent(
    series_instance_uid="9",
    frame_of_reference_uid="7",
    low_mm=(-100.0, -100.0, -50.0),
    high_mm=(100.0, 100.0, 50.0),
    sop_instance_uids=frozenset({"5"}),
)
IMAGE = ImageReference(series_instance_uid="9", sop_class_uid="1", sop_instance_uid="5")
OUTLINE = Contour(image=IMAGE, points_mm=((0.0, 0.0, 0.0), (5.0, 0.0, 0.0), (0.0, 5.0, 0.0)))


def millimetres(code: codes.Code, value: float) -> Measurement:
    return Measurement(code=code, value=value, unit="mm", method="m")


GOOD = Finding(
    id="f",
    study_instance_uid="1.2",
    code=codes.PULMONARY_NODULE,
    source=MANIFEST.source,
    body_site=codes.LEFT_LUNG,
    laterality=codes.LEFT,
    region=Region(frame_of_reference_uid="7", centre_mm=(1.0, 2.0, 3.0), contours=(OUTLINE,)),
    measurements=(millimetres(codes.LONG_AXIS, 8.0), millimetres(codes.SHORT_AXIS, 6.0)),
    confidence=0.5,
)


def verdict(*findings: Finding, extents: dict[str, SeriesExtent] | None = None) -> tuple[list[str], list[str]]:
    outcome = Assessed(agent=MANIFEST.source, series_instance_uid="9", findings=findings)
    kept, withheld = check_outcome(
        outcome,
        manifest=MANIFEST,
        study_instance_uid="1.2",
        extents={"9": EXTENT} if extents is None else extents,
    )
    return [f.id for f in kept], [w.reason for w in withheld]


def moved(**changes: object) -> Callable[[Finding], Finding]:
    return lambda finding: replace(finding, region=replace(finding.region, **changes))


def measured(*measurements: Measurement) -> Callable[[Finding], Finding]:
    return lambda finding: replace(finding, measurements=measurements)


def test_a_sound_finding_passes() -> None:
    assert verdict(GOOD) == (["f"], [])


def test_a_finding_without_region_or_confidence_passes() -> None:
    assert verdict(replace(GOOD, region=None, confidence=None)) == (["f"], [])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: replace(f, study_instance_uid="1.3"), "another study"),
        (lambda f: replace(f, state=FindingState.ACCEPTED), "only propose"),
        (lambda f: replace(f, code=codes.EMPHYSEMA), "declares"),
        (lambda f: replace(f, source=replace(f.source, version="2.0.0")), "agent that made it"),
        (lambda f: replace(f, confidence=1.01), "between 0 and 1"),
        (lambda f: replace(f, confidence=float("nan")), "between 0 and 1"),
        (lambda f: replace(f, laterality=codes.RIGHT), "contradicts"),
        (measured(replace(millimetres(codes.LONG_AXIS, 8.0), unit="furlong")), "unit"),
        (measured(millimetres(codes.LONG_AXIS, float("inf"))), "not a number"),
        (measured(millimetres(codes.LONG_AXIS, 0.5)), "from 1 to 200"),
        (measured(millimetres(codes.MEAN_DIAMETER, 201.0)), "from 1 to 200"),
        (measured(Measurement(code=codes.VOLUME, value=0.0, unit="mm3", method="m")), "above zero"),
        (measured(Measurement(code=codes.LAA_950, value=100.5, unit="%", method="m")), "from 0 to 100"),
        (measured(millimetres(codes.LONG_AXIS, 5.0), millimetres(codes.SHORT_AXIS, 6.0)), "longer than"),
        (moved(frame_of_reference_uid="8"), "frame of reference"),
        (moved(centre_mm=(106.0, 0.0, 0.0)), "outside the images"),
        (moved(centre_mm=(float("nan"), 0.0, 0.0)), "outside the images"),
        (moved(bounds_mm=((0.0, 0.0, 0.0), (0.0, 0.0, 56.0))), "outside the images"),
        (moved(contours=(replace(OUTLINE, image=replace(IMAGE, sop_instance_uid="6")),)), "not part of the series"),
        (moved(contours=(replace(OUTLINE, points_mm=OUTLINE.points_mm[:2]),)), "three points"),
        (moved(contours=(replace(OUTLINE, points_mm=(*OUTLINE.points_mm, (0.0, 999.0, 0.0))),)), "leaves"),
    ],
)
def test_a_bad_finding_is_withheld_with_its_reason(spoil: Callable[[Finding], Finding], words: str) -> None:
    kept, reasons = verdict(spoil(GOOD), replace(GOOD, id="other"))
    assert kept == ["other"]
    assert len(reasons) == 1
    assert words in reasons[0]


def test_the_second_finding_of_an_id_is_withheld() -> None:
    assert verdict(GOOD, GOOD) == (["f"], ["the agent gave two findings the same id"])


def test_a_region_in_a_series_without_positions_is_withheld() -> None:
    kept, reasons = verdict(GOOD, extents={})
    assert kept == []
    assert "not part of the study" in reasons[0]

"""When a study counts as complete; what the record says of age; where images lie."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from pydicom.dataset import Dataset

from polyclinic.core.people import Patient
from polyclinic.departments.archive.ports import UnsettledStudy
from polyclinic.departments.records.rules import age_years, context_of, parse_da
from polyclinic.dicom.extent import series_box
from polyclinic.journeys.watchers import settled

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("silent_s", "open_associations", "complete"),
    [
        (29.9, 0, False),
        (30.0, 0, True),
        (30.0, 1, False),
        (599.0, 2, False),
        (600.0, 1, True),
        (-5.0, 0, False),  # the clock of the database may be ahead of ours
    ],
)
def test_settled(silent_s: float, open_associations: int, complete: bool) -> None:
    last = NOW - timedelta(seconds=silent_s)
    study = UnsettledStudy(
        study_instance_uid="1.2",
        instance_count=3,
        first_received_at=last,
        last_received_at=last,
        open_associations=open_associations,
    )
    evidence = settled(study, now=NOW, quiet_s=30.0, limit_s=600.0)
    assert (evidence is not None) is complete
    if evidence and open_associations:
        assert "still open" in evidence


@pytest.mark.parametrize(
    ("born", "at", "years"),
    [
        (date(1960, 1, 2), date(2026, 1, 1), 65),
        (date(1960, 1, 2), date(2026, 1, 2), 66),
        (date(2026, 1, 2), date(2026, 1, 2), 0),
        (date(2026, 1, 3), date(2026, 1, 2), None),
        (date(1960, 2, 29), date(2025, 2, 28), 64),
        (None, date(2026, 1, 2), None),
        (date(1960, 1, 2), None, None),
    ],
)
def test_age(born: date | None, at: date | None, years: int | None) -> None:
    assert age_years(born, at) == years


@pytest.mark.parametrize(
    ("text", "day"),
    [("20260102", date(2026, 1, 2)), ("", None), ("2026", None), ("20261399", None), ("abcdefgh", None)],
)
def test_dates_of_dicom(text: str, day: date | None) -> None:
    assert parse_da(text) == day


def test_an_agent_is_told_what_is_known_and_nothing_else() -> None:
    patient = Patient(patient_id="P", name="Doe^John", birth_date=date(1960, 1, 2), sex="M")
    assert context_of(patient, "20260102", []).for_agents() == {"sex": "M", "age_years": "66"}
    assert context_of(Patient(patient_id="P", name="X"), "", []).for_agents() == {}


def test_the_box_of_a_series_holds_every_pixel_corner(tiny_ct: Callable[..., list[Dataset]]) -> None:
    images = tiny_ct(slices=3, rows=20, columns=17)
    frame_of_reference, low, high = series_box(reversed(images))
    assert frame_of_reference == images[0].FrameOfReferenceUID
    assert low == pytest.approx((-10.5, -20.25, -100.0))
    assert high == pytest.approx((-10.5 + 16 * 0.8, -20.25 + 19 * 0.75, -95.0))


def test_images_without_position_have_no_box(tiny_ct: Callable[..., list[Dataset]]) -> None:
    images = tiny_ct(slices=2)
    for image in images:
        del image.ImagePositionPatient
    assert series_box(images) is None

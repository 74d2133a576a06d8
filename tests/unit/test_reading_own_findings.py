"""A reader's ruler becomes a finding: geometry in the plane of the image, whatever its orientation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyclinic.core import codes
from polyclinic.core.errors import Rejected
from polyclinic.core.findings import FindingState, ImageReference, Point
from polyclinic.core.people import Person
from polyclinic.departments.reading.contracts import ImagePlane
from polyclinic.departments.reading.own_findings import Line, own_nodule

IMAGE = ImageReference(series_instance_uid="9", sop_class_uid="1", sop_instance_uid="5")
ANN = Person(person_id="ann", name="Ann", roles=frozenset())
AXIAL = ImagePlane(
    image=IMAGE, frame_of_reference_uid="7", row_direction=(1.0, 0.0, 0.0), column_direction=(0.0, 1.0, 0.0)
)
CORONAL = ImagePlane(
    image=IMAGE, frame_of_reference_uid="7", row_direction=(1.0, 0.0, 0.0), column_direction=(0.0, 0.0, -1.0)
)


def nodule(long_axis: Line, short_axis: Line | None = None, plane: ImagePlane = AXIAL, **changes: object):
    values = {"attenuation": None, "note": "", "person": ANN} | changes
    return own_nodule(study_instance_uid="1.2", plane=plane, long_axis=long_axis, short_axis=short_axis, **values)


@given(st.floats(0, 2 * math.pi), st.floats(2, 199), st.floats(0.51, 1.0), st.sampled_from([AXIAL, CORONAL]))
def test_outline_and_measurements_follow_the_rulers(
    angle: float, long_mm: float, ratio: float, plane: ImagePlane
) -> None:
    row, column = np.asarray(plane.row_direction), np.asarray(plane.column_direction)
    centre = np.array([10.0, -20.0, 30.0])
    along = math.cos(angle) * row + math.sin(angle) * column
    across = -math.sin(angle) * row + math.cos(angle) * column

    def line(direction: np.ndarray, length: float) -> Line:
        ends = (centre - direction * length / 2, centre + direction * length / 2)
        return tuple(tuple(float(v) for v in end) for end in ends)

    found = nodule(line(along, long_mm), line(across, long_mm * ratio), plane)
    assert found.measurement(codes.LONG_AXIS).value == pytest.approx(long_mm)
    assert found.measurement(codes.SHORT_AXIS).value == pytest.approx(long_mm * ratio)
    assert found.measurement(codes.MEAN_DIAMETER).value == pytest.approx(long_mm * (1 + ratio) / 2)
    assert found.region.centre_mm == pytest.approx(tuple(centre))
    offsets = np.asarray(found.region.contours[0].points_mm) - centre
    assert np.abs(offsets @ np.cross(row, column)).max() < 1e-6, "the outline stays in the plane"
    assert np.abs(offsets @ along).max() == pytest.approx(long_mm / 2, rel=1e-6)
    assert np.abs(offsets @ across).max() == pytest.approx(long_mm * ratio / 2, rel=1e-6)


def test_the_longer_ruler_is_the_long_axis_whichever_was_drawn_first() -> None:
    short: Line = ((0.0, -2.0, 0.0), (0.0, 2.0, 0.0))
    long: Line = ((-4.0, 0.0, 0.0), (4.0, 0.0, 0.0))
    assert nodule(short, long).measurements == nodule(long, short).measurements


def test_it_is_the_readers_own_and_accepted() -> None:
    found = nodule(((0.0, 0.0, 0.0), (8.0, 0.0, 0.0)), site=codes.LEFT_LUNG, note=" new ", attenuation=codes.SOLID)
    assert (found.state, found.source.id, found.note) == (FindingState.ACCEPTED, "ann", "new")
    assert (found.body_site, found.laterality) == (codes.LEFT_LUNG, codes.LEFT)
    assert found.attribute(codes.NODULE_ATTENUATION) == codes.SOLID
    assert found.measurement(codes.SHORT_AXIS) is None


def test_equal_rulers_are_one_finding_and_other_rulers_another() -> None:
    line: Line = ((0.0, 0.0, 0.0), (8.0, 0.0, 0.0))
    longer: Line = ((0.0, 0.0, 0.0), (9.0, 0.0, 0.0))
    assert nodule(line).id == nodule(line).id != nodule(longer).id


@pytest.mark.parametrize(
    "end", [(0.5, 0.0, 0.0), (201.0, 0.0, 0.0), (8.0, 0.0, 6.0), (float("nan"), 0.0, 0.0), (float("inf"), 0.0, 0.0)]
)
def test_a_ruler_that_cannot_be(end: Point) -> None:
    with pytest.raises(Rejected, match="bad-ruler"):
        nodule(((0.0, 0.0, 0.0), end))

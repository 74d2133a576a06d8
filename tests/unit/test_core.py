"""Laws of the nouns that every room uses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyclinic.core import codes, units
from polyclinic.core.codes import Code
from polyclinic.core.errors import Rejected
from polyclinic.core.findings import (
    Attribute,
    Contour,
    Evidence,
    Finding,
    FindingState,
    ImageReference,
    Measurement,
    Region,
    Rule,
    Source,
    SourceKind,
)
from polyclinic.core.ids import is_uid, is_uid_lenient, stable_id, stable_uid
from polyclinic.core.plain import from_plain, to_plain

words = st.text(min_size=1, max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32).map(float)
points = st.tuples(numbers, numbers, numbers)
code = st.builds(Code, system=words, code=words, display=words)
image = st.builds(
    ImageReference,
    series_instance_uid=words,
    sop_class_uid=words,
    sop_instance_uid=words,
    frame=st.integers(1, 99),
)
contour = st.builds(Contour, image=image, points_mm=st.lists(points, min_size=3, max_size=5).map(tuple))
region = st.builds(
    Region,
    frame_of_reference_uid=words,
    centre_mm=points,
    bounds_mm=st.none() | st.tuples(points, points),
    contours=st.lists(contour, max_size=2).map(tuple),
    mask=words,
    segment=st.integers(0, 255),
)
rule = st.builds(Rule, id=words, citation=words, result=words)
findings = st.builds(
    Finding,
    id=words,
    study_instance_uid=words,
    code=code,
    source=st.builds(Source, kind=st.sampled_from(SourceKind), id=words, version=words),
    state=st.sampled_from(FindingState),
    body_site=st.none() | code,
    laterality=st.none() | code,
    region=st.none() | region,
    measurements=st.lists(
        st.builds(Measurement, code=code, value=numbers, unit=st.sampled_from(sorted(units.PRINTED)), method=words),
        max_size=3,
    ).map(tuple),
    attributes=st.lists(st.builds(Attribute, code=code, value=code), max_size=2).map(tuple),
    confidence=st.none() | st.floats(0, 1),
    limits=st.lists(words, max_size=2).map(tuple),
    evidence=st.builds(
        Evidence, images=st.lists(image, max_size=2).map(tuple), rules=st.lists(rule, max_size=2).map(tuple)
    ),
    note=words,
)


@given(findings)
def test_a_finding_survives_json(finding: Finding) -> None:
    assert from_plain(Finding, json.loads(json.dumps(to_plain(finding)))) == finding


def test_findings_json_has_the_promised_shape() -> None:
    finding = Finding(
        id="f",
        study_instance_uid="1.2",
        code=codes.PULMONARY_NODULE,
        source=Source(kind=SourceKind.AGENT, id="chest_ct", version="0.1.0"),
        region=Region(frame_of_reference_uid="1.3", centre_mm=(1.0, 2.0, 3.0)),
        measurements=(Measurement(code=codes.LONG_AXIS, value=7.5, unit=units.MILLIMETRE, method="axial"),),
        confidence=0.5,
    )
    plain = to_plain(finding)
    assert plain["code"] == {
        "system": codes.SNOMED_CT,
        "code": "427359005",
        "display": "Solitary nodule of lung",
    }
    assert plain["state"] == "proposed"
    assert plain["region"]["centre_mm"] == [1.0, 2.0, 3.0]
    assert plain["measurements"][0].keys() == {"code", "value", "unit", "method"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dated:
    day: date
    at: datetime
    names: frozenset[str]
    share: float = 0.0


def test_dates_sets_and_whole_numbers() -> None:
    made = _Dated(day=date(2026, 1, 2), at=datetime(2026, 1, 2, 3, tzinfo=UTC), names=frozenset({"b", "a"}))
    assert to_plain(made)["names"] == ["a", "b"]
    assert from_plain(_Dated, {**to_plain(made), "share": 1}) == _Dated(
        day=made.day, at=made.at, names=made.names, share=1.0
    )


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"code": "x"}, "$.code"),
        ({"state": "signed"}, "$.state"),
        ({"confidence": "high"}, "$.confidence"),
        ({"extra": 1}, "$.extra"),
        ({"limits": "one"}, "$.limits"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], path: str) -> None:
    finding = Finding(
        id="f", study_instance_uid="1", code=codes.EMPHYSEMA, source=Source(kind=SourceKind.PERSON, id="p")
    )
    with pytest.raises(Rejected, match=path.replace("$", r"\$")):
        from_plain(Finding, to_plain(finding) | change)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(Rejected, match="study_instance_uid"):
        from_plain(Finding, {"id": "f"})


@given(st.lists(st.text(max_size=20), max_size=4))
def test_stable_uid_is_a_uid_and_depends_on_every_part(parts: list[str]) -> None:
    uid = stable_uid("series", *parts)
    assert is_uid(uid)
    assert len(uid) <= 44
    assert uid == stable_uid("series", *parts)
    assert uid != stable_uid("instance", *parts)
    assert uid != stable_uid("series", *parts, "more")


def test_stable_id_does_not_join_parts() -> None:
    assert stable_id("k", "ab", "c") != stable_id("k", "a", "bc")


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2", "0", "2.25.1", "1." + "9" * 62])
def test_good_uids(uid: str) -> None:
    assert is_uid(uid)


@pytest.mark.parametrize("uid", ["", "1..2", "1.2.", ".1", "1.2a", "1.02", "1/2", "../1", "1." + "9" * 63, "1.2\n"])
def test_bad_uids(uid: str) -> None:
    assert not is_uid(uid)


def test_old_devices_write_leading_zeros() -> None:
    assert is_uid_lenient("1.02.003")
    assert not is_uid_lenient("1.2/../3")
    assert not is_uid_lenient("1.2\n")

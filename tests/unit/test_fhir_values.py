"""Laws of FHIR dates, names, identifiers, structure and queries."""

from __future__ import annotations

import importlib
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyclinic.core.errors import Rejected
from polyclinic.edges.fhir_http.matching import fits
from polyclinic.edges.fhir_http.parameters import PARAMETERS, Kind
from polyclinic.edges.fhir_http.query import Search, parse_search, split_unescaped, unescape
from polyclinic.fhir.check import faults_of
from polyclinic.fhir.human_names import human_names, person_name
from polyclinic.fhir.json_text import parse_json, write_json
from polyclinic.fhir.moments import Prefix, Stretch, holds, parse_moment, parse_period, reach
from polyclinic.fhir.structure import RESOURCES, complex_types, elements
from polyclinic.fhir.terms import issuer_of_system, system_of_issuer

NOW_US = 1_780_000_000_000_000


# Dates

EDGES = (datetime(1900, 1, 2, tzinfo=UTC).replace(tzinfo=None), datetime(2100, 12, 30, tzinfo=UTC).replace(tzinfo=None))
DATES = st.dates(date(1900, 1, 2), date(2100, 12, 30))
WRITTEN = st.one_of(
    DATES.map(lambda d: f"{d.year:04d}"),
    DATES.map(lambda d: f"{d:%Y-%m}"),
    DATES.map(lambda d: d.isoformat()),
    st.datetimes(*EDGES, timezones=st.just(UTC)).map(lambda t: t.isoformat(timespec="seconds")),
)


def stretch(text: str) -> Stretch:
    found = parse_moment(text)
    assert found is not None
    assert found.low_us < found.high_us
    return found


@given(WRITTEN, WRITTEN)
def test_date_prefixes_divide_time(asked_text: str, said_text: str) -> None:
    asked, said = stretch(asked_text), stretch(said_text)

    def found(prefix: Prefix) -> bool:
        return holds(prefix, asked, said, now_us=NOW_US)

    assert found(Prefix.EQ) is not found(Prefix.NE)
    assert found(Prefix.GE) is (found(Prefix.GT) or found(Prefix.EQ))
    assert found(Prefix.LE) is (found(Prefix.LT) or found(Prefix.EQ))
    assert not (found(Prefix.SA) and found(Prefix.EB))
    assert found(Prefix.GT) or not found(Prefix.SA)
    assert found(Prefix.LT) or not found(Prefix.EB)
    assert found(Prefix.AP) or not found(Prefix.EQ)
    assert found(Prefix.GT) or found(Prefix.LT) or found(Prefix.EQ)
    assert holds(Prefix.EQ, said, said, now_us=NOW_US)
    assert holds(Prefix.SA, asked, said, now_us=NOW_US) is holds(Prefix.EB, said, asked, now_us=NOW_US)


@given(st.sampled_from(list(Prefix)), WRITTEN, WRITTEN)
def test_narrowing_by_reach_loses_nothing(prefix: Prefix, asked_text: str, said_text: str) -> None:
    asked, said = stretch(asked_text), stretch(said_text)
    if holds(prefix, asked, said, now_us=NOW_US):
        reached = reach(prefix, asked, now_us=NOW_US)
        assert said.low_us < reached.high_us
        assert reached.low_us < said.high_us


@given(DATES)
def test_a_day_lies_in_its_month_and_its_year(day: date) -> None:
    inner, month, year = stretch(day.isoformat()), stretch(f"{day:%Y-%m}"), stretch(f"{day.year:04d}")
    assert year.low_us <= month.low_us <= inner.low_us < inner.high_us <= month.high_us <= year.high_us
    assert parse_period({"start": day.isoformat(), "end": day.isoformat()}) == inner


@pytest.mark.parametrize(
    "text", ["", "2026-13", "2026-02-30", "26", "2026-1-1", "2026-01-01T25:00", "2026-01-01T10:00+99:00", "0000", "x"]
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert parse_moment(text) is None


def test_zones_and_fractions_are_read() -> None:
    assert parse_moment("2026-01-01T08:00:00+08:00") == parse_moment("2026-01-01T00:00:00Z")
    half = stretch("2026-01-01T00:00:00.5Z")
    assert half.high_us - half.low_us == 100_000
    assert stretch("2026-01-01T00:00Z").high_us - half.low_us == 59_500_000


# Names and identifiers

PART = st.text(st.sampled_from("abcXYZäß王小东山田タロウ홍길동 '-."), max_size=12).map(lambda s: " ".join(s.split()))
LATIN = st.text(st.sampled_from("abcXYZäß '-."), max_size=12).map(lambda s: " ".join(s.split()))


@st.composite
def person_names(draw: st.DrawFn) -> str:
    groups = []
    for _ in range(draw(st.integers(1, 3))):
        parts = [draw(PART) for _ in range(draw(st.integers(1, 5)))]
        groups.append("^".join(parts).rstrip("^"))
    return "=".join(groups).rstrip("=")


@given(person_names())
def test_names_round_trip(pn: str) -> None:
    names = human_names(pn)
    assert person_name(names) == pn
    for name in names:
        assert faults_of({"resourceType": "Patient", "name": [name]}, "Patient") == []


@pytest.mark.parametrize(
    ("names", "pn"),
    [
        ([{"text": "王小东"}], "=王小东"),
        ([{"text": "Ann Lee"}], "Ann Lee"),
        ([{"use": "old", "family": "A"}, {"use": "official", "family": "B"}], "B"),
        ([{"family": "홍", "given": ["길동"]}], "=홍^길동"),
        ([{"family": "ヤマダ"}, {"family": "山田"}, {"family": "Yamada"}], "Yamada=山田=ヤマダ"),
        ([], ""),
    ],
)
def test_names_without_a_representation_go_by_their_script(names: list[dict[str, Any]], pn: str) -> None:
    assert person_name(names) == pn


@pytest.mark.parametrize("family", ["a^b", "a=b", "a\\b", "x" * 65])
def test_names_that_pn_cannot_hold_are_refused(family: str) -> None:
    with pytest.raises(Rejected, match=r"fhir\.name"):
        person_name([{"family": family}])


@given(st.text(max_size=30).map(str.strip))
def test_issuers_round_trip(issuer: str) -> None:
    system = system_of_issuer(issuer)
    assert issuer_of_system(system) == issuer
    assert " " not in system


@pytest.mark.parametrize(
    ("issuer", "system"),
    [
        ("SITE A", "urn:polyclinic:issuer:SITE%20A"),
        ("1.2.840.1", "urn:oid:1.2.840.1"),
        ("https://his.example/mrn", "https://his.example/mrn"),
        ("", ""),
    ],
)
def test_issuers_are_uris(issuer: str, system: str) -> None:
    assert system_of_issuer(issuer) == system


# Structure

PRIMITIVES = {
    "bool": {"boolean"},
    "int": {"integer", "positiveInt", "unsignedInt"},
    "float": {"decimal"},
    "FHIRDate": {"date", "dateTime"},
    "FHIRDateTime": {"dateTime"},
    "FHIRInstant": {"instant"},
    "FHIRTime": {"time"},
    "FHIRReference": {"Reference"},
    "str": {"string", "code", "uri", "url", "canonical", "id", "markdown", "base64Binary", "xhtml"},
}


def other_class(type_name: str) -> Any:
    """The class of fhirclient, generated from R4's own definitions, for a type of our tables."""
    module, *rest = type_name.split(".")
    name = module + "".join(part[0].upper() + part[1:] for part in rest)
    return getattr(importlib.import_module(f"fhirclient.models.{module.lower()}"), name)


@pytest.mark.parametrize("type_name", [name for name in complex_types() if name != "Reference"])
def test_the_tables_say_what_r4_says(type_name: str) -> None:
    ours = dict(elements(type_name) or {})
    theirs = {
        js: (kind.__name__, many, group, needed)
        for _, js, kind, many, group, needed in other_class(type_name)().elementProperties()
    }
    if "." in type_name:
        ours.pop("modifierExtension", None)
        theirs.pop("modifierExtension", None)
    assert set(ours) == set(theirs)
    for name, (kind, many, group, needed) in theirs.items():
        mine = ours[name]
        assert mine.many is many, name
        assert mine.choice == (group or ""), name
        assert mine.required is (needed and not group), name
        flat = mine.type.split(".")
        joined = flat[0] + "".join(part[0].upper() + part[1:] for part in flat[1:])
        assert kind == joined or mine.type in PRIMITIVES.get(kind, ()), name


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "subject", "coding", "id", "x", "status", "resource", "entry"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(
    st.sampled_from([*RESOURCES, "Bundle"]),
    st.dictionaries(
        st.sampled_from(
            ["name", "status", "subject", "identifier", "code", "entry", "series", "contained", "_status", "meta"]
        ),
        JSON,
    ),
)
def test_checking_never_raises(kind: str, body: dict[str, Any]) -> None:
    resource = {"resourceType": kind, **body}
    for fault in faults_of(resource, kind):
        assert fault.path.startswith(kind)


def test_numbers_keep_their_digits_and_text_its_bounds() -> None:
    assert write_json(parse_json('{"a":[0.010,1e2,7]}')) == b'{"a":[0.010,1e2,7]}'
    for text in ("[]", "{", '{"a":NaN}', '{"a":' * 5000, json.dumps({"a": [1] * 200_000})):
        with pytest.raises(Rejected):
            parse_json(text)
    assert faults_of({"resourceType": "Device", "id": "a b"}, "Device")[0].path == "Device.id"
    assert faults_of({"resourceType": "Device", "url": "urn:\x01"}, "Device")
    assert faults_of({"resourceType": "Device", "lotNumber": "\ud800"}, "Device")


# Queries

NAMES = st.sampled_from(
    [name for table in PARAMETERS.values() for name in table]
    + [
        "_count",
        "_sort",
        "_include",
        "patient.name",
        "subject:Patient.birthdate",
        "patient.patient.name",
        "a.b",
        ":",
        ".",
    ]
)


def asked(kind: str, pairs: list[tuple[str, str]], *, strict: bool) -> tuple[Search | None, str]:
    """The search, or the code of its refusal."""
    try:
        return parse_search(kind, pairs, strict=strict), ""
    except Rejected as error:
        return None, error.code


@given(
    st.sampled_from(RESOURCES),
    st.lists(
        st.tuples(
            NAMES | st.text(max_size=10),
            st.sampled_from(["", ":missing", ":exact", ":not", ":x"]),
            st.text(max_size=20),
        )
    ),
    st.booleans(),
)
def test_any_query_is_a_search_or_a_refusal(kind: str, pairs: list[tuple[str, str, str]], strict: bool) -> None:
    search, code = asked(kind, [(name + modifier, value) for name, modifier, value in pairs], strict=strict)
    if search is None:
        assert code == "fhir.bad-search"
        return
    assert isinstance(
        fits({"resourceType": kind, "id": "1"}, [c for c in search.criteria if not c.chain], now_us=NOW_US), bool
    )
    again = parse_search(kind, search.used, strict=True)
    assert (again.criteria, again.count, again.sort) == (search.criteria, search.count, search.sort)


@given(st.binary(max_size=60))
def test_any_query_string_is_read(raw: bytes) -> None:
    pairs = parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True)
    search, code = asked("Patient", pairs, strict=False)
    assert (search is None) is (code == "fhir.bad-search")


@given(st.lists(st.text(st.sampled_from("ab,|$\\ "), min_size=1, max_size=6), min_size=1, max_size=4))
def test_escaped_values_come_back(values: list[str]) -> None:
    escaped = ["".join(f"\\{c}" if c in "$,|\\" else c for c in value) for value in values]
    assert [unescape(part) for part in split_unescaped(",".join(escaped), ",")] == values


def test_every_parameter_has_elements_of_its_kind() -> None:
    for kind, table in PARAMETERS.items():
        for parameter in table.values():
            for path in parameter.paths:
                assert _leaf(kind, path.split(".")), f"{kind}.{parameter.name}: {path}"
            assert bool(parameter.targets) is (parameter.kind is Kind.REFERENCE)


def _leaf(type_name: str, path: list[str]) -> bool:
    table = elements(type_name)
    if not path:
        return True
    if table is None or path[0] not in table:
        return False
    return _leaf(table[path[0]].type, path[1:])


def test_the_centuries_at_the_edge_are_read() -> None:
    assert parse_moment("0001-01-01") is not None
    assert stretch("9998").high_us > stretch("9997").high_us
    assert timedelta(microseconds=stretch("2024-02").high_us - stretch("2024-02").low_us) == timedelta(days=29)


@pytest.mark.parametrize(
    ("element", "value"),
    [("identifier", [None]), ("name", [{"given": "x"}]), ("contained", [None]), ("extension", [None])],
)
def test_nothing_but_a_primitive_may_be_null(element: str, value: object) -> None:
    assert faults_of({"resourceType": "Patient", element: value}, "Patient")
    assert (
        faults_of(
            {"resourceType": "Patient", "name": [{"given": [None, "x"], "_given": [{"id": "a"}, None]}]}, "Patient"
        )
        == []
    )

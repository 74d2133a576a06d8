"""Matching rules of the index against plain regular expressions and comparisons."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Connection, MetaData, Table, Text, create_engine, delete, insert, select
from sqlalchemy.dialects import postgresql

from polyclinic.departments.archive.matching import (
    fold_name,
    match,
    match_modalities,
    match_moment,
    match_name,
    wildcard,
)

TABLE = Table("t", MetaData(), Column("value", Text), Column("time", Text))
VALUE, TIME = TABLE.c.value, TABLE.c.time
QUICK = settings(max_examples=150, deadline=None)
TEXT = st.text("aAbZ王é[]%_\\^-! ", max_size=8)
PATTERN = st.text("aAbZ王é[]%_\\^-! **??", max_size=8)


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        TABLE.create(connection)
        yield connection
    engine.dispose()


def fits(connection: Connection, condition: object, *rows: tuple[str, str]) -> list[bool]:
    connection.execute(delete(TABLE))
    out = []
    for value, time in rows:
        connection.execute(delete(TABLE))
        connection.execute(insert(TABLE), {"value": value, "time": time})
        out.append(connection.execute(select(1).select_from(TABLE).where(condition)).first() is not None)
    return out


def one(connection: Connection, condition: object, value: str, time: str = "") -> bool:
    return fits(connection, condition, (value, time))[0]


def regex(pattern: str) -> str:
    return "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern)


@QUICK
@given(pattern=PATTERN, value=TEXT)
def test_wildcards_are_what_a_regular_expression_says(connection: Connection, pattern: str, value: str) -> None:
    expected = re.fullmatch(regex(pattern), value, re.DOTALL) is not None
    assert one(connection, wildcard(VALUE, pattern), value) is expected


@QUICK
@given(value=TEXT.filter(bool), hidden=st.lists(st.booleans(), min_size=8, max_size=8))
def test_a_value_is_found_by_itself_with_characters_hidden(
    connection: Connection, value: str, hidden: list[bool]
) -> None:
    pattern = "".join("?" if hide else c for c, hide in zip(value, hidden, strict=False))
    assert one(connection, wildcard(VALUE, pattern), value)
    assert one(connection, wildcard(VALUE, f"*{pattern[1:]}"), value)


def test_the_pattern_goes_to_other_databases_as_like() -> None:
    condition = wildcard(VALUE, "a_*[b]?").compile(dialect=postgresql.dialect())
    assert str(condition) == "t.value LIKE %(param_1)s::VARCHAR ESCAPE '\\'"
    assert condition.params == {"param_1": "a\\_%[b]_"}


DAYS = st.dates().map(lambda day: f"{day:%Y%m%d}".rjust(8, "0"))


@QUICK
@given(first=st.none() | DAYS, last=st.none() | DAYS, day=DAYS)
def test_date_ranges_include_both_ends(connection: Connection, first: str | None, last: str | None, day: str) -> None:
    condition = match(VALUE, "StudyDate", f"{first or ''}-{last or ''}")
    expected = (first is None or first <= day) and (last is None or day <= last)
    assert one(connection, condition, day) is expected
    assert not one(connection, condition, "")


TIMES = st.times().map(lambda time: f"{time:%H%M%S}")


@QUICK
@given(first=TIMES, last=TIMES, time=TIMES, digits=st.sampled_from([2, 4, 6]), fraction=st.sampled_from(["", ".5"]))
def test_a_time_range_ends_with_the_last_moment_of_its_end(
    connection: Connection, first: str, last: str, time: str, digits: int, fraction: str
) -> None:
    start, end = first[:digits], last[:digits]
    expected = start <= time[:digits] <= end
    assert one(connection, match(VALUE, "StudyTime", f"{start}-{end}"), time + fraction) is expected
    assert one(connection, match(VALUE, "StudyTime", start), time + fraction) is (time[:digits] == start)


@QUICK
@given(start=st.tuples(DAYS, TIMES), end=st.tuples(DAYS, TIMES), moment=st.tuples(DAYS, TIMES))
def test_date_and_time_together_bound_one_moment(
    connection: Connection, start: tuple[str, str], end: tuple[str, str], moment: tuple[str, str]
) -> None:
    condition = match_moment(VALUE, TIME, f"{start[0]}-{end[0]}", f"{start[1]}-{end[1]}")
    assert one(connection, condition, *moment) is (start <= moment <= end)


@pytest.mark.parametrize(
    ("query", "name", "expected"),
    [
        ("Wang*", "Wang^XiaoDong=王^小东", True),
        ("WANG^XIAODONG", "Wang^XiaoDong=王^小东", True),
        ("wang^xiaodong^^^", "Wang^XiaoDong", True),
        ("Wang^*", "Wang", True),
        ("王^小东", "Wang^XiaoDong=王^小东", True),
        ("王*", "Wang^XiaoDong=王^小东", True),
        ("小东", "Wang^XiaoDong=王^小东", False),
        ("*小东", "Wang^XiaoDong=王^小东", True),
        ("=王*", "Wang^XiaoDong=王^小东", True),
        ("Wang*=李*", "Wang^XiaoDong=王^小东", False),
        ("やまだ*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("Yamada*==やまだ*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("muller", "Müller", True),
        ("MÜLLER", "Müller", True),
        ("Mu\u0308ller", "Müller", True),
        ("strasse", "Straße", True),
        ("か*", "が", False),
        ("홍^*", "Hong^Gildong=洪^吉洞=홍^길동", True),
        ("호*", "Hong^Gildong=洪^吉洞=홍^길동", False),
        ("Wan", "Wang", False),
        ("W_ng", "Wang", False),
        ("*", "", True),
    ],
)
def test_names(connection: Connection, query: str, name: str, expected: bool) -> None:
    assert one(connection, match_name(VALUE, query), fold_name(name)) is expected


@QUICK
@given(name=st.text(max_size=20))
def test_folding_again_changes_nothing(name: str) -> None:
    assert fold_name(fold_name(name)) == fold_name(name)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("CT", True),
        ("SR", True),
        ("MR", False),
        ("MR\\SR", True),
        ("C?", True),
        ("T", False),
        ("*R", True),
        ("*", True),
    ],
)
def test_modalities(connection: Connection, query: str, expected: bool) -> None:
    assert one(connection, match_modalities(VALUE, query), "CT\\SR\\") is expected


@pytest.mark.parametrize("value", ["x", "²", "1.5", "9" * 30, "1 OR 1=1"])
def test_numbers_that_are_none_match_nothing(connection: Connection, value: str) -> None:
    assert not one(connection, match(VALUE, "SeriesNumber", value), "1")

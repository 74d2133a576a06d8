"""DICOM matching rules (PS3.4 C.2.2.2) as conditions on columns: single value, list of values, wildcard and range.

QIDO-RS and C-FIND share them, so that both find the same studies.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, literal, or_, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import Boolean, Text

from polyclinic.core.names import fold_name

HIGHEST = "\U0010ffff"
DATES = frozenset({"StudyDate", "SeriesDate", "PatientBirthDate"})
TIMES = frozenset({"StudyTime", "SeriesTime"})
UIDS = frozenset({"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"})
INTEGERS = frozenset({"SeriesNumber", "InstanceNumber"})
_LISTED = frozenset({"Modality", "ModalitiesInStudy"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,12}", re.ASCII)


class _Wildcard(GenericFunction[bool]):
    """Whether a column fits a DICOM pattern; capitals count, whatever the database's own LIKE makes of them."""

    type = Boolean()
    inherit_cache = True
    name = "dicom_wildcard"


class _Bytewise(GenericFunction[str]):
    """A column that compares byte by byte, as ranges of text need, whatever language the database sorts by."""

    type = Text()
    inherit_cache = True
    name = "bytewise"


@compiles(_Bytewise, "sqlite")
def _as_it_is(element: Any, compiler: Any, **arguments: Any) -> str:
    return str(compiler.process(next(iter(element.clauses)), **arguments))


@compiles(_Bytewise)
def _collated(element: Any, compiler: Any, **arguments: Any) -> str:
    return f'({compiler.process(next(iter(element.clauses)), **arguments)} COLLATE "C")'


@compiles(_Wildcard, "sqlite")
def _glob(element: Any, compiler: Any, **arguments: Any) -> str:
    column, pattern, _ = element.clauses
    return f"{compiler.process(column, **arguments)} GLOB {compiler.process(pattern, **arguments)}"


@compiles(_Wildcard)
def _like(element: Any, compiler: Any, **arguments: Any) -> str:
    column, _, pattern = element.clauses
    return f"{compiler.process(column, **arguments)} LIKE {compiler.process(pattern, **arguments)} ESCAPE '\\'"


def is_universal(value: str) -> bool:
    """Whether a key value matches everything (PS3.4 C.2.2.2.3); only asterisks do the same (C.2.2.2.4)."""
    return not value.strip("*")


def values_of(keyword: str, value: str) -> list[str]:
    """The values of a key that may be a list."""
    if keyword in UIDS or keyword in _LISTED:
        return [one.strip() for one in value.replace(",", "\\").split("\\") if one.strip()]
    return [value]


def match(column: Any, keyword: str, value: str) -> ColumnElement[bool]:
    """Condition for one key; a value that cannot be one of its kind matches nothing."""
    if is_universal(value):
        return true()
    if keyword in UIDS:
        uids = values_of(keyword, value)
        return column == uids[0] if len(uids) == 1 else column.in_(uids)  # type: ignore[no-any-return]
    if keyword in INTEGERS:
        return column == int(value) if _INTEGER.fullmatch(value.strip()) else false()
    if keyword in DATES or keyword in TIMES:
        return _match_time(column, keyword, value)
    return or_(*(_match_text(column, one) for one in values_of(keyword, value)))


def _match_time(column: Any, keyword: str, value: str) -> ColumnElement[bool]:
    first, dash, last = value.partition("-")
    if not dash:
        # A time that is given to the minute stands for all its seconds (PS3.5 6.2); a date is always whole
        return and_(column >= value, column < value + HIGHEST) if keyword in TIMES else column == value
    bounds = [column != ""]
    if first.strip():
        bounds.append(column >= first.strip())
    if last.strip():
        bounds.append(column <= last.strip() + HIGHEST)
    return and_(*bounds)


def match_moment(date: Any, time: Any, dates: str, times: str) -> ColumnElement[bool]:
    """Condition for a date and a time key taken together (PS3.4 C.2.2.2.5): the ranges bound one moment.

    Without a range in both keys they are matched one by one.
    """
    if "-" not in dates or "-" not in times:
        return and_(match(date, "StudyDate", dates), match(time, "StudyTime", times))
    (first_day, _, last_day), (first_time, _, last_time) = dates.partition("-"), times.partition("-")
    bounds = [date != ""]
    if first_day:
        bounds.append(or_(date > first_day, and_(date == first_day, time >= first_time)))
    if last_day:
        until = last_time + HIGHEST
        bounds.append(or_(date < last_day, and_(date == last_day, time <= until)))
    return and_(*bounds)


def match_modalities(column: Any, value: str) -> ColumnElement[bool]:
    """Condition for Modalities in Study: any of the values may be any of the study's; see `schema.study`."""
    if is_universal(value):
        return true()
    wanted = values_of("ModalitiesInStudy", value)
    # The column ends each value with a backslash, so a value stands at the start or behind one
    return or_(*(wildcard(column, p) for one in wanted for p in (f"{one}\\*", f"*\\{one}\\*")))


def match_name(column: Any, value: str) -> ColumnElement[bool]:
    """Condition for a person name on a column of `fold_name` (PS3.4 C.2.2.2.1, PS3.5 6.2.1).

    A value of one component group may match any group of the name; one with several is matched group by group.
    """
    if is_universal(value):
        return true()
    folded = fold_name(value)
    if "=" in folded:
        groups = [group or "*" for group in folded.split("=")[:3]]
        whole = "=".join(groups)
        return or_(wildcard(column, whole), wildcard(column, f"{whole}=*"))
    if folded.endswith("*"):
        bare = folded.rstrip("*").rstrip("^")  # "Wang^*" finds a Wang without a given name too
        patterns = {folded: None, f"*={folded}": None} | ({} if folded[len(bare) :] == "*" else {bare: None})
        return or_(*(wildcard(column, pattern) for pattern in patterns))
    return or_(*(wildcard(column, p) for p in (folded, f"{folded}=*", f"*={folded}", f"*={folded}=*")))


def match_plain_name(column: Any, value: str) -> ColumnElement[bool]:
    """Condition for a person name on a column as received: the value as it is, or without regard to ASCII capitals."""
    return or_(_match_name_groups(column, value), _match_name_groups(func.lower(column), value.lower()))


def _match_name_groups(column: Any, value: str) -> ColumnElement[bool]:
    if is_universal(value):
        return true()
    return or_(*(wildcard(column, p) for p in (value, f"{value}=*", f"*={value}", f"*={value}=*")))


def bytewise(column: Any) -> Any:
    """The column for ranges of text."""
    return _Bytewise(column)


@lru_cache(maxsize=64)
def unindexed(column: Any) -> Any:
    """The column in a form that no index has; remembered, since every search needs the same few."""
    return column.op("||")("")


def _match_text(column: Any, value: str) -> ColumnElement[bool]:
    if "*" in value or "?" in value:
        return wildcard(column, value)
    return column == value  # type: ignore[no-any-return]


def wildcard(column: Any, pattern: str) -> ColumnElement[bool]:
    """Condition for a pattern in which ``*`` stands for any characters and ``?`` for one (PS3.4 C.2.2.2.4)."""
    pattern = re.sub(r"\*+", "*", pattern)
    if "*" not in pattern and "?" not in pattern:
        return column == pattern  # type: ignore[no-any-return]
    return _Wildcard(column, literal(pattern.replace("[", "[[]")), literal(like(pattern)))


def like(value: str) -> str:
    """A DICOM wildcard pattern as SQL LIKE with backslash as escape."""
    escaped = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")

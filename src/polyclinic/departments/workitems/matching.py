"""Whether a dataset matches a query: universal, single value, list, wildcard, range (PS3.4 C.2.2.2)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from polyclinic.departments.workitems.contracts import Json

_MOMENTS = frozenset({"DA", "TM", "DT"})
_LISTS = frozenset({"UI", "CS", "SH", "LO", "AE"})


def matches(dataset: Json, wanted: Mapping[str, str]) -> bool:
    """Whether every path (tags joined by dots) has a value that fits."""
    return all(value in ("", "*") or _fits(dataset, path.split("."), value) for path, value in wanted.items())


def _fits(dataset: Json, path: list[str], wanted: str) -> bool:
    return any(_is(vr, value, wanted) for vr, value in _values(dataset, path))


def _values(dataset: Json, path: list[str]) -> Iterator[tuple[str, str]]:
    element = dataset.get(path[0]) or {}
    vr = str(element.get("vr", ""))
    for value in element.get("Value") or []:
        if vr == "SQ" and isinstance(value, dict):
            if len(path) > 1:
                yield from _values(value, path[1:])
        elif vr == "PN" and isinstance(value, dict):
            yield from ((vr, group) for group in value.values())
            yield vr, "=".join(value.get(name, "") for name in ("Alphabetic", "Ideographic", "Phonetic"))
        elif value is not None and len(path) == 1:
            yield vr, str(value)


def _is(vr: str, value: str, wanted: str) -> bool:
    if vr in _MOMENTS:
        return _within(value, wanted)
    parts = re.split(r"[,\\]", wanted) if vr in _LISTS else [wanted]
    folded = value.casefold() if vr == "PN" else value
    return any(_pattern(part.casefold() if vr == "PN" else part).fullmatch(folded) is not None for part in parts)


def _within(value: str, wanted: str) -> bool:
    value = re.split(r"[+&]", value)[0]
    start, dash, end = wanted.partition("-")
    if not dash:
        return value.startswith(start)
    return (not start or value >= start) and (not end or value[: len(end)] <= end)


@lru_cache(maxsize=512)
def _pattern(wanted: str) -> re.Pattern[str]:
    """``*`` and ``?`` only; `fnmatch` makes a pattern that never tries a star twice."""
    return re.compile(fnmatch.translate(wanted[:256].replace("[", "[[]")))

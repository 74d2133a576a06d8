"""Matching of attributes that the index does not hold, in the DICOM JSON of an instance (PS3.4 C.2.2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from polyclinic.core.names import fold_name
from polyclinic.edges.dicomweb.model import Json
from polyclinic.edges.dicomweb.query import Key, Path

_RANGES = frozenset({"DA", "TM", "DT"})
_HIGHEST = "\U0010ffff"


def has(found: Json, key: Key) -> bool:
    """Whether any value of the key's attribute matches; an empty key matches everything."""
    return not key.value.strip("*") or any(_fits(value, key) for value in _values(found, key.path))


def _values(found: Json, path: Path) -> Iterator[Any]:
    element = found.get(f"{path[0]:08X}")
    for value in (element or {}).get("Value", ()):
        if len(path) == 1:
            yield value
        elif isinstance(value, dict):
            yield from _values(value, path[1:])


def _fits(value: Any, key: Key) -> bool:
    wanted = key.value.strip()
    if isinstance(value, dict):
        return any(_like(fold_name(str(group)), fold_name(wanted)) for group in value.values())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) == float(wanted)
    text = str(value)
    if key.vr == "UI":
        return text in re.split(r"[,\\]", wanted)
    if key.vr in _RANGES and "-" in wanted:
        first, _, last = wanted.partition("-")
        return first.strip() <= text <= (last.strip() or _HIGHEST) + _HIGHEST
    if key.vr == "TM":
        return text.startswith(wanted)
    return _like(text, wanted)


def _like(text: str, pattern: str) -> bool:
    parts = (re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", pattern))
    return re.fullmatch(".*".join(parts), text, re.DOTALL) is not None

"""DICOM matching (PS3.4 C.2.2.2) on values in hand; `polyclinic.departments.archive.matching` does it in the index."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword

from polyclinic.core.names import fold_name
from polyclinic.departments.archive.matching import is_universal
from polyclinic.edges.dimse.identifier import Keys

Values = Mapping[str, Any]
"""One entity: value by keyword; of a sequence a list of such mappings, one for each item."""

_WILD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_HIGHEST = "\U0010ffff"


def vr_of(keyword: str) -> str:
    """Value representation of an attribute of the dictionary."""
    return dictionary_VR(int(tag_for_keyword(keyword) or 0))


def matches(values: Values, keys: Mapping[str, str], sequences: Mapping[str, Sequence[Keys]]) -> bool:
    """Whether an entity has all keys; a key that the entity knows nothing of is not looked at.

    Sequences match when one of the entity's items has all keys of the request's only item (PS3.4 C.2.2.2.6).
    """
    if not all(
        matches_value(keyword, wanted, values[keyword]) for keyword, wanted in keys.items() if keyword in values
    ):
        return False
    for keyword, items in sequences.items():
        if keyword not in values or not items or not _asks(items[0]):
            continue
        if not any(matches(item, items[0].values, items[0].sequences) for item in values[keyword] or ()):
            return False
    return True


def _asks(item: Keys) -> bool:
    return any(not is_universal(value) for value in item.values.values()) or any(
        _asks(inner) for items in item.sequences.values() for inner in items
    )


def matches_value(keyword: str, wanted: str, value: Any) -> bool:
    """Whether one value, or any of several, is what a key asks for."""
    if is_universal(wanted):
        return True
    vr = vr_of(keyword)
    texts = [str(one) for one in value] if isinstance(value, list | tuple) else [str(value or "")]
    return any(_matches_one(vr, one, text) for one in _alternatives(vr, wanted) for text in texts)


def _alternatives(vr: str, wanted: str) -> list[str]:
    """Several values of a key are alternatives: UIDs by PS3.4 C.2.2.2.2, others by C.2.2.2.8 and habit."""
    if vr in ("UI", "CS", "AE", "SH"):
        return [one.strip() for one in wanted.split("\\") if one.strip()]
    return [wanted]


def _matches_one(vr: str, wanted: str, text: str) -> bool:
    if vr in ("DA", "TM"):
        return in_range(wanted, text)
    if vr == "PN":
        return matches_name(wanted, text)
    if vr in _WILD_VRS and set(wanted) & set("*?"):
        return _pattern(wanted).fullmatch(text) is not None
    return wanted == text


def in_range(wanted: str, value: str) -> bool:
    """Whether a date or time is the one, or lies in the range with both ends included; times may be given shorter."""
    first, dash, last = (part.strip() for part in wanted.partition("-"))
    if not value:
        return False
    if not dash:
        return value.startswith(first)
    return (not first or value >= first) and (not last or value <= last + _HIGHEST)


def in_moment(dates: str, times: str, date: str, time: str) -> bool:
    """Whether a date and time lie in the time that ranges of both span together (PS3.4 K.6.1.2.2)."""
    if "-" not in dates or "-" not in times:
        return (is_universal(dates) or in_range(dates, date)) and (is_universal(times) or in_range(times, time))
    (first_day, _, last_day), (first_time, _, last_time) = dates.partition("-"), times.partition("-")
    now = date + time
    return (not first_day or now >= first_day + first_time) and (not last_day or now <= last_day + last_time + _HIGHEST)


def matches_name(wanted: str, name: str) -> bool:
    """Person names: without regard to case and accents; one component group may be any of the name's."""
    pattern, folded = fold_name(wanted), fold_name(name)
    if "=" in pattern:
        groups = [*folded.split("="), "", ""]
        return all(
            is_universal(one) or _pattern(one).fullmatch(groups[place]) is not None
            for place, one in enumerate(pattern.split("=")[:3])
        )
    found = [_pattern(pattern)]
    if pattern.endswith("^*"):  # "Wang^*" finds a Wang without a given name too
        found.append(_pattern(pattern.rstrip("*").rstrip("^")))
    return any(one.fullmatch(group) is not None for one in found for group in folded.split("=") if group)


@lru_cache(maxsize=256)
def _pattern(wanted: str) -> re.Pattern[str]:
    """A wildcard pattern as an expression that never goes back over what it has matched."""
    parts = [re.escape(part).replace(r"\?", ".") for part in re.sub(r"\*+", "*", wanted).split("*")]
    if len(parts) == 1:
        return re.compile(parts[0], re.DOTALL)
    middle = "".join(f"(?>.*?{part})" for part in parts[1:-1] if part)
    return re.compile(f"{parts[0]}{middle}.*{parts[-1]}", re.DOTALL)

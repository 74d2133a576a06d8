"""QIDO-RS request parameters (PS3.18 8.3.4): what is matched, what is returned, which part of the results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from polyclinic.core.errors import Rejected
from polyclinic.departments.archive.search import Level, Query, keys_of

DEFAULT_LIMIT = 100
MAX_LIMIT = 5000
EVERYTHING = "all"
_LONGEST_VALUE = 4096
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_UID_LIST = re.compile(r"[0-9.]{1,64}(?:[,\\][0-9.]{1,64})*")
_TIME = re.compile(r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:[0-5]\d|60)?(?:(?<=\d{6})\.\d{1,6})?)?", re.ASCII)
_MOMENT = re.compile(r"\d{4}(?:\d{2}){0,5}(?:\.\d{1,6})?(?:[+-]\d{4})?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,12}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_NOT_OFFERED = {
    "fuzzymatching": "The fuzzymatching parameter is not supported. Only literal matching has been performed.",
    "emptyvaluematching": (
        "The emptyvaluematching parameter is not supported. Empty Value Matching has not been performed."
    ),
    "multiplevaluematching": (
        "The multiplevaluematching parameter is not supported. Multiple Value Matching has not been performed."
    ),
}
_ELSEWHERE = frozenset({"accept", "charset"})

Path = tuple[int, ...]
"""Tags from the dataset down to an attribute; all but the last are sequences."""


class Key(NamedTuple):
    """An attribute that the index does not hold, to be matched in the instances themselves."""

    path: Path
    vr: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One search as it was asked for."""

    matches: Mapping[str, str]
    """Values by keyword of what the index holds."""
    keys: tuple[Key, ...]
    fields: frozenset[Path]
    """Attributes to return besides the required ones."""
    everything: bool
    """Whether all attributes of the level are wanted."""
    limit: int
    offset: int
    capped: bool
    """Whether the limit is ours and not the one that was asked for."""
    warnings: tuple[str, ...]

    def page(self, limit: int, offset: int) -> Query:
        """The part of this search that the index answers."""
        return Query(matches=dict(self.matches), limit=limit, offset=offset)


def parse_search(parameters: Iterable[tuple[str, str]], level: Level, fixed: Mapping[str, str]) -> Search:
    """Parameters of a search at a level; `fixed` holds the UIDs of the address.

    Raises
    ------
    Rejected
        ``dicomweb.bad-query``: an unknown parameter or attribute, or a value that its attribute cannot have.
    """
    matches: dict[str, str] = {}
    keys: dict[Path, Key] = {}
    fields: set[Path] = set()
    everything = False
    numbers: dict[str, int] = {}
    warnings: list[str] = []
    for name, value in parameters:
        if "\ufffd" in value or len(value) > _LONGEST_VALUE:
            raise _bad("A query value is not UTF-8, or longer than any attribute: percent-encode it as UTF-8")
        if name in ("limit", "offset"):
            numbers[name] = _count(name, value)
        elif name == "includefield":
            wanted = {field.strip() for field in value.split(",") if field.strip()}
            everything |= EVERYTHING in wanted
            fields |= {path_of(field) for field in wanted - {EVERYTHING}}
        elif name in _NOT_OFFERED:
            if value not in ("true", "false"):
                raise _bad(f"{name} is true or false")
            if value == "true":
                warnings.append(_NOT_OFFERED[name])
        elif name not in _ELSEWHERE:
            _add_key(name, value, level, matches, keys)
    wrong = [keyword for keyword, uid in fixed.items() if matches.get(keyword, uid) != uid]
    if wrong:
        raise _bad(f"{wrong[0]} is in the address already, with another value")
    limit = numbers.get("limit", DEFAULT_LIMIT)
    return Search(
        matches=matches | dict(fixed),
        keys=tuple(keys.values()),
        fields=frozenset(fields | set(keys)),
        everything=everything,
        limit=min(limit, MAX_LIMIT),
        offset=numbers.get("offset", 0),
        capped="limit" not in numbers or limit > MAX_LIMIT,
        warnings=tuple(warnings),
    )


def _add_key(name: str, value: str, level: Level, matches: dict[str, str], keys: dict[Path, Key]) -> None:
    path = path_of(name)
    keyword = keyword_for_tag(path[0])
    vr = _vr_of(path[-1])
    if vr == "SQ":
        raise _bad("A sequence is matched by what is in it, e.g. RequestAttributesSequence.RequestedProcedureID")
    indexed = len(path) == 1 and keyword in keys_of(level)
    if path in keys or (indexed and keyword in matches and vr != "UI"):
        raise _bad("An attribute is given twice: give each once, UIDs as a list")
    if not indexed and len(path) == 1 and keyword in keys_of(Level.IMAGE):
        raise _bad(f"{keyword} belongs to a lower level than what is searched: search series or instances by it")
    check_value(vr, value)
    if not indexed:
        keys[path] = Key(path, vr, value)
    elif keyword in matches:
        matches[keyword] += f",{value}"
    else:
        matches[keyword] = value


def path_of(name: str) -> Path:
    """Tags of an attribute given by keyword or tag, with the sequences it lies in before it, separated by dots.

    Raises
    ------
    Rejected
        ``dicomweb.bad-query``
    """
    path = []
    for step in name.split("."):
        tag = int(step, 16) if _TAG.fullmatch(step) else tag_for_keyword(step)
        if tag is None or not _is_attribute(tag):
            raise _bad("A query parameter names no DICOM attribute: use its keyword or its tag as 8 hexadecimal digits")
        path.append(tag)
    if any(_vr_of(tag) not in ("SQ", "UN") for tag in path[:-1]):
        raise _bad("Only sequences hold other attributes: check the dots in the query parameter")
    return tuple(path)


def _is_attribute(tag: int) -> bool:
    return bool(tag >> 16 & 1) or bool(keyword_for_tag(tag))


def _vr_of(tag: int) -> str:
    try:
        return str(dictionary_VR(tag)).split(" or ", maxsplit=1)[0]
    except KeyError:
        return "UN"  # private


def check_value(vr: str, value: str) -> None:
    """Whether an attribute of that VR can be matched with this value (PS3.4 C.2.2.2).

    Raises
    ------
    Rejected
        ``dicomweb.bad-query``; the message does not repeat the value, which may be about a patient.
    """
    value = value.strip()
    if not value.strip("*"):
        return
    if any(ord(character) < 32 for character in value):
        raise _bad("A query value holds a control character")
    if vr == "UI" and not _UID_LIST.fullmatch(value):
        raise _bad("A UID is made of digits and dots, 64 at most; several are separated by commas")
    if vr == "IS" and not _INTEGER.fullmatch(value):
        raise _bad("The attribute is matched by a whole number")
    if vr in ("DS", "FL", "FD") and not _DECIMAL.fullmatch(value):
        raise _bad("The attribute is matched by a number")
    if vr in ("US", "SS", "UL", "SL", "UV", "SV") and not _INTEGER.fullmatch(value):
        raise _bad("The attribute is matched by a whole number")
    if vr == "DA" and not _is_range(value, _is_date):
        raise _bad("A date is YYYYMMDD, a range YYYYMMDD-YYYYMMDD with either end left out")
    if vr == "TM" and not _is_range(value, lambda time: _TIME.fullmatch(time) is not None):
        raise _bad("A time is HHMMSS.FFFFFF or its beginning, a range has a hyphen between two times")
    if vr == "DT" and not (_MOMENT.fullmatch(value) or _is_range(value, lambda at: _MOMENT.fullmatch(at) is not None)):
        raise _bad("A date and time is YYYYMMDDHHMMSS or its beginning, a range has a hyphen between two")


def _is_range(value: str, is_one: object) -> bool:
    assert callable(is_one)
    first, dash, last = value.partition("-")
    if not dash:
        return bool(is_one(first))
    return bool(first or last) and all(is_one(end) for end in (first.strip(), last.strip()) if end)


def _is_date(value: str) -> bool:
    if not re.fullmatch(r"\d{8}", value, re.ASCII):
        return False
    try:
        date(int(value[:4]), int(value[4:6]), int(value[6:]))
    except ValueError:
        return False
    return True


def _count(name: str, value: str) -> int:
    if not re.fullmatch(r"\d{1,9}", value, re.ASCII):
        raise _bad(f"{name} must be a number that is not negative")
    return int(value)


def _bad(message: str) -> Rejected:
    return Rejected("dicomweb.bad-query", message)

"""DICOM JSON that came from outside: is it one, and not too large (PS3.18 F.2)."""

from __future__ import annotations

import re
from typing import Any

from polyclinic.core.errors import Rejected
from polyclinic.departments.workitems.contracts import Json

_TAG = re.compile(r"[0-9A-F]{8}")
_VR = re.compile(r"[A-Z]{2}")
DEEPEST = 8
MOST_ELEMENTS = 4000
MOST_VALUES = 10_000


def checked(data: Any) -> Json:
    """One dataset, alone or in an array of one.

    Raises
    ------
    Rejected
        ``workitems.bad-json``.
    """
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if not isinstance(data, dict):
        raise _bad("is no dataset")
    _Checker().dataset(data, 0)
    return data


class _Checker:
    def __init__(self) -> None:
        self._elements = 0
        self._values = 0

    def dataset(self, data: Any, depth: int) -> None:
        if not isinstance(data, dict):
            raise _bad("has an item that is no dataset")
        if depth > DEEPEST:
            raise _bad("is nested too deeply")
        self._elements += len(data)
        if self._elements > MOST_ELEMENTS:
            raise _bad("has too many elements")
        for tag, element in data.items():
            if not _TAG.fullmatch(tag) or not isinstance(element, dict):
                raise _bad("has a key that is no tag of eight hexadecimal digits")
            self._element(element, depth)

    def _element(self, element: Json, depth: int) -> None:
        vr, values = element.get("vr"), element.get("Value", [])
        if not isinstance(vr, str) or not _VR.fullmatch(vr) or element.keys() - {"vr", "Value", "InlineBinary"}:
            raise _bad("has an element without VR, or with keys that are neither Value nor InlineBinary")
        if not isinstance(values, list) or not isinstance(element.get("InlineBinary", ""), str):
            raise _bad("has a Value that is no array")
        self._values += len(values)
        if self._values > MOST_VALUES:
            raise _bad("has too many values")
        for value in values:
            if vr == "SQ":
                self.dataset(value, depth + 1)
            elif vr == "PN":
                if value is not None and not (
                    isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
                ):
                    raise _bad("has a person name that is no object of component groups")
            elif not isinstance(value, str | int | float | None):
                raise _bad("has a value that is neither text nor number")
            elif isinstance(value, str) and "\0" in value:
                raise _bad("has a value with a NUL")


def _bad(what: str) -> Rejected:
    return Rejected("workitems.bad-json", f"The DICOM JSON {what}; see PS3.18 F.2")

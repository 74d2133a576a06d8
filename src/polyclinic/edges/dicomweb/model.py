"""Encoded datasets as DICOM JSON (PS3.18 F), straight from the bytes: only what is asked for is decoded."""

from __future__ import annotations

import base64
from collections.abc import Collection
from functools import lru_cache
from struct import calcsize, unpack_from
from typing import Any

from pydicom.datadict import dictionary_VR

from polyclinic.dicom.header import PIXEL_DATA, Encoding, Header, HeaderError, Span, Walker
from polyclinic.dicom.text import decode, encodings_of

Json = dict[str, Any]

INLINE_BYTES = 16 * 1024
"""Longer binary values are given as BulkDataURI."""
_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_BINARY = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "UN"})
_ONE_VALUE = frozenset({"LT", "ST", "UT", "UR"})
_ASCII = frozenset({"AE", "AS", "CS", "DA", "DT", "TM", "UI", "IS", "DS", "UR"})
_PIXEL_REPRESENTATION = 0x00280103
_PIXELS = frozenset({PIXEL_DATA, 0x7FE00008, 0x7FE00009})
_CHARACTER_SET = 0x00080005
_MAX_DEPTH = 32


def to_json(header: Header, bulk_data_url: str) -> Json:
    """DICOM JSON object of a dataset.

    Parameters
    ----------
    header
        Elements of the dataset; the value of Pixel Data need not be in its buffer.
    bulk_data_url
        Address under which the values of large elements are served; the element's path is appended.
    """
    return some_to_json(header, bulk_data_url, None)


def some_to_json(header: Header, bulk_data_url: str, tags: Collection[int] | None) -> Json:
    """As `to_json`, of these attributes only."""
    walker = Walker(header.data, header.encoding)
    signed = header.uint16(_PIXEL_REPRESENTATION) == 1
    encodings = encodings_of(header.raw(_CHARACTER_SET))
    elements = header.elements
    if tags is not None:
        elements = {tag: elements[tag] for tag in tags if tag in elements}
    return _Writer(walker, signed).dataset(elements, encodings, bulk_data_url + "/", 0)


class _Writer:
    def __init__(self, walker: Walker, signed: bool) -> None:
        self._walker = walker
        self._data = walker.data
        self._order = "<" if walker.encoding.little else ">"
        self._signed = signed

    def dataset(self, elements: dict[int, Span], encodings: list[str], url: str, depth: int) -> Json:
        out: Json = {}
        for tag in sorted(elements):
            if tag & 0xFFFF and tag >> 16 > 0x0007:
                span = elements[tag]
                vr = span.vr or implicit_vr(tag, self._signed)
                if vr == "UN" and span.undefined:
                    vr = "SQ"
                out[f"{tag:08X}"] = self._element(tag, vr, span, encodings, url, depth)
        if "00080005" in out:
            out["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}  # JSON is UTF-8
        return out

    def _element(  # noqa: PLR0911, PLR0917 - one return per family of VRs
        self, tag: int, vr: str, span: Span, encodings: list[str], url: str, depth: int
    ) -> Json:
        if tag in _PIXELS:
            return {"vr": vr, "BulkDataURI": f"{url}{tag:08X}"}
        if span.start == span.stop:
            return {"vr": vr}
        if vr == "SQ":
            return {"vr": vr, "Value": self._items(tag, span, encodings, url, depth)}
        if vr in _BINARY:
            if span.stop - span.start > INLINE_BYTES:
                return {"vr": vr, "BulkDataURI": f"{url}{tag:08X}"}
            return {"vr": vr, "InlineBinary": base64.b64encode(self._data[span.start : span.stop]).decode("ascii")}
        if vr in _NUMBERS:
            return {"vr": vr, "Value": self._numbers(_NUMBERS[vr], span)}
        raw = bytes(self._data[span.start : span.stop])
        if vr == "AT":
            pairs = unpack_from(f"{self._order}{len(raw) // 4 * 2}H", raw)
            return {"vr": vr, "Value": [f"{g:04X}{e:04X}" for g, e in zip(pairs[::2], pairs[1::2], strict=True)]}
        values = _texts(vr, raw, encodings)
        return {"vr": vr, "Value": values} if any(v is not None for v in values) else {"vr": vr}

    def _numbers(self, letter: str, span: Span) -> list[int | float]:
        count = (span.stop - span.start) // calcsize(f"={letter}")
        return list(unpack_from(f"{self._order}{count}{letter}", self._data, span.start))

    def _items(self, tag: int, span: Span, encodings: list[str], url: str, depth: int) -> list[Json]:
        if depth > _MAX_DEPTH:
            raise HeaderError("malformed", "Sequences are nested too deeply")
        writer = self
        if span.vr == "UN":  # PS3.5 6.2.2: implicit VR little endian inside
            writer = _Writer(Walker(self._data, Encoding(explicit=False, little=True)), self._signed)
        items = []
        for number, (start, stop) in enumerate(writer._walker.items(span)):
            elements = writer._walker.elements(start, stop)
            own = elements.get(_CHARACTER_SET)
            inside = encodings if own is None else encodings_of(bytes(self._data[own.start : own.stop]))
            items.append(writer.dataset(elements, inside, f"{url}{tag:08X}/{number}/", depth + 1))
        return items


def _texts(vr: str, raw: bytes, encodings: list[str]) -> list[Any]:
    if vr == "PN":
        return [person_name_json(v) for v in decode(raw, encodings, person_name=True).split("\\")]
    if vr in _ONE_VALUE:
        return [decode(raw, encodings)]
    text = raw.decode("ascii", "replace").strip("\0 ") if vr in _ASCII else decode(raw, encodings)
    values = [part.strip("\0 ") or None for part in text.split("\\")]
    return [_number(vr, value) for value in values] if vr in ("IS", "DS") else values


def _number(vr: str, value: str | None) -> int | float | str | None:
    if value is None:
        return None
    try:
        return int(value) if vr == "IS" else float(value)
    except ValueError:
        return value  # what a device wrote is more use to a reader than nothing


def person_name_json(value: str) -> Json | None:
    """A PN value with its component groups (PS3.18 F.2.2)."""
    names = ("Alphabetic", "Ideographic", "Phonetic")
    groups = {name: group for name, group in zip(names, value.split("="), strict=False) if group}
    return groups or None


@lru_cache(maxsize=8192)
def implicit_vr(tag: int, signed: bool) -> str:
    """VR of an element that came without one, by the data dictionary (PS3.6)."""
    group, element = tag >> 16, tag & 0xFFFF
    if group % 2:
        return "LO" if 0x10 <= element <= 0xFF else "UN"
    try:
        vr = str(dictionary_VR(tag))
    except KeyError:
        return "UN"
    if " or " not in vr:
        return vr
    if "OW" in vr:
        return "OW"
    return "SS" if signed else "US"

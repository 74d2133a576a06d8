"""Identifiers of query and retrieve: from bytes to keys, and from values to bytes (PS3.4 C.4.1.1.3)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from struct import pack
from typing import Any

from pydicom.charset import convert_encodings, encode_string
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.valuerep import PersonName

from polyclinic.dicom.header import EXPLICIT_BE, IMPLICIT_LE, HeaderError, Span, Walker, read_header, text
from polyclinic.dicom.text import decode, encodings_of

LONGEST_BYTES = 2 * 1024 * 1024
LONGEST_VALUE_CHARACTERS = 1024
MOST_UIDS = 10_000
_MOST_KEYS = 512
_DEEPEST = 8
"""So deep may sequences be nested in an identifier."""
_LONGEST_ELEMENT_BYTES = 0xFFFE
_LONG_VRS = frozenset({"SQ", "UC", "UR", "UT", "UN", "OB", "OW"})
"""Those with a length of four bytes in explicit VR (PS3.5 7.1.2), as far as identifiers hold them."""
_TEXT_VRS = frozenset({"PN", "LO", "SH", "UC", "LT", "ST", "UT"})
CHARACTER_SET = 0x00080005
LEVEL = 0x00080052
UTF_8 = "ISO_IR 192"


class BadIdentifier(ValueError):
    """The bytes are no identifier, or a larger one than a query has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Attributes of one dataset or sequence item: decoded values and items of sequences, by keyword."""

    values: dict[str, str]
    sequences: dict[str, tuple[Keys, ...]]
    others: bool
    """Whether there were private elements, or some that the dictionary does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifier:
    """What a request asks for; see `Keys`."""

    level: str
    keys: dict[str, str]
    sequences: dict[str, tuple[Keys, ...]]
    others: bool
    character_sets: tuple[str, ...]


def read_identifier(
    data: bytes | memoryview, transfer_syntax_uid: str, *, longest_bytes: int = LONGEST_BYTES
) -> Identifier:
    """Decode the identifier of a request; raises `BadIdentifier`."""
    if len(data) > longest_bytes:
        raise BadIdentifier("too long")
    try:
        header = read_header(data, transfer_syntax_uid)
        terms = header.text(CHARACTER_SET)
        walker = Walker(header.data, header.encoding)
        keys = _keys(walker, header.elements, encodings_of(terms.encode("ascii", "replace")), depth=0)
    except HeaderError as error:
        raise BadIdentifier(error.reason) from error
    return Identifier(
        level=header.text(LEVEL).upper(),
        keys=keys.values,
        sequences=keys.sequences,
        others=keys.others,
        character_sets=tuple(term.strip() for term in terms.split("\\")) if terms else (),
    )


def read_sequences(
    data: bytes | memoryview, transfer_syntax_uid: str, keywords: Collection[str]
) -> dict[str, tuple[Keys, ...]]:
    """Items of some sequences of a dataset, by keyword; raises `BadIdentifier`."""
    try:
        header = read_header(data, transfer_syntax_uid)
        encodings = encodings_of(header.text(CHARACTER_SET).encode("ascii", "replace"))
        wanted = {tag: span for tag, span in header.elements.items() if keyword_for_tag(tag) in keywords}
        return _keys(Walker(header.data, header.encoding), wanted, encodings, depth=0).sequences
    except HeaderError as error:
        raise BadIdentifier(error.reason) from error


def _keys(walker: Walker, elements: dict[int, Span], encodings: Sequence[str], *, depth: int) -> Keys:
    if len(elements) > _MOST_KEYS or depth > _DEEPEST:
        raise BadIdentifier("too many keys")
    values: dict[str, str] = {}
    sequences: dict[str, tuple[Keys, ...]] = {}
    others = False
    for tag, span in elements.items():
        if tag in (CHARACTER_SET, LEVEL) or tag & 0xFFFF == 0:
            continue
        keyword = keyword_for_tag(tag)
        vr = dictionary_VR(tag) if keyword else ""
        if vr == "SQ" and span.vr in ("SQ", ""):
            sequences[keyword] = tuple(
                _keys(walker, walker.elements(start, stop), encodings, depth=depth + 1)
                for start, stop in walker.items(span)
            )
            continue
        if not keyword or span.undefined or vr == "SQ":
            others = True
            continue
        raw = bytes(walker.data[span.start : span.stop])
        if vr == "US":
            value = str(int.from_bytes(raw[:2], "little" if walker.encoding.little else "big")) if raw else ""
        elif vr in _TEXT_VRS:
            value = decode(raw, encodings, person_name=vr == "PN")
        else:
            value = text(walker.data, span)
        longest = LONGEST_BYTES if vr == "UI" else LONGEST_VALUE_CHARACTERS
        if len(value) > longest or value.count("\\") >= MOST_UIDS:
            raise BadIdentifier("over-long value")
        values[keyword] = value.replace("\0", "")
    return Keys(values=values, sequences=sequences, others=others)


def encode_identifier(
    values: Iterable[tuple[str, Any]], transfer_syntax_uid: str, *character_sets: Sequence[str]
) -> bytes:
    """Encode values by keyword in an uncompressed transfer syntax; a sequence is a list of such pairs for each item.

    Text goes in the first of the character sets that has every character of it, else in UTF-8: those of the requester,
    then those that its configuration names. Specific Character Set is set when something is not ASCII.
    """
    pairs = _tree(values)
    texts = list(_texts(pairs))
    encodings: Sequence[str] = ["iso8859"]
    if not all(value.isascii() for value, _ in texts):
        terms = next((terms for terms in character_sets if _has_all(terms, texts)), (UTF_8,))
        encodings = convert_encodings(list(terms))
        pairs["SpecificCharacterSet"] = "\\".join(terms)
    return _encoded(pairs, encodings, transfer_syntax_uid)


def _tree(values: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {
        keyword: [_tree(item) for item in value] if isinstance(value, list | tuple) else value
        for keyword, value in values
    }


def _texts(pairs: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    for keyword, value in pairs.items():
        vr = dictionary_VR(int(tag_for_keyword(keyword) or 0))
        if vr == "SQ":
            for item in value:
                yield from _texts(item)
        elif vr in _TEXT_VRS and value is not None:
            yield str(value), vr == "PN"


def _encoded(pairs: dict[str, Any], encodings: Sequence[str], transfer_syntax_uid: str) -> bytes:
    out = []
    elements = {int(tag_for_keyword(keyword) or 0): value for keyword, value in pairs.items()}
    order = ">" if transfer_syntax_uid == EXPLICIT_BE else "<"
    for tag in sorted(elements):
        vr = dictionary_VR(tag)
        if vr == "SQ":
            items = [_encoded(item, encodings, transfer_syntax_uid) for item in elements[tag]]
            raw = b"".join(pack(order + "HHL", 0xFFFE, 0xE000, len(item)) + item for item in items)
        else:
            raw = _raw(vr, elements[tag], encodings, transfer_syntax_uid)
        out.append(_element(tag, vr, raw, transfer_syntax_uid))
    return b"".join(out)


def _has_all(character_sets: Sequence[str], texts: Sequence[tuple[str, bool]]) -> bool:
    """Whether text comes back the same from the requester's character sets."""
    if not character_sets:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            encodings = convert_encodings(list(character_sets))
            return all(
                decode(_text(value, encodings, person_name=is_name), encodings, person_name=is_name) == value.strip()
                for value, is_name in texts
            )
        except (LookupError, ValueError):
            return False


def _text(value: str, encodings: Sequence[str], *, person_name: bool) -> bytes:
    if "iso_ir_58" in encodings:  # pydicom leaves out its escape sequence
        return b"".join(
            part.encode("ascii") if part.isascii() else b"\x1b$)A" + part.encode("gb2312")
            for part in re.split(r"([\^=\\])", value)
        )
    return bytes(PersonName(value).encode(encodings)) if person_name else encode_string(value, encodings)


def _raw(vr: str, value: Any, encodings: Sequence[str], transfer_syntax_uid: str) -> bytes:
    if value is None or value == "":
        return b""
    if vr == "US":
        return pack(">H" if transfer_syntax_uid == EXPLICIT_BE else "<H", int(value))
    if vr in _TEXT_VRS:
        raw = _text(str(value), encodings, person_name=vr == "PN")
    else:
        raw = str(value).encode("ascii", "replace")
    return raw + (b"\0" if vr == "UI" else b" ") * (len(raw) % 2)


def _element(tag: int, vr: str, raw: bytes, transfer_syntax_uid: str) -> bytes:
    group, element = tag >> 16, tag & 0xFFFF
    if vr not in _LONG_VRS:
        raw = raw[:_LONGEST_ELEMENT_BYTES]
    if transfer_syntax_uid == IMPLICIT_LE:
        return pack("<HHL", group, element, len(raw)) + raw
    order = ">" if transfer_syntax_uid == EXPLICIT_BE else "<"
    if vr in _LONG_VRS:
        return pack(order + "HH2sHL", group, element, vr.encode(), 0, len(raw)) + raw
    return pack(order + "HH2sH", group, element, vr.encode(), len(raw)) + raw

"""Identifiers of query and retrieve: from bytes to keys, and from values to bytes (PS3.4 C.4.1.1.3)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import pack
from typing import Any

from pydicom.charset import convert_encodings, encode_string
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.valuerep import PersonName

from polyclinic.dicom.header import EXPLICIT_BE, IMPLICIT_LE, HeaderError, read_header
from polyclinic.dicom.text import decode, encodings_of

LONGEST_BYTES = 2 * 1024 * 1024
LONGEST_VALUE_CHARACTERS = 1024
MOST_UIDS = 10_000
_MOST_KEYS = 512
_LONGEST_ELEMENT_BYTES = 0xFFFE
_TEXT_VRS = frozenset({"PN", "LO", "SH", "UC", "LT", "ST", "UT"})
CHARACTER_SET = 0x00080005
LEVEL = 0x00080052
UTF_8 = "ISO_IR 192"


class BadIdentifier(ValueError):
    """The bytes are no identifier, or a larger one than a query has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifier:
    """What a request asks for. Keys are decoded values by keyword; `others` says whether there were keys without one.

    `others` counts sequences, private elements and what the dictionary does not know.
    """

    level: str
    keys: dict[str, str]
    others: bool
    character_sets: tuple[str, ...]


def read_identifier(data: bytes | memoryview, transfer_syntax_uid: str) -> Identifier:
    """Decode the identifier of a request; raises `BadIdentifier`."""
    if len(data) > LONGEST_BYTES:
        raise BadIdentifier("too long")
    try:
        header = read_header(data, transfer_syntax_uid)
    except HeaderError as error:
        raise BadIdentifier(error.reason) from error
    if len(header.elements) > _MOST_KEYS:
        raise BadIdentifier("too many keys")
    terms = header.text(CHARACTER_SET)
    encodings = encodings_of(terms.encode("ascii", "replace"))
    keys: dict[str, str] = {}
    others = False
    for tag, span in header.elements.items():
        if tag in (CHARACTER_SET, LEVEL) or tag & 0xFFFF == 0:
            continue
        keyword = keyword_for_tag(tag)
        if not keyword or span.undefined or dictionary_VR(tag) == "SQ":
            others = True
            continue
        vr = dictionary_VR(tag)
        raw = header.raw(tag)
        value = decode(raw, encodings, person_name=vr == "PN") if vr in _TEXT_VRS else header.text(tag)
        longest = LONGEST_BYTES if vr == "UI" else LONGEST_VALUE_CHARACTERS
        if len(value) > longest or value.count("\\") >= MOST_UIDS:
            raise BadIdentifier("over-long value")
        keys[keyword] = value.replace("\0", "")
    return Identifier(
        level=header.text(LEVEL).upper(),
        keys=keys,
        others=others,
        character_sets=tuple(term.strip() for term in terms.split("\\")) if terms else (),
    )


def encode_identifier(
    values: Iterable[tuple[str, Any]], transfer_syntax_uid: str, character_sets: Sequence[str] = ()
) -> bytes:
    """Encode values by keyword in an uncompressed transfer syntax.

    Text goes in the requester's character sets where they have every character of it, else in UTF-8. Specific
    Character Set is set when something is not ASCII.
    """
    elements = {int(tag_for_keyword(keyword) or 0): value for keyword, value in values}
    texts = [
        (str(value), dictionary_VR(tag) == "PN") for tag, value in elements.items() if dictionary_VR(tag) in _TEXT_VRS
    ]
    encodings: Sequence[str] = ["iso8859"]
    if not all(value.isascii() for value, _ in texts):
        terms = character_sets if _has_all(character_sets, texts) else (UTF_8,)
        encodings = convert_encodings(list(terms))
        elements[CHARACTER_SET] = "\\".join(terms)
    out = []
    for tag in sorted(elements):
        vr = dictionary_VR(tag)
        out.append(_element(tag, vr, _raw(vr, elements[tag], encodings, transfer_syntax_uid), transfer_syntax_uid))
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
    raw = raw[:_LONGEST_ELEMENT_BYTES]
    group, element = tag >> 16, tag & 0xFFFF
    if transfer_syntax_uid == IMPLICIT_LE:
        return pack("<HHL", group, element, len(raw)) + raw
    order = ">" if transfer_syntax_uid == EXPLICIT_BE else "<"
    return pack(order + "HH2sH", group, element, vr.encode(), len(raw)) + raw

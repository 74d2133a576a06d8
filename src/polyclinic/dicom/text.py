"""Text values in the world's character sets (DICOM PS3.3 C.12.1.1.2, PS3.5 6.1)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

_DEFAULT = ["iso8859"]
_ESCAPE = re.compile("\x1b\\$?[()*+\\-./]?[@-~]")
"""Escape sequences (PS3.5 6.1.2.5.3) that a decoder has used but left in the text."""


def encodings_of(specific_character_set: bytes) -> list[str]:
    """Python encodings for a raw Specific Character Set (0008,0005) value; unknown terms fall back to the default."""
    terms = [part.strip() for part in specific_character_set.decode("ascii", "replace").strip("\0 ").split("\\")]
    if not any(terms):
        return _DEFAULT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return list(convert_encodings(terms))
        except (LookupError, ValueError):
            return _DEFAULT


def decode(raw: bytes, encodings: Sequence[str], *, person_name: bool = False) -> str:
    """Decode one encoded value and strip its padding. What cannot be decoded becomes U+FFFD, never an error."""
    raw = raw.rstrip(b"\0 ")
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii").strip()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if person_name:
                groups = raw.split(b"=")
                text = "=".join(decode_bytes(group, encodings, PN_DELIMS) for group in groups)
            else:
                text = str(decode_bytes(raw, encodings, TEXT_VR_DELIMS))
            return _ESCAPE.sub("", text).strip("\0 ")
        except (LookupError, ValueError):
            return raw.decode("ascii", "replace").strip("\0 ")

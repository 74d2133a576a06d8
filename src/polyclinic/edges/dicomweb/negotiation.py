"""Which form of a frame a client gets (PS3.18 8.7.3): as stored where it may, decoded where it must."""

from __future__ import annotations

from dataclasses import dataclass

from polyclinic.core.errors import Rejected
from polyclinic.dicom.header import EXPLICIT_LE, NATIVE
from polyclinic.edges.dicomweb.multipart import parse_media_type

OCTETS = "application/octet-stream"
_JPEG, _JLS, _JP2, _JPX = "image/jpeg", "image/jls", "image/jp2", "image/jpx"
_4 = "1.2.840.10008.1.2.4."
MEDIA_TYPES: dict[str, str] = {
    **dict.fromkeys((_4 + "50", _4 + "51", _4 + "57", _4 + "70"), _JPEG),
    **dict.fromkeys((_4 + "80", _4 + "81"), _JLS),
    **dict.fromkeys((_4 + "90", _4 + "91"), _JP2),
    **dict.fromkeys((_4 + "92", _4 + "93"), _JPX),
    **dict.fromkeys((_4 + "100", _4 + "101"), "video/mpeg"),
    **dict.fromkeys((_4 + str(n) for n in range(102, 109)), "video/mp4"),
    **dict.fromkeys((_4 + "110", _4 + "111", _4 + "112"), "image/jxl"),
    **dict.fromkeys((_4 + "201", _4 + "202", _4 + "203"), "image/jphc"),
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
"""Media type of a frame by its transfer syntax (PS3.18 table 8.7.3-5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameAnswer:
    """How frames are sent."""

    decode: bool
    media_type: str
    content_type: str
    single_part: bool


def media_ranges(accept: str) -> list[tuple[str, dict[str, str]]]:
    """The ranges of an Accept header; nothing given means everything is welcome."""
    ranges = [parse_media_type(part) for part in _split(accept) if part.strip()]
    return ranges or [("*/*", {})]


def _split(accept: str) -> list[str]:
    """Split at commas outside quotes."""
    parts, quoted, current = [], False, ""
    for character in accept:
        if character == '"':
            quoted = not quoted
        if character == "," and not quoted:
            parts.append(current)
            current = ""
        else:
            current += character
    return [*parts, current]


def wants_single_part(accept: str, media_type: str) -> bool:
    """Whether the client names `media_type` itself and no multipart form of it."""
    names = [name for name, _ in media_ranges(accept)]
    return media_type in names and "multipart/related" not in names


def frame_answer(accept: str, transfer_syntax_uid: str) -> FrameAnswer:
    """Choose by Accept header and stored transfer syntax.

    Raises
    ------
    Rejected
        ``dicomweb.not-acceptable`` (HTTP 406).
    """
    ranges = media_ranges(accept)
    single = all(name not in ("multipart/related", "*/*") for name, _ in ranges)
    native = transfer_syntax_uid in NATIVE
    stored_type = OCTETS if native else MEDIA_TYPES.get(transfer_syntax_uid, OCTETS)
    sent_syntax = EXPLICIT_LE if native else transfer_syntax_uid
    decodable = False
    for name, parameters in ranges:
        wanted = parameters.get("type", "*/*").lower() if name == "multipart/related" else name
        syntax = parameters.get("transfer-syntax", "")
        if wanted in ("*/*", stored_type, stored_type.split("/")[0] + "/*") or (wanted == OCTETS and syntax == "*"):
            unrestricted = syntax in ("", "*", sent_syntax)
            if unrestricted and not (wanted == OCTETS and not native and syntax == ""):
                content_type = f"{stored_type}; transfer-syntax={sent_syntax}"
                return FrameAnswer(decode=False, media_type=stored_type, content_type=content_type, single_part=single)
        if wanted == OCTETS and syntax in ("", EXPLICIT_LE):
            decodable = True
    if not decodable:
        raise Rejected("dicomweb.not-acceptable", f"Frames of this instance are {stored_type}, or {OCTETS} decoded")
    content_type = f"{OCTETS}; transfer-syntax={EXPLICIT_LE}"
    return FrameAnswer(decode=True, media_type=OCTETS, content_type=content_type, single_part=single)

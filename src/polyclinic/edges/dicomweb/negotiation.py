"""Which form of a resource a client gets (PS3.18 8.7): as stored where it may, decoded where it must."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fastapi import Request

from polyclinic.core.errors import Rejected
from polyclinic.dicom.header import EXPLICIT_LE, NATIVE
from polyclinic.edges.dicomweb.multipart import parse_media_type

OCTETS = "application/octet-stream"
DICOM = "application/dicom"
MULTIPART = "multipart/related"
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
LOSSY = frozenset(
    {_4 + n for n in ("50", "51", "81", "91", "93", "100", "101", "111", "112", "203", *map(str, range(102, 109)))}
)
"""Transfer syntaxes whose pixels may be had in lossy form only: sent so when no other is named (PS3.18 8.7.3.2)."""
_LONGEST_ACCEPT = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRange:
    """One range of an Accept header (RFC 9110 12.5.1)."""

    name: str
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def part_type(self) -> str:
        """Media type of the parts of a multipart form, or of the single part; ``*/*`` when it is open."""
        if self.name == MULTIPART:
            return self.parameters.get("type", "*/*").lower()
        return "*/*" if self.name in ("multipart/*", "*/*") else self.name

    @property
    def is_multipart(self) -> bool:
        return self.name in (MULTIPART, "multipart/*", "*/*")

    @property
    def transfer_syntax(self) -> str:
        """UID, ``*`` for any, or empty when none is named."""
        return "*" if self.name == "*/*" else self.parameters.get("transfer-syntax", "")

    def takes(self, media_type: str) -> bool:
        """Whether `media_type` is what the parts may be."""
        return self.part_type in ("*/*", media_type, media_type.split("/", maxsplit=1)[0] + "/*")


ANYTHING = MediaRange(name="*/*")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameAnswer:
    """How frames are sent."""

    decode: bool
    media_type: str
    content_type: str
    single_part: bool


def acceptable(request: Request) -> tuple[MediaRange, ...]:
    """What the client takes, the most welcome first: by query parameter ``accept``, else by header (PS3.18 8.7.5)."""
    asked = request.query_params.get("accept", "").strip() or ",".join(request.headers.getlist("accept"))
    return media_ranges(asked)


def media_ranges(accept: str) -> tuple[MediaRange, ...]:
    """The ranges of an Accept header by weight; nothing given means everything is welcome."""
    if len(accept) > _LONGEST_ACCEPT:
        raise not_acceptable("The list of acceptable media types is too long")
    weighted: list[tuple[float, MediaRange]] = []
    for part in _split(accept):
        if part.strip():
            name, parameters = parse_media_type(part)
            weight = _weight(parameters.pop("q", "1"))
            if weight > 0:
                weighted.append((weight, MediaRange(name=name, parameters=parameters)))
    if not weighted and accept.strip():
        raise not_acceptable("Every media type is refused by the request itself (q=0)")
    weighted.sort(key=lambda pair: -pair[0])
    return tuple(one for _, one in weighted) or (ANYTHING,)


def _weight(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 1.0


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


def not_acceptable(message: str) -> Rejected:
    """What is answered as 406; the message says what can be had."""
    return Rejected("dicomweb.not-acceptable", message)


def choose(ranges: Iterable[MediaRange], offered: tuple[str, ...]) -> str | None:
    """The offered media type that is most welcome."""
    for one in ranges:
        for media_type in offered:
            if one.takes(media_type):
                return media_type
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceAnswer:
    """How whole instances are sent: the first syntax of `syntaxes` that an instance can have."""

    single_part: bool
    syntaxes: tuple[str, ...]
    """UIDs, ``*`` for as stored, empty for the default (PS3.18 8.7.3.2)."""

    def decode(self, stored_syntax_uid: str) -> bool | None:
        """Whether an instance must be decoded to Explicit VR Little Endian; None when no acceptable form exists."""
        for syntax in self.syntaxes:
            if syntax in ("*", stored_syntax_uid):
                return False
            if syntax == "":
                return stored_syntax_uid not in LOSSY
            if syntax == EXPLICIT_LE:
                return True
        return None


def instance_answer(ranges: Iterable[MediaRange], *, may_be_single: bool) -> InstanceAnswer:
    """Choose the form of whole instances.

    Raises
    ------
    Rejected
        ``dicomweb.not-acceptable`` (HTTP 406).
    """
    fitting = [one for one in ranges if one.takes(DICOM) and (one.is_multipart or may_be_single)]
    if not fitting:
        single = f" or {DICOM} for one instance" if not may_be_single else f" or {DICOM}"
        raise not_acceptable(f'Instances are sent as {MULTIPART}; type="{DICOM}"{single}')
    form = fitting[0].is_multipart
    syntaxes = tuple(one.transfer_syntax for one in fitting if one.is_multipart == form)
    return InstanceAnswer(single_part=not form, syntaxes=syntaxes)


def frame_answer(ranges: Iterable[MediaRange], transfer_syntax_uid: str) -> FrameAnswer:
    """Choose the form of frames by what is acceptable and how they are stored.

    Raises
    ------
    Rejected
        ``dicomweb.not-acceptable`` (HTTP 406).
    """
    native = transfer_syntax_uid in NATIVE
    stored_type = OCTETS if native else MEDIA_TYPES.get(transfer_syntax_uid, OCTETS)
    sent_syntax = EXPLICIT_LE if native else transfer_syntax_uid
    for one in ranges:
        syntax, single = one.transfer_syntax, not one.is_multipart
        as_octets = one.part_type == OCTETS and syntax == "*"
        # Octets of no named syntax are decoded ones (PS3.18 table 8.7.3-4)
        as_stored = native or one.part_type != OCTETS or syntax != ""
        if as_stored and (one.takes(stored_type) or as_octets) and syntax in ("", "*", sent_syntax):
            content_type = f"{stored_type}; transfer-syntax={sent_syntax}"
            return FrameAnswer(decode=False, media_type=stored_type, content_type=content_type, single_part=single)
        if one.takes(OCTETS) and syntax in ("", EXPLICIT_LE):
            content_type = f"{OCTETS}; transfer-syntax={EXPLICIT_LE}"
            return FrameAnswer(decode=True, media_type=OCTETS, content_type=content_type, single_part=single)
    raise not_acceptable(f"Frames of this instance are {stored_type} ({sent_syntax}), or {OCTETS} decoded")

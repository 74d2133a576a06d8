"""Messages in the vertical-bar encoding (HL7 v2.5.1 2.5 to 2.7): read lazily and within bounds, written escaped.

A message is split only as far as somebody asks, so that a hostile one of a million separators costs no more than its
length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from polyclinic.core.errors import Rejected
from polyclinic.edges.hl7v2.charsets import UTF_8, codec_of, decode

NULL = '""'
"""A field with this value is to be emptied; one without a value is to be left as it is."""
_MOST_SEGMENTS = 5_000
_MOST_FIELDS = 256
_MOST_PARTS = 64
_SEGMENT_NAME = re.compile("[A-Z][A-Z0-9]{2}")
_HEADER_BYTES = 2_048
_CHARSET_FIELD = 17
"""Index of MSH-18 when the header is split at the field separator: MSH-1 is the separator itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delimiters:
    """MSH-1 and MSH-2."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"

    @property
    def encoding_characters(self) -> str:
        return self.component + self.repetition + self.escape + self.subcomponent


STANDARD = Delimiters()


@dataclass(frozen=True, slots=True)
class Segment:
    """One line of a message. Numbers of fields, components and subcomponents count from 1, as in the standard."""

    text: str
    delimiters: Delimiters
    codec: str

    @property
    def name(self) -> str:
        return self.text[:3]

    def raw(self, number: int) -> str:
        """A field as it stands; empty when it is not there."""
        if self.name == "MSH":
            if number == 1:
                return self.delimiters.field
            number -= 1
        fields = self.text.split(self.delimiters.field, _MOST_FIELDS)
        return fields[number] if number < len(fields) else ""

    def repetitions(self, number: int) -> tuple[Field, ...]:
        """The repetitions of a field that have a value."""
        parts = self.raw(number).split(self.delimiters.repetition, _MOST_PARTS)[:_MOST_PARTS]
        return tuple(Field(part, self.delimiters, self.codec) for part in parts if part)

    def field(self, number: int) -> Field:
        """The first repetition of a field; without a value when it is not there."""
        return Field(self.raw(number).split(self.delimiters.repetition, 1)[0], self.delimiters, self.codec)

    def text_of(self, number: int, component: int = 1, subcomponent: int = 1) -> str:
        """One unescaped value; empty when it is not there or is `NULL`."""
        return self.field(number).text(component, subcomponent)


@dataclass(frozen=True, slots=True)
class Field:
    """One repetition of a field."""

    raw: str
    delimiters: Delimiters
    codec: str

    def __bool__(self) -> bool:
        return bool(self.raw)

    @property
    def is_null(self) -> bool:
        """Whether the sender wants it emptied."""
        return self.raw == NULL

    def text(self, component: int = 1, subcomponent: int = 1) -> str:
        """One unescaped value; empty when it is not there or is `NULL`."""
        parts = self.raw.split(self.delimiters.component, _MOST_PARTS)
        if component > len(parts):
            return ""
        parts = parts[component - 1].split(self.delimiters.subcomponent, _MOST_PARTS)
        if subcomponent > len(parts) or parts[subcomponent - 1] == NULL:
            return ""
        return unescape(parts[subcomponent - 1], self.delimiters, self.codec).strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message whose header is sound; what stands in its segments is not yet judged."""

    segments: tuple[Segment, ...]

    @property
    def header(self) -> Segment:
        return self.segments[0]

    @property
    def kind(self) -> tuple[str, str]:
        """MSH-9: message code and trigger event."""
        return self.header.text_of(9, 1), self.header.text_of(9, 2)

    @property
    def control_id(self) -> str:
        return self.header.text_of(10)

    @property
    def version(self) -> str:
        return self.header.text_of(12)

    def named(self, name: str) -> Iterator[Segment]:
        """Every segment of that name, in order."""
        return (segment for segment in self.segments if segment.name == name)

    def first(self, name: str) -> Segment | None:
        """The first segment of that name."""
        return next(self.named(name), None)


def parse(raw: bytes, *, default_charset: str = UTF_8) -> Message:
    """Read a message.

    Raises
    ------
    Rejected
        ``hl7.no-header``, ``hl7.bad-separators``, ``hl7.charset``, ``hl7.bad-segment`` or ``hl7.too-many-segments``.
    """
    delimiters = _delimiters(raw)
    header = re.split(rb"[\r\n]", raw[:_HEADER_BYTES], maxsplit=1)[0]
    fields = header.split(delimiters.field.encode(), _CHARSET_FIELD + 1)
    named = fields[_CHARSET_FIELD].decode("ascii", "replace") if len(fields) > _CHARSET_FIELD else ""
    codec = codec_of(named.split(delimiters.repetition), default_charset)
    text = decode(raw, codec)
    if "\0" in text:
        raise Rejected("hl7.bad-segment", "The message has NUL characters; the sender must leave them out")
    lines = text.replace("\r\n", "\r").replace("\n", "\r").split("\r", _MOST_SEGMENTS)
    if len(lines) > _MOST_SEGMENTS:
        raise Rejected(
            "hl7.too-many-segments", f"The message has more than {_MOST_SEGMENTS} segments; send smaller ones"
        )
    segments = tuple(Segment(line, delimiters, codec) for line in lines if line.strip())
    for segment in segments:
        named_rightly = _SEGMENT_NAME.fullmatch(segment.name)
        if not named_rightly or segment.text[3:4] not in ("", delimiters.field):
            raise Rejected("hl7.bad-segment", "A line of the message is no segment; check the sender's line ends")
    if sum(segment.name == "MSH" for segment in segments) != 1:
        raise Rejected("hl7.bad-segment", "Each message needs a frame of its own; batches are not taken")
    return Message(segments=segments)


def _delimiters(raw: bytes) -> Delimiters:
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if raw[:3] != b"MSH" or len(raw) < 8:
        raise Rejected("hl7.no-header", "The message does not begin with an MSH segment; check the sender")
    characters = raw[3:8].decode("latin-1")
    wrong = [c for c in characters if not 0x21 <= ord(c) <= 0x7E or c.isalnum()]
    if wrong or len(set(characters)) != len(characters):
        raise Rejected("hl7.bad-separators", "MSH-1 and MSH-2 must name five different marks; check the sender")
    field, component, repetition, escape, subcomponent = tuple(characters)
    return Delimiters(field=field, component=component, repetition=repetition, escape=escape, subcomponent=subcomponent)


def unescape(text: str, delimiters: Delimiters = STANDARD, codec: str = "utf-8") -> str:
    """A value without its escape sequences, in one pass: what comes out of one is never read as another.

    Formatting becomes a line end or nothing; sequences that mean nothing here go.
    """
    mark = delimiters.escape
    if mark not in text:
        return text
    plain = {
        "F": delimiters.field,
        "S": delimiters.component,
        "T": delimiters.subcomponent,
        "R": delimiters.repetition,
        "E": mark,
        ".br": "\n",
        ".sp": "\n",
    }

    def one(found: re.Match[str]) -> str:
        inside = found[1]
        if inside in plain:
            return plain[inside]
        if inside.startswith("X"):
            try:
                return bytes.fromhex(inside[1:]).decode(codec, "replace").replace("\0", "")
            except ValueError:
                return ""
        return ""

    quoted = re.escape(mark)
    return re.sub(f"{quoted}([^{quoted}]{{0,256}}){quoted}", one, text)


_ESCAPES = str.maketrans(
    {
        "\\": "\\E\\",
        "|": "\\F\\",
        "^": "\\S\\",
        "&": "\\T\\",
        "~": "\\R\\",
        "\n": "\\.br\\",
        "\r": None,
        "\0": None,
        "\x0b": None,
        "\x1c": None,
    }
)


def escape(text: str) -> str:
    """A value as it stands in a message with the `STANDARD` delimiters."""
    return text.translate(_ESCAPES)


def components(*values: str) -> str:
    """A field of components, each escaped; empty ones at the end are left out."""
    return "^".join(map(escape, values)).rstrip("^")


def segment_text(name: str, fields: Sequence[str]) -> str:
    """A segment from fields that are escaped already; field 1 first, empty ones at the end left out."""
    return "|".join([name, *fields]).rstrip("|")

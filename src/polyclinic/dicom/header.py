"""Where each data element lies in an encoded dataset, without decoding values or touching pixels.

Reads any buffer in place (bytes, memoryview, mmap) and copies nothing but the values that are asked for, so
that an archive can check and index an instance at the speed at which it arrives. Implements the encodings of
DICOM PS3.5 7 (explicit and implicit VR, both byte orders), 7.5 (nested sequences), A.4 (encapsulated pixel
data), A.5 (deflated) and the file format of PS3.10 7.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
DEFLATED_LE = "1.2.840.10008.1.2.1.99"
DEFLATED = frozenset({DEFLATED_LE, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
NATIVE = frozenset({IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED_LE})
"""Transfer syntaxes whose pixel data, if any, are not encapsulated."""

PIXEL_DATA = 0x7FE00010
_FLOAT_PIXEL_DATA = frozenset({0x7FE00008, 0x7FE00009})
UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_LONG_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UR", b"UT", b"UN", b"SV", b"UV"})
MAX_ELEMENTS = 4_000_000
MAX_DEPTH = 64
MAX_INFLATED_BYTES = 512 * 1024 * 1024


class HeaderError(ValueError):
    """The bytes are no readable DICOM; `reason` is ``not-dicom``, ``truncated``, ``malformed`` or ``too-large``."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Span(NamedTuple):
    """One element's value: bytes ``[start, stop)`` of the dataset buffer; `vr` is empty for implicit VR."""

    vr: str
    start: int
    stop: int
    undefined: bool = False
    """Whether the length was undefined; `stop` then excludes the sequence delimitation item."""


class Encoding(NamedTuple):
    """How elements of a dataset are laid out."""

    explicit: bool
    little: bool


class _Layout(NamedTuple):
    explicit: Struct
    implicit: Struct
    long: Struct


_LITTLE = _Layout(Struct("<HH2sH"), Struct("<HHL"), Struct("<L"))
_BIG = _Layout(Struct(">HH2sH"), Struct(">HHL"), Struct(">L"))


def encoding_of(transfer_syntax_uid: str) -> Encoding:
    """Byte layout of a transfer syntax; all that are not named otherwise are explicit little endian (PS3.5 A.4)."""
    if transfer_syntax_uid in (IMPLICIT_LE, "1.2.840.113619.5.2"):
        return Encoding(explicit=False, little=True)
    return Encoding(explicit=True, little=transfer_syntax_uid != EXPLICIT_BE)


class Walker:
    """Walks one buffer in one encoding. Every step moves forward, and the number of steps is bounded."""

    def __init__(self, data: bytes | memoryview, encoding: Encoding) -> None:
        self.data = data
        self.encoding = encoding
        self._layout = _LITTLE if encoding.little else _BIG
        self._budget = MAX_ELEMENTS

    def elements(self, start: int, end: int) -> dict[int, Span]:
        """Top-level elements in ``[start, end)`` by tag ``(group << 16) | element``.

        Raises
        ------
        HeaderError
            ``truncated`` when the last element is cut, ``malformed`` when lengths make no sense.
        """
        found: dict[int, Span] = {}
        position = start
        while position < end:
            if end - position < 8 or self.data[position : position + 8] == b"\0" * 8:
                if not any(self.data[position:end]):
                    break  # some devices pad the file with zeros
                if end - position < 8:
                    raise HeaderError("truncated", "The last data element is cut")
            tag, span, position = self.element(position, end)
            if tag in (_ITEM, _ITEM_END, _SEQUENCE_END):
                raise HeaderError("malformed", "An item stands outside a sequence")
            found[tag] = span
        return found

    def element(self, position: int, end: int, depth: int = 0) -> tuple[int, Span, int]:
        """Tag and value of the element at `position`, and where the next one starts."""
        self._budget -= 1
        if self._budget < 0:
            raise HeaderError("too-large", "The dataset has too many elements")
        tag, vr, start, length = self.prefix(position, end)
        if length != UNDEFINED_LENGTH:
            stop = start + length
            if stop > end:
                raise HeaderError("truncated", "A data element is longer than what is there")
            return tag, Span(vr, start, stop), stop
        walker = self
        if vr == "UN":  # PS3.5 6.2.2: its content is implicit VR little endian, whatever is around it
            walker = Walker(self.data, Encoding(explicit=False, little=True))
            walker._budget = self._budget
        stop, after = walker._end_of_items(start, end, depth, fragments=tag == PIXEL_DATA)
        self._budget = walker._budget
        return tag, Span(vr, start, stop, True), after

    def items(self, span: Span) -> Iterator[tuple[int, int]]:
        """Content ``[start, stop)`` of each item of a sequence, or of each fragment of encapsulated pixel data."""
        position = span.start
        fragments = span.vr in ("OB", "OW") and span.undefined
        while position < span.stop:
            start, length = self._item(position, span.stop)
            if length == -1:
                return  # a delimiter in a sequence that has a length: superfluous, but harmless
            if length != UNDEFINED_LENGTH:
                yield start, start + length
                position = start + length
                continue
            if fragments:
                raise HeaderError("malformed", "A fragment has no length")
            stop, position = self._end_of_item(start, span.stop, 0)
            yield start, stop

    def prefix(self, position: int, end: int) -> tuple[int, str, int, int]:
        """Tag, VR, start of value and declared length of the element at `position`."""
        if end - position < 8:
            raise HeaderError("truncated", "A data element is cut")
        layout = self._layout
        if self.encoding.explicit:
            group, element, vr, length = layout.explicit.unpack_from(self.data, position)
            if vr in _LONG_VRS:
                if end - position < 12:
                    raise HeaderError("truncated", "A data element is cut")
                (length,) = layout.long.unpack_from(self.data, position + 8)
                return group << 16 | element, vr.decode("ascii"), position + 12, length
            if vr.isalpha() and vr.isupper():
                return group << 16 | element, vr.decode("ascii"), position + 8, length
        # Delimiters carry no VR, and some devices leave it out of single elements
        group, element, length = layout.implicit.unpack_from(self.data, position)
        return group << 16 | element, "", position + 8, length

    def _item(self, position: int, end: int) -> tuple[int, int]:
        """Start and length of the item at `position`; a length of -1 marks the sequence delimiter."""
        if end - position < 8:
            raise HeaderError("truncated", "A sequence is cut")
        group, element, length = self._layout.implicit.unpack_from(self.data, position)
        tag = group << 16 | element
        if tag == _SEQUENCE_END:
            return position + 8, -1
        if tag != _ITEM:
            raise HeaderError("malformed", "A sequence holds something that is no item")
        if length != UNDEFINED_LENGTH and position + 8 + length > end:
            raise HeaderError("truncated", "An item is longer than what is there")
        return position + 8, length

    def _end_of_items(self, start: int, end: int, depth: int, *, fragments: bool) -> tuple[int, int]:
        if depth > MAX_DEPTH:
            raise HeaderError("malformed", "Sequences are nested too deeply")
        position = start
        while True:
            self._budget -= 1
            if self._budget < 0:
                raise HeaderError("too-large", "The dataset has too many items")
            content, length = self._item(position, end)
            if length == -1:
                return position, content
            if length != UNDEFINED_LENGTH:
                position = content + length
            elif fragments:
                raise HeaderError("malformed", "A fragment has no length")
            else:
                _, position = self._end_of_item(content, end, depth + 1)

    def _end_of_item(self, start: int, end: int, depth: int) -> tuple[int, int]:
        position = start
        while True:
            if end - position < 8:
                raise HeaderError("truncated", "An item is cut")
            group, element = self._layout.implicit.unpack_from(self.data, position)[:2]
            if group << 16 | element == _ITEM_END:
                return position, position + 8
            _, _, position = self.element(position, end, depth + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMeta:
    """File Meta Information (PS3.10 7.1) and where the dataset starts."""

    transfer_syntax_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    source_ae_title: str
    dataset_offset: int


def read_file_meta(data: bytes | memoryview) -> FileMeta:
    """File Meta Information at the start of a DICOM file.

    Raises
    ------
    HeaderError
        ``not-dicom`` when preamble, prefix or transfer syntax are missing.
    """
    if len(data) < 140 or bytes(data[128:132]) != b"DICM":
        raise HeaderError("not-dicom", "The DICM prefix is missing")
    walker = Walker(data, Encoding(explicit=True, little=True))
    found: dict[int, Span] = {}
    position, end = 132, len(data)
    while end - position >= 8 and bytes(data[position : position + 2]) == b"\x02\x00":
        tag, span, position = walker.element(position, end)
        found[tag] = span
    syntax = text(data, found.get(0x00020010))
    if not syntax:
        raise HeaderError("not-dicom", "The file names no transfer syntax")
    return FileMeta(
        transfer_syntax_uid=syntax,
        sop_class_uid=text(data, found.get(0x00020002)),
        sop_instance_uid=text(data, found.get(0x00020003)),
        source_ae_title=text(data, found.get(0x00020016)),
        dataset_offset=position,
    )


@dataclass(frozen=True, slots=True)
class Header:
    """The elements of one dataset; offsets count from the start of `data`."""

    data: bytes | memoryview
    encoding: Encoding
    elements: dict[int, Span]

    def raw(self, tag: int) -> bytes:
        """Encoded value, empty when absent."""
        span = self.elements.get(tag)
        return b"" if span is None else bytes(self.data[span.start : span.stop])

    def text(self, tag: int) -> str:
        """Value as ASCII without padding, empty when absent; for UIDs, codes, dates and numbers as strings."""
        return text(self.data, self.elements.get(tag))

    def uint16(self, tag: int) -> int | None:
        """First value of a US element."""
        raw = self.raw(tag)
        return int.from_bytes(raw[:2], "little" if self.encoding.little else "big") if len(raw) >= 2 else None

    @property
    def pixels(self) -> Span | None:
        """Value of Pixel Data, Float Pixel Data or Double Float Pixel Data."""
        for tag in (PIXEL_DATA, *_FLOAT_PIXEL_DATA):
            if tag in self.elements:
                return self.elements[tag]
        return None

    @property
    def pixel_element_offset(self) -> int | None:
        """Offset of the pixel element's tag, or None without pixels or when other elements follow the pixels."""
        span = self.pixels
        if span is None or any(other.start > span.start for other in self.elements.values()):
            return None
        return span.start - (12 if self.encoding.explicit and span.vr in ("OB", "OW", "OF", "OD", "UN") else 8)


def read_header(data: bytes | memoryview, transfer_syntax_uid: str) -> Header:
    """Walk a whole encoded dataset (no file meta information) and check that its last element is complete.

    A deflated dataset is inflated first, at most to `MAX_INFLATED_BYTES`.

    Raises
    ------
    HeaderError
        See `HeaderError.reason`.
    """
    if transfer_syntax_uid in DEFLATED:
        data = inflate(data)
    encoding = encoding_of(transfer_syntax_uid)
    return Header(data, encoding, Walker(data, encoding).elements(0, len(data)))


def inflate(data: bytes | memoryview, limit: int = MAX_INFLATED_BYTES) -> bytes:
    """Inflate a deflated dataset (RFC 1951, PS3.5 A.5) without ever holding more than `limit` bytes.

    Raises
    ------
    HeaderError
        ``truncated``, ``malformed`` or ``too-large``.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        out = inflater.decompress(data, limit)
    except zlib.error as error:
        raise HeaderError("malformed", "The deflated dataset does not inflate") from error
    if not inflater.eof:
        if len(out) >= limit:
            raise HeaderError("too-large", "The deflated dataset is larger than what is accepted")
        raise HeaderError("truncated", "The deflated dataset is cut")
    return out


def text(data: bytes | memoryview, span: Span | None) -> str:
    """ASCII value of a span without padding; characters outside ASCII become ``?``."""
    if span is None:
        return ""
    return bytes(data[span.start : span.stop]).decode("ascii", "replace").strip("\0 ").replace("\ufffd", "?")

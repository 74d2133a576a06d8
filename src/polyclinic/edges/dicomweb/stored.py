"""Parts of kept instances: header without pixels, single values, single frames."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy as np
import numpy.typing as npt
from pydicom.encaps import generate_fragments, get_frame
from pydicom.pixels.utils import iter_pixels

from polyclinic.core.errors import NotFound, Rejected
from polyclinic.departments.archive.ports import KeptFile
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.dicom.header import (
    EXPLICIT_BE,
    NATIVE,
    PIXEL_DATA,
    Header,
    Span,
    Walker,
    encoding_of,
    read_header,
)

_PREFIX_BYTES = 12


def header_of(archive: SqlArchive, kept: KeptFile) -> Header:
    """Header of a kept instance; reads up to the pixel data only, where that is possible."""
    syntax = kept.record.transfer_syntax_uid
    if kept.pixel_offset is None:
        return read_header(archive.read_part(kept, kept.dataset_offset), syntax)
    stop = kept.pixel_offset
    data = archive.read_part(kept, kept.dataset_offset, stop + _PREFIX_BYTES)
    encoding = encoding_of(syntax)
    walker = Walker(data, encoding)
    length = stop - kept.dataset_offset
    elements = walker.elements(0, length)
    tag, vr, start, _ = walker.prefix(length, len(data))
    elements[tag] = Span(vr, start, start)
    return Header(data, encoding, elements)


def native_frame_bytes(header: Header) -> int:
    """Bytes of one uncompressed frame (PS3.5 8.1.1; bits are packed when Bits Allocated is 1)."""
    rows, columns = header.uint16(0x00280010) or 0, header.uint16(0x00280011) or 0
    samples, bits = header.uint16(0x00280002) or 1, header.uint16(0x00280100) or 0
    pixels = rows * columns * samples
    if header.text(0x00280004) == "YBR_FULL_422":
        pixels = rows * columns * 2
    return pixels * bits // 8 if bits != 1 else -(-pixels // 8)


def frames_of(archive: SqlArchive, kept: KeptFile, numbers: list[int]) -> Iterator[bytes]:
    """Frames by number (from 1), as they are stored; native ones in little endian.

    Raises
    ------
    NotFound
        ``dicomweb.no-frame``.
    """
    count = kept.record.number_of_frames
    if kept.record.rows is None or any(not 1 <= number <= count for number in numbers):
        raise NotFound("dicomweb.no-frame", f"The instance has no such frame: it has {count}")
    if kept.record.transfer_syntax_uid in NATIVE:
        return _native(archive, kept, numbers)
    return _encapsulated(archive, kept, numbers)


def _native(archive: SqlArchive, kept: KeptFile, numbers: list[int]) -> Iterator[bytes]:
    header = header_of(archive, kept)
    pixels = header.pixels
    if pixels is None:
        raise NotFound("dicomweb.no-frame", "The instance has no pixel data")
    size = native_frame_bytes(header)
    packed = header.uint16(0x00280100) == 1
    whole = kept.pixel_offset is None
    for number in numbers:
        start = pixels.start + (number - 1) * size
        if packed and kept.record.number_of_frames > 1:
            start, size = _packed_frame(header, pixels.start, number)
        if whole:
            data = bytes(header.data[start : start + size])
        else:
            data = archive.read_part(kept, kept.dataset_offset + start, kept.dataset_offset + start + size)
        if len(data) < size:
            raise NotFound("dicomweb.no-frame", "The pixel data is shorter than its header says")
        if kept.record.transfer_syntax_uid == EXPLICIT_BE:
            data = swapped(data, header)
        yield data


def _packed_frame(header: Header, start: int, number: int) -> tuple[int, int]:
    pixels = (header.uint16(0x00280010) or 0) * (header.uint16(0x00280011) or 0)
    if pixels % 8:
        raise Rejected("dicomweb.unaligned-frame", "Frames of this instance do not start at a byte: fetch the instance")
    return start + (number - 1) * pixels // 8, pixels // 8


def swapped(data: bytes, header: Header) -> bytes:
    """Big endian words as little endian; bytes stay."""
    pixels = header.pixels
    if pixels is None or pixels.vr == "OB":
        return data
    width = max((header.uint16(0x00280100) or 8) // 8, 2)
    out = bytearray(len(data))
    for index in range(width):
        out[index::width] = data[width - 1 - index :: width]
    return bytes(out)


def _encapsulated(archive: SqlArchive, kept: KeptFile, numbers: list[int]) -> Iterator[bytes]:
    if kept.pixel_offset is None:
        header = read_header(archive.read_part(kept, kept.dataset_offset), kept.record.transfer_syntax_uid)
        span = header.elements.get(PIXEL_DATA)
        if span is None:
            raise NotFound("dicomweb.no-frame", "The instance has no pixel data")
        value = bytes(header.data[span.start : span.stop])
    else:
        # 12 bytes of element prefix, 8 of sequence delimiter
        value = archive.read_part(kept, kept.pixel_offset + _PREFIX_BYTES, kept.record.size_bytes)
    count = kept.record.number_of_frames
    if count == 1:
        yield from (one_frame(value) for _ in numbers)
        return
    for number in numbers:
        yield get_frame(value, number - 1, number_of_frames=count)


def one_frame(value: bytes) -> bytes:
    """The only frame of encapsulated pixel data: all fragments behind the offset table."""
    fragments = list(generate_fragments(value))
    return b"".join(fragments[1:])


def decoded_frames(archive: SqlArchive, kept: KeptFile, numbers: list[int]) -> Iterator[bytes]:
    """Frames by number (from 1), decoded to little endian samples.

    Raises
    ------
    NotFound
        ``dicomweb.no-frame``.
    Rejected
        ``dicomweb.no-decoder`` when no installed decoder reads the transfer syntax or the frame.
    """
    for array in frame_arrays(archive, kept, numbers):
        yield array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def frame_arrays(
    archive: SqlArchive, kept: KeptFile, numbers: list[int], *, raw: bool = True
) -> Iterator[npt.NDArray[np.generic]]:
    """As `decoded_frames`, as arrays (row, column) or (row, column, sample); RGB instead of YBR unless `raw`."""
    count = kept.record.number_of_frames
    if kept.record.rows is None or any(not 1 <= number <= count for number in numbers):
        raise NotFound("dicomweb.no-frame", f"The instance has no such frame: it has {count}")
    indices = [number - 1 for number in numbers]
    try:
        yield from iter_pixels(BytesIO(archive.read_part(kept)), indices=indices, raw=raw)
    except (RuntimeError, ValueError, AttributeError, NotImplementedError, KeyError, TypeError) as error:
        # What pydicom raises for missing plugins, broken streams and contradictory headers
        raise Rejected("dicomweb.no-decoder", "This instance's pixels cannot be decoded: fetch it as stored") from error


def bulk_value(archive: SqlArchive, kept: KeptFile, path: str) -> bytes:
    """Value of the element at a BulkDataURI's path, e.g. ``60003000`` or ``00880200/0/7FE00010``.

    Raises
    ------
    NotFound
        ``dicomweb.no-bulk-data``.
    """
    header = read_header(archive.read_part(kept, kept.dataset_offset), kept.record.transfer_syntax_uid)
    walker, elements = Walker(header.data, header.encoding), header.elements
    steps = path.split("/")
    for tag_text, number_text in zip(steps[:-1:2], steps[1::2], strict=False):
        span = _at(elements, tag_text)
        items = list(walker.items(span))
        if not number_text.isdigit() or int(number_text) >= len(items):
            raise _no_bulk_data()
        elements = walker.elements(*items[int(number_text)])
    if len(steps) % 2 == 0:
        raise _no_bulk_data()
    span = _at(elements, steps[-1])
    return bytes(header.data[span.start : span.stop])


def _at(elements: dict[int, Span], tag_text: str) -> Span:
    try:
        return elements[int(tag_text, 16)]
    except (KeyError, ValueError) as error:
        raise _no_bulk_data() from error


def _no_bulk_data() -> NotFound:
    return NotFound("dicomweb.no-bulk-data", "The instance has no such element: use the address from its metadata")

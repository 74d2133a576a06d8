"""Parts of kept instances: header without pixels, single values, decoded frames."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy as np
import numpy.typing as npt
from pydicom.pixels.utils import iter_pixels

from polyclinic.core.errors import NotFound, Rejected
from polyclinic.departments.archive.ports import KeptFile
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.dicom.header import (
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

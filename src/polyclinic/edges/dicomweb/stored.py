"""Parts of kept instances: header without pixels, stretches of bytes, decoded frames."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from pydicom.pixels.utils import iter_pixels

from polyclinic.core.errors import NotFound, Rejected
from polyclinic.departments.archive.ports import KeptFile
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.dicom.header import (
    NATIVE,
    Header,
    Span,
    Walker,
    encoding_of,
    read_header,
)
from polyclinic.edges.decoding.isolated import Undecodable, decoders

_PREFIX_BYTES = 12
_READ_BYTES = 1024 * 1024
_MOST_BYTES_A_PIXEL = 6
_UNDECODABLE = (
    AttributeError,
    KeyError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    Undecodable,
    ValueError,
)
"""What pydicom raises for missing plugins, broken streams and contradictory headers, and what is made of it."""


def etag_of(kept: KeptFile) -> str:
    """Strong validator of the instance as it is given out."""
    return f'"{kept.record.sha256}-{kept.corrected}"' if kept.corrected else f'"{kept.record.sha256}"'


class GivenOut(NamedTuple):
    """A kept instance with its patient's identity as it is now; offsets count from the start of that file."""

    read: Callable[[int, int], bytes]
    size_bytes: int
    dataset_offset: int
    pixel_offset: int | None


@contextmanager
def reading(archive: SqlArchive, kept: KeptFile) -> Iterator[GivenOut]:
    """Reader of stretches of an instance as it is given out."""
    with archive.parts(kept) as there:
        if not kept.corrected:
            yield GivenOut(there, kept.record.size_bytes, kept.dataset_offset, kept.pixel_offset)
            return
        size_bytes, dataset_offset = archive.given_out(kept)
        # A correction changes what lies before the pixels only
        behind = 0 if kept.pixel_offset is None else kept.record.size_bytes - kept.pixel_offset
        head = _corrected_head(archive, kept, size_bytes - behind)
        shift = kept.record.size_bytes - size_bytes

        def read(start: int, stop: int) -> bytes:
            stop = min(stop, size_bytes)
            if stop <= len(head):
                return head[start:stop]
            return head[start:] + there(max(start, len(head)) + shift, stop + shift)

        yield GivenOut(read, size_bytes, dataset_offset, None if kept.pixel_offset is None else len(head))


def _corrected_head(archive: SqlArchive, kept: KeptFile, length: int) -> bytes:
    head = b""
    for piece in archive.stream(kept):
        head += piece
        if len(head) >= length:
            break
    return head[:length]


def stretch(archive: SqlArchive, kept: KeptFile, start: int, stop: int) -> Iterator[bytes]:
    """Bytes ``[start, stop)`` of the instance as it is given out, in pieces of bounded size."""
    with reading(archive, kept) as file:
        for position in range(start, stop, _READ_BYTES):
            yield file.read(position, min(position + _READ_BYTES, stop))


def header_of(archive: SqlArchive, kept: KeptFile) -> Header:
    """Header of a kept instance; reads up to the pixel data only, where that is possible."""
    syntax = kept.record.transfer_syntax_uid
    with reading(archive, kept) as file:
        if file.pixel_offset is None:
            return read_header(file.read(file.dataset_offset, file.size_bytes), syntax)
        data = file.read(file.dataset_offset, file.pixel_offset + _PREFIX_BYTES)
    encoding = encoding_of(syntax)
    walker = Walker(data, encoding)
    length = file.pixel_offset - file.dataset_offset
    elements = walker.elements(0, length)
    tag, vr, start, _ = walker.prefix(length, len(data))
    elements[tag] = Span(vr, start, start)
    return Header(data, encoding, elements)


class _KeptFile(io.RawIOBase):
    """A kept instance as a file that can be read at any place, so that a decoder holds one frame and not all."""

    name = ""  # pydicom asks a buffered file for it

    def __init__(self, archive: SqlArchive, kept: KeptFile) -> None:
        self._open = ExitStack()
        self._file = self._open.enter_context(reading(archive, kept))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size_bytes}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(self._position, self._position + len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._open.close()
        super().close()


def open_kept(archive: SqlArchive, kept: KeptFile) -> io.BufferedIOBase:
    """A kept instance as a binary file."""
    return io.BufferedReader(_KeptFile(archive, kept), buffer_size=64 * 1024)


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
        yield little_endian(array)


def little_endian(array: npt.NDArray[Any]) -> bytes:
    """Samples as bytes."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def frame_arrays(
    archive: SqlArchive, kept: KeptFile, numbers: list[int], *, raw: bool = True
) -> Iterator[npt.NDArray[np.generic]]:
    """As `decoded_frames`, as arrays (row, column) or (row, column, sample); RGB instead of YBR unless `raw`."""
    count = kept.record.number_of_frames
    if kept.record.rows is None or any(not 1 <= number <= count for number in numbers):
        raise NotFound("dicomweb.no-frame", f"The instance has no such frame: it has {count}")
    indices = [number - 1 for number in numbers]
    try:
        if kept.record.transfer_syntax_uid in NATIVE:
            with open_kept(archive, kept) as file:
                yield from iter_pixels(cast("BinaryIO", file), indices=indices, raw=raw)
        else:
            frame_bytes = kept.record.rows * (kept.record.columns or 0) * _MOST_BYTES_A_PIXEL
            with _descriptor(archive, kept) as (file_number, offset, size):
                yield from decoders.frames(file_number, offset, size, indices, raw=raw, frame_bytes=frame_bytes)
    except (
        MemoryError,
        Rejected,
        RuntimeError,
        ValueError,
        AttributeError,
        NotImplementedError,
        KeyError,
        TypeError,
    ) as error:
        # What pydicom raises for missing plugins, broken streams and contradictory headers
        raise Rejected("dicomweb.no-decoder", "This instance's pixels cannot be decoded: fetch it as stored") from error


@contextmanager
def _descriptor(archive: SqlArchive, kept: KeptFile) -> Iterator[tuple[int, int, int]]:
    """The instance as it is given out, within an open file: descriptor, offset and size."""
    if not kept.corrected:
        with archive.opened(kept) as (descriptor, offset):
            yield descriptor, offset, kept.record.size_bytes
        return
    descriptor = os.memfd_create("polyclinic-instance")
    try:
        size = 0
        for piece in archive.stream(kept):
            view = memoryview(piece)
            while view:
                written = os.write(descriptor, view)
                size, view = size + written, view[written:]
        yield descriptor, 0, size
    finally:
        os.close(descriptor)


def pixel_span(archive: SqlArchive, kept: KeptFile) -> tuple[int, int] | None:
    """Where the value of uncompressed pixel data lies in the file given out; None when that cannot be told cheaply."""
    with reading(archive, kept) as file:
        if file.pixel_offset is None:
            return None
        head = file.read(file.pixel_offset, file.pixel_offset + _PREFIX_BYTES)
        _, _, start, length = Walker(head, encoding_of(kept.record.transfer_syntax_uid)).prefix(0, len(head))
        begin = file.pixel_offset + start
        return (begin, begin + length) if begin + length <= file.size_bytes else None


def bulk_value(archive: SqlArchive, kept: KeptFile, path: str) -> bytes:
    """Value of the element at a BulkDataURI's path, e.g. ``60003000`` or ``00880200/0/7FE00010``.

    Raises
    ------
    NotFound
        ``dicomweb.no-bulk-data``.
    """
    header = header_of(archive, kept)
    walker, elements = Walker(header.data, header.encoding), header.elements
    steps = path.split("/")
    for tag_text, number_text in zip(steps[:-1:2], steps[1::2], strict=False):
        span = _at(elements, tag_text)
        items = list(walker.items(span))
        if not number_text.isdecimal() or len(number_text) > 9 or int(number_text) >= len(items):
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

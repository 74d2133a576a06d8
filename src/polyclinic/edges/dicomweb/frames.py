"""Single frames out of kept instances, found without reading the others and without decoding."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from struct import iter_unpack
from typing import overload

from pydicom.encaps import get_frame

from polyclinic.core.errors import NotFound, Rejected
from polyclinic.departments.archive.ports import KeptFile
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.dicom.header import DEFLATED, EXPLICIT_BE, NATIVE, Header
from polyclinic.edges.dicomweb.stored import etag_of, header_of, reading

Spans = tuple[tuple[int, int], ...]
Read = Callable[[int, int], bytes]
_REMEMBERED = 2048
_MOST_FRAGMENTS = 1_000_000
_ITEM = b"\xfe\xff\x00\xe0"
_EXTENDED_OFFSET_TABLE = 0x7FE00001


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTable:
    """Where each frame of an instance lies: pieces ``(start, stop)``, counted from the start of the kept file."""

    frames: Sequence[Spans]
    word_bytes: int = 1
    """Width of the words whose bytes must be reversed to be little endian."""
    whole: Spans = ()
    """All of the pixel data, when nothing says where its frames begin; `frames` is then empty."""
    inflated: bool = False
    """Whether positions count within the inflated dataset instead."""


class Frames:
    """Reads frames as they are stored and remembers where those of the last instances lie."""

    def __init__(self, archive: SqlArchive) -> None:
        self._archive = archive
        self._lock = threading.Lock()
        self._tables: OrderedDict[str, FrameTable] = OrderedDict()

    def stored(self, kept: KeptFile, numbers: list[int]) -> Iterator[bytes]:
        """Frames by number (from 1), as they are stored; native ones in little endian.

        Raises
        ------
        NotFound
            ``dicomweb.no-frame``.
        """
        table = self._table(kept)
        count = len(table.frames) or kept.record.number_of_frames
        if any(not 1 <= number <= count for number in numbers):
            raise NotFound("dicomweb.no-frame", f"The instance has no such frame: it has {count}")
        return self._read(kept, table, numbers)

    def _read(self, kept: KeptFile, table: FrameTable, numbers: list[int]) -> Iterator[bytes]:
        if table.inflated:
            inflated = header_of(self._archive, kept).data
            for number in numbers:
                yield b"".join(bytes(inflated[start:stop]) for start, stop in table.frames[number - 1])
            return
        with reading(self._archive, kept) as file:
            read = file.read
            for number in numbers:
                if not table.frames:
                    yield _searched(read(*table.whole[0]), number, kept.record.number_of_frames)
                    continue
                spans = table.frames[number - 1]
                if table.word_bytes > 1:
                    yield _unswapped(read, table, *spans[0])
                else:
                    yield read(*spans[0]) if len(spans) == 1 else b"".join(read(*span) for span in spans)

    def _table(self, kept: KeptFile) -> FrameTable:
        uid = etag_of(kept)  # another correction is another file
        with self._lock:
            table = self._tables.get(uid)
            if table is not None:
                self._tables.move_to_end(uid)
                return table
        table = self._make_table(kept)
        with self._lock:
            self._tables[uid] = table
            if len(self._tables) > _REMEMBERED:
                self._tables.popitem(last=False)
        return table

    def _make_table(self, kept: KeptFile) -> FrameTable:
        header = header_of(self._archive, kept)
        pixels = header.pixels
        if pixels is None:
            raise NotFound("dicomweb.no-frame", "The instance has no pixel data")
        inflated = kept.record.transfer_syntax_uid in DEFLATED
        with reading(self._archive, kept) as file:
            return self._lay_out(kept, header, 0 if inflated else file.dataset_offset, file.read, file.size_bytes)

    @staticmethod
    def _lay_out(kept: KeptFile, header: Header, dataset_offset: int, read: Read, size_bytes: int) -> FrameTable:
        pixels = header.pixels
        assert pixels is not None  # the caller has looked
        inflated = kept.record.transfer_syntax_uid in DEFLATED
        start = pixels.start + dataset_offset
        if kept.record.transfer_syntax_uid in NATIVE:
            end = len(header.data) if inflated else size_bytes
            frames = native_frames(header, start, end, kept.record.number_of_frames)
            big = kept.record.transfer_syntax_uid == EXPLICIT_BE and pixels.vr != "OB"
            word_bytes = max((header.uint16(0x00280100) or 8) // 8, 2) if big else 1
            return FrameTable(frames=frames, word_bytes=word_bytes, inflated=inflated)
        table, fragments = read_fragments(read, start, size_bytes)
        offsets = _offsets(header.raw(_EXTENDED_OFFSET_TABLE), "<Q") or _offsets(table, "<L")
        frames = encapsulated_frames(fragments, offsets, kept.record.number_of_frames)
        end = fragments[-1][1] if fragments else start
        return FrameTable(frames=frames, whole=((start, end),))


class _EvenFrames(Sequence[Spans]):
    """Frames of one size, one behind the other; a table of them would be larger than small frames themselves."""

    def __init__(self, start: int, size: int, count: int) -> None:
        self._start, self._size, self._count = start, size, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Spans: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Spans]: ...

    def __getitem__(self, index: int | slice) -> Spans | Sequence[Spans]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        start = self._start + index % self._count * self._size
        return ((start, start + self._size),)


def native_frames(header: Header, start: int, end: int, count: int) -> Sequence[Spans]:
    """Frames of uncompressed pixel data (PS3.5 8.1.1, 8.2); bits are packed when Bits Allocated is 1."""
    rows, columns = header.uint16(0x00280010) or 0, header.uint16(0x00280011) or 0
    samples, bits = header.uint16(0x00280002) or 1, header.uint16(0x00280100) or 0
    if header.text(0x00280004) == "YBR_FULL_422":
        samples = 2
    frame_bits = rows * columns * samples * bits
    if frame_bits % 8 and count > 1:
        raise Rejected("dicomweb.unaligned-frame", "Frames of this instance do not start at a byte: fetch the instance")
    size = -(-frame_bits // 8)
    if not size or start + size * count > end:
        raise NotFound("dicomweb.no-frame", "The pixel data is shorter than its header says")
    return _EvenFrames(start, size, count)


def read_fragments(read: Read, start: int, end: int) -> tuple[bytes, list[tuple[int, int]]]:
    """Basic Offset Table and the fragments' ``(start, stop)`` of encapsulated pixel data (PS3.5 A.4)."""
    table = b""
    fragments: list[tuple[int, int]] = []
    position, first = start, True
    while position + 8 <= end:
        head = read(position, position + 8)
        if head[:4] != _ITEM:
            break
        length = int.from_bytes(head[4:], "little")
        if first:
            table = read(position + 8, position + 8 + length)
        else:
            fragments.append((position + 8, position + 8 + length))
            if len(fragments) > _MOST_FRAGMENTS:
                raise Rejected("dicomweb.too-many-fragments", "The pixel data has more fragments than a real one")
        first = False
        position += 8 + length
    return table, fragments


def encapsulated_frames(fragments: list[tuple[int, int]], offsets: list[int], count: int) -> tuple[Spans, ...]:
    """Fragments by frame: all of them for one, one each when the numbers agree, else by the offset table.

    Empty when nothing tells where frames begin.
    """
    if not fragments:
        raise NotFound("dicomweb.no-frame", "The instance has no pixel data")
    if count == 1:
        return (tuple(fragments),)
    if len(fragments) == count:
        return tuple((fragment,) for fragment in fragments)
    if len(offsets) != count:
        return ()
    base = fragments[0][0] - 8  # offsets count from the item tag of the first fragment
    starts = [first - 8 - base for first, _ in fragments]
    cuts = [bisect_left(starts, offset) for offset in offsets] + [len(fragments)]
    frames = tuple(tuple(fragments[first:last]) for first, last in pairwise(cuts))
    return frames if all(frames) else ()


def _offsets(table: bytes, number: str) -> list[int]:
    width = 8 if number == "<Q" else 4
    return [value for (value,) in iter_unpack(number, table[: len(table) // width * width])]


def _searched(value: bytes, number: int, count: int) -> bytes:
    """A frame of pixel data without offset table: pydicom looks for the codec's own end marks."""
    try:
        return get_frame(value, number - 1, number_of_frames=count)
    except ValueError as error:
        raise NotFound("dicomweb.no-frame", "Nothing says where this frame begins: fetch the instance") from error


def _unswapped(read: Read, table: FrameTable, start: int, stop: int) -> bytes:
    """A frame of big endian words in little endian; it may begin and end within a word (8-bit samples as OW)."""
    ((base, _),) = table.frames[0]
    before, behind = (start - base) % table.word_bytes, (base - stop) % table.word_bytes
    return swapped(read(start - before, stop + behind), table.word_bytes)[before : before + stop - start]


def swapped(data: bytes, word_bytes: int) -> bytes:
    """Words with their bytes reversed; what is left of a word that is cut stays as it is."""
    whole = len(data) // word_bytes * word_bytes
    out = bytearray(data)
    for index in range(word_bytes):
        out[index:whole:word_bytes] = data[word_bytes - 1 - index : whole : word_bytes]
    return bytes(out)

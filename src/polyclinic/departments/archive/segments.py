"""Append-only segments on a disk: where the bytes are. See ``docs/decisions/0002-storage-layout.md``.

A segment is a tar file. It belongs to the process that holds its lock and within it to one lane, so an append needs no
coordination beyond picking an idle lane. An entry is durable when `Segments.append` returns.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from polyclinic.core.errors import NotFound, Unavailable
from polyclinic.departments.archive.contracts import DERIVED_SOURCE
from polyclinic.departments.archive.entries import BLOCK, END_OF_ARCHIVE, VOID, Entry, pack, padded, unpack
from polyclinic.departments.archive.lanes import NO_SPACE, Draft, Lane, sync_folder, write_all

SEGMENT_BYTES = 256 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_LONGEST_READ_BYTES = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a file lies: `offset_bytes` is that of its first byte, behind the header block."""

    segment: str
    offset_bytes: int
    size_bytes: int


class Written:
    """A whole entry that is not durable yet; its lane waits until it is, or is taken back.

    The disk is writing it already, so whatever else must be done is best done before `sync`.
    """

    def __init__(self, place: Place, lane: Lane, give_back: Callable[[Lane, OSError | None], None]) -> None:
        self.place = place
        self._lane = lane
        self._give_back = give_back

    def sync(self) -> None:
        """Return when it is durable.

        Raises
        ------
        Unavailable
            As `Segments.append`; whether the entry is on the disk is not known then.
        """
        try:
            self._lane.sync()
        except OSError as error:
            self._give_back(self._lane, error)
            raise storage_failure(error) from error
        self._give_back(self._lane, None)

    def withdraw(self) -> None:
        """Take it back: nothing of it stays."""
        try:
            self._lane.cut()
        except OSError as error:
            self._give_back(self._lane, error)
            raise storage_failure(error) from error
        self._give_back(self._lane, None)


class Segments:
    """All segments in one folder.

    Parameters
    ----------
    folder
        Made when absent.
    segment_bytes
        A segment that has reached this size gets no further entry.
    lanes
        How many entries may be written at the same time.
    free_bytes_min
        With less free space than this, nothing that comes from outside is taken; what the platform makes still is.
    """

    def __init__(
        self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES, lanes: int = 4, free_bytes_min: int = 0
    ) -> None:
        self.folder = folder
        self._free_bytes_min = free_bytes_min
        self._segment_bytes = segment_bytes
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
        self._idle: list[Lane | None] = [None] * (lanes + 1)
        self._drafts_left = lanes
        """Drafts wait for their sender, so one lane is always left to those who do not."""
        self._closed = False
        self._available = threading.Condition()
        self._sealed: list[tuple[float, str, int]] = []

    def append(self, entry: Entry, buffers: Sequence[bytes | memoryview]) -> Place:
        """Keep one file; durable on return.

        Raises
        ------
        Unavailable
            ``archive.out-of-space`` or ``archive.storage-failed``; nothing of the file is kept.
        """
        written = self.write(entry, buffers)
        written.sync()
        return written.place

    def write(self, entry: Entry, buffers: Sequence[bytes | memoryview]) -> Written:
        """Write one file, to be made durable by what is returned; raises as `append`."""
        self._check_space(entry)
        lane = self._lane()
        try:
            offset = lane.write(pack(entry), buffers, entry.size_bytes)
        except OSError as error:
            self._give_back(lane, error)
            raise storage_failure(error) from error
        return self._written(lane, entry, offset, self._give_back)

    def draft(self) -> Draft | None:
        """An entry to be written while it arrives, or None when none can be begun without waiting."""
        if self._is_nearly_full():
            return None
        with self._available:
            if self._closed or not self._drafts_left or not self._idle:
                return None
            self._drafts_left -= 1
            lane = self._idle.pop()
        try:
            return Draft(self._ready(lane), self._end_draft)
        except OSError:  # a full disk: whoever appends is told so
            self._end_draft(None, None)
            return None

    def complete(self, draft: Draft, entry: Entry) -> Written:
        """Make the entry of a draft one to be made durable; raises as `append`."""
        try:
            self._check_space(entry)
        except Unavailable:
            draft.abandon()
            raise
        try:
            lane, offset = draft.complete(entry)
        except OSError as error:
            raise storage_failure(error) from error
        return self._written(lane, entry, offset, self._end_draft)

    def _written(
        self, lane: Lane, entry: Entry, offset: int, give_back: Callable[[Lane, OSError | None], None]
    ) -> Written:
        place = Place(segment=lane.name, offset_bytes=offset, size_bytes=entry.size_bytes)
        return Written(place, lane, give_back)

    def _check_space(self, entry: Entry) -> None:
        own = entry.is_note or entry.moved or entry.source == DERIVED_SOURCE
        if not own and self._is_nearly_full():
            raise Unavailable("archive.out-of-space", "The archive's disk is nearly full: make room, then send again")

    def _is_nearly_full(self) -> bool:
        if not self._free_bytes_min:
            return False
        disk = os.statvfs(self.folder)
        return disk.f_bavail * disk.f_frsize < self._free_bytes_min

    def _end_draft(self, lane: Lane | None, error: OSError | None) -> None:
        with self._available:
            self._drafts_left += 1
        self._give_back(lane, error)

    def _lane(self) -> Lane:
        """A lane with room, to be given back; raises `Unavailable`."""
        with self._available:
            while not self._idle and not self._closed:
                self._available.wait()
            if self._closed:
                raise _closed()
            lane = self._idle.pop()
        try:
            return self._ready(lane)
        except OSError as error:
            self._give_back(None, None)
            raise storage_failure(error) from error

    def _ready(self, lane: Lane | None) -> Lane:
        """A lane with room."""
        if lane is not None and lane.size_bytes >= self._segment_bytes:
            lane.seal()
            self._note_sealed(lane)
            lane = None
        return Lane(self.folder) if lane is None else lane

    def _give_back(self, lane: Lane | None, error: OSError | None) -> None:
        if lane is not None and error is not None:
            if error.errno in NO_SPACE:
                lane.cut()
            else:
                # After a failed sync the kernel may have dropped the pages: what is in this file is read back
                # and checked at the next start, and nothing is added to it.
                os.close(lane.descriptor)
                lane = None
        with self._available:
            if self._closed:
                self._seal([lane])
            else:
                self._idle.append(lane)
                self._available.notify()

    def _seal(self, lanes: Sequence[Lane | None]) -> None:
        for lane in filter(None, lanes):
            lane.seal()
            self._note_sealed(lane)

    def _note_sealed(self, lane: Lane) -> None:
        self._sealed.append((time.monotonic(), lane.name, lane.size_bytes + len(END_OF_ARCHIVE)))

    def take_sealed(self, *, older_than_s: float = 0.0) -> list[tuple[str, int]]:
        """Names and sizes of segments that were sealed that long ago; each is handed out once."""
        if not self._sealed:
            return []
        with self._available:
            before = time.monotonic() - older_than_s
            due = [sealed for sealed in self._sealed if sealed[0] <= before]
            self._sealed = [sealed for sealed in self._sealed if sealed[0] > before]
        return [(name, size_bytes) for _, name, size_bytes in due]

    def void(self, *places: Place) -> None:
        """Mark entries as not counting, durably; those of a segment that is gone need no mark.

        Raises
        ------
        OSError
            As the disk says.
        """
        by_segment: dict[str, list[Place]] = {}
        for place in places:
            by_segment.setdefault(place.segment, []).append(place)
        for name, of_segment in by_segment.items():
            with suppress(FileNotFoundError), (self.folder / name).open("r+b", buffering=0) as file:
                for place in of_segment:
                    entry = Entry(name=VOID, size_bytes=place.size_bytes, sha256="", source="", received_at_us=0)
                    write_all(file.fileno(), [pack(entry)], place.offset_bytes - BLOCK)
                os.fdatasync(file.fileno())

    def read(self, place: Place, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes ``[start, stop)`` of a kept file.

        Raises
        ------
        NotFound
            ``archive.lost-bytes`` when the segment is not there or too short: restore it from the backup.
        """
        return b"".join(self.chunks(place, start, stop, chunk_bytes=_LONGEST_READ_BYTES))

    def chunks(
        self, place: Place, start: int = 0, stop: int | None = None, *, chunk_bytes: int = _READ_BYTES
    ) -> Iterator[bytes]:
        """As `read`, in pieces of bounded size."""
        stop = place.size_bytes if stop is None else min(stop, place.size_bytes)
        descriptor = self.open(place)
        try:
            position = start
            while position < stop:
                data = os.pread(descriptor, min(chunk_bytes, stop - position), place.offset_bytes + position)
                if not data:
                    raise lost()
                position += len(data)
                yield data
        finally:
            os.close(descriptor)

    def open(self, place: Place) -> int:
        """Descriptor of the segment of a kept file; raises as `read`."""
        try:
            return os.open(self.folder / place.segment, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise lost() from error

    @contextmanager
    def parts(self, place: Place) -> Iterator[Callable[[int, int], bytes]]:
        """Reader of stretches ``(start, stop)`` of one kept file, for many small reads."""
        descriptor = self.open(place)

        def read(start: int, stop: int) -> bytes:
            stop = min(stop, place.size_bytes)
            return os.pread(descriptor, max(stop - start, 0), place.offset_bytes + start)

        try:
            yield read
        finally:
            os.close(descriptor)

    def make_durable(self, place: Place) -> None:
        """Wait until an entry that another thread or process may just be writing is on the disk; raises as `read`."""
        descriptor = self.open(place)
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            raise storage_failure(error) from error
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Seal what is being written. Nothing may be stored afterwards."""
        with self._available:
            self._closed = True
            self._seal(self._idle)
            self._idle = []
            self._available.notify_all()


@contextmanager
def exclusively(path: Path) -> Iterator[int | None]:
    """Descriptor of a segment that no living process writes, locked meanwhile; None when one does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield descriptor
    finally:
        os.close(descriptor)


def scan(descriptor: int) -> Iterator[tuple[int, Entry | None]]:
    """Every whole entry of a segment with the offset of its header; at last the end of what is whole with None.

    Behind a damaged header, which zeros are not, the next one is searched for.
    """
    position, size = 0, os.fstat(descriptor).st_size
    end = position
    while position + BLOCK <= size:
        block = os.pread(descriptor, BLOCK, position)
        entry = unpack(block)
        if entry is None:
            following = _next_header(descriptor, position + BLOCK, size) if block.strip(b"\0") else None
            if following is None:
                break
            position = following
            continue
        if position + BLOCK + padded(entry.size_bytes) > size:
            break
        yield position, entry
        position += BLOCK + padded(entry.size_bytes)
        end = position
    yield end, None


def _next_header(descriptor: int, position: int, size: int) -> int | None:
    while position + BLOCK <= size:
        data = os.pread(descriptor, _READ_BYTES, position)
        for start in range(0, len(data) - BLOCK + 1, BLOCK):
            if unpack(data[start : start + BLOCK]) is not None:
                return position + start
        position += max(len(data) // BLOCK * BLOCK, BLOCK)
    return None


def digest(descriptor: int, offset_bytes: int, size_bytes: int) -> str:
    """SHA-256 of a stretch of a segment."""
    sha256 = hashlib.sha256()
    end = offset_bytes + size_bytes
    for position in range(offset_bytes, end, _READ_BYTES):
        sha256.update(os.pread(descriptor, min(_READ_BYTES, end - position), position))
    return sha256.hexdigest()


def sha256_of(buffers: Sequence[bytes | memoryview]) -> str:
    """SHA-256 of bytes that come in pieces."""
    sha256 = hashlib.sha256()
    for buffer in buffers:
        sha256.update(buffer)
    return sha256.hexdigest()


def storage_failure(error: OSError) -> Unavailable:
    """What a failed write means to the sender."""
    if error.errno in NO_SPACE:
        return Unavailable("archive.out-of-space", "The archive's disk is full: make room, then send again")
    return Unavailable("archive.storage-failed", "The archive could not write to its disk: check it, then send again")


def _closed() -> Unavailable:
    return Unavailable("archive.closed", "The archive is shutting down: send again later")


def lost() -> NotFound:
    """The error of an instance whose bytes are gone."""
    return NotFound("archive.lost-bytes", "The bytes of this instance are not on the disk: restore its segment")

"""Append-only segments on a disk: where the bytes are. See ``docs/decisions/0002-storage-layout.md``.

A segment is a tar file. It belongs to the process that holds its lock and within it to one lane, so an append needs no
coordination beyond picking an idle lane. An entry is durable when `Segments.append` returns.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from polyclinic.core.errors import NotFound, Unavailable
from polyclinic.departments.archive.entries import (
    BLOCK,
    END_OF_ARCHIVE,
    VOID,
    Entry,
    pack,
    padded,
    unpack,
)

SEGMENT_BYTES = 256 * 1024 * 1024
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READ_BYTES = 1024 * 1024
_LONGEST_READ_BYTES = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a file lies: `offset_bytes` is that of its first byte, behind the header block."""

    segment: str
    offset_bytes: int
    size_bytes: int


class _Lane:
    """One segment that is being written."""

    def __init__(self, folder: Path) -> None:
        self.name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}.tar"
        self.size_bytes = 0
        self.descriptor = os.open(folder / self.name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o640)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sync_folder(folder)

    def append(self, header: bytes, buffers: Sequence[bytes | memoryview], size_bytes: int) -> int:
        """Write and make durable; returns the offset of the file's first byte. Nothing stays when it fails."""
        start = self.size_bytes
        end = start + BLOCK + padded(size_bytes)
        pad = b"\0" * (padded(size_bytes) - size_bytes)
        try:
            _write_all(self.descriptor, [header, *buffers, pad], start)
            os.fdatasync(self.descriptor)
        except OSError:
            os.ftruncate(self.descriptor, start)
            raise
        self.size_bytes = end
        return start + BLOCK

    def seal(self) -> None:
        """End the archive as tar wants it and let go of the file."""
        try:
            _write_all(self.descriptor, [END_OF_ARCHIVE], self.size_bytes)
            os.fdatasync(self.descriptor)
        finally:
            os.close(self.descriptor)


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
    """

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES, lanes: int = 4) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
        self._idle: list[_Lane | None] = [None] * lanes
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
        try:
            with self._lane() as lane:
                offset = lane.append(pack(entry), buffers, entry.size_bytes)
                return Place(segment=lane.name, offset_bytes=offset, size_bytes=entry.size_bytes)
        except OSError as error:
            raise storage_failure(error) from error

    @contextmanager
    def _lane(self) -> Iterator[_Lane]:
        with self._available:
            while not self._idle and not self._closed:
                self._available.wait()
            if self._closed:
                raise Unavailable("archive.closed", "The archive is shutting down: send again later")
            lane = self._idle.pop()
        kept: _Lane | None = lane
        try:
            if lane is not None and lane.size_bytes >= self._segment_bytes:
                kept = None
                lane.seal()
                self._note_sealed(lane)
                lane = None
            if lane is None:
                kept = lane = _Lane(self.folder)
            yield lane
        except OSError as error:
            if error.errno not in _NO_SPACE and kept is not None:
                # After a failed sync the kernel may have dropped the pages: what is in this file is read back
                # and checked at the next start, and nothing is added to it.
                os.close(kept.descriptor)
                kept = None
            raise
        finally:
            with self._available:
                self._idle.append(kept)
                self._available.notify()

    def _note_sealed(self, lane: _Lane) -> None:
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

    def void(self, place: Place) -> None:
        """Mark an entry as not counting; used when its index row could not be written."""
        entry = Entry(name=VOID, size_bytes=place.size_bytes, sha256="", source="", received_at_s=0)
        with (self.folder / place.segment).open("r+b", buffering=0) as file:
            _write_all(file.fileno(), [pack(entry)], place.offset_bytes - BLOCK)
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
        try:
            descriptor = os.open(self.folder / place.segment, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise _lost() from error
        try:
            position = start
            while position < stop:
                data = os.pread(descriptor, min(chunk_bytes, stop - position), place.offset_bytes + position)
                if not data:
                    raise _lost()
                position += len(data)
                yield data
        finally:
            os.close(descriptor)

    @contextmanager
    def parts(self, place: Place) -> Iterator[Callable[[int, int], bytes]]:
        """Reader of stretches ``(start, stop)`` of one kept file, for many small reads."""
        try:
            descriptor = os.open(self.folder / place.segment, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise _lost() from error

        def read(start: int, stop: int) -> bytes:
            stop = min(stop, place.size_bytes)
            return os.pread(descriptor, max(stop - start, 0), place.offset_bytes + start)

        try:
            yield read
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Seal what is being written. Nothing may be stored afterwards."""
        with self._available:
            self._closed = True
            for lane in [lane for lane in self._idle if lane is not None]:
                lane.seal()
                self._note_sealed(lane)
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
    """Every whole entry of a segment with the offset of its header; at last the end of what is whole with None."""
    position, size = 0, os.fstat(descriptor).st_size
    while position + BLOCK <= size:
        entry = unpack(os.pread(descriptor, BLOCK, position))
        if entry is None or position + BLOCK + padded(entry.size_bytes) > size:
            break
        yield position, entry
        position += BLOCK + padded(entry.size_bytes)
    yield position, None


def digest(descriptor: int, offset_bytes: int, size_bytes: int) -> str:
    """SHA-256 of a stretch of a segment."""
    sha256 = hashlib.sha256()
    end = offset_bytes + size_bytes
    for position in range(offset_bytes, end, _READ_BYTES):
        sha256.update(os.pread(descriptor, min(_READ_BYTES, end - position), position))
    return sha256.hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def storage_failure(error: OSError) -> Unavailable:
    """What a failed write means to the sender."""
    if error.errno in _NO_SPACE:
        return Unavailable("archive.out-of-space", "The archive's disk is full: make room, then send again")
    return Unavailable("archive.storage-failed", "The archive could not write to its disk: check it, then send again")


def _lost() -> NotFound:
    return NotFound("archive.lost-bytes", "The bytes of this instance are not on the disk: restore its segment")


def _write_all(descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
    pending = [memoryview(b) for b in buffers if len(b)]
    while pending:
        written = os.pwritev(descriptor, pending, offset)
        offset += written
        while pending and written >= len(pending[0]):
            written -= len(pending.pop(0))
        if pending and written:
            pending[0] = pending[0][written:]

"""One segment that is being written, and an entry that is written into it while it arrives."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from polyclinic.departments.archive.entries import BLOCK, END_OF_ARCHIVE, Entry, pack, padded

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PAGE = 4096
_SYNC_FILE_RANGE_WRITE = 2
_AHEAD_BYTES = 1024 * 1024
"""The disk begins when so much has arrived: less at a time costs more than it gains."""


class Lane:
    """A segment that belongs to this process and to one thread at a time.

    Behind the last whole entry there is never anything that could be taken for another: an entry's header is written
    after its data, and what an abandoned draft left is cut off by a block of zeros.
    """

    def __init__(self, folder: Path) -> None:
        self.name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}.tar"
        self.size_bytes = 0
        self._written_bytes = 0
        """Behind this nothing was ever written."""
        self._end_bytes = 0
        """Where the entry ends that was written last."""
        self._begun_bytes = 0
        """Up to here the disk was told to write."""
        self.descriptor = os.open(folder / self.name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o640)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sync_folder(folder)

    def write(self, header: bytes, buffers: Sequence[bytes | memoryview], size_bytes: int) -> int:
        """Write an entry and let the disk begin with it; returns the offset of the file's first byte.

        `sync` makes it durable, `cut` takes it back; raises `OSError`.
        """
        write_all(self.descriptor, [header, *buffers, *self._ending(size_bytes)], self.size_bytes)
        return self._begun(size_bytes)

    def write_ahead(self, buffers: Sequence[bytes | memoryview], offset_bytes: int) -> None:
        """Write data of an entry that has no header yet; raises `OSError`."""
        start = self.size_bytes + BLOCK + offset_bytes
        end = start + sum(map(len, buffers))
        self._written_bytes = max(self._written_bytes, end)
        write_all(self.descriptor, buffers, start)
        if end - max(self._begun_bytes, self.size_bytes) >= _AHEAD_BYTES:
            self._begin_writing(end // _PAGE * _PAGE)

    def complete(self, header: bytes, size_bytes: int) -> int:
        """Put header and padding around what was written ahead; else as `write`."""
        write_all(self.descriptor, self._ending(size_bytes), self.size_bytes + BLOCK + size_bytes)
        write_all(self.descriptor, [header], self.size_bytes)
        return self._begun(size_bytes)

    def sync(self) -> None:
        """Make the entry durable that was written last; raises `OSError`."""
        os.fdatasync(self.descriptor)
        self.size_bytes = self._end_bytes

    def cut(self) -> None:
        """Drop what was written behind the last whole entry."""
        os.ftruncate(self.descriptor, self.size_bytes)
        self._written_bytes = self._end_bytes = self._begun_bytes = self.size_bytes

    def seal(self) -> None:
        """End the archive as tar wants it and let go of the file."""
        try:
            self.cut()
            write_all(self.descriptor, [END_OF_ARCHIVE], self.size_bytes)
            os.fdatasync(self.descriptor)
        finally:
            os.close(self.descriptor)

    def _ending(self, size_bytes: int) -> list[bytes]:
        """Padding to whole blocks, and a block of zeros where an abandoned draft reaches further."""
        end = self.size_bytes + BLOCK + padded(size_bytes)
        return [bytes(padded(size_bytes) - size_bytes + (BLOCK if self._written_bytes > end else 0))]

    def _begun(self, size_bytes: int) -> int:
        start = self.size_bytes
        self._end_bytes = start + BLOCK + padded(size_bytes)
        self._written_bytes = max(self._written_bytes, self._end_bytes)
        self._begin_writing(self._end_bytes)
        return start + BLOCK

    def _begin_writing(self, end: int) -> None:
        """Let the disk begin with what it was not told of yet, up to `end`."""
        start = max(self._begun_bytes, self.size_bytes) // _PAGE * _PAGE
        if _sync_file_range is not None and end > start:
            # Its errors come out of the sync
            _sync_file_range(self.descriptor, start, end - start, _SYNC_FILE_RANGE_WRITE)
        self._begun_bytes = end


class Draft:
    """An entry that is written while it arrives, on a lane of its own.

    Parameters
    ----------
    lane
        Lent for this entry.
    give_back
        Called once with the lane, and the error that it met, if any.
    """

    def __init__(self, lane: Lane, give_back: Callable[[Lane, OSError | None], None]) -> None:
        self._lane: Lane | None = lane
        self._give_back = give_back
        self.segment = lane.name
        self.size_bytes = 0

    def write(self, buffers: Sequence[bytes | memoryview]) -> bool:
        """Add data. False when the disk did not take them: the draft is then gone, and nothing of it is kept."""
        if self._lane is None:
            return False
        try:
            self._lane.write_ahead(buffers, self.size_bytes)
        except OSError as error:
            self._end(error)
            return False
        self.size_bytes += sum(map(len, buffers))
        return True

    def complete(self, entry: Entry) -> tuple[Lane, int]:
        """Make it an entry that is to be synced; the lane, which goes to the caller, and the offset of its first byte.

        Raises `OSError` when nothing is kept.
        """
        assert self._lane is not None
        assert entry.size_bytes == self.size_bytes
        try:
            offset = self._lane.complete(pack(entry), self.size_bytes)
        except OSError as error:
            self._end(error)
            raise
        lane, self._lane = self._lane, None
        return lane, offset

    def abandon(self) -> None:
        """Forget what was written; nothing happens when the draft is complete or gone."""
        if self._lane is not None:
            self._end(None)

    def _end(self, error: OSError | None) -> None:
        lane, self._lane = self._lane, None
        if lane is not None:
            self._give_back(lane, error)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
    """Write buffers one behind the other; raises `OSError`."""
    pending = [memoryview(b) for b in buffers if len(b)]
    while pending:
        written = os.pwritev(descriptor, pending, offset)
        offset += written
        while pending and written >= len(pending[0]):
            written -= len(pending.pop(0))
        if pending and written:
            pending[0] = pending[0][written:]


_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
"""Linux only: starts writing dirty pages without waiting, so that the sync at the end finds little to do."""
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)

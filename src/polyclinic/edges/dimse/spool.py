"""Where one dataset is gathered: in memory that is used again and again, in a file when it is very large.

An association holds memory only between the first byte of a dataset and its answer, so idle ones cost next to nothing.
"""

from __future__ import annotations

import mmap
import tempfile
import threading
from typing import IO

FIRST_BYTES = 1024 * 1024
KEPT_BYTES = 16 * 1024 * 1024
"""A buffer up to this size is kept for the next dataset: fresh pages cost more than the copy itself."""
KEPT_BUFFERS = 8
MEMORY_BYTES = 64 * 1024 * 1024


class TooLarge(Exception):
    """The dataset is longer than what is accepted."""


class Buffers:
    """Buffers that no association needs at the moment, for whoever needs one next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """A buffer of at least `size` bytes with whatever was in it."""
        with self._lock:
            for index in range(len(self._idle) - 1, -1, -1):
                if len(self._idle[index]) >= size:
                    return self._idle.pop(index)
        return bytearray(size)

    def give_back(self, buffer: bytearray) -> None:
        """The buffer is free; views of it are not looked at any more. Small ones make way for larger ones."""
        if not buffer or len(buffer) > KEPT_BYTES:
            return
        with self._lock:
            self._idle.append(buffer)
            if len(self._idle) > KEPT_BUFFERS:
                self._idle.remove(min(self._idle, key=len))


BUFFERS = Buffers()


class Spool:
    """A growing buffer that is filled piece by piece.

    Parameters
    ----------
    memory_bytes
        A dataset longer than this goes to a temporary file.
    limit_bytes
        Longest dataset; more raises `TooLarge`.
    """

    def __init__(
        self, *, memory_bytes: int = MEMORY_BYTES, limit_bytes: int = 8 * 1024**3, buffers: Buffers = BUFFERS
    ) -> None:
        self._buffers = buffers
        self._buffer = bytearray()
        self._memory_bytes = memory_bytes
        self._limit_bytes = limit_bytes
        self._size = 0
        self._file: IO[bytes] | None = None

    def room(self, size: int) -> memoryview:
        """A writable piece of `size` bytes behind what is there; tell `filled` when it has its content."""
        needed = self._size + size
        if needed > self._limit_bytes:
            raise TooLarge
        if self._file is None and needed > self._memory_bytes:
            self._file = tempfile.TemporaryFile(prefix="polyclinic-dimse-")  # noqa: SIM115 - closed by `clear`
            self._file.write(memoryview(self._buffer)[: self._size])
            self._change_buffer(FIRST_BYTES)
        if self._file is not None:
            if size > len(self._buffer):
                self._change_buffer(size)
            return memoryview(self._buffer)[:size]
        if needed > len(self._buffer):
            # A new buffer, not a longer one: views of the old one may still be about
            larger = self._buffers.take(min(max(2 * len(self._buffer), needed, FIRST_BYTES), self._memory_bytes))
            larger[: self._size] = memoryview(self._buffer)[: self._size]
            self._buffer = larger
        return memoryview(self._buffer)[self._size : needed]

    def filled(self, size: int) -> None:
        """The piece that `room` gave out has its content."""
        if self._file is not None:
            self._file.write(memoryview(self._buffer)[:size])
        self._size += size

    def view(self) -> memoryview:
        """The whole dataset; valid until `clear`."""
        if self._file is None:
            return memoryview(self._buffer)[: self._size]
        self._file.flush()
        return memoryview(mmap.mmap(self._file.fileno(), self._size, access=mmap.ACCESS_READ))

    def clear(self) -> None:
        """Make ready for the next dataset."""
        self._size = 0
        if self._file is not None:
            self._file.close()
            self._file = None
        self._buffers.give_back(self._buffer)
        self._buffer = bytearray()

    def _change_buffer(self, size: int) -> None:
        self._buffers.give_back(self._buffer)
        self._buffer = self._buffers.take(size)

"""Parts of a multipart body that stay where they were received, so that nothing is copied before it is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable

from polyclinic.core.errors import Rejected
from polyclinic.edges.dicomweb.multipart import LONGEST_HEADERS_BYTES, SPOOL_BYTES, Part, part_headers

BUFFER_BYTES = 4 * 1024 * 1024
_KEPT_BUFFERS = 8
_EPILOGUE_BYTES = 64 * 1024
_MARGIN_BYTES = 4096
"""A part may be so much longer than the one before it, and still fit where that one would."""


class _Buffer:
    """Memory that goes back to the others when nobody looks into it any more."""

    def __init__(self, buffers: Buffers, memory: bytearray) -> None:
        self.memory = memory
        self.view = memoryview(memory)
        self._buffers = buffers
        self._users = 1
        self._lock = threading.Lock()

    def use(self) -> None:
        with self._lock:
            self._users += 1

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            unused = not self._users
        if unused:
            self._buffers.take_back(self.memory)


class Buffers:
    """A few buffers that are used again: fresh memory costs more than what is read into it."""

    def __init__(self) -> None:
        self._free: list[bytearray] = []

    def take(self) -> _Buffer:
        """One that is free, or a new one."""
        try:
            return _Buffer(self, self._free.pop())
        except IndexError:
            return _Buffer(self, bytearray(BUFFER_BYTES))

    def take_back(self, memory: bytearray) -> None:
        """Nobody looks into it any more."""
        if len(self._free) < _KEPT_BUFFERS:
            self._free.append(memory)


class PartInPlace(Part):
    """A part within a buffer."""

    def __init__(self, content_type: str, location: str, buffer: _Buffer, start: int, stop: int) -> None:
        super().__init__(content_type, location)
        buffer.use()
        self._buffer: _Buffer | None = buffer
        self._view = buffer.view[start:stop]

    def view(self) -> memoryview:
        """All bytes; until `close`."""
        return self._view

    def close(self) -> None:
        """Let the memory be used again."""
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._view = memoryview(b"")
            buffer.release()


class PartSink:
    """Takes a multipart body and gives each part to `keep` as soon as it is whole.

    Parts that are larger than a buffer go through `Part`, in memory or a temporary file.

    Raises
    ------
    Rejected
        ``dicomweb.bad-multipart`` from `took` and `finish`.
    """

    def __init__(
        self, boundary: str, keep: Callable[[Part], None], may_go_on: Callable[[], bool], buffers: Buffers
    ) -> None:
        self._keep = keep
        self._may_go_on = may_go_on
        self._buffers = buffers
        self._buffer = buffers.take()
        self._delimiter = b"\r\n--" + boundary.encode("latin-1")
        self._buffer.memory[:2] = b"\r\n"  # the first boundary may stand at the very start
        self._start, self._searched, self._filled = 0, 0, 2
        self._step: Callable[[], bool] | None = self._preamble
        self._headers: dict[str, str] = {}
        self._large: Part | None = None
        self._content_start = 0
        self._epilogue = memoryview(b"")

    def space(self) -> memoryview:
        """See `Sink`."""
        if self._step is None:  # what comes behind the end is not looked at
            self._epilogue = self._epilogue or memoryview(bytearray(_EPILOGUE_BYTES))
            return self._epilogue
        return self._buffer.view[self._filled :]

    def took(self, count: int) -> bool:
        """See `Sink`."""
        if self._step is None:
            return self._may_go_on()
        self._filled += count
        while self._step is not None and self._step():
            pass
        if self._filled == BUFFER_BYTES and self._step is not None:
            self._make_room()
        return self._may_go_on()

    def finish(self) -> None:
        """The body has ended."""
        if self._step is not None:
            raise Rejected("dicomweb.bad-multipart", "The multipart body ends too early: send it again")

    def close(self) -> None:
        """Let go of what was not given away."""
        if self._large is not None:
            self._large.close()
        self._buffer.release()

    def _find_delimiter(self) -> int:
        at = self._buffer.memory.find(self._delimiter, max(self._searched, self._start), self._filled)
        if at < 0:
            self._searched = max(self._filled - len(self._delimiter) + 1, self._start)
        else:
            self._searched = at
        return at

    def _preamble(self) -> bool:
        at = self._find_delimiter()
        if at < 0:
            self._start = self._searched
            return False
        return self._behind_delimiter(at)

    def _content(self) -> bool:
        at = self._find_delimiter()
        if at < 0 or not self._behind_delimiter(at):
            return False
        content_type = self._headers.get("content-type", "application/octet-stream")
        location = self._headers.get("content-location", "")
        large, self._large = self._large, None
        if large is not None:
            large.write(self._buffer.view[self._content_start : at])
        part = large or PartInPlace(content_type, location, self._buffer, self._content_start, at)
        self._keep(part)
        if BUFFER_BYTES - self._start < at - self._content_start + _MARGIN_BYTES:
            self._move()  # the next one would not fit: better now, when little of it is here
        return True

    def _behind_delimiter(self, at: int) -> bool:
        """Go behind a delimiter, once the two bytes are here that tell whether it is the last."""
        after = at + len(self._delimiter)
        if self._filled < after + 2:
            return False
        self._content_start, self._start, self._searched = self._start, after, after
        ended = self._buffer.memory[after : after + 2] == b"--"
        self._step = None if ended else self._part_headers
        return True

    def _part_headers(self) -> bool:
        end = self._buffer.memory.find(b"\r\n\r\n", self._start, self._filled)
        if end < 0:
            if self._filled - self._start > LONGEST_HEADERS_BYTES:
                raise Rejected("dicomweb.bad-multipart", "A body part's headers are too long")
            return False
        self._headers = part_headers(self._buffer.memory[self._start : end])
        self._start = self._searched = end + 4
        self._step = self._content
        return True

    def _make_room(self) -> None:
        """What is here of the part does not fit into the rest of the buffer."""
        if self._start:
            self._move()
        elif self._step == self._content:
            if self._large is None:
                content_type = self._headers.get("content-type", "application/octet-stream")
                self._large = Part(content_type, self._headers.get("content-location", ""), SPOOL_BYTES)
            self._large.write(self._buffer.view[: self._searched])
            self._start = self._searched
            self._move()

    def _move(self) -> None:
        """To the beginning of a buffer that nobody looks into."""
        before, self._buffer = self._buffer, self._buffers.take()
        rest = self._filled - self._start
        self._buffer.view[:rest] = before.view[self._start : self._filled]
        before.release()
        self._searched, self._filled, self._start = self._searched - self._start, rest, 0

"""multipart/related in both directions (RFC 2387, PS3.18 8.6.1.2), with bounded memory."""

from __future__ import annotations

import mmap
import secrets
import tempfile
from collections.abc import Iterator
from email.message import Message
from typing import IO

from polyclinic.core.errors import Rejected

SPOOL_BYTES = 16 * 1024 * 1024
LONGEST_HEADERS_BYTES = 16 * 1024


def parse_media_type(value: str) -> tuple[str, dict[str, str]]:
    """Media type in lower case and its parameters."""
    message = Message()
    message["Content-Type"] = value
    parameters = message.get_params(failobj=[], unquote=True)
    return message.get_content_type(), {name.lower(): text for name, text in parameters[1:]}


class Part:
    """One received body part: in memory while small, in a temporary file when large."""

    def __init__(self, content_type: str, location: str = "", spool_bytes: int = SPOOL_BYTES) -> None:
        self.content_type = content_type
        self.location = location
        self._spool_bytes = spool_bytes
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes."""
        if self._file is None and len(self._memory) + len(data) > self._spool_bytes:
            self._file = tempfile.TemporaryFile(prefix="polyclinic-part-")  # noqa: SIM115 - closed by `close`
            self._file.write(self._memory)
            self._memory = bytearray()
        if self._file is None:
            self._memory += data
        else:
            self._file.write(data)

    def view(self) -> memoryview:
        """All bytes, mapped from the file when they are many."""
        if self._file is None:
            return memoryview(self._memory)
        self._file.flush()
        return memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))

    def close(self) -> None:
        """Let go of the temporary file."""
        if self._file is not None:
            self._file.close()


class MultipartReader:
    """Push parser: feed it chunks, take the finished parts.

    Raises
    ------
    Rejected
        ``dicomweb.bad-multipart`` from `feed` and `finish`.
    """

    def __init__(self, boundary: str, spool_bytes: int = SPOOL_BYTES) -> None:
        self._spool_bytes = spool_bytes
        self._delimiter = b"\r\n--" + boundary.encode("latin-1")
        self._pending = bytearray(b"\r\n")  # the first boundary may stand at the very start
        self._part: Part | None = None
        self._preamble = True
        self._ended = False

    def feed(self, chunk: bytes) -> Iterator[Part]:
        """Take a chunk; yields each part that is complete now."""
        if self._ended or self._passes(chunk):
            return
        self._pending += chunk
        while True:
            if self._part is None and not self._preamble:
                if not self._read_headers():
                    return
                continue
            at = self._pending.find(self._delimiter)
            if at < 0:
                keep = len(self._delimiter) - 1
                self._take(max(len(self._pending) - keep, 0))
                return
            after = at + len(self._delimiter)
            if len(self._pending) < after + 2:
                self._take(at)
                return
            self._take(at)
            part, self._part, self._preamble = self._part, None, False
            closing = self._pending[len(self._delimiter) : len(self._delimiter) + 2] == b"--"
            del self._pending[: len(self._delimiter)]
            if part is not None:
                yield part
            if closing:
                self._ended = True
                self._pending.clear()
                return

    def _passes(self, chunk: bytes) -> bool:
        """Hand a chunk that lies within a part on without copying it first; false when it needs a closer look."""
        keep = len(self._delimiter) - 1
        if self._part is None or len(chunk) <= 2 * keep or len(self._pending) > keep:
            return False
        if self._delimiter in chunk or self._delimiter in self._pending + chunk[:keep]:
            return False
        self._part.write(self._pending)
        with memoryview(chunk) as view:
            self._part.write(view[:-keep])
        self._pending[:] = chunk[-keep:]
        return True

    def finish(self) -> None:
        """The body has ended."""
        if not self._ended:
            if self._part is not None:
                self._part.close()
            raise Rejected("dicomweb.bad-multipart", "The multipart body ends too early: send it again")

    def _take(self, count: int) -> None:
        if self._part is not None and count:
            with memoryview(self._pending) as view:
                self._part.write(view[:count])
        del self._pending[:count]

    def _read_headers(self) -> bool:
        end = self._pending.find(b"\r\n\r\n")
        if end < 0:
            if len(self._pending) > LONGEST_HEADERS_BYTES:
                raise Rejected("dicomweb.bad-multipart", "A body part's headers are too long")
            return False
        headers = part_headers(self._pending[:end])
        del self._pending[: end + 4]
        # An empty part: its delimiter begins with the line break that ended the headers
        self._pending[:0] = b""
        location = headers.get("content-location", "")
        self._part = Part(headers.get("content-type", "application/octet-stream"), location, self._spool_bytes)
        return True


def part_headers(block: bytes | bytearray) -> dict[str, str]:
    """Headers of a part by their names in lower case."""
    lines = block.decode("latin-1").split("\r\n")
    return {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}


def new_boundary() -> str:
    """A boundary that no DICOM content will hold by chance."""
    return secrets.token_hex(16)


def part_head(boundary: str, content_type: str, location: str = "") -> bytes:
    """What stands before the content of a part, the delimiter included."""
    at = f"\r\nContent-Location: {location}" if location else ""
    return f"\r\n--{boundary}\r\nContent-Type: {content_type}{at}\r\n\r\n".encode("latin-1")


def part_tail(boundary: str) -> bytes:
    """What ends a multipart body."""
    return f"\r\n--{boundary}--\r\n".encode("latin-1")

"""The process that decodes: takes an open file by a socket, answers with samples, and may die of what it reads.

Run as ``python -m polyclinic.edges.decoding.child FD``. A request is a length (4 bytes) with the file's descriptor,
then JSON; an answer is a line of JSON before each piece of bytes, and a last line without bytes.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import socket
import sys
from typing import Any, BinaryIO, cast

MEMORY_BYTES = 6 * 1024**3
"""Address space of the process: what a header claims is not believed beyond this."""
LONGEST_S = 90
"""A request that takes longer ends the process; its parent has long given up."""


class _Stretch(io.RawIOBase):
    """A part of an open file as a file of its own."""

    name = ""  # pydicom asks a buffered file for it

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor, self._offset, self._size, self._position = descriptor, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        length = max(min(len(buffer), self._size - self._position), 0)
        data = os.pread(self._descriptor, length, self._offset + self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def main(connection: socket.socket) -> None:
    """Serve requests until the other end is closed."""
    import pydicom.pixels.decoders  # noqa: F401, PLC0415 - loaded before the first request, not during it

    answers = cast("BinaryIO", connection.makefile("wb", buffering=1024 * 1024))
    while True:
        head, descriptors, _, _ = socket.recv_fds(connection, 4, 1)
        if not head:
            return
        request = json.loads(_exactly(connection, int.from_bytes(head, "big")))
        (descriptor,) = descriptors
        signal.alarm(LONGEST_S)
        try:
            with io.BufferedReader(_Stretch(descriptor, request["offset"], request["size"]), 64 * 1024) as file:
                _serve(request, cast("BinaryIO", file), answers)
            last = {"error": ""}
        except Exception as error:  # noqa: BLE001 - whatever a decoder raises is the answer; the parent goes on
            last = {"error": type(error).__name__}
        finally:
            os.close(descriptor)
            signal.alarm(0)
        answers.write(json.dumps(last).encode() + b"\n")
        answers.flush()


def _serve(request: dict[str, Any], file: BinaryIO, answers: BinaryIO) -> None:
    if request["indices"] is None:
        from polyclinic.dicom.decompress import decompressed  # noqa: PLC0415 - one of two kinds of request

        data = decompressed(file.read())
        _send(answers, {"size": len(data)}, data)
        return
    from pydicom.pixels.utils import iter_pixels  # noqa: PLC0415

    for array in iter_pixels(file, indices=request["indices"], raw=request["raw"]):
        head = {"size": array.nbytes, "dtype": array.dtype.str, "shape": array.shape}
        _send(answers, head, array.tobytes())


def _send(answers: BinaryIO, head: dict[str, Any], data: bytes) -> None:
    answers.write(json.dumps(head).encode() + b"\n")
    answers.write(data)
    answers.flush()


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _confine() -> None:
    """Hold only so much memory, leave no core file."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _confine()
    main(socket.socket(fileno=int(sys.argv[1])))

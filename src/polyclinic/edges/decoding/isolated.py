"""Decoding through child processes: what aborts, hangs or swallows memory there is a refusal here."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog

from polyclinic.core.errors import Rejected

log = structlog.get_logger(__name__)

_ANSWER_S = 60.0
_BATCH_BYTES = 32 * 1024 * 1024
_LONGEST_ANSWER_BYTES = 3 * 1024**3
_LONGEST_LINE_BYTES = 4096


class _Child:
    """One process and the socket to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.socket = ours
        self.socket.settimeout(_ANSWER_S)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "polyclinic.edges.decoding.child", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # decoders write there what they think of a stream
            )
        finally:
            theirs.close()
        self.answers = ours.makefile("rb", buffering=1024 * 1024)

    def ask(self, descriptor: int, request: dict[str, Any]) -> None:
        body = json.dumps(request).encode()
        socket.send_fds(self.socket, [len(body).to_bytes(4, "big")], [descriptor])
        self.socket.sendall(body)

    def end(self) -> int:
        """Kill it; returns how it ended."""
        self._process.kill()
        with suppress(OSError):
            self.answers.close()
        self.socket.close()
        return self._process.wait()


class Decoders:
    """Up to `most` processes, started when they are needed and replaced when they died.

    Parameters
    ----------
    most
        How many may decode at the same time; more callers wait.
    """

    def __init__(self, most: int) -> None:
        self._free = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._idle: list[_Child] = []

    def close(self) -> None:
        """End those that wait for work."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.end()

    def frames(
        self, descriptor: int, offset: int, size: int, indices: Sequence[int], *, raw: bool, frame_bytes: int
    ) -> Iterator[npt.NDArray[np.generic]]:
        """Decoded frames of the DICOM file at ``[offset, offset + size)`` of an open file.

        Parameters
        ----------
        indices
            Frame numbers from 0.
        raw
            Without the conversion of YBR to RGB.
        frame_bytes
            How long a decoded frame may be: so many are decoded ahead as fit into a few megabytes.

        Raises
        ------
        Undecodable
            ``decoding.failed``.
        """
        step = max(_BATCH_BYTES // max(frame_bytes, 1), 1)
        for start in range(0, len(indices), step):
            request = {"offset": offset, "size": size, "indices": list(indices[start : start + step]), "raw": raw}
            for head, data in self._asked(descriptor, request):
                yield np.frombuffer(data, dtype=np.dtype(head["dtype"])).reshape(head["shape"])

    def decompressed(self, part10: bytes | memoryview) -> bytes:
        """See `polyclinic.dicom.decompress.decompressed`; raises `Rejected` (``dicom.not-decompressible``)."""
        descriptor = os.memfd_create("polyclinic-part10")
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(part10)
            request = {"offset": 0, "size": len(part10), "indices": None, "raw": True}
            ((_, data),) = self._asked(descriptor, request)
            return data
        except (Rejected, ValueError) as error:
            raise Rejected(
                "dicom.not-decompressible", "The instance cannot be decompressed here: have it sent as it is kept"
            ) from error
        finally:
            os.close(descriptor)

    def _asked(self, descriptor: int, request: dict[str, Any]) -> list[tuple[dict[str, Any], bytes]]:
        """All of an answer: a slow reader of it must not hold a process."""
        with self._child() as child:
            try:
                child.ask(descriptor, request)
                return list(_answer(child))
            except (OSError, EOFError, ValueError) as error:  # it died, hangs, or says nonsense
                raise _Broken from error

    @contextmanager
    def _child(self) -> Iterator[_Child]:
        with self._free:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            child = child or _Child()
            try:
                yield child
            except Rejected:
                self._keep(child)
                raise
            except _Broken as error:
                code = child.end()
                log.warning("decoding.process-ended", code=code, error=type(error.__cause__).__name__)
                raise _failed() from error
            except BaseException:
                child.end()
                raise
            else:
                self._keep(child)

    def _keep(self, child: _Child) -> None:
        with self._lock:
            self._idle.append(child)


class _Broken(Exception):
    """The process is of no further use."""


def _answer(child: _Child) -> Iterator[tuple[dict[str, Any], bytes]]:
    while True:
        head = json.loads(child.answers.readline(_LONGEST_LINE_BYTES) or b"null")
        if head is None:
            raise EOFError
        if "error" in head:
            if head["error"]:
                raise _failed()
            return
        if not 0 <= head["size"] <= _LONGEST_ANSWER_BYTES:
            raise ValueError
        data = child.answers.read(head["size"])
        if len(data) != head["size"]:
            raise EOFError
        yield head, data


class Undecodable(Rejected):
    """No decoder here reads the pixels."""


def _failed() -> Undecodable:
    return Undecodable("decoding.failed", "The pixels of this instance cannot be decoded: have it sent as it is kept")


decoders = Decoders(most=max(1, min(4, os.cpu_count() or 1)))
"""Shared by all who decode in this process."""

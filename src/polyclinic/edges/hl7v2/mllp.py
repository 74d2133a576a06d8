"""Framing of the Minimal Lower Layer Protocol (HL7 v2.5.1 appendix C.4), without sockets."""

from __future__ import annotations

from polyclinic.core.errors import Rejected

START = 0x0B
END = 0x1C
_MOST_NOISE_BYTES = 4096
"""Bytes between two messages that are passed over; a peer that sends more speaks something else."""


class FrameTooLarge(Rejected):
    """The message grew beyond the limit; `head` holds its beginning, so that it can be answered."""

    def __init__(self, head: bytes) -> None:
        super().__init__("hl7.too-large", "The message is larger than this receiver takes; send smaller ones")
        self.head = head


class NotFramed(Rejected):
    """What the peer sends is no MLLP."""

    def __init__(self) -> None:
        super().__init__("hl7.not-framed", "The peer does not frame its messages by MLLP; check its settings")


def frame(message: bytes) -> bytes:
    """A message as it goes over the wire."""
    return b"\x0b" + message + b"\x1c\r"


class FrameReader:
    """Takes bytes as they come and gives whole messages.

    A start character inside a message begins a new one: the sender gave the former up. The carriage return behind the
    end character may be missing.

    Parameters
    ----------
    limit_bytes
        Longest message. No more than it and one chunk is ever held.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held = bytearray()
        self._inside = False
        self._noise_bytes = 0

    @property
    def inside(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._inside

    def feed(self, chunk: bytes) -> list[bytes]:
        """The messages that are whole with this chunk.

        Raises
        ------
        FrameTooLarge, NotFramed
            The connection is of no further use.
        """
        whole: list[bytes] = []
        position = 0
        while position < len(chunk):
            if not self._inside:
                position = self._seek_start(chunk, position)
                continue
            end = chunk.find(END, position)
            stop = len(chunk) if end < 0 else end
            again = chunk.rfind(START, position, stop)
            if again >= 0:
                self._held.clear()
                position = again + 1
            self._held += chunk[position:stop]
            if len(self._held) > self._limit_bytes:
                raise FrameTooLarge(bytes(self._held[:2048]))
            position = stop + 1
            if end >= 0:
                whole.append(bytes(self._held))
                self._held.clear()
                self._inside = False
        return whole

    def _seek_start(self, chunk: bytes, position: int) -> int:
        start = chunk.find(START, position)
        skipped = chunk[position:] if start < 0 else chunk[position:start]
        self._noise_bytes += len(skipped.replace(b"\r", b"").replace(b"\n", b""))
        if self._noise_bytes > _MOST_NOISE_BYTES:
            raise NotFramed
        if start < 0:
            return len(chunk)
        self._inside, self._noise_bytes = True, 0
        return start + 1

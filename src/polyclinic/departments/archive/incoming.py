"""A dataset that is hashed and written while it arrives, so that little is left to do when its last byte is here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from polyclinic.departments.archive.entries import Entry
from polyclinic.departments.archive.lanes import Draft
from polyclinic.departments.archive.segments import Segments, Written


class Incoming:
    """One dataset between its first and its last byte, used by one thread.

    Whether it is kept is decided when it is whole (`SqlArchive.store_dataset`); until then it is no entry of the
    archive, whatever happens to the process.

    Parameters
    ----------
    segments
        Where it is written, when a lane is free; else the bytes are written when they are whole.
    meta
        File meta information that goes before the dataset.
    """

    def __init__(self, segments: Segments, meta: bytes) -> None:
        self.meta = meta
        self._segments = segments
        self._sha256 = hashlib.sha256(meta)
        self._size_bytes = len(meta)
        self._draft: Draft | None = None

    def take(self, piece: memoryview, *, last: bool) -> None:
        """The next bytes of the dataset; free for reuse when this returns."""
        self._sha256.update(piece)
        begins = self._size_bytes == len(self.meta)
        self._size_bytes += len(piece)
        if begins and not last:
            self._draft = self._segments.draft()
        if self._draft is not None and not self._draft.write([self.meta, piece] if begins else [piece]):
            self._draft = None

    def sha256(self) -> str:
        """Of meta information and dataset so far."""
        return self._sha256.hexdigest()

    def write(self, entry: Entry, buffers: Sequence[bytes | memoryview]) -> Written:
        """Make it an entry, as `Segments.write` does; `buffers` hold it too."""
        draft, self._draft = self._draft, None
        return self._segments.write(entry, buffers) if draft is None else self._segments.complete(draft, entry)

    def abandon(self) -> None:
        """Forget what was written; nothing happens when it was kept."""
        draft, self._draft = self._draft, None
        if draft is not None:
            draft.abandon()

"""Where agents' outcomes go: a folder, or an object store by URL (port `Objects` of the reading room)."""

from __future__ import annotations

from pathlib import Path

from polyclinic.core.errors import Conflict, NotFound
from polyclinic.departments.reading.ports import Objects
from polyclinic.edges.blobs.folder import FolderObjects
from polyclinic.edges.blobs.objects import StoredObjects, open_objects


class FirstStands:
    """An object store in which the first object of a key stays; a second one, of a repeated run, is let go."""

    def __init__(self, store: StoredObjects) -> None:
        self._store = store

    def put(self, key: str, data: bytes) -> None:
        """See `Objects.put`."""
        try:
            self._store.put(key, data)
        except Conflict:
            return

    def get(self, key: str) -> bytes:
        """See `Objects.get`."""
        return self._store.get(key)

    def exists(self, key: str) -> bool:
        """Whether `get` would find it; asked of small documents only."""
        try:
            self._store.get(key)
        except NotFound:
            return False
        return True


def open_outcomes(place: str) -> Objects:
    """Objects in a folder, each flushed to the disk, or at a URL such as ``s3://bucket/prefix``."""
    if "://" in place:
        return FirstStands(open_objects(place))
    return FolderObjects(Path(place))

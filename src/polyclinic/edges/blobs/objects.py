"""Put and get whole objects by key. Putting the same bytes twice changes nothing; other bytes are a Conflict."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Protocol

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from polyclinic.core.errors import Conflict, NotFound, Rejected, Unavailable

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]*(/[A-Za-z0-9][A-Za-z0-9._=-]*)*")


class Objects(Protocol):
    """Where derived outputs are kept."""

    def put(self, key: str, data: bytes) -> str:
        """Keep `data` under `key`, a relative path; returns its SHA-256.

        Raises
        ------
        Conflict
            ``blobs.other-bytes`` when the key holds something else.
        Unavailable
            ``blobs.failed``; try again.
        """

    def get(self, key: str) -> bytes:
        """The object. Raises `NotFound` (``blobs.no-object``) or `Unavailable`."""


class StoredObjects:
    """`Objects` on any obstore store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put(self, key: str, data: bytes) -> str:
        """See `Objects.put`."""
        digest = hashlib.sha256(data).hexdigest()
        try:
            self._store.put(_checked(key), data, mode="create")
        except AlreadyExistsError as error:
            if self.get(key) != data:
                raise Conflict("blobs.other-bytes", "The key holds another object: choose a key by content") from error
        except (BaseError, OSError) as error:
            raise _failed() from error
        return digest

    def get(self, key: str) -> bytes:
        """See `Objects.get`."""
        try:
            return bytes(self._store.get(_checked(key)).bytes())
        except FileNotFoundError as error:
            raise NotFound("blobs.no-object", "There is no object with this key") from error
        except (BaseError, OSError) as error:
            raise _failed() from error


def open_objects(place: str | Path) -> StoredObjects:
    """Objects in a folder (made when absent), or at a URL such as ``s3://bucket/prefix``; ``memory://`` for tests."""
    text = str(place)
    if text == "memory://":
        return StoredObjects(MemoryStore())
    if "://" in text and not text.startswith("file://"):
        return StoredObjects(from_url(text))
    folder = Path(text.removeprefix("file://"))
    folder.mkdir(parents=True, exist_ok=True)
    return StoredObjects(LocalStore(folder))


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise Rejected("blobs.bad-key", "An object's key is a relative path of plain names")
    return key


def _failed() -> Unavailable:
    return Unavailable("blobs.failed", "The object store did not answer as it should: try again")

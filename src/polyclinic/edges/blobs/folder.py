"""An object store in a folder: each key a file, replaced as a whole and durable before `put` returns."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from polyclinic.core.errors import NotFound, Rejected, Unavailable

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


class FolderObjects:
    """Port `polyclinic.departments.reading.ports.Objects` on a local folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, key: str, data: bytes) -> None:
        """Write beside, flush, rename: a reader sees the old object or the new one, whatever happens.

        Raises
        ------
        Rejected
            ``objects.bad-key``.
        Unavailable
            ``objects.storage-failed``.
        """
        path = self._path(key)
        beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise Unavailable(
                "objects.storage-failed", "The object store cannot be written; check its space and rights"
            ) from error

    def get(self, key: str) -> bytes:
        """Raises `NotFound` (``objects.no-object``)."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError as error:
            raise NotFound("objects.no-object", "The object is not in the store") from error

    def exists(self, key: str) -> bool:
        """Whether the key has an object."""
        return self._path(key).is_file()

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise Rejected("objects.bad-key", "A key is a path of letters, digits, dots, dashes and underscores")
        return self._folder / key

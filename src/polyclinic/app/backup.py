"""Backup of a running platform into a folder, and its way back. See docs/operations/backup.md.

The databases are copied first, each as one moment, the segments and objects after them: what a row speaks of is then in
the copy too. What the segments hold beyond the databases is indexed when the restored archive is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

import polyclinic
from polyclinic.app.settings import Settings
from polyclinic.app.workroom import segments_folder
from polyclinic.core.errors import Rejected, Unavailable
from polyclinic.departments.archive.lanes import sync_folder
from polyclinic.departments.archive.locks import MOVING, OPEN, shared
from polyclinic.departments.archive.segments import scan

MANIFEST = "manifest.json"
_FORMAT = 1
_CHUNK_BYTES = 1024 * 1024
_SECRET = ("password", "secret", "token", "database", "_key")
_NOT_COPIED = frozenset({"session.key", "verify.json"})
"""Of the data folder: people sign in again, and a scrub begins anew."""
Told = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One file of the manifest: where it belongs in the data folder, and where it lies in the backup."""

    path: str
    stored: str
    size_bytes: int
    sha256: str
    mtime_ns: int
    """Of the original: the same again means that it need not be copied again."""


@dataclass(slots=True)
class BackedUp:
    """What a backup did."""

    files: int = 0
    copied: int = 0
    copied_bytes: int = 0
    removed: int = 0
    left_out: list[str] = field(default_factory=list)


def back_up(settings: Settings, folder: Path, told: Told = lambda _: None) -> BackedUp:
    """Bring the backup in `folder` up to date; what it holds already and has not changed is not copied again.

    The backup that was there is whole until the new one is.

    Raises
    ------
    Rejected
        ``backup.not-sqlite``, ``backup.not-ours`` or ``backup.inside``.
    Unavailable
        ``backup.failed``.
    Conflict
        ``archive.in-use`` while segments are being moved or the index is made anew.
    """
    databases = {name: _sqlite_file(url) for name, url in _databases(settings).items()}
    if folder.resolve().is_relative_to(settings.data.resolve()):
        raise Rejected("backup.inside", "The backup cannot lie inside the data folder: name another folder")
    known = {kept.path: kept for kept in read_manifest(folder)} if (folder / MANIFEST).exists() else {}
    if not known and folder.exists() and any(folder.iterdir()):
        raise Rejected("backup.not-ours", "The folder holds something that is no backup: name an empty one")
    locks = [shared(segments_folder(settings), name) for name in (OPEN, MOVING)]
    try:
        return _Writer(settings, folder, known, told).run(databases)
    except OSError as error:
        raise Unavailable("backup.failed", f"The backup could not be written: {error.strerror}") from error
    except sqlite3.Error as error:
        raise Unavailable("backup.failed", "A database could not be copied: try again, then check it") from error
    finally:
        for lock in locks:
            os.close(lock)


def _databases(settings: Settings) -> dict[str, str]:
    """URLs by file name; the journeys first: one that is behind repeats a step, one that is ahead would miss it."""
    return {"journeys.sqlite": settings.journeys_url, "polyclinic.sqlite": settings.database_url}


def _sqlite_file(url: str) -> Path:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise Rejected(
            "backup.not-sqlite", "Back a PostgreSQL database up with pg_dump, then copy segments and objects after it"
        )
    return Path(parsed.database)


class _Writer:
    """One run."""

    def __init__(self, settings: Settings, folder: Path, known: dict[str, Kept], told: Told) -> None:
        self._settings = settings
        self._folder = folder
        self._known = known
        self._told = told
        self._stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
        self._kept: list[Kept] = []
        self._result = BackedUp()

    def run(self, databases: dict[str, Path]) -> BackedUp:
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, path in databases.items():
            if path.exists():
                self._database(name, path)
        sealed = self._sealed()
        for path in sorted(segments_folder(self._settings).glob("*.tar")):
            self._file(path, f"segments/{path.name}", size_bytes=None if path.name in sealed else _whole_bytes(path))
        for path, name in self._others({path.resolve() for path in databases.values()}):
            self._file(path, name)
        self._finish()
        return self._result

    def _database(self, name: str, path: Path) -> None:
        """One moment of a database that is in use (SQLite's backup interface)."""
        stored = self._place(name)
        with (
            closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(stored)) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
        with stored.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        self._note(name, stored, digest, mtime_ns=0)
        self._told(stored.stat().st_size)

    def _sealed(self) -> set[str]:
        """Segments that the copied index knows as sealed."""
        copy = next((k for k in self._kept if k.path == "polyclinic.sqlite"), None)
        if copy is None:
            return set()
        with closing(sqlite3.connect(self._folder / copy.stored)) as connection:
            return {name for (name,) in connection.execute("SELECT name FROM archive_segment")}

    def _others(self, databases: set[Path]) -> Iterator[tuple[Path, str]]:
        """Everything else below the data folder, and the objects where they are kept elsewhere on this machine."""
        data = self._settings.data.resolve()
        sidecars = {Path(f"{path}{end}") for path in databases for end in ("", "-wal", "-shm", "-journal")}
        for path in _files(data):
            name = path.relative_to(data).as_posix()
            if path not in sidecars and name not in _NOT_COPIED and not name.startswith("segments/"):
                yield path, name
        place = self._settings.objects_place
        if "://" in place:
            self._result.left_out.append("objects in an object store: its own versions or replication keep them")
        elif not (elsewhere := Path(place).resolve()).is_relative_to(data):
            for path in _files(elsewhere):
                yield path, f"objects/{path.relative_to(elsewhere).as_posix()}"

    def _file(self, path: Path, name: str, *, size_bytes: int | None = None) -> None:
        try:
            state = path.stat()
            size = state.st_size if size_bytes is None else size_bytes
            before = self._known.get(name)
            if before is not None and (before.size_bytes, before.mtime_ns) == (size, state.st_mtime_ns):
                self._kept.append(before)
                self._result.files += 1
                self._told(size)
                return
            stored = self._place(name)
            digest = _copy(path, stored, size, self._told)
        except FileNotFoundError:
            return  # an object that has been replaced, or a temporary file
        self._note(name, stored, digest, mtime_ns=state.st_mtime_ns)

    def _place(self, name: str) -> Path:
        path = self._folder / "store" / self._stamp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _note(self, name: str, stored: Path, digest: str, *, mtime_ns: int) -> None:
        size = stored.stat().st_size
        self._kept.append(
            Kept(
                path=name,
                stored=stored.relative_to(self._folder).as_posix(),
                size_bytes=size,
                sha256=digest,
                mtime_ns=mtime_ns,
            )
        )
        self._result.files += 1
        self._result.copied += 1
        self._result.copied_bytes += size

    def _finish(self) -> None:
        """The manifest makes the backup; what it does not name goes."""
        manifest = {
            "format": _FORMAT,
            "version": polyclinic.__version__,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": {k: v for k, v in self._settings.environment().items() if not _is_secret(k)},
            "left_out": self._result.left_out,
            "files": [{name: getattr(kept, name) for name in Kept.__slots__} for kept in self._kept],
        }
        _sync_folders(self._folder / "store")
        beside = self._folder / f"{MANIFEST}.part"
        with beside.open("w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._folder / MANIFEST)
        sync_folder(self._folder)
        named = {self._folder / kept.stored for kept in self._kept}
        for path in list(_files(self._folder / "store")):
            if path not in named:
                path.unlink()
                self._result.removed += 1
        for path in sorted((self._folder / "store").rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def read_manifest(folder: Path) -> tuple[Kept, ...]:
    """The files of the backup in a folder.

    Raises
    ------
    Rejected
        ``backup.no-manifest``, ``backup.bad-manifest`` or ``backup.newer-format``.
    """
    try:
        document: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        if document["format"] > _FORMAT:
            raise Rejected(
                "backup.newer-format", "A newer version of Polyclinic made this backup: restore with that one"
            )
        files = tuple(Kept(**file) for file in document["files"])
    except FileNotFoundError as error:
        raise Rejected("backup.no-manifest", "There is no finished backup in this folder: name another one") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Rejected("backup.bad-manifest", "The backup's manifest cannot be read: take another backup") from error
    for kept in files:
        for path in (kept.path, kept.stored):
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise Rejected("backup.bad-manifest", "The backup's manifest names files outside: take another backup")
    return files


def restore(folder: Path, into: Path, told: Told = lambda _: None) -> int:
    """Make the data folder `into` from the backup in `folder`, every file checked; how many there were.

    Raises
    ------
    Rejected
        ``backup.not-empty`` when there is something in `into`, ``backup.damaged`` when a file is not what it was, and
        as `read_manifest`.
    """
    files = read_manifest(folder)
    if into.exists() and any(into.iterdir()):
        raise Rejected("backup.not-empty", "There is something in the folder to restore into: name an empty one")
    beside = into.with_name(f"{into.name}.restoring")
    if beside.exists():
        shutil.rmtree(beside)
    try:
        for kept in files:
            target = beside / kept.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if _copy(folder / kept.stored, target, kept.size_bytes, told) != kept.sha256:
                raise _damaged(kept)
        (beside / "segments").mkdir(parents=True, exist_ok=True)
        for path in beside.glob("*.sqlite"):
            _check_database(path)
        _sync_folders(beside)
        if into.exists():
            into.rmdir()
        beside.replace(into)
        sync_folder(into.parent)
    except FileNotFoundError as error:
        raise Rejected("backup.damaged", "A file of the backup is missing: take another backup") from error
    except OSError as error:
        raise Unavailable("backup.failed", f"The backup could not be restored: {error.strerror}") from error
    return len(files)


def _check_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise Rejected("backup.damaged", f"The database {path.name} of the backup is damaged: take another backup")


def _damaged(kept: Kept) -> Rejected:
    return Rejected("backup.damaged", f"{kept.stored} of the backup is not what it was: take another backup")


def _copy(source: Path, target: Path, size_bytes: int, told: Told) -> str:
    """Copy the first `size_bytes` durably; returns their SHA-256."""
    sha256, left = hashlib.sha256(), size_bytes
    with source.open("rb") as reading, target.open("wb") as writing:
        while left and (data := reading.read(min(_CHUNK_BYTES, left))):
            writing.write(data)
            sha256.update(data)
            left -= len(data)
            told(len(data))
        writing.flush()
        os.fsync(writing.fileno())
    return sha256.hexdigest()


def _whole_bytes(path: Path) -> int:
    """How much of a segment that is being written consists of whole entries."""
    with path.open("rb") as file:
        return max(position for position, _ in scan(file.fileno()))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def _sync_folders(folder: Path) -> None:
    for path in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
        if path.is_dir():
            sync_folder(path)


def _is_secret(name: str) -> bool:
    return any(part in name.lower() for part in _SECRET)

"""Sees and refuses what an agent may not do while it runs: write files, open sockets, start processes.

Works by an audit hook of the interpreter (PEP 578), which sees what Python code and the standard library do. Code of a
compiled library that calls the system by itself is not seen. A hook cannot be taken away again: install it only in a
process that is made for the bench.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
_PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn")
_HARMLESS_SOCKETS = ("socket.gethostname",)


class Guard:
    """Between `watching` and `standing_aside` every trespass is noted and refused with PermissionError."""

    def __init__(self) -> None:
        self.trespasses: list[str] = []
        self._on = False

    def install(self) -> None:
        """Start to listen, for the rest of the life of this process."""
        sys.addaudithook(self._hear)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The agent's own code runs inside."""
        self.trespasses = []
        self._on = True
        try:
            yield
        finally:
            self._on = False

    @contextmanager
    def standing_aside(self) -> Iterator[None]:
        """Code of the platform runs inside, on behalf of the agent."""
        before, self._on = self._on, False
        try:
            yield
        finally:
            self._on = before

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on:
            return
        what = _trespass(event, arguments)
        if what:
            self.trespasses.append(what)
            raise PermissionError(f"an agent may not do this: {what}")


def _trespass(event: str, arguments: tuple[Any, ...]) -> str:
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & _WRITES and not isinstance(path, int)
        return f"it writes {_shown(path)}" if writes and not _is_cache(path) else ""
    if event.startswith("socket.") and event not in _HARMLESS_SOCKETS:
        return f"it opens a socket ({event.removeprefix('socket.')})"
    if event in _PROCESSES:
        return f"it starts a process ({event})"
    if event in _CHANGES and not any(_is_cache(argument) for argument in arguments):
        return f"it changes files ({event})"
    return ""


def _is_cache(path: object) -> bool:
    """Compiled code of Python and numba beside the modules, and the null device."""
    name = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
    return name == os.devnull or "__pycache__" in name


def _shown(path: object) -> str:
    """Only the last part of a path: the rest may name people."""
    name = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else "a file"
    return os.path.basename(name)[:60] or "a file"  # noqa: PTH119 - no object may be made inside the hook

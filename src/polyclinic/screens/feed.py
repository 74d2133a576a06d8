"""What changes, as a stream of server-sent events (HTML Living Standard 9.2) for any number of pages."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson

_PING_S = 15.0
_WAITING_LIMIT = 256
"""Events that may wait for a slow page; it is then told to start again."""

Snapshot = Callable[[], dict[str, dict[str, Any]]]
"""The studies on their way, by UID, each with ``state``, ``step`` and ``fraction``; asked several times a second."""


class Feed:
    """One look at the database serves every page; nobody looks while nobody listens."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._lock = threading.Lock()
        self._listeners: dict[asyncio.Queue[str | None], asyncio.AbstractEventLoop] = {}
        self._known: dict[str, dict[str, Any]] = {}
        self._closed = False

    def turn(self) -> None:
        """Look once and tell every listener what is different from last time."""
        with self._lock:
            listeners = list(self._listeners.items())
        if not listeners:
            self._known = {}
            return
        now = self._snapshot()
        for uid, event in now.items():
            if self._known.get(uid) != event:
                self._tell(listeners, f"event: study\ndata: {orjson.dumps(event).decode()}\n\n")
        self._known = now

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        with self._lock:
            self._closed = True
            listeners = list(self._listeners.items())
        for queue, loop in listeners:
            loop.call_soon_threadsafe(_offer, queue, None)

    async def lines(self) -> AsyncIterator[str]:
        """The stream of one page, beginning with ``hello``."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(_WAITING_LIMIT)
        with self._lock:
            if self._closed:
                return
            self._listeners[queue] = asyncio.get_running_loop()
        try:
            yield "retry: 1000\nevent: hello\ndata: {}\n\n"
            while True:
                try:
                    line = await asyncio.wait_for(queue.get(), _PING_S)
                except TimeoutError:
                    yield ": ping\n\n"
                    continue
                if line is None:
                    return
                yield line
        finally:
            with self._lock:
                self._listeners.pop(queue, None)

    def _tell(self, listeners: list[tuple[asyncio.Queue[str | None], asyncio.AbstractEventLoop]], line: str) -> None:
        for queue, loop in listeners:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_offer, queue, line)


def _offer(queue: asyncio.Queue[str | None], line: str | None) -> None:
    if queue.full():
        # The page is too slow to follow: it starts again and reads everything anew.
        while not queue.empty():
            queue.get_nowait()
        line = None
    queue.put_nowait(line)

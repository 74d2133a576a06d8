"""Answers that are sent piece by piece with bounded memory, and byte ranges of them (RFC 9110 14)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.types import Message, Receive, Scope, Send

from polyclinic.core.errors import Rejected
from polyclinic.edges.dicomweb.streams_protocol import FileStretch, direct_of

BATCH_BYTES = 1024 * 1024
_FILE_BATCH_BYTES = 16 * 1024 * 1024
"""Stretches of files take no memory, so more of them go at once."""
_MANY_PIECES = 8
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)

Piece = bytes | FileStretch
Pieces = list[Piece]


class Streamed(Response):
    """Sends batches of pieces; the next batch is read while one is on its way, so two are in memory at most.

    Parameters
    ----------
    batches
        Each is taken in a thread of its own, since it reads from a disk; the first one here, where what is wrong
        with the request can still be answered.
    length_bytes
        Length of the whole, where it is known: it spares the client guessing and us the chunked transfer coding.
    """

    def __init__(
        self,
        batches: Iterator[Pieces],
        *,
        content_type: str,
        length_bytes: int | None = None,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status_code=status_code, headers={**(headers or {}), "Content-Type": content_type})
        del self.headers["content-length"]  # that of the empty body
        if length_bytes is not None:
            self.headers["content-length"] = str(length_bytes)
        self._batches = batches
        self._first = next(batches, None)
        first = self._first or []
        self._is_whole = size_of(first) < BATCH_BYTES and not any(isinstance(piece, FileStretch) for piece in first)
        """`batched` gives less at the end only."""
        if self._is_whole:
            self.headers["content-length"] = str(size_of(first))

    async def _send_whole(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = b"".join(piece for piece in self._first or [] if isinstance(piece, bytes))
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if self._is_whole:
            await self._send_whole(send)
            return
        direct = direct_of(scope)
        gone = asyncio.ensure_future(_until_gone(receive))
        following: asyncio.Future[Pieces | None] = asyncio.get_running_loop().create_future()
        following.set_result(None)
        batch = self._first
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while batch is not None and not gone.done():
                if direct is not None and any(isinstance(piece, FileStretch) for piece in batch):
                    await direct.send(batch)  # whose files close behind the last batch: nothing is taken ahead
                    batch = await run_in_threadpool(next, self._batches, None)
                    continue
                following = asyncio.ensure_future(run_in_threadpool(next, self._batches, None))
                for piece in batch:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                batch = await following
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            if not following.done():
                with suppress(Exception):  # the reader's last word does not matter once nobody listens
                    await asyncio.shield(following)
            close = getattr(self._batches, "close", None)
            if close is not None:
                await run_in_threadpool(close)


class Whole(Response):
    """A small answer in several pieces, sent without putting them together first."""

    def __init__(self, pieces: list[bytes], *, content_type: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(headers={**(headers or {}), "Content-Type": content_type})
        self.headers["content-length"] = str(sum(map(len, pieces)))
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Callable[[], object]) -> None:
    message: Message = {"type": ""}
    while message["type"] != "http.disconnect":
        message = await receive()  # type: ignore[misc]


def batched(pieces: Iterable[Piece]) -> Iterator[Pieces]:
    """Pieces in groups of about `BATCH_BYTES` in memory; many small ones are put together."""
    batch: Pieces = []
    in_memory = in_files = 0
    for piece in pieces:
        batch.append(piece)
        if isinstance(piece, FileStretch):
            in_files += piece.size_bytes
        else:
            in_memory += len(piece)
        if in_memory >= BATCH_BYTES or in_files >= _FILE_BATCH_BYTES:
            yield _packed(batch)
            batch, in_memory, in_files = [], 0, 0
    if batch:
        yield _packed(batch)


def _packed(batch: Pieces) -> Pieces:
    in_memory = [piece for piece in batch if isinstance(piece, bytes)]
    many = len(batch) > _MANY_PIECES and len(in_memory) == len(batch)
    return [b"".join(in_memory)] if many else batch


def size_of(batch: Pieces) -> int:
    """Bytes of all pieces."""
    return sum(piece.size_bytes if isinstance(piece, FileStretch) else len(piece) for piece in batch)


class Stretch(NamedTuple):
    """Bytes ``[start, stop)`` of something."""

    start: int
    stop: int


def asked_range(request: Request, size_bytes: int, etag: str) -> Stretch | None:
    """The one range of bytes that is asked for; None for all of them.

    Several ranges, another unit and a range of another version (If-Range) are answered by the whole, as RFC 9110
    14.2 allows.

    Raises
    ------
    Rejected
        ``dicomweb.range`` (HTTP 416) when it lies outside.
    """
    header = request.headers.get("range", "").replace(" ", "")
    condition = request.headers.get("if-range")
    found = _RANGE.fullmatch(header)
    if found is None or found.group(0) == "bytes=-" or (condition is not None and condition != etag):
        return None
    first, last = found.groups()
    if not first:
        start, stop = max(size_bytes - int(last), 0), size_bytes
    else:
        start, stop = int(first), min(int(last) + 1 if last else size_bytes, size_bytes)
        if last and int(last) < start:
            return None  # no valid range
    if start >= size_bytes or start >= stop:
        raise Rejected("dicomweb.range", f"There are only {size_bytes} bytes: ask for a range within them")
    return Stretch(start, stop)


def ranged(
    request: Request,
    read: Callable[[int, int], Iterator[bytes]],
    size_bytes: int,
    *,
    content_type: str,
    etag: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A single-part answer, whole or the range that is asked for."""
    named = {**(headers or {}), "Accept-Ranges": "bytes"}
    if etag:
        named["ETag"] = etag
        if unchanged(request, etag):
            return Response(status_code=304, headers=named)
    part = asked_range(request, size_bytes, etag)
    start, stop = part or (0, size_bytes)
    if part is not None:
        named["Content-Range"] = f"bytes {start}-{stop - 1}/{size_bytes}"
    return Streamed(
        batched(read(start, stop)),
        content_type=content_type,
        length_bytes=stop - start,
        status_code=206 if part is not None else 200,
        headers=named,
    )


def unchanged(request: Request, etag: str) -> bool:
    """Whether the client has this version already (If-None-Match)."""
    known = request.headers.get("if-none-match", "")
    return bool(known) and (
        known.strip() == "*" or etag in {one.strip().removeprefix("W/") for one in known.split(",")}
    )

"""The channel of UPS event reports: a WebSocket a subscriber (PS3.18 8.10.4, 8.10.5)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from urllib.parse import urlsplit

import orjson
from fastapi import APIRouter, Depends, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool

from polyclinic.departments.workitems.subscriptions import Subscriptions

LOOK_EVERY_S = 0.25
MOST_CHANNELS = 200
_POLICY_VIOLATION, _TRY_LATER = 1008, 1013

Allow = Callable[[str], Callable[..., object]]


class Channels:
    """Open channels; reports that wait are sent oldest first and forgotten once they are on their way.

    A channel that breaks while reports are sent gets those again: subscribers see each report at least once.
    """

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions
        self._open = 0

    async def serve(self, socket: WebSocket, ae_title: str) -> None:
        """Until the other side closes."""
        if not _same_origin(socket):
            await socket.close(_POLICY_VIOLATION)
            return
        if self._open >= MOST_CHANNELS:
            await socket.close(_TRY_LATER)
            return
        await socket.accept()
        self._open += 1
        sending = asyncio.create_task(self._send(socket, ae_title))
        try:
            while True:
                await socket.receive_text()  # nothing is expected; this notices that the other side has gone
        except (WebSocketDisconnect, KeyError):
            pass
        finally:
            self._open -= 1
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await sending

    async def _send(self, socket: WebSocket, ae_title: str) -> None:
        message_id = 0
        while True:
            waiting = await run_in_threadpool(self._subscriptions.waiting, ae_title)
            for _, report in waiting:
                message_id = message_id % 65_535 + 1
                report["00000110"] = {"vr": "US", "Value": [message_id]}
                await socket.send_text(orjson.dumps(report).decode())
            if waiting:
                await run_in_threadpool(self._subscriptions.delivered, [number for number, _ in waiting])
            else:
                await asyncio.sleep(LOOK_EVERY_S)


def _same_origin(socket: WebSocket) -> bool:
    """Whether a page of this server opens it, or a program, which sends no Origin; other pages bring cookies along."""
    origin = socket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == socket.headers.get("host", "")


def channels_router(subscriptions: Subscriptions, allow: Allow) -> APIRouter:
    """``/subscribers/{ae_title}``; the gate is asked before the socket is accepted."""
    router = APIRouter()
    channels = Channels(subscriptions)

    @router.websocket("/subscribers/{ae_title}", dependencies=[Depends(allow("workitem.read"))])
    async def open_channel(socket: WebSocket, ae_title: str) -> None:
        await channels.serve(socket, ae_title)

    return router

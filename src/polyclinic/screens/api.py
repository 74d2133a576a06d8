"""The screens over HTTP: worklist, study page, and the stream of what changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import StreamingResponse

from polyclinic.core.people import Person
from polyclinic.departments.reading.contracts import Language
from polyclinic.screens.feed import Feed
from polyclinic.screens.study_page import StudyScreen
from polyclinic.screens.worklist import WorklistScreen

Allow = Callable[[str], Callable[..., Person]]


def screens_router(worklist: WorklistScreen, study_screen: StudyScreen, feed: Feed, allow: Allow) -> APIRouter:
    """``/worklist``, ``/studies/{study_instance_uid}`` and ``/events``."""
    router = APIRouter(tags=["screens"])
    may_list, may_read = Depends(allow("worklist.read")), Depends(allow("study.read"))

    @router.get("/worklist", operation_id="getWorklist")
    def get_worklist(
        search: Annotated[str, Query(max_length=100)] = "",
        state: Annotated[str, Query(max_length=20)] = "",
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
        _: Person = may_list,
    ) -> dict[str, Any]:
        return worklist.page(search=search, state=state, limit=limit, cursor=cursor).plain()

    @router.get("/studies/{study_instance_uid}", operation_id="getStudy")
    def get_study(
        study_instance_uid: str,
        lang: Language = Language.ENGLISH,
        _: Person = may_read,
    ) -> dict[str, Any]:
        return study_screen.study(study_instance_uid, lang)

    @router.get("/events", operation_id="streamEvents", response_class=StreamingResponse)
    async def events(request: Request, _: Person = may_list) -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            async for line in feed.lines():
                if await request.is_disconnected():
                    return
                yield line

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)

    return router

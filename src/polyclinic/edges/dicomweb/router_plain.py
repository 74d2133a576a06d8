"""Routes that need nothing of FastAPI but the request and the parts of its path, called with one change of thread.

FastAPI resolves the parameters of every call anew and gives each dependency a thread of its own; for a frame or a
search that costs as much as the answer itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response, routing
from fastapi.concurrency import run_in_threadpool
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def plain_handler(route: APIRoute, of_fastapi: Handler) -> Handler:
    """A handler that calls dependencies and endpoint in one thread; FastAPI's own where one of them needs more."""
    here = _effective(route)
    dependant = getattr(here, "dependant", None)
    if not isinstance(dependant, Dependant) or not _is_plain(dependant) or not dependant.request_param_name:
        return of_fastapi
    if not all(_is_plain(one) and not one.path_params for one in dependant.dependencies):
        return of_fastapi
    application = getattr(here, "dependency_overrides_provider", None)
    asked = dependant.request_param_name
    first = [(one.call, one.request_param_name or one.http_connection_param_name) for one in dependant.dependencies]
    endpoint = route.endpoint

    def answer(request: Request) -> Response:
        for call, name in first:
            assert call is not None  # `_is_plain` has looked
            call(**({name: request} if name else {}))
        answered = endpoint(**{asked: request}, **request.path_params)
        assert isinstance(answered, Response)
        return answered

    async def handle(request: Request) -> Response:
        if getattr(application, "dependency_overrides", None):
            return await of_fastapi(request)
        return await run_in_threadpool(answer, request)

    return handle


def _effective(route: APIRoute) -> object:
    """The route as it is in the application it was included in, with the dependencies of the inclusion."""
    variable = getattr(routing, "_effective_route_context_var", None)
    if variable is None:
        return None  # another FastAPI: it knows best itself
    context = variable.get()
    return context if context is not None and context.original_route is route else route


def _is_plain(dependant: Dependant) -> bool:
    """Whether a call takes the request and strings of the path only, and gives its answer at once."""
    call = dependant.call
    if call is None or dependant.own_oauth_scopes or any(one.dependencies for one in dependant.dependencies):
        return False
    others = (
        dependant.query_params,
        dependant.header_params,
        dependant.cookie_params,
        dependant.body_params,
        dependant.websocket_param_name,
        dependant.response_param_name,
        dependant.background_tasks_param_name,
        dependant.security_scopes_param_name,
    )
    if any(others) or any(one.field_info.annotation is not str for one in dependant.path_params):
        return False
    function = call if inspect.isroutine(call) else type(call).__call__
    awaited = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return not inspect.isclass(call) and not any(kind(function) for kind in awaited)

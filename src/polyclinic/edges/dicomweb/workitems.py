"""UPS-RS: the worklist as a web service (PS3.18 11)."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Coroutine, Iterable
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydicom.datadict import dictionary_VR, tag_for_keyword

from polyclinic.core.errors import Conflict, Forbidden, NotFound, PolyclinicError, Rejected, Unavailable
from polyclinic.core.ids import is_uid
from polyclinic.departments.workitems import rules
from polyclinic.departments.workitems.contracts import FILTERED_SUBSCRIPTION_UID, Json, State, WorkitemQuery
from polyclinic.departments.workitems.datasets import checked
from polyclinic.departments.workitems.store import Refused, WorkitemStore, as_dataset
from polyclinic.departments.workitems.subscriptions import WELL_KNOWN, Subscriptions

Allow = Callable[[str], Callable[..., object]]
JSON_TYPE = "application/dicom+json"
LARGEST_BYTES = 1_000_000
MOST_FOUND = 1000
_SERVICE = "Polyclinic"
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_AE_TITLE = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?")
_NOT_KEYS = frozenset({"limit", "offset", "includefield", "fuzzymatching", "accept", "charset"})
_STATUS: tuple[tuple[type[PolyclinicError], int], ...] = (
    (NotFound, 404),
    (Forbidden, 403),
    (Conflict, 409),
    (Unavailable, 503),
    (Rejected, 400),
)
_STATUS_OF_CODE = {"workitems.media-type": 415, "workitems.too-large": 413, "access.sign-in": 401}


class UpsRoute(APIRoute):
    """Answers refusals with the Warning header that PS3.18 11 asks for."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except PolyclinicError as error:
                status = _STATUS_OF_CODE.get(error.code) or next(s for kind, s in _STATUS if isinstance(error, kind))
                said = error.refusal.value if isinstance(error, Refused) else error.message
                body = {"code": error.code, "message": error.message}
                return JSONResponse(body, status, headers=_warning(said))

        return handled


def workitems_router(store: WorkitemStore, subscriptions: Subscriptions, allow: Allow) -> APIRouter:
    """Routes below ``/workitems``; include it under the prefix of DICOMweb."""
    router = APIRouter(route_class=UpsRoute, tags=["UPS-RS"])
    may_read, may_work = [Depends(allow("workitem.read"))], [Depends(allow("workitem.work"))]
    _add_work(router, store, may_work)
    _add_reading(router, store, may_read)
    _add_subscribing(router, subscriptions, may_read)
    return router


def _add_work(router: APIRouter, store: WorkitemStore, may_work: list[Any]) -> None:
    @router.post("/workitems", status_code=201, dependencies=may_work)
    async def create_workitem(request: Request) -> Response:
        dataset = await _body(request)
        uid = _new_uid(request, dataset)
        added = await run_in_threadpool(store.create, uid, dataset)
        headers = {"Location": _url(request, uid), "Content-Location": _url(request, uid)}
        if added:
            headers |= _warning("The Workitem was created with modifications.")
        return Response(status_code=201, headers=headers)

    @router.post("/workitems/{workitem}", dependencies=may_work)
    async def update_workitem(request: Request, workitem: str) -> Response:
        changes = await _body(request)
        given = {rules.text(changes, rules.TRANSACTION_UID)} - {""}
        named = ("transaction-uid", "transaction", "transactionUID")
        given |= {request.query_params[name] for name in named if name in request.query_params}
        if len(given) > 1:
            raise Rejected("workitems.two-transactions", "The request names two Transaction UIDs; give one")
        await run_in_threadpool(store.update, workitem, changes, next(iter(given), ""))
        return Response(headers={"Content-Location": _url(request, workitem)})

    @router.put("/workitems/{workitem}/state", dependencies=may_work)
    async def change_workitem_state(request: Request, workitem: str) -> Response:
        wanted = await _body(request)
        try:
            state = State(rules.text(wanted, rules.STATE))
        except ValueError as error:
            raise rules.bad(rules.STATE, "must be IN PROGRESS, COMPLETED or CANCELED") from error
        given = rules.text(wanted, rules.TRANSACTION_UID)
        if given and not is_uid(given):
            raise rules.bad(rules.TRANSACTION_UID, "is no UID")
        already = await run_in_threadpool(store.change_state, workitem, state, given)
        said = f"The UPS is already in the requested state of {state}."
        return Response(headers=_warning(said) if already else {})

    @router.post("/workitems/{workitem}/cancelrequest", dependencies=may_work)
    async def request_cancellation(request: Request, workitem: str) -> Response:
        information = await _body(request, may_be_empty=True)
        already = await run_in_threadpool(store.request_cancel, workitem, information)
        said = f"The UPS is already in the requested state of {State.CANCELED}."
        return Response(status_code=202, headers=_warning(said) if already else {})


def _add_reading(router: APIRouter, store: WorkitemStore, may_read: list[Any]) -> None:
    @router.get("/workitems", dependencies=may_read)
    def search_workitems(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=10**9)] = 100,
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    ) -> Response:
        keys = {name: value for name, value in request.query_params.multi_items() if name.lower() not in _NOT_KEYS}
        query = WorkitemQuery(matches=parse_keys(keys.items()), limit=min(limit, MOST_FOUND), offset=offset)
        return _answer([as_dataset(found) for found in store.search(query)])

    @router.get("/workitems/{workitem}", dependencies=may_read)
    def retrieve_workitem(workitem: str) -> Response:
        return _answer([as_dataset(store.get(workitem))])


def _add_subscribing(router: APIRouter, subscriptions: Subscriptions, may_read: list[Any]) -> None:
    @router.post("/workitems/{workitem}/subscribers/{ae_title}", status_code=201, dependencies=may_read)
    def subscribe(
        request: Request,
        workitem: str,
        ae_title: str,
        deletionlock: bool = False,
        filter_: Annotated[str, Query(alias="filter", max_length=2000)] = "",
    ) -> Response:
        wanted: dict[str, str] = {}
        if workitem == FILTERED_SUBSCRIPTION_UID:
            pairs = [part.partition("=") for part in filter_.split(",") if part]
            wanted = parse_keys((name, value) for name, _, value in pairs)
            if not wanted:
                raise Rejected("workitems.no-filter", "A filtered subscription needs ?filter=attribute=value")
        subscriptions.subscribe(_ae_title(ae_title), workitem, deletion_lock=deletionlock, wanted=wanted)
        return Response(status_code=201, headers={"Content-Location": channel_url(request, ae_title)})

    @router.delete("/workitems/{workitem}/subscribers/{ae_title}", dependencies=may_read)
    def unsubscribe(workitem: str, ae_title: str) -> Response:
        subscriptions.unsubscribe(_ae_title(ae_title), workitem)
        return Response()

    @router.post("/workitems/{workitem}/subscribers/{ae_title}/suspend", dependencies=may_read)
    def suspend(workitem: str, ae_title: str) -> Response:
        subscriptions.suspend(_ae_title(ae_title), workitem)
        return Response()


def parse_keys(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Matching keys by tag path, from keywords or tags, e.g. ``ScheduledWorkitemCodeSequence.CodeValue``.

    Raises
    ------
    Rejected
        ``workitems.bad-query``.
    """
    keys = {".".join(_tag(part) for part in name.split(".")): value[:256] for name, value in pairs}
    if any("\0" in value for value in keys.values()):
        raise Rejected("workitems.bad-query", "A query parameter has a NUL in it")
    return keys


def _tag(name: str) -> str:
    number = int(name, 16) if _TAG.fullmatch(name) else tag_for_keyword(name)
    try:
        dictionary_VR(number or 0)
    except KeyError:
        number = None
    if not number:
        raise Rejected("workitems.bad-query", "A query parameter names no DICOM attribute: use its keyword or tag")
    return f"{number:08X}"


async def _body(request: Request, *, may_be_empty: bool = False) -> Json:
    kind = request.headers.get("content-type", JSON_TYPE).partition(";")[0].strip().lower()
    if kind not in (JSON_TYPE, "application/json"):
        raise Rejected("workitems.media-type", f"Send the dataset as {JSON_TYPE}")
    taken = bytearray()
    async for chunk in request.stream():
        taken += chunk
        if len(taken) > LARGEST_BYTES:
            raise Rejected("workitems.too-large", f"A workitem has at most {LARGEST_BYTES} bytes; send less")
    if may_be_empty and not taken:
        return {}
    try:
        return checked(orjson.loads(taken))
    except orjson.JSONDecodeError as error:
        raise Rejected("workitems.bad-json", "The request is no JSON; see PS3.18 F") from error


def _new_uid(request: Request, dataset: Json) -> str:
    """UID of a new workitem: ``?workitem=UID``, ``?UID``, the dataset's own, or a new one (PS3.18 11.4.1)."""
    bare = [name for name, value in request.query_params.multi_items() if not value]
    named = [request.query_params.get(name, "") for name in ("workitem", "AffectedSOPInstanceUID")]
    asked = next((uid for uid in (*named, *bare) if uid), "") or rules.text(dataset, rules.SOP_INSTANCE_UID)
    uid = asked or f"2.25.{uuid.uuid4().int}"
    if not is_uid(uid) or uid in WELL_KNOWN:
        raise Rejected("workitems.bad-uid", "The workitem's UID is none; leave it out to get a new one")
    return uid


def _ae_title(text: str) -> str:
    if not _AE_TITLE.fullmatch(text):
        raise Rejected("workitems.bad-ae-title", "A subscriber is an AE title: 1 to 16 characters, no backslash")
    return text


def _url(request: Request, uid: str) -> str:
    url = request.url
    return f"{url.scheme}://{url.netloc}{_prefix(request)}/workitems/{uid}"


def channel_url(request: Request, ae_title: str) -> str:
    """Where a subscriber opens its channel of event reports (PS3.18 8.10.4)."""
    scheme = "wss" if request.url.scheme == "https" else "ws"
    return f"{scheme}://{request.url.netloc}{_prefix(request)}/subscribers/{ae_title}"


def _prefix(request: Request) -> str:
    path = request.url.path
    return path[: path.index("/workitems")]


def _warning(text: str) -> dict[str, str]:
    printable = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "?" for c in text)
    return {"Warning": f"299 {_SERVICE}: {printable}"}


def _answer(datasets: list[Json]) -> Response:
    return Response(orjson.dumps(datasets), media_type=JSON_TYPE)

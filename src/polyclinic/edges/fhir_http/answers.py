"""Resources and Bundles as HTTP answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import Response

from polyclinic.core.errors import PolyclinicError
from polyclinic.edges.fhir_http.negotiation import MEDIA_TYPE, Preference, etag_of
from polyclinic.edges.fhir_http.outcomes import issue, outcome, outcome_of, status_of, warnings
from polyclinic.edges.fhir_http.query import Search
from polyclinic.edges.fhir_http.search import Page, subsetted
from polyclinic.edges.fhir_http.writes import Written
from polyclinic.fhir.json_text import Json, write_json

_NO_STORE = {"Cache-Control": "no-store"}


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A FHIR JSON answer."""
    return Response(write_json(body), status, {**_NO_STORE, **(headers or {})}, MEDIA_TYPE)


def refusal(error: PolyclinicError, note: str = "") -> Response:
    """One of our errors; `note` is the element of the request that it is about."""
    status = status_of(error)
    body = outcome_of(error)
    if note:
        for one in body["issue"]:
            one["expression"] = [f"{note}.{one['expression'][0]}" if "expression" in one else note]
    headers = {"Allow": "GET, POST, PUT"} if status == 405 else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return answer(body, status, headers)


def one_resource(resource: Json, root: str, *, if_none_match: str = "") -> Response:
    """A resource that was read, or 304 when the client has this version already."""
    headers = _headers(resource)
    if if_none_match and headers["ETag"] in (part.strip() for part in if_none_match.split(",")):
        return Response(status_code=304, headers={**_NO_STORE, **headers})
    return answer(absolute(resource, root), headers=headers)


def written_answer(written: Written, root: str, wish: Preference) -> Response:
    """What became of a resource that was sent."""
    resource = written.resource
    headers = _headers(resource)
    version = resource["meta"]["versionId"]
    headers["Location"] = f"{root}/{resource['resourceType']}/{resource['id']}/_history/{version}"
    status = 201 if written.created else 200
    if wish.returned == "minimal":
        return Response(status_code=status, headers={**_NO_STORE, **headers})
    if wish.returned == "OperationOutcome":
        return answer(warnings(written.remarks), status, headers)
    return answer(absolute(resource, root), status, headers)


def searchset(search: Search, page: Page, root: str, next_token: str) -> Json:
    """A page of a search as Bundle."""
    address = f"{root}/{search.resource_type}"
    links = [{"relation": "self", "url": f"{address}?{urlencode(search.used)}".rstrip("?")}]
    if next_token:
        links.append({"relation": "next", "url": f"{address}?_page={next_token}"})
    entries = [_entry(subsetted(one, search.elements), root, "match") for one in page.matches]
    entries += [_entry(one, root, "include") for one in page.included]
    if search.ignored:
        text = f"These parameters were left out: {', '.join(search.ignored)}"[:500]
        noted = outcome([issue("not-supported", text, severity="warning")])
        entries.append({"resource": noted, "search": {"mode": "outcome"}})
    out: Json = {"resourceType": "Bundle", "type": "searchset", "link": links}
    if page.total is not None:
        out["total"] = page.total
    return out | ({"entry": entries} if entries else {})


def history(versions: Sequence[Json], root: str) -> Json:
    """The versions of a resource, newest first, as Bundle."""
    entries = []
    for number, one in enumerate(versions):
        meta = one["meta"]
        created = number == len(versions) - 1
        response = {"status": "201" if created else "200", "etag": etag_of(meta["versionId"])}
        if "lastUpdated" in meta:
            response["lastModified"] = meta["lastUpdated"]
        address = one["resourceType"] if created else f"{one['resourceType']}/{one['id']}"
        request = {"method": "POST" if created else "PUT", "url": address}
        entries.append(
            {"fullUrl": _full_url(one, root), "resource": absolute(one, root), "request": request, "response": response}
        )
    return {"resourceType": "Bundle", "type": "history", "total": len(entries), "entry": entries}


def absolute(resource: Json, root: str) -> Json:
    """The resource with addresses of this server, which are kept relative, made whole."""
    base = root.removesuffix("/fhir")
    if str(resource.get("address", "")).startswith("/"):
        return {**resource, "address": base + resource["address"]}
    forms = resource.get("presentedForm", [])
    if any(str(form.get("url", "")).startswith("/") for form in forms):
        whole = [{**f, "url": base + f["url"]} if str(f.get("url", "")).startswith("/") else f for f in forms]
        return {**resource, "presentedForm": whole}
    return resource


def _entry(resource: Json, root: str, mode: str) -> Json:
    return {"fullUrl": _full_url(resource, root), "resource": absolute(resource, root), "search": {"mode": mode}}


def _full_url(resource: Json, root: str) -> str:
    return f"{root}/{resource['resourceType']}/{resource['id']}"


def _headers(resource: Json) -> dict[str, str]:
    meta = resource["meta"]
    headers = {"ETag": etag_of(meta["versionId"])}
    if "lastUpdated" in meta:
        at = datetime.fromisoformat(meta["lastUpdated"]).astimezone(UTC)
        headers["Last-Modified"] = format_datetime(at, usegmt=True)
    return headers

"""Absolute addresses of studies, series and instances, as answers carry them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from sqlalchemy import RowMapping

_DEFAULT_PORTS = frozenset({80, 443})
_LOOPBACK = frozenset({"127.0.0.1", "::1"})


def service_url(request: Request) -> str:
    """Address of the DICOMweb root of this request, without a trailing slash."""
    path = request.url.path
    root = path[: path.index("/studies")] if "/studies" in path else path.rstrip("/").rsplit("/", 1)[0]
    return f"{request.url.scheme}://{request.url.netloc}{_missing_port(request)}{root}"


def _missing_port(request: Request) -> str:
    """The port that a Host header should have had: some clients, dicomweb-client among them, leave it out.

    Only one that names the very address that was connected to is completed; behind a proxy it is as it should be.
    """
    server = request.scope.get("server")
    if request.url.port is not None or not server or not server[1] or server[1] in _DEFAULT_PORTS:
        return ""
    direct = request.url.hostname == server[0] or (request.url.hostname == "localhost" and server[0] in _LOOPBACK)
    return f":{server[1]}" if direct else ""


def study_url(root: str, study_instance_uid: str) -> str:
    return f"{root}/studies/{study_instance_uid}"


def series_url(root: str, row: RowMapping | Mapping[str, Any]) -> str:
    """Address of a series, from any mapping with its two UIDs."""
    return f"{root}/studies/{row['study_instance_uid']}/series/{row['series_instance_uid']}"


def instance_url(root: str, row: RowMapping | Mapping[str, Any]) -> str:
    """Address of an instance, from any mapping with its three UIDs."""
    return (
        f"{root}/studies/{row['study_instance_uid']}/series/{row['series_instance_uid']}"
        f"/instances/{row['sop_instance_uid']}"
    )

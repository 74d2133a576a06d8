"""Absolute addresses of studies, series and instances, as answers carry them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from sqlalchemy import RowMapping


def service_url(request: Request) -> str:
    """Address of the DICOMweb root of this request, without a trailing slash."""
    path = request.url.path
    root = path[: path.index("/studies")] if "/studies" in path else path.rstrip("/").rsplit("/", 1)[0]
    return f"{request.url.scheme}://{request.url.netloc}{root}"


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

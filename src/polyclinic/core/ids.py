"""Identifiers that come out the same when the same work is done twice."""

from __future__ import annotations

import re
import uuid

_NAMESPACE = uuid.UUID("6f0c1b9e-58a4-5d0b-9a54-6f6c79636c6e")
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")


def stable_id(kind: str, *parts: object) -> str:
    """Name-based identifier (UUID version 5, RFC 9562): equal parts give an equal id.

    A step that runs twice after a crash therefore writes the same rows and the same instances, not new ones.
    """
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join([kind, *map(str, parts)])))


def stable_uid(kind: str, *parts: object) -> str:
    """DICOM UID under ``2.25`` (DICOM PS3.5 B.2) derived from its parts; at most 44 characters."""
    return f"2.25.{uuid.UUID(stable_id(kind, *parts)).int}"


def is_uid(value: str) -> bool:
    """Whether `value` is a well-formed DICOM UID (DICOM PS3.5 9.1): digits and dots, at most 64 characters.

    Components with leading zeros occur in old files; they are not accepted here, see `is_uid_lenient`.
    """
    return len(value) <= 64 and _UID.fullmatch(value) is not None


def is_uid_lenient(value: str) -> bool:
    """As `is_uid`, but a component may start with zero, as some devices write it. Safe as a path component."""
    return 0 < len(value) <= 64 and re.fullmatch(r"[0-9]+(\.[0-9]+)*", value) is not None

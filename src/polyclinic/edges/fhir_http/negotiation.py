"""What a client may send and gets: ``application/fhir+json`` of R4, and nothing else (FHIR R4 http 3.1.0.1.9)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from polyclinic.core.errors import Rejected
from polyclinic.fhir.structure import FHIR_VERSION

MEDIA_TYPE = f"application/fhir+json; fhirVersion={FHIR_VERSION.rpartition('.')[0]}; charset=utf-8"
_JSON = frozenset({"application/fhir+json", "application/json", "application/json+fhir", "text/json", "json"})
_WILD = frozenset({"*/*", "application/*", ""})
_VERSIONS = frozenset({"4.0", "4.0.1", ""})
_ETAG = re.compile(r'(?:W/)?"([A-Za-z0-9\-.]{1,64})"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """The ``Prefer`` header."""

    strict: bool = False
    returned: str = "representation"
    """``minimal``, ``representation`` or ``OperationOutcome``."""


def check_accept(accept: str, asked_format: str) -> None:
    """Raises `Rejected` (``fhir.not-acceptable``) unless the client takes R4 JSON; ``_format`` overrides Accept."""
    wanted = [asked_format.replace(" ", "+")] if asked_format else accept.split(",")
    offers = [(media, version) for one in wanted for media, version, quality in [_parts(one)] if quality > 0]
    if not any((media in _JSON or media in _WILD) and version in _VERSIONS for media, version in offers):
        raise Rejected(
            "fhir.not-acceptable",
            f"Answers are application/fhir+json of FHIR {FHIR_VERSION} only; ask for that",
        )


def check_content_type(content_type: str) -> None:
    """Raises `Rejected` (``fhir.media-type``) unless the body is R4 JSON."""
    media, version, _ = _parts(content_type)
    if media not in _JSON or version not in _VERSIONS:
        raise Rejected(
            "fhir.media-type", f"Send application/fhir+json of FHIR {FHIR_VERSION}; other formats are not taken"
        )


def preference(headers: Mapping[str, str]) -> Preference:
    """Read ``Prefer``; what is not known is left out, as RFC 7240 says."""
    found: dict[str, str] = {}
    for part in re.split(r"[,;]", headers.get("prefer", "")):
        name, _, value = part.strip().partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    returned = found.get("return", "representation")
    return Preference(
        strict=found.get("handling") == "strict",
        returned=returned if returned in ("minimal", "OperationOutcome") else "representation",
    )


def version_of_etag(etag: str) -> str:
    """The version that an ``If-Match`` value names. Raises `Rejected` (``fhir.bad-request``)."""
    match = _ETAG.fullmatch(etag.strip())
    if match is None:
        raise Rejected("fhir.bad-request", 'If-Match must be an ETag such as W/"3"')
    return match[1]


def etag_of(version: str) -> str:
    """The weak ETag of a version."""
    return f'W/"{version}"'


def _parts(value: str) -> tuple[str, str, float]:
    """Media type, its fhirVersion parameter and its quality."""
    media, *parameters = value.split(";")
    found = {}
    for one in parameters:
        name, _, text = one.partition("=")
        found[name.strip().lower()] = text.strip().strip('"')
    try:
        quality = float(found.get("q", "1"))
    except ValueError:
        quality = 1.0
    return media.strip().lower(), found.get("fhirversion", ""), quality

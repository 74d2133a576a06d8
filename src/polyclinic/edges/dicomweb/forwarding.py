"""The way to a DICOMweb destination: kept instances by STOW-RS (DICOM PS3.18 10.5), one a request, streamed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson

from polyclinic.core.errors import Unavailable
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.routing.contracts import Destination, TlsFiles
from polyclinic.edges.dimse.forwarding import tls_settings
from polyclinic.edges.dimse.tls import client_context

_BOUNDARY = "polyclinic-instance-boundary"
_PATIENT_S = 60.0
_REFUSED = frozenset({400, 406, 409, 413, 415})
"""Statuses that another attempt does not change; 401 and 403 do once the token is put right."""
_FAILED, _FAILURE_REASON = "00081198", "00081197"
_REFERENCED, _SOP_INSTANCE_UID = "00081199", "00081155"
_LONGEST_ANSWER_BYTES = 1024 * 1024


class DicomwebOutlets:
    """Port `polyclinic.departments.routing.ports.Outlets` by STOW-RS."""

    def __init__(self, archive: SqlArchive) -> None:
        self._archive = archive

    @contextmanager
    def open(self, destination: Destination, kinds: Collection[tuple[str, str]]) -> Iterator[DicomwebOutlet]:
        """See `Outlets.open`."""
        headers = {"Accept": "application/dicom+json"}
        if destination.token_file:
            try:
                token = Path(destination.token_file).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise Unavailable("routing.no-token", "The destination's token_file cannot be read") from error
            headers["Authorization"] = f"Bearer {token}"
        timeout = httpx.Timeout(_PATIENT_S, connect=10.0)
        # Redirects are not followed: images go where the file says, and nowhere else
        with httpx.Client(headers=headers, timeout=timeout, verify=_trust(destination.tls)) as client:
            yield DicomwebOutlet(client, self._archive, destination.url.rstrip("/"))


class DicomwebOutlet:
    """Keeps its connections open between instances."""

    def __init__(self, client: httpx.Client, archive: SqlArchive, url: str) -> None:
        self._client = client
        self._archive = archive
        self._url = url

    def send(self, sop_instance_uid: str, alive: Callable[[], None]) -> str:
        """See `polyclinic.departments.routing.ports.Outlet.send`."""
        kept = self._archive.kept_file(sop_instance_uid)
        # Without a transfer-syntax parameter, which the file says itself: Orthanc ignores parts that have one
        head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        tail = f"\r\n--{_BOUNDARY}--\r\n".encode()

        def body() -> Iterator[bytes]:
            yield head
            for piece in self._archive.stream(kept):
                alive()
                yield bytes(piece)
            yield tail

        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}',
            "Content-Length": str(len(head) + self._archive.given_out(kept)[0] + len(tail)),
        }
        try:
            with self._client.stream("POST", f"{self._url}/studies", content=body(), headers=headers) as response:
                return _refusal(response, sop_instance_uid)
        except httpx.HTTPError as error:
            raise Unavailable(
                "routing.unreachable",
                "The DICOMweb destination does not answer: check address, network and certificate",
            ) from error


def _refusal(response: httpx.Response, sop_instance_uid: str) -> str:
    if response.status_code in (200, 202, 409):
        answer = _answer(response)
        if response.status_code != 409 and sop_instance_uid in _values(answer, _REFERENCED, _SOP_INSTANCE_UID):
            return ""
        reasons = [int(one) for one in _values(answer, _FAILED, _FAILURE_REASON) if one.isdecimal()]
        told = ", ".join(f"{reason:04X}H" for reason in reasons) or "not told"
        if reasons and all(0xA700 <= reason <= 0xA7FF for reason in reasons):
            raise Unavailable("routing.not-now", f"The destination could not keep it now (failure reason {told})")
        return f"The destination does not say that it has kept it (failure reason {told}): see its log"
    if response.status_code in _REFUSED:
        return f"The destination refuses it with HTTP status {response.status_code}: see its log"
    raise Unavailable(
        "routing.unreachable", f"The DICOMweb destination answered with HTTP status {response.status_code}"
    )


def _answer(response: httpx.Response) -> Any:
    """The store instances response (PS3.18 10.5.3); None when it is too long or no JSON."""
    gathered = b""
    for piece in response.iter_bytes():
        gathered += piece
        if len(gathered) > _LONGEST_ANSWER_BYTES:
            return None
    try:
        return orjson.loads(gathered)
    except orjson.JSONDecodeError:
        return None


def _values(answer: Any, sequence: str, element: str) -> list[str]:
    """The element of each item of a sequence in the DICOM JSON model; none where there is no such thing."""
    try:
        return [str(item[element]["Value"][0]) for item in answer[sequence].get("Value", ())]
    except (KeyError, TypeError, IndexError, AttributeError):
        return []


def _trust(files: TlsFiles | None) -> Any:
    """What httpx verifies the destination's certificate with."""
    return True if files is None else client_context(tls_settings(files))

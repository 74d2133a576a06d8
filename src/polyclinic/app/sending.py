"""Send a folder of DICOM files to a peer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from polyclinic.app.dicom_folder import dicom_files
from polyclinic.core.errors import Rejected
from polyclinic.edges.dimse.sender import Peer, send

_PREAMBLE_BYTES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """How a folder fared; names are relative to it."""

    sent: int
    failed: tuple[tuple[str, str], ...]
    """File and why the peer did not take it."""
    skipped: tuple[tuple[str, str], ...]
    """File and why it was not sent."""


def parse_peer(text: str) -> Peer:
    """``AE@host:port`` -> Peer.

    Raises
    ------
    Rejected
        ``send.bad-peer`` when it has another form.
    """
    match = re.fullmatch(r"(?P<ae>[^@\\\s]{1,16})@(?P<host>[^@\s]+):(?P<port>\d{1,5})", text)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise Rejected("send.bad-peer", "Write the receiver as AE@host:port, e.g. POLYCLINIC@127.0.0.1:11112")
    return Peer(ae_title=match["ae"], host=match["host"].strip("[]"), port=int(match["port"]))


def send_folder(
    folder: Path, to: str, on_progress: Callable[[int], None] = lambda _done: None, *, calling: str = "POLYCLINIC"
) -> Sent:
    """Send every DICOM file (PS3.10) below `folder` over one association.

    Raises
    ------
    Rejected
        ``folder.missing``, ``folder.no-dicom`` or ``send.bad-peer``.
    Unavailable
        The peer cannot be reached, refuses the association or stops answering.
    """
    peer = parse_peer(to)
    if not folder.is_dir():
        raise Rejected("folder.missing", f"There is no folder {folder}; give a folder of DICOM files")
    names: list[str] = []
    skipped: list[tuple[str, str]] = []

    def instances() -> Iterator[bytes]:
        for path in dicom_files(folder):
            name = str(path.relative_to(folder))
            content = path.read_bytes()
            if content[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] != b"DICM":
                skipped.append((name, "no DICOM file (PS3.10)"))
                continue
            names.append(name)
            yield content
            on_progress(len(names))

    statuses = send(instances(), peer, ae_title=calling)
    if not names:
        raise Rejected("folder.no-dicom", f"No file in {folder} is a DICOM file; give a folder of DICOM images")
    failed = tuple(
        (name, f"refused with status 0x{status.status:04X}")
        for name, status in zip(names, statuses, strict=True)
        if not status.kept
    )
    return Sent(sent=len(names) - len(failed), failed=failed, skipped=tuple(skipped))

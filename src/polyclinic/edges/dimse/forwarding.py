"""The way to a DICOM destination: kept instances by C-STORE, in a transfer syntax that it takes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from polyclinic.core.errors import Rejected, Unavailable
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.routing.contracts import Destination, TlsFiles
from polyclinic.edges.dimse.outgoing import Outgoing, instead_of, of_archive, rewritten
from polyclinic.edges.dimse.peers import Peer
from polyclinic.edges.dimse.sender import CONTEXT_REFUSED, Sender, SendStatus
from polyclinic.edges.dimse.tls import TlsSettings

_HERE_ALREADY = 0x0111
"""Duplicate SOP instance (PS3.7 C.5.6): what is wanted."""
_NOT_AUTHORISED = 0x0124
_WILL_NEVER_FIT = frozenset({_NOT_AUTHORISED, *range(0xA900, 0xAA00), *range(0xC000, 0xD000)})
"""Statuses that another attempt does not change (PS3.4 table B.2-1)."""


def tls_settings(files: TlsFiles) -> TlsSettings:
    """Certificates of a destination as a caller needs them."""
    return TlsSettings(
        certificate=Path(files.certificate_file) if files.certificate_file else None,
        key=Path(files.key_file) if files.key_file else None,
        authorities=Path(files.ca_file) if files.ca_file else None,
        check_host=files.verify_hostname,
    )


def peer_of(destination: Destination) -> Peer:
    """How a DICOM destination is called."""
    tls = tls_settings(destination.tls) if destination.tls else None
    return Peer(ae_title=destination.ae_title, host=destination.host, port=destination.port, tls=tls)


class DicomOutlets:
    """Port `polyclinic.departments.routing.ports.Outlets` by C-STORE."""

    def __init__(self, archive: SqlArchive, *, ae_title: str, reply_s: float = 60.0) -> None:
        self._archive = archive
        self._ae_title = ae_title
        self._reply_s = reply_s

    @contextmanager
    def open(self, destination: Destination, kinds: Collection[tuple[str, str]]) -> Iterator[DicomOutlet]:
        """See `Outlets.open`; one association for all where the peer accepts what is to be sent."""
        with Sender(peer_of(destination), ae_title=self._ae_title, reply_s=self._reply_s) as sender:
            sender.expect(sorted(kinds))
            yield DicomOutlet(sender, self._archive, destination.transfer_syntaxes)


class DicomOutlet:
    """An association that is opened with the first instance."""

    def __init__(self, sender: Sender, archive: SqlArchive, preferred: Sequence[str]) -> None:
        self._sender = sender
        self._archive = archive
        self._preferred = preferred

    def send(self, sop_instance_uid: str, alive: Callable[[], None]) -> str:
        """See `polyclinic.departments.routing.ports.Outlet.send`."""
        outgoing = _watched(of_archive(self._archive, self._archive.kept_file(sop_instance_uid)), alive)
        try:
            return _refusal(self._sender.store(self._preferred_form(outgoing)))
        except Rejected:
            return (
                f"It is kept in transfer syntax {outgoing.transfer_syntax_uid}, which the destination does not take, "
                "and cannot be decompressed here: let the destination accept that transfer syntax"
            )

    def _preferred_form(self, outgoing: Outgoing) -> Outgoing:
        """Uncompressed where the destination wants that; the sender finds a form that is taken by itself."""
        wanted = [syntax for syntax in self._preferred if syntax in instead_of(outgoing.transfer_syntax_uid)]
        if not wanted or outgoing.transfer_syntax_uid in self._preferred:
            return outgoing
        return rewritten(outgoing, wanted[0])


def _watched(outgoing: Outgoing, alive: Callable[[], None]) -> Outgoing:
    def pieces() -> Iterator[bytes | memoryview]:
        for piece in outgoing.pieces():
            alive()
            yield piece

    return replace(outgoing, pieces=pieces)


def _refusal(answer: SendStatus) -> str:
    if answer.kept or answer.status == _HERE_ALREADY:
        return ""
    if answer.status == CONTEXT_REFUSED:
        return (
            f"The destination takes neither SOP class {answer.sop_class_uid} nor a transfer syntax that it can be "
            "written in: let it accept them, or send it elsewhere"
        )
    if answer.status in _WILL_NEVER_FIT:
        return f"The destination refuses it with status {answer.status:04X}H: see its log"
    raise Unavailable("routing.not-now", f"The destination could not keep it now (status {answer.status:04X}H)")

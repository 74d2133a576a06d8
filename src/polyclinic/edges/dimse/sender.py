"""The sending side: C-STORE and C-ECHO to a peer, bytes as they are kept (PS3.4 B, A)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from polyclinic.core.errors import Unavailable
from polyclinic.edges.dimse import commands, negotiation, wire
from polyclinic.edges.dimse.commands import Command
from polyclinic.edges.dimse.connecting import connect
from polyclinic.edges.dimse.outgoing import Outgoing, instead_of, of_file, rewritten
from polyclinic.edges.dimse.peers import Peer
from polyclinic.edges.dimse.syntaxes import VERIFICATION
from polyclinic.edges.dimse.wire import FRAGMENT_BYTES, Aborted, Wire, fragment_bytes

__all__ = ["CONTEXT_REFUSED", "MAX_CONTEXTS", "Peer", "SendStatus", "Sender", "send"]

MAX_CONTEXTS = 128
CONTEXT_REFUSED = 0x0122
"""Status of an instance that was not sent, because the peer takes not its SOP class or transfer syntax (PS3.7 C)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendStatus:
    """What the peer answered for one instance (PS3.4 table B.2-1)."""

    sop_class_uid: str
    sop_instance_uid: str
    status: int

    @property
    def kept(self) -> bool:
        """Whether the peer has the instance: success, or a warning."""
        return self.status == 0 or 0xB000 <= self.status <= 0xBFFF


class Sender:
    """Associations with one peer; use it as a context manager.

    One association is kept open as long as the peer has accepted what is to be sent; an instance of another SOP class
    or transfer syntax opens a new one that proposes both.

    Raises
    ------
    Unavailable
        ``dimse.peer-unreachable``, ``dimse.peer-rejected`` or ``dimse.peer-lost``; try again later.
    """

    def __init__(
        self, peer: Peer, *, ae_title: str = "POLYCLINIC", connect_s: float = 10.0, reply_s: float = 60.0
    ) -> None:
        self._peer = peer
        self._ae_title = ae_title
        self._connect_s = connect_s
        self._reply_s = reply_s
        self._wire: Wire | None = None
        self._proposed: dict[tuple[str, str], int] = {}
        self._accepted: set[int] = set()
        self._fragment_bytes = FRAGMENT_BYTES
        self._message_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._release()
        elif self._wire is not None:
            self._wire.abort(wire.NOT_SPECIFIED)
            self._wire.close()

    def echo(self) -> None:
        """C-ECHO; raises `Unavailable` unless the peer answers success."""
        context_id = self._context(VERIFICATION, "1.2.840.10008.1.2")
        if context_id is None:
            raise Unavailable("dimse.peer-rejected", "The peer does not take C-ECHO: check its configuration")
        status = self._exchange(context_id, self._request(commands.C_ECHO_RQ, VERIFICATION))
        if status:
            raise Unavailable("dimse.peer-rejected", "The peer answered C-ECHO with a failure: check its log")

    def expect(self, kinds: Iterable[tuple[str, str]]) -> None:
        """Propose these SOP classes and transfer syntaxes with the next association, so that one serves them all."""
        for kind in kinds:
            wanted = _wanted(*kind)
            if len(self._proposed) + len(wanted) <= MAX_CONTEXTS and self._wire is None:
                self._propose(wanted)

    def store(self, instance: bytes | memoryview | Outgoing, originator: tuple[str, int] | None = None) -> SendStatus:
        """C-STORE of one DICOM file; raises `Rejected` when it is no such file.

        It is sent in the transfer syntax it is kept in. A peer that does not take that one gets an uncompressed one if
        it can be made; every peer must take the default transfer syntax (PS3.5 10.1). `originator` is AE title
        and message ID of the C-MOVE that this is part of.
        """
        outgoing = instance if isinstance(instance, Outgoing) else of_file(instance)
        context_id = self._context(outgoing.sop_class_uid, outgoing.transfer_syntax_uid)
        if context_id is None:
            for syntax in instead_of(outgoing.transfer_syntax_uid):
                context_id = self._context(outgoing.sop_class_uid, syntax)
                if context_id is not None:
                    outgoing = rewritten(outgoing, syntax)
                    break
        status = CONTEXT_REFUSED
        if context_id is not None:
            command = self._request(
                commands.C_STORE_RQ, outgoing.sop_class_uid, outgoing.sop_instance_uid, originator=originator
            )
            status = self._exchange(context_id, command, outgoing.pieces(), outgoing.size_bytes)
        return SendStatus(
            sop_class_uid=outgoing.sop_class_uid, sop_instance_uid=outgoing.sop_instance_uid, status=status
        )

    def _request(
        self,
        field: int,
        sop_class_uid: str,
        sop_instance_uid: str = "",
        originator: tuple[str, int] | None = None,
    ) -> bytes:
        self._message_id = self._message_id % 0xFFFF + 1
        values: dict[int, int | str] = {
            commands.AFFECTED_SOP_CLASS_UID: sop_class_uid,
            commands.COMMAND_FIELD: field,
            commands.MESSAGE_ID: self._message_id,
            commands.DATA_SET_TYPE: commands.HAS_DATA_SET if sop_instance_uid else commands.NO_DATA_SET,
        }
        if sop_instance_uid:
            values[commands.PRIORITY] = 0
            values[commands.AFFECTED_SOP_INSTANCE_UID] = sop_instance_uid
        if originator is not None:
            values[commands.MOVE_ORIGINATOR], values[commands.MOVE_ORIGINATOR_MESSAGE_ID] = originator
        return commands.encode(values)

    def _context(self, sop_class_uid: str, transfer_syntax_uid: str) -> int | None:
        """Id of the accepted context, None when the peer refuses it."""
        key = sop_class_uid, transfer_syntax_uid
        if self._wire is None or key not in self._proposed:
            wanted = _wanted(*key)
            if len(self._proposed.keys() | wanted) > MAX_CONTEXTS:
                self._proposed.clear()
            self._propose(wanted)
            self._associate()
        context_id = self._proposed[key]
        return context_id if context_id in self._accepted else None

    def _propose(self, wanted: list[tuple[str, str]]) -> None:
        # One context for each pair: the peer then says of every syntax whether it takes it
        for one in wanted:
            self._proposed.setdefault(one, 2 * len(self._proposed) + 1)

    def _associate(self) -> None:
        self._release()
        connection = connect(self._peer, timeout_s=self._connect_s)
        self._wire = Wire(connection, max_pdu_bytes=FRAGMENT_BYTES, idle_s=self._reply_s, pdu_s=self._reply_s)
        try:
            self._negotiate(self._wire)
        except Aborted as error:
            raise self._lost(error) from error

    def _negotiate(self, connection: Wire) -> None:
        proposed = [(context_id, *key) for key, context_id in self._proposed.items()]
        connection.send(
            negotiation.request_pdu(
                calling_ae_title=self._ae_title,
                called_ae_title=self._peer.ae_title,
                proposed=proposed,
                max_pdu_bytes=FRAGMENT_BYTES,
            )
        )
        kind, length = connection.next_pdu(idle=True)
        answer = connection.control(kind, length)
        if kind == wire.ASSOCIATE_RJ:
            connection.close()
            self._wire = None
            raise Unavailable(
                "dimse.peer-rejected",
                f"The peer rejects the association (result {answer[7]}, source {answer[8]}, reason {answer[9]}): "
                "check that both AE titles are known to it",
            )
        if kind != wire.ASSOCIATE_AC:
            raise Aborted("unexpected PDU", wire.UNEXPECTED_PDU)
        self._accepted, longest = negotiation.read_accept(answer)
        self._fragment_bytes = fragment_bytes(longest)

    def _exchange(
        self, context_id: int, command: bytes, pieces: Iterable[bytes | memoryview] = (), size: int = 0
    ) -> int:
        assert self._wire is not None
        try:
            self._wire.send_dataset(context_id, command, pieces, size=size, longest_bytes=self._fragment_bytes)
            return self._status(self._wire)
        except Aborted as error:
            raise self._lost(error) from error

    def _status(self, connection: Wire) -> int:
        kind, length = connection.next_pdu(idle=True)
        if kind != wire.P_DATA:
            raise Aborted("unexpected PDU", wire.UNEXPECTED_PDU)
        try:
            answer: Command = commands.decode(connection.command(length)[1])
        except ValueError as error:
            raise Aborted("malformed response", wire.INVALID_PARAMETER) from error
        status = answer.number(commands.STATUS)
        if answer.number(commands.MESSAGE_ID_RESPONDED_TO) != self._message_id or status is None:
            raise Aborted("a response to something else", wire.UNEXPECTED_PDU)
        return status

    def _lost(self, error: Aborted) -> Unavailable:
        if self._wire is not None:
            if error.reason is not None:
                self._wire.abort(error.reason)
            self._wire.close()
            self._wire = None
        return Unavailable("dimse.peer-lost", f"The association with the peer broke ({error.what}): send again")

    def _release(self) -> None:
        """A-RELEASE; a peer that does not answer it is left alone."""
        connection, self._wire = self._wire, None
        if connection is None:
            return
        with suppress(Aborted):
            connection.send(wire.RELEASE_RQ_PDU)
            connection.control(*connection.next_pdu(idle=False))
        connection.close()


def _wanted(sop_class_uid: str, transfer_syntax_uid: str) -> list[tuple[str, str]]:
    """Contexts to propose for an instance: its own transfer syntax, and others it can be written in."""
    wanted = [(sop_class_uid, transfer_syntax_uid)]
    if sop_class_uid != VERIFICATION:
        wanted += [(sop_class_uid, syntax) for syntax in instead_of(transfer_syntax_uid)]
    return wanted


def send(
    instances: Iterable[bytes],
    peer: Peer,
    *,
    ae_title: str = "POLYCLINIC",
    on_status: Callable[[SendStatus], None] | None = None,
) -> tuple[SendStatus, ...]:
    """Send DICOM files to a peer one after the other; `instances` is read as it goes, so it may be a generator.

    Returns
    -------
    tuple of SendStatus
        One for each instance, in order. An instance that the peer refuses does not stop the others.

    Raises
    ------
    Unavailable, Rejected
        See `Sender`. What was sent before has been kept by the peer, and is accepted by it again.
    """
    statuses: list[SendStatus] = []
    with Sender(peer, ae_title=ae_title) as sender:
        for part10 in instances:
            status = sender.store(part10)
            statuses.append(status)
            if on_status is not None:
                on_status(status)
    return tuple(statuses)

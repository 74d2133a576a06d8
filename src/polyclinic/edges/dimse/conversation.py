"""One DIMSE request and what goes back and forth until its last response: pending ones, cancels, sub-operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from polyclinic.departments.archive.incoming import Incoming
from polyclinic.edges.dimse import commands, wire
from polyclinic.edges.dimse.commands import Command
from polyclinic.edges.dimse.negotiation import Context
from polyclinic.edges.dimse.outgoing import Outgoing
from polyclinic.edges.dimse.statuses import Status
from polyclinic.edges.dimse.wire import Aborted, Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response: status, further command elements of this response only, and an encoded dataset if there is one."""

    status: Status
    more: Mapping[int, int | str] = field(default_factory=dict)
    dataset: bytes = b""


@dataclass(slots=True)
class Request:
    """One DIMSE request with its dataset, which is valid until the service returns."""

    peer: str
    """Calling AE title, safe to log."""
    context_id: int
    context: Context
    command: Command
    dataset: memoryview | None
    incoming: Incoming | None = None
    """The dataset of a C-STORE as the archive has taken it while it arrived."""


class Conversation:
    """The exchange about one request.

    Parameters
    ----------
    connection, request
        The association's connection and what was asked on it.
    fragment_bytes
        Most bytes of a dataset that the peer takes in one PDU.
    """

    def __init__(self, connection: Wire, request: Request, *, fragment_bytes: int) -> None:
        self._wire = connection
        self._request = request
        self._fragment_bytes = fragment_bytes
        self._message_id = 0
        self._cancelled = False

    def respond(self, answer: Answer) -> None:
        """Send a response."""
        has_data_set = bool(answer.dataset)
        command = commands.response(self._request.command, answer.status, answer.more, has_data_set=has_data_set)
        self._send(self._request.context_id, command, [answer.dataset] if has_data_set else [], len(answer.dataset))

    def is_cancelled(self) -> bool:
        """Whether the peer has cancelled the request by now; does not wait."""
        while not self._cancelled and self._wire.has_input():
            self._read(waiting=False)
        return self._cancelled

    def store(self, context_id: int, outgoing: Outgoing, pieces: Iterable[bytes | memoryview], size_bytes: int) -> int:
        """C-STORE to the requestor on its own association; the status it answers. A cancel meanwhile is noted."""
        self._message_id = self._message_id % 0xFFFF + 1
        command = commands.encode(
            {
                commands.AFFECTED_SOP_CLASS_UID: outgoing.sop_class_uid,
                commands.COMMAND_FIELD: commands.C_STORE_RQ,
                commands.MESSAGE_ID: self._message_id,
                commands.PRIORITY: 0,
                commands.DATA_SET_TYPE: commands.HAS_DATA_SET,
                commands.AFFECTED_SOP_INSTANCE_UID: outgoing.sop_instance_uid,
            }
        )
        self._send(context_id, command, pieces, size_bytes)
        while True:
            status = self._read(waiting=True)
            if status is not None:
                return status

    def _send(self, context_id: int, command: bytes, pieces: Iterable[bytes | memoryview], size: int) -> None:
        self._wire.send_dataset(context_id, command, pieces, size=size, longest_bytes=self._fragment_bytes)

    def _read(self, *, waiting: bool) -> int | None:
        """Read one command: None for a cancel, else the status of the sub-operation that is `waiting`."""
        kind, length = self._wire.next_pdu(idle=True)
        if kind != wire.P_DATA:
            raise Aborted("unexpected PDU", wire.UNEXPECTED_PDU)
        _, encoded, left = self._wire.command(length)
        try:
            command = commands.decode(encoded)
        except ValueError as error:
            raise Aborted("malformed command", wire.INVALID_PARAMETER) from error
        if left or command.has_data_set:
            raise Aborted("a request while another is served", wire.UNEXPECTED_PDU)
        answered = command.number(commands.MESSAGE_ID_RESPONDED_TO)
        kind = command.number(commands.COMMAND_FIELD) or 0
        if kind == commands.C_CANCEL_RQ:
            # A cancel of something else came too late for it
            self._cancelled |= answered == self._request.command.number(commands.MESSAGE_ID)
            return None
        status = command.number(commands.STATUS)
        is_reply = waiting and kind == commands.C_STORE_RQ | commands.RESPONSE and answered == self._message_id
        if not is_reply or status is None:
            raise Aborted("a command that nobody waits for", wire.UNEXPECTED_PDU)
        return status

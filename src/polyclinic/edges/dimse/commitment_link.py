"""Associations for storage commitment that we open: to report a result, and to ask another node (PS3.4 J.3)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from polyclinic.core.errors import PolyclinicError, Rejected, Unavailable
from polyclinic.edges.dimse import commands, commitment, negotiation, wire
from polyclinic.edges.dimse.commitment_store import Commitments, Reference
from polyclinic.edges.dimse.connecting import connect
from polyclinic.edges.dimse.conversation import Answer, Conversation, Request
from polyclinic.edges.dimse.negotiation import Context
from polyclinic.edges.dimse.peers import Peer
from polyclinic.edges.dimse.spool import Spool, TooLarge
from polyclinic.edges.dimse.syntaxes import COMMITMENT_PUSH, COMMITMENT_PUSH_INSTANCE
from polyclinic.edges.dimse.wire import FRAGMENT_BYTES, Aborted, Wire, fragment_bytes

_SYNTAXES = {1: "1.2.840.10008.1.2.1", 3: "1.2.840.10008.1.2"}
"""Proposed transfer syntaxes by presentation context id."""


class _Released(Aborted):
    """The peer has ended the association; it will report on one of its own."""


class CommitmentLink:
    """One association for storage commitment that we open; use it as a context manager.

    Parameters
    ----------
    serving
        Whether we report (SCP) rather than ask (SCU).

    Raises
    ------
    Unavailable
        ``dimse.peer-unreachable``, ``dimse.peer-rejected`` or ``dimse.peer-lost``.
    Rejected
        ``dimse.no-commitment`` when the peer does not do storage commitment.
    """

    def __init__(self, peer: Peer, *, ae_title: str, serving: bool, reply_s: float = 60.0) -> None:
        self._peer = peer
        connection = connect(peer, timeout_s=10.0)
        self.wire = Wire(connection, max_pdu_bytes=FRAGMENT_BYTES, idle_s=reply_s, pdu_s=reply_s)
        try:
            self._associate(ae_title, serving)
        except Aborted as error:
            self.wire.close()
            raise Unavailable("dimse.peer-lost", f"The association broke ({error.what}): try again") from error
        except PolyclinicError:
            self.wire.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            with suppress(Aborted):
                self.wire.send(wire.RELEASE_RQ_PDU)
                self.wire.control(*self.wire.next_pdu(idle=True))
        elif kind is not Aborted:
            self.wire.abort(wire.NOT_SPECIFIED)
        self.wire.close()

    def _associate(self, ae_title: str, serving: bool) -> None:
        self.wire.send(
            negotiation.request_pdu(
                calling_ae_title=ae_title,
                called_ae_title=self._peer.ae_title,
                proposed=[(number, COMMITMENT_PUSH, syntax) for number, syntax in _SYNTAXES.items()],
                max_pdu_bytes=FRAGMENT_BYTES,
                serving=(COMMITMENT_PUSH,) if serving else (),
            )
        )
        kind, length = self.wire.next_pdu(idle=True)
        answer = self.wire.control(kind, length)
        if kind == wire.ASSOCIATE_RJ:
            raise Unavailable(
                "dimse.peer-rejected", "The peer rejects the association: check that both AE titles are known to it"
            )
        if kind != wire.ASSOCIATE_AC:
            raise Aborted("unexpected PDU", wire.UNEXPECTED_PDU)
        accepted, longest = negotiation.read_accept(answer)
        if not accepted or (serving and COMMITMENT_PUSH not in negotiation.read_served(answer)):
            raise Rejected("dimse.no-commitment", "The peer does not take part in storage commitment in this role")
        self.context_id = min(accepted)
        self.context = Context(
            abstract_syntax=COMMITMENT_PUSH,
            transfer_syntax=_SYNTAXES[self.context_id],
            peer_is_scu=serving,
            peer_is_scp=not serving,
        )
        self.fragment_bytes = fragment_bytes(longest)


def request_commitment(
    peer: Peer,
    instances: Sequence[Reference],
    *,
    commitments: Commitments,
    transaction_uid: str,
    ae_title: str = "POLYCLINIC",
    wait_s: float = 5.0,
) -> bool:
    """Ask a peer to take responsibility for instances it has been sent.

    The answer comes on this association while it waits, or later on one that the peer opens to our node; either way it
    is found by `Commitments.result`.

    Parameters
    ----------
    transaction_uid
        New for each request; see `polyclinic.core.ids.stable_uid` for one that survives a repeated step.
    wait_s
        How long to keep the association open for the answer.

    Returns
    -------
    bool
        Whether the answer is there.

    Raises
    ------
    Unavailable, Rejected
        See `CommitmentLink`; `Rejected` (``dimse.commitment-refused``) too when the peer refuses the request.
    Conflict
        ``dimse.transaction-in-use``.
    """
    commitments.expect(peer.ae_title, transaction_uid, instances)
    with CommitmentLink(peer, ae_title=ae_title, serving=False) as link:
        dataset = commitment.action_information(transaction_uid, instances, link.context.transfer_syntax)
        command = commands.encode(
            {
                commands.REQUESTED_SOP_CLASS_UID: COMMITMENT_PUSH,
                commands.COMMAND_FIELD: commands.N_ACTION_RQ,
                commands.MESSAGE_ID: 1,
                commands.DATA_SET_TYPE: commands.HAS_DATA_SET,
                commands.REQUESTED_SOP_INSTANCE_UID: COMMITMENT_PUSH_INSTANCE,
                commands.ACTION_TYPE_ID: commitment.REQUEST_COMMITMENT,
            }
        )
        try:
            link.wire.send_dataset(
                link.context_id, command, [dataset], size=len(dataset), longest_bytes=link.fragment_bytes
            )
            status = commitment.response_status(link.wire, commands.N_ACTION_RQ, 1)
            if status:
                raise Rejected(
                    "dimse.commitment-refused", f"The peer refuses storage commitment (status {status:04X}H): ask again"
                )
            commitments.accepted(peer.ae_title, transaction_uid)
            return link.wire.waits_for_input(wait_s) and _take_event(link, peer, commitments)
        except _Released:
            return False
        except Aborted as error:
            raise Unavailable("dimse.peer-lost", f"The association broke ({error.what}): ask again") from error


def _take_event(link: CommitmentLink, peer: Peer, commitments: Commitments) -> bool:
    """Read the N-EVENT-REPORT that has come and answer it; the peer may have released instead."""
    kind, length = link.wire.next_pdu(idle=True)
    if kind == wire.RELEASE_RQ:
        link.wire.control(kind, length)
        link.wire.send(wire.RELEASE_RP_PDU)
        raise _Released("released by the peer")
    if kind != wire.P_DATA:
        raise Aborted("unexpected PDU", wire.UNEXPECTED_PDU)
    context_id, encoded, left = link.wire.command(length)
    try:
        command = commands.decode(encoded)
    except ValueError as error:
        raise Aborted("malformed command", wire.INVALID_PARAMETER) from error
    if command.number(commands.COMMAND_FIELD) != commands.N_EVENT_REPORT_RQ or not command.has_data_set:
        raise Aborted("a command that nobody waits for", wire.UNEXPECTED_PDU)
    spool = Spool(limit_bytes=commitment.LONGEST_BYTES)
    try:
        link.wire.dataset(context_id, spool, left)
    except TooLarge as error:
        raise Aborted("over-long dataset", wire.NOT_SPECIFIED) from error
    request = Request(peer.ae_title, context_id, link.context, command, spool.view())
    status = commitment.take_report(request, commitments)
    request.dataset = None
    Conversation(link.wire, request, fragment_bytes=link.fragment_bytes).respond(Answer(status=status))
    return not status.code

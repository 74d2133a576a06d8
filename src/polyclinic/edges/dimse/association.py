"""One accepted association from its request to its end, in a thread of its own."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from polyclinic.core.errors import PolyclinicError
from polyclinic.core.ids import is_uid_lenient
from polyclinic.departments.access.audit_window import Recorder
from polyclinic.departments.archive.contracts import Receipt
from polyclinic.departments.archive.incoming import Incoming
from polyclinic.edges.dimse import commands, commitment, negotiation, performed, query, retrieve, wire, worklist
from polyclinic.edges.dimse.accesses import Accesses
from polyclinic.edges.dimse.conversation import Answer, Conversation, Request
from polyclinic.edges.dimse.negotiation import Context
from polyclinic.edges.dimse.peers import KnownPeer, Peer, allowed_services
from polyclinic.edges.dimse.sources import Sources
from polyclinic.edges.dimse.spool import Spool, TooLarge
from polyclinic.edges.dimse.statuses import (
    KEPT_ASIDE,
    MISTYPED_ARGUMENT,
    NO_SUCH_SOP_CLASS,
    PROCESSING_FAILURE,
    SUCCESS,
    UNRECOGNISED_OPERATION,
    Refused,
    Status,
    status_of,
)
from polyclinic.edges.dimse.syntaxes import FIND, GET, MOVE, VERIFICATION, WORKLIST_FIND, is_storage
from polyclinic.edges.dimse.tls import TlsConnection
from polyclinic.edges.dimse.wire import FRAGMENT_BYTES, Aborted, Wire, fragment_bytes

log = structlog.get_logger(__name__)


SourceOf = Callable[[str, str, bytes | memoryview, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Who may connect and how long the node waits."""

    ae_title: str
    known_peers: Mapping[str, KnownPeer] | None = None
    """Who is let in, by calling AE title; None lets everybody in."""
    check_called_ae_title: bool = False
    max_pdu_bytes: int = 131072
    max_associations: int = 64
    idle_s: float = 120.0
    pdu_s: float = 30.0
    artim_s: float = 2.0
    """How long a peer may take to close the connection once the association has ended."""
    spool_memory_bytes: int = 64 * 1024 * 1024
    max_dataset_bytes: int = 8 * 1024**3 - 4096
    max_matches: int = 50_000
    """Responses to one C-FIND, and instances of one C-GET or C-MOVE."""
    move_destinations: Mapping[str, Peer] = field(default_factory=dict)
    """Where C-MOVE may send to, by AE title."""
    source_of: SourceOf = lambda peer, originator, dataset, syntax: peer
    """Source to be noted for an instance, from calling AE title, move originator, dataset and transfer syntax; what it
    raises refuses the instance."""
    recorder: Recorder | None = None
    """Where what peers do is noted for the audit ledger."""
    report_after_s: float = 1.0
    """How long a peer may be quiet before it is told the result of a storage commitment on the same association."""


class Association:
    """Serves one peer. `run` returns when the association has ended, however it ended."""

    def __init__(
        self,
        connection: socket.socket | TlsConnection,
        sources: Sources,
        policy: Policy,
        *,
        host: str = "",
        crowded: bool = False,
    ) -> None:
        self._connection = connection
        self._wire = Wire(connection, max_pdu_bytes=policy.max_pdu_bytes, idle_s=policy.idle_s, pdu_s=policy.pdu_s)
        self._sources = sources
        self._archive = sources.archive
        self._policy = policy
        self._host = host
        self._crowded = crowded
        self._known: KnownPeer | None = None
        self._owed: list[str] = []
        self._peer = ""
        self._accesses = Accesses(policy.recorder, host)
        self._number: int | None = None
        self._spool = Spool(memory_bytes=policy.spool_memory_bytes, limit_bytes=policy.max_dataset_bytes)
        self._contexts: dict[int, Context] = {}
        self._fragment_bytes = FRAGMENT_BYTES
        self.stored = 0
        self.refused = 0

    def run(self) -> None:
        """Negotiate, then answer requests until release, abort or silence."""
        reason = "released"
        try:
            if self._negotiated():
                self._number = self._archive.arrivals.opened()
                while self._served_one():
                    pass
            else:
                reason = "rejected"
        except Aborted as aborted:
            reason = aborted.what
            if aborted.reason is not None:
                self._wire.abort(aborted.reason)
        except Exception as error:  # noqa: BLE001 - whatever broke ends this association only
            reason = "failed"
            log.error("dimse.association-failed", peer=self._peer, **_what_broke(error))
            self._wire.abort(wire.NOT_SPECIFIED)
        finally:
            if self._number is not None:
                self._note(self._archive.arrivals.closed(self._number))
            if self._owed and self._sources.commitments is not None:
                self._sources.commitments.report_elsewhere(self._peer, self._owed)
            self._wire.finish(self._policy.artim_s)
            self._spool.clear()
            log.info(
                "dimse.association-ended", peer=self._peer, reason=reason, stored=self.stored, refused=self.refused
            )

    def _note(self, studies: frozenset[str]) -> None:
        try:
            self._accesses.stored(studies, self.stored, self.refused)
        except PolyclinicError as error:
            # What is stored is stored; the index says from whom each instance came.
            log.error("dimse.audit-failed", peer=self._peer, code=error.code)

    def close(self) -> None:
        """End the association from another thread."""
        self._wire.interrupt()

    def _negotiated(self) -> bool:
        if isinstance(self._connection, TlsConnection):
            try:
                self._connection.handshake(self._policy.pdu_s)
            except OSError as error:
                raise Aborted("no TLS handshake") from error
        kind, length = self._wire.next_pdu(idle=False)
        if kind != wire.ASSOCIATE_RQ:
            raise Aborted("no A-ASSOCIATE-RQ", wire.UNEXPECTED_PDU)
        proposal = negotiation.read_request(self._wire.control(kind, length))
        self._peer = self._accesses.peer = _printable(proposal.calling_ae_title)
        refusal = self._refusal(proposal)
        if refusal is not None:
            self._accesses.rejected("/".join(map(str, refusal)))
            self._wire.send(negotiation.rejection_pdu(refusal))
            return False
        offered = self._sources.services
        answers, self._contexts = negotiation.negotiate(
            proposal, offered=offered, allowed=allowed_services(self._known, offered)
        )
        self._fragment_bytes = fragment_bytes(proposal.max_pdu_bytes)
        self._wire.send(negotiation.accept_pdu(proposal, answers, self._policy.max_pdu_bytes))
        return True

    def _refusal(self, proposal: negotiation.Proposal) -> tuple[int, int, int] | None:
        if self._crowded:
            return negotiation.REJECT_LOCAL_LIMIT
        if proposal.application_context != negotiation.APPLICATION_CONTEXT:
            return negotiation.REJECT_APPLICATION_CONTEXT
        if self._policy.check_called_ae_title and proposal.called_ae_title != self._policy.ae_title:
            return negotiation.REJECT_CALLED_AE
        if self._policy.known_peers is not None:
            self._known = self._policy.known_peers.get(proposal.calling_ae_title)
            if self._known is None or not self._is_itself(self._known):
                return negotiation.REJECT_CALLING_AE
        return None

    def _is_itself(self, known: KnownPeer) -> bool:
        secure = isinstance(self._connection, TlsConnection)
        certificate = self._connection.certificate_sha256 if isinstance(self._connection, TlsConnection) else None
        if known.may_call_from(self._host) and known.is_proven(certificate, secure=secure):
            return True
        log.warning("dimse.not-itself", peer=known.ae_title, secure=secure)
        return False

    def _served_one(self) -> bool:
        if self._owed and not self._wire.waits_for_input(self._policy.report_after_s):
            self._report()
        kind, length = self._wire.next_pdu(idle=True)
        if kind == wire.RELEASE_RQ:
            self._wire.control(kind, length)
            self._wire.send(wire.RELEASE_RP_PDU)
            return False
        if kind != wire.P_DATA:
            raise Aborted("unexpected PDU", wire.UNEXPECTED_PDU)
        context_id, encoded, left = self._wire.command(length)
        context = self._contexts.get(context_id)
        if context is None:
            raise Aborted("a context that was not accepted", wire.INVALID_PARAMETER)
        try:
            command = commands.decode(encoded)
        except ValueError as error:
            raise Aborted("malformed command", wire.INVALID_PARAMETER) from error
        request = Request(self._peer, context_id, context, command, None, self._incoming(context, command))
        try:
            if command.has_data_set:
                self._gather(request, left)
            elif left:
                raise Aborted("bytes after a command", wire.UNEXPECTED_PDU)
            self._answer(request)
        finally:
            if request.incoming is not None:
                request.incoming.abandon()
        return True

    def _incoming(self, context: Context, command: commands.Command) -> Incoming | None:
        """The archive's hold on a dataset that is about to arrive, if it is one for it."""
        sop_class_uid = command.uid(commands.AFFECTED_SOP_CLASS_UID)
        sop_instance_uid = command.uid(commands.AFFECTED_SOP_INSTANCE_UID)
        is_store = command.number(commands.COMMAND_FIELD) == commands.C_STORE_RQ and is_storage(context.abstract_syntax)
        if not is_store or sop_class_uid != context.abstract_syntax or not is_uid_lenient(sop_instance_uid):
            return None
        return self._archive.incoming(
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=context.transfer_syntax,
            source=self._peer,
        )

    def _gather(self, request: Request, left: int) -> None:
        take = None if request.incoming is None else request.incoming.take
        try:
            self._wire.dataset(request.context_id, self._spool, left, take)
        except TooLarge as error:
            raise Aborted("over-long dataset", wire.NOT_SPECIFIED) from error
        request.dataset = self._spool.view()

    def _answer(self, request: Request) -> None:
        field_ = request.command.number(commands.COMMAND_FIELD)
        if field_ is None or (request.command.number(commands.MESSAGE_ID) is None and field_ != commands.C_CANCEL_RQ):
            raise Aborted("malformed command", wire.INVALID_PARAMETER)
        if field_ == commands.C_CANCEL_RQ:
            return  # it came after the last response; a cancel in time is seen by `Conversation`
        if field_ & commands.RESPONSE:
            raise Aborted("a response that nobody waits for", wire.UNEXPECTED_PDU)
        service = SERVICES.get(field_)
        try:
            answer = UNRECOGNISED_OPERATION if service is None else service(self, request)
        finally:
            request.dataset = None
            self._spool.clear()
        self._conversation(request).respond(answer if isinstance(answer, Answer) else Answer(status=answer))

    def _conversation(self, request: Request) -> Conversation:
        return Conversation(self._wire, request, fragment_bytes=self._fragment_bytes)

    def echo(self, request: Request) -> Status:
        """C-ECHO (PS3.4 A)."""
        return SUCCESS if request.context.abstract_syntax == VERIFICATION else NO_SUCH_SOP_CLASS

    def store(self, request: Request) -> Status:
        """C-STORE (PS3.4 B): success once bytes and index row are durable."""
        sop_class_uid = request.command.uid(commands.AFFECTED_SOP_CLASS_UID)
        sop_instance_uid = request.command.uid(commands.AFFECTED_SOP_INSTANCE_UID)
        if request.dataset is None or not sop_class_uid or not sop_instance_uid:
            return MISTYPED_ARGUMENT
        if not is_storage(request.context.abstract_syntax) or sop_class_uid != request.context.abstract_syntax:
            return NO_SUCH_SOP_CLASS
        try:
            receipt = self._archive.store_dataset(
                request.dataset,
                sop_class_uid=sop_class_uid,
                sop_instance_uid=sop_instance_uid,
                transfer_syntax_uid=request.context.transfer_syntax,
                source=self._policy.source_of(
                    self._peer,
                    request.command.uid(commands.MOVE_ORIGINATOR),
                    request.dataset,
                    request.context.transfer_syntax,
                ),
                association=self._number,
                incoming=request.incoming,
            )
        except PolyclinicError as error:
            self.refused += 1
            log.warning("dimse.store-refused", peer=self._peer, code=error.code, size_bytes=len(request.dataset))
            return status_of(error)
        except Exception as error:  # noqa: BLE001 - whatever broke refuses this instance only
            self.refused += 1
            log.error("dimse.store-failed", peer=self._peer, size_bytes=len(request.dataset), **_what_broke(error))
            return PROCESSING_FAILURE
        self.stored += 1
        return KEPT_ASIDE if receipt is Receipt.KEPT_ASIDE else SUCCESS

    def find(self, request: Request) -> Status:
        """C-FIND (PS3.4 C.4.1, K.4.1)."""
        if request.context.abstract_syntax not in FIND | {WORKLIST_FIND}:
            return NO_SUCH_SOP_CLASS
        self._accesses.searches(request)
        conversation = self._conversation(request)
        limit, ae_title = self._policy.max_matches, self._policy.ae_title
        terms = self._known.character_sets if self._known is not None else ()
        if request.context.abstract_syntax == WORKLIST_FIND:
            return worklist.find(conversation, request, self._sources, character_sets=terms, limit=limit)
        return query.find(conversation, request, self._archive, ae_title=ae_title, character_sets=terms, limit=limit)

    def get(self, request: Request) -> Status | Answer:
        """C-GET (PS3.4 C.4.3): instances go to the requestor on this association."""
        if request.context.abstract_syntax not in GET:
            return NO_SUCH_SOP_CLASS
        self._accesses.retrieves("dimse.get", request)
        conversation = self._conversation(request)
        return retrieve.get(conversation, request, self._archive, self._contexts, limit=self._policy.max_matches)

    def move(self, request: Request) -> Status | Answer:
        """C-MOVE (PS3.4 C.4.2): instances go to a configured destination on an association of its own."""
        if request.context.abstract_syntax not in MOVE:
            return NO_SUCH_SOP_CLASS
        destination = self._policy.move_destinations.get(request.command.uid(commands.MOVE_DESTINATION))
        if destination is not None:
            self._accesses.retrieves("dimse.move", request, destination.ae_title)
        conversation = self._conversation(request)
        limit, ae_title = self._policy.max_matches, self._policy.ae_title
        return retrieve.move(conversation, request, self._archive, destination, ae_title=ae_title, limit=limit)

    def perform(self, request: Request) -> Status | Answer:
        """N-CREATE, N-SET and N-GET of a performed procedure step (PS3.4 F.7, F.8)."""
        return performed.answer(request, self._sources)

    def commit(self, request: Request) -> Status | Answer:
        """N-ACTION of storage commitment (PS3.4 J.3.2): the result follows by itself."""
        try:
            asked = commitment.ask(request, self._sources)
        except Refused as refused:
            return refused.status
        if asked not in self._owed:
            self._owed.append(asked)
        return SUCCESS

    def reported(self, request: Request) -> Status | Answer:
        """N-EVENT-REPORT of storage commitment that we asked for (PS3.4 J.3.3)."""
        return commitment.take_report(request, self._sources.commitments)

    def _report(self) -> None:
        """N-EVENT-REPORT of what this peer has asked to be committed, on this association."""
        context_id = commitment.context_for(self._contexts)
        if context_id is None or self._sources.commitments is None:
            return
        while self._owed:
            report = self._sources.commitments.judged(self._peer, self._owed[0], self._archive)
            if report is not None:
                commitment.send_report(
                    self._wire,
                    context_id,
                    self._contexts[context_id],
                    report,
                    ae_title=self._policy.ae_title,
                    fragment_bytes=self._fragment_bytes,
                )
                self._sources.commitments.told(report)
            del self._owed[0]


Service = Callable[[Association, Request], Status | Answer]
SERVICES: Mapping[int, Service] = {
    commands.C_ECHO_RQ: Association.echo,
    commands.C_STORE_RQ: Association.store,
    commands.C_FIND_RQ: Association.find,
    commands.C_GET_RQ: Association.get,
    commands.C_MOVE_RQ: Association.move,
    commands.N_CREATE_RQ: Association.perform,
    commands.N_SET_RQ: Association.perform,
    commands.N_GET_RQ: Association.perform,
    commands.N_ACTION_RQ: Association.commit,
    commands.N_EVENT_REPORT_RQ: Association.reported,
}
"""What answers each command field; what a service returns is the last response."""


def _printable(ae_title: str) -> str:
    return "".join(c for c in ae_title if c.isascii() and c.isprintable())[:16]


def _what_broke(error: Exception) -> dict[str, str]:
    """Kind and place of an unexpected error for the log; never its text, which may quote the data set."""
    return {"error": type(error).__name__, "frames": "".join(traceback.format_tb(error.__traceback__))}

"""C-GET and C-MOVE of the patient root and study root information models (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy.exc import SQLAlchemyError

from polyclinic.core.errors import PolyclinicError, Unavailable
from polyclinic.departments.archive.search import Level, Match, Query, find_kept
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse import commands
from polyclinic.edges.dimse.conversation import Answer, Conversation, Request
from polyclinic.edges.dimse.identifier import BadIdentifier, encode_identifier, read_identifier
from polyclinic.edges.dimse.negotiation import Context
from polyclinic.edges.dimse.outgoing import Outgoing, instead_of, of_archive, rewritten
from polyclinic.edges.dimse.query import Mismatch, level_of, levels_above, unique_key
from polyclinic.edges.dimse.sender import CONTEXT_REFUSED, Peer, Sender
from polyclinic.edges.dimse.statuses import (
    CANCELLED,
    DESTINATION_LOST,
    MISTYPED_ARGUMENT,
    NONE_SENT,
    NOT_COUNTED,
    PENDING,
    SOME_FAILED,
    SUCCESS,
    UNABLE,
    UNKNOWN_DESTINATION,
    UNREADABLE_IDENTIFIER,
    Status,
    mismatch,
)

log = structlog.get_logger(__name__)

_LONGEST_LIST_BYTES = 0xFFFE
_WARNINGS = frozenset({0x0107, 0x0116, *range(0xB000, 0xC000)})
"""Statuses that tell of something, but the peer has the instance (PS3.7 C.4)."""

Store = Callable[[Outgoing], int]
"""Sends one instance and tells the status that was answered."""


@dataclass(slots=True)
class Tally:
    """How the sub-operations fare."""

    total: int
    completed: int = 0
    warnings: int = 0
    failed: list[str] = field(default_factory=list)

    @property
    def remaining(self) -> int:
        return self.total - self.completed - self.warnings - len(self.failed)

    def add(self, sop_instance_uid: str, status: int) -> None:
        """Count what was answered for one instance."""
        if status == 0:
            self.completed += 1
        elif status in _WARNINGS:
            self.warnings += 1
        else:
            self.failed.append(sop_instance_uid)

    def counts(self, *, remaining: bool) -> dict[int, int]:
        """Numbers of sub-operations; what remains is told while there is something (PS3.4 C.4.3.1.4)."""
        counts = {
            commands.COMPLETED: self.completed,
            commands.FAILED: len(self.failed),
            commands.WARNING: self.warnings,
        }
        return counts | {commands.REMAINING: self.remaining} if remaining else counts

    def outcome(self) -> Status:
        """The last status when nothing has ended the work before."""
        if self.failed and not self.completed and not self.warnings:
            return NONE_SENT
        return SOME_FAILED if self.failed or self.warnings else SUCCESS


def get(
    conversation: Conversation, request: Request, archive: SqlArchive, contexts: Mapping[int, Context], *, limit: int
) -> Status | Answer:
    """Answer C-GET over the contexts on which the requestor takes C-STORE."""

    def store(outgoing: Outgoing) -> int:
        context_id = _context_for(outgoing, contexts)
        if context_id is None:
            return CONTEXT_REFUSED
        syntax = contexts[context_id].transfer_syntax
        if syntax != outgoing.transfer_syntax_uid:
            outgoing = rewritten(outgoing, syntax)
        return conversation.store(context_id, outgoing, outgoing.pieces(), outgoing.size_bytes)

    found = _instances(request, archive, limit)
    if isinstance(found, Status):
        return found
    tally = Tally(total=len(found))
    status = _send_all(conversation, archive, found, tally, store)
    return _last(request, tally, status, destination="")


def move(
    conversation: Conversation,
    request: Request,
    archive: SqlArchive,
    destination: Peer | None,
    *,
    ae_title: str,
    limit: int,
) -> Status | Answer:
    """Answer C-MOVE; without a `destination` that is known it is refused."""
    if destination is None:
        return UNKNOWN_DESTINATION
    found = _instances(request, archive, limit)
    if isinstance(found, Status):
        return found
    tally = Tally(total=len(found))
    originator = request.peer, request.command.number(commands.MESSAGE_ID) or 0
    try:
        with Sender(destination, ae_title=ae_title) as sender:
            sender.expect({(one.sop_class_uid, one.transfer_syntax_uid) for one in found})
            status = _send_all(
                conversation, archive, found, tally, lambda outgoing: sender.store(outgoing, originator).status
            )
    except Unavailable as error:
        log.warning("dimse.move-broken", peer=request.peer, destination=destination.ae_title, code=error.code)
        done = tally.total - tally.remaining
        tally.failed += [one.sop_instance_uid for one in found[done:]]
        status = SOME_FAILED if tally.completed or tally.warnings else DESTINATION_LOST
    return _last(request, tally, status, destination=destination.ae_title)


def _instances(request: Request, archive: SqlArchive, limit: int) -> list[Match] | Status:
    """What the identifier names, or the status that refuses it."""
    if request.dataset is None:
        return MISTYPED_ARGUMENT
    try:
        query = _named(request, limit=limit + 1)
        found = find_kept(archive.engine, query)
    except BadIdentifier:
        return UNREADABLE_IDENTIFIER
    except Mismatch as error:
        return mismatch(str(error))
    except SQLAlchemyError as error:
        log.warning("dimse.retrieve-failed", peer=request.peer, error=type(error).__name__)
        return UNABLE
    return NOT_COUNTED if len(found) > limit else found


def _named(request: Request, *, limit: int) -> Query:
    """Unique keys of the level and of those above; only UIDs of the level itself may be several (PS3.4 C.4.2.1.4)."""
    assert request.dataset is not None
    identifier = read_identifier(request.dataset, request.context.transfer_syntax)
    level = level_of(identifier)
    named: dict[str, str] = {}
    for one in (*levels_above(level, request.context.abstract_syntax), level):
        keyword = unique_key(one)
        value = identifier.keys.get(keyword, "")
        several = "\\" in value and (one is not level or level is Level.PATIENT)
        if set(value) & set("*?") or several:
            raise Mismatch(f"{keyword} must name one entity, without wildcards")
        if value.strip("\\"):
            named[keyword] = value
        elif one is level or not request.context.relational:
            raise Mismatch(f"Level {level} needs {keyword}")
    if "PatientID" in named and (issuer := identifier.keys.get("IssuerOfPatientID", "")):
        named["IssuerOfPatientID"] = issuer
    return Query(matches=named, limit=limit)


def _send_all(
    conversation: Conversation, archive: SqlArchive, found: Sequence[Match], tally: Tally, store: Store
) -> Status:
    for one in found:
        if conversation.is_cancelled():
            return CANCELLED
        try:
            status = store(of_archive(archive, archive.kept_file(one.sop_instance_uid)))
        except Unavailable:
            raise
        except PolyclinicError as error:
            log.warning("dimse.instance-not-sent", code=error.code, sop_class_uid=one.sop_class_uid)
            status = UNABLE.code
        tally.add(one.sop_instance_uid, status)
        if tally.remaining:
            conversation.respond(Answer(status=PENDING, more=tally.counts(remaining=True)))
    return tally.outcome()


def _last(request: Request, tally: Tally, status: Status, *, destination: str) -> Answer:
    log.info(
        "dimse.retrieved",
        peer=request.peer,
        destination=destination,
        instances=tally.completed + tally.warnings,
        failed=len(tally.failed),
        status=status.code,
    )
    dataset = b""
    if tally.failed:
        listed, size = [], 0
        for uid in tally.failed:
            size += len(uid) + 1
            if size > _LONGEST_LIST_BYTES:
                break  # one element cannot name more; the counts tell how many there are
            listed.append(uid)
        values = [("FailedSOPInstanceUIDList", "\\".join(listed))]
        dataset = encode_identifier(values, request.context.transfer_syntax)
    return Answer(status=status, more=tally.counts(remaining=status is CANCELLED), dataset=dataset)


def _context_for(outgoing: Outgoing, contexts: Mapping[int, Context]) -> int | None:
    """Presentation context for an instance: with its own transfer syntax, else one it can be written in."""
    usable = {
        context_id: context.transfer_syntax
        for context_id, context in contexts.items()
        if context.peer_is_scp and context.abstract_syntax == outgoing.sop_class_uid
    }
    same = [context_id for context_id, syntax in usable.items() if syntax == outgoing.transfer_syntax_uid]
    if same:
        return same[0]
    found = {syntax: context_id for context_id, syntax in usable.items()}
    return next((found[syntax] for syntax in instead_of(outgoing.transfer_syntax_uid) if syntax in found), None)

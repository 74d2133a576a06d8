"""Storage commitment, push model (PS3.4 J): asked of us, reported by us, and the other way round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from polyclinic.core.errors import Conflict, NotFound
from polyclinic.core.ids import is_uid_lenient
from polyclinic.edges.dimse import commands, wire
from polyclinic.edges.dimse.commitment_store import Commitments, Failure, Reference, Report
from polyclinic.edges.dimse.conversation import Request
from polyclinic.edges.dimse.identifier import BadIdentifier, Keys, encode_identifier, read_identifier
from polyclinic.edges.dimse.negotiation import Context
from polyclinic.edges.dimse.sources import Sources
from polyclinic.edges.dimse.statuses import (
    INVALID_ARGUMENT,
    NO_SUCH_ACTION,
    NO_SUCH_EVENT,
    NO_SUCH_INSTANCE,
    NOT_NOW,
    SUCCESS,
    TRANSACTION_IN_USE,
    UNRECOGNISED_OPERATION,
    Refused,
    Status,
)
from polyclinic.edges.dimse.syntaxes import COMMITMENT_PUSH, COMMITMENT_PUSH_INSTANCE
from polyclinic.edges.dimse.wire import Aborted, Wire

log = structlog.get_logger(__name__)

REQUEST_COMMITMENT = 1
"""The only Action Type ID."""
ALL_COMMITTED, SOME_FAILED = 1, 2
"""Event Type IDs."""
MOST_INSTANCES = 100_000
LONGEST_BYTES = 24 * 1024 * 1024


def ask(request: Request, sources: Sources) -> str:
    """N-ACTION: note what is asked for and give its Transaction UID; raises `Refused`."""
    command = request.command
    if sources.commitments is None or not _is_for_us(request.context):
        raise Refused(UNRECOGNISED_OPERATION)
    if command.uid(commands.REQUESTED_SOP_INSTANCE_UID) != COMMITMENT_PUSH_INSTANCE:
        raise Refused(NO_SUCH_INSTANCE)
    if command.number(commands.ACTION_TYPE_ID) != REQUEST_COMMITMENT:
        raise Refused(NO_SUCH_ACTION)
    try:
        transaction_uid, instances, _ = _read(request)
        if not instances:
            raise Refused(INVALID_ARGUMENT)
        sources.commitments.keep(request.peer, transaction_uid, instances)
    except BadIdentifier as error:
        raise Refused(INVALID_ARGUMENT) from error
    except Conflict as error:
        raise Refused(TRANSACTION_IN_USE) from error
    except SQLAlchemyError as error:
        log.error("dimse.commitment-not-kept", peer=request.peer, error=type(error).__name__)
        raise Refused(NOT_NOW) from error
    log.info("dimse.commitment-asked", peer=request.peer, instances=len(instances))
    return transaction_uid


def take_report(request: Request, commitments: Commitments | None) -> Status:
    """N-EVENT-REPORT about what we asked a peer for; on an association on which the peer is SCP."""
    command = request.command
    if commitments is None or request.context.abstract_syntax != COMMITMENT_PUSH or not request.context.peer_is_scp:
        return UNRECOGNISED_OPERATION
    if command.number(commands.EVENT_TYPE_ID) not in (ALL_COMMITTED, SOME_FAILED):
        return NO_SUCH_EVENT
    try:
        transaction_uid, _, failures = _read(request)
        commitments.answered(request.peer, transaction_uid, failures)
    except BadIdentifier:
        return INVALID_ARGUMENT
    except NotFound:
        return NO_SUCH_INSTANCE
    except SQLAlchemyError as error:
        log.error("dimse.commitment-not-kept", peer=request.peer, error=type(error).__name__)
        return NOT_NOW
    log.info("dimse.commitment-answered", peer=request.peer, failed=len(failures))
    return SUCCESS


def context_for(contexts: Mapping[int, Context]) -> int | None:
    """The presentation context on which commitment was asked for."""
    return next((number for number, one in contexts.items() if _is_for_us(one)), None)


def _is_for_us(context: Context) -> bool:
    return context.abstract_syntax == COMMITMENT_PUSH and context.peer_is_scu


def send_report(
    connection: Wire,
    context_id: int,
    context: Context,
    report: Report,
    *,
    ae_title: str,
    fragment_bytes: int,
    message_id: int = 1,
) -> None:
    """N-EVENT-REPORT and its response; raises `Aborted` when the peer answers otherwise or releases meanwhile."""
    event_type = SOME_FAILED if report.failures else ALL_COMMITTED
    command = commands.encode(
        {
            commands.AFFECTED_SOP_CLASS_UID: COMMITMENT_PUSH,
            commands.COMMAND_FIELD: commands.N_EVENT_REPORT_RQ,
            commands.MESSAGE_ID: message_id,
            commands.DATA_SET_TYPE: commands.HAS_DATA_SET,
            commands.AFFECTED_SOP_INSTANCE_UID: COMMITMENT_PUSH_INSTANCE,
            commands.EVENT_TYPE_ID: event_type,
        }
    )
    dataset = event_information(report, context.transfer_syntax, ae_title=ae_title)
    connection.send_dataset(context_id, command, [dataset], size=len(dataset), longest_bytes=fragment_bytes)
    status = response_status(connection, commands.N_EVENT_REPORT_RQ, message_id)
    log.info("dimse.commitment-reported", peer=report.peer, failed=len(report.failures), status=status)


def response_status(connection: Wire, command_field: int, message_id: int) -> int:
    """Status of the response to a normalised request; a release that crosses it is answered, then `Aborted`."""
    kind, length = connection.next_pdu(idle=True)
    if kind == wire.RELEASE_RQ:  # sent before the peer saw our request (PS3.8 7.2.2)
        connection.control(kind, length)
        connection.send(wire.RELEASE_RP_PDU)
        raise Aborted("released by the peer")
    if kind != wire.P_DATA:
        raise Aborted("unexpected PDU", wire.UNEXPECTED_PDU)
    _, encoded, left = connection.command(length)
    try:
        answer = commands.decode(encoded)
    except ValueError as error:
        raise Aborted("malformed response", wire.INVALID_PARAMETER) from error
    status = answer.number(commands.STATUS)
    expected = command_field | commands.RESPONSE, message_id
    if (answer.number(commands.COMMAND_FIELD), answer.number(commands.MESSAGE_ID_RESPONDED_TO)) != expected:
        raise Aborted("a command that nobody waits for", wire.UNEXPECTED_PDU)
    if status is None or left or answer.has_data_set:
        raise Aborted("malformed response", wire.INVALID_PARAMETER)
    return status


def action_information(transaction_uid: str, instances: Sequence[Reference], transfer_syntax_uid: str) -> bytes:
    """Dataset of an N-ACTION request (PS3.4 table J.3-1)."""
    values: list[tuple[str, Any]] = [
        ("TransactionUID", transaction_uid),
        ("ReferencedSOPSequence", [_item(one) for one in instances]),
    ]
    return encode_identifier(values, transfer_syntax_uid)


def event_information(report: Report, transfer_syntax_uid: str, *, ae_title: str) -> bytes:
    """Dataset of an N-EVENT-REPORT request (PS3.4 table J.3-2)."""
    values: list[tuple[str, Any]] = [("TransactionUID", report.transaction_uid), ("RetrieveAETitle", ae_title)]
    if report.committed:
        values.append(("ReferencedSOPSequence", [_item(one) for one in report.committed]))
    if report.failures:
        items = [[*_item(one), ("FailureReason", one.reason)] for one in report.failures]
        values.append(("FailedSOPSequence", items))
    return encode_identifier(values, transfer_syntax_uid)


def _item(one: Reference | Failure) -> list[tuple[str, Any]]:
    return [("ReferencedSOPClassUID", one.sop_class_uid), ("ReferencedSOPInstanceUID", one.sop_instance_uid)]


def _read(request: Request) -> tuple[str, tuple[Reference, ...], tuple[Failure, ...]]:
    """Transaction UID, instances and failures of an action or event; raises `BadIdentifier`."""
    if request.dataset is None:
        raise BadIdentifier("no dataset")
    found = read_identifier(request.dataset, request.context.transfer_syntax, longest_bytes=LONGEST_BYTES)
    transaction_uid = found.keys.get("TransactionUID", "")
    items = found.sequences.get("ReferencedSOPSequence", ())
    failed = found.sequences.get("FailedSOPSequence", ())
    if not is_uid_lenient(transaction_uid) or len(items) + len(failed) > MOST_INSTANCES:
        raise BadIdentifier("no Transaction UID, or too many instances")
    references = tuple(_reference(item) for item in items)
    failures = []
    for item in failed:
        one, reason = _reference(item), item.values.get("FailureReason", "")
        failures.append(
            Failure(
                sop_class_uid=one.sop_class_uid,
                sop_instance_uid=one.sop_instance_uid,
                reason=int(reason) if reason.isdecimal() else 0,
            )
        )
    return transaction_uid, references, tuple(failures)


def _reference(item: Keys) -> Reference:
    uids = [item.values.get(keyword, "") for keyword in ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID")]
    if not all(map(is_uid_lenient, uids)):
        raise BadIdentifier("an instance without its UIDs")
    return Reference(sop_class_uid=uids[0], sop_instance_uid=uids[1])

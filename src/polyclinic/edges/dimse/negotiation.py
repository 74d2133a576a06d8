"""Association negotiation (PS3.8 7.1, PS3.7 D.3), encoded and decoded by pynetdicom: it is rare, so it may be slow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
)
from pynetdicom.presentation import PresentationContext

from polyclinic.departments.archive.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from polyclinic.edges.dimse.syntaxes import FIND, QUERY_RETRIEVE, accepted_syntax, is_storage, is_taken
from polyclinic.edges.dimse.wire import INVALID_PARAMETER, Aborted, reject_pdu

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_ACCEPTED, _ABSTRACT_SYNTAX_UNKNOWN, _TRANSFER_SYNTAXES_UNKNOWN = 0, 3, 4
REJECT_NO_REASON = (1, 1, 1)
REJECT_APPLICATION_CONTEXT = (1, 1, 2)
REJECT_CALLING_AE = (1, 1, 3)
REJECT_CALLED_AE = (1, 1, 7)
REJECT_LOCAL_LIMIT = (2, 3, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """An accepted presentation context."""

    abstract_syntax: str
    transfer_syntax: str
    peer_stores: bool = False
    """Whether the peer takes C-STORE on it (PS3.7 D.3.3.4), as C-GET needs."""
    relational: bool = False
    """Whether keys of upper levels may be missing (PS3.4 C.5.1.1)."""
    combined_times: bool = False
    """Whether date and time ranges bound one moment (PS3.4 C.5.1.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a requestor wants."""

    calling_ae_title: str
    called_ae_title: str
    application_context: str
    max_pdu_bytes: int
    """Longest P-DATA PDU that the requestor takes; 0 means any."""
    primitive: A_ASSOCIATE


def read_request(pdu: bytes) -> Proposal:
    """Decode an A-ASSOCIATE-RQ; raises `Aborted` when it makes no sense."""
    try:
        request = A_ASSOCIATE_RQ()
        request.decode(pdu)
        primitive = request.to_primitive()
        return Proposal(
            calling_ae_title=str(primitive.calling_ae_title).strip(),
            called_ae_title=str(primitive.called_ae_title).strip(),
            application_context=str(primitive.application_context_name or ""),
            max_pdu_bytes=int(primitive.maximum_length_received or 0),
            primitive=primitive,
        )
    except Exception as error:
        raise Aborted("malformed A-ASSOCIATE-RQ", INVALID_PARAMETER) from error


def negotiate(proposal: Proposal) -> tuple[list[PresentationContext], dict[int, Context]]:
    """Answers to all proposed contexts, and the accepted ones by their id."""
    answers: list[PresentationContext] = []
    accepted: dict[int, Context] = {}
    storing = {uid for uid, (_, scp) in _roles(proposal).items() if scp}
    extended = _extended(proposal)
    for proposed in proposal.primitive.presentation_context_definition_list:
        abstract = str(proposed.abstract_syntax or "")
        context_id = int(proposed.context_id or 0)
        syntaxes = [str(syntax) for syntax in proposed.transfer_syntax]
        answer = PresentationContext()
        answer.context_id = context_id
        answer.abstract_syntax = proposed.abstract_syntax
        chosen = accepted_syntax(abstract, syntaxes)
        if not is_taken(abstract):
            answer.result = _ABSTRACT_SYNTAX_UNKNOWN
        elif chosen is None:
            answer.result = _TRANSFER_SYNTAXES_UNKNOWN
        else:
            answer.result = _ACCEPTED
            options = extended.get(abstract, b"").ljust(2, b"\0")
            accepted[context_id] = Context(
                abstract_syntax=abstract,
                transfer_syntax=chosen,
                peer_stores=abstract in storing,
                relational=options[0] == 1,
                combined_times=options[1] == 1,
            )
        # A rejected context carries a transfer syntax too, which means nothing (PS3.8 9.3.3.2)
        answer.transfer_syntax = [UID(chosen or syntaxes[0] if syntaxes else "1.2.840.10008.1.2")]
        answers.append(answer)
    return answers, accepted


def accept_pdu(proposal: Proposal, answers: Sequence[PresentationContext], max_pdu_bytes: int) -> bytes:
    """An A-ASSOCIATE-AC PDU."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(APPLICATION_CONTEXT)
    primitive.calling_ae_title = proposal.primitive.calling_ae_title
    primitive.called_ae_title = proposal.primitive.called_ae_title
    primitive.result = 0
    primitive.result_source = 1
    primitive.presentation_context_definition_results_list = list(answers)
    primitive.user_information = [*_user_information(max_pdu_bytes), *_agreed(proposal)]
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def _roles(proposal: Proposal) -> dict[str, tuple[bool, bool]]:
    """Roles (SCU, SCP) that the requestor proposes for itself, by storage SOP class."""
    return {
        str(item.sop_class_uid): (bool(item.scu_role), bool(item.scp_role))
        for item in proposal.primitive.user_information
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation) and is_storage(str(item.sop_class_uid))
    }


def _extended(proposal: Proposal) -> dict[str, bytes]:
    """What of the proposed options of query and retrieve the node has: a byte each (PS3.4 C.5.1.1, C.5.2.1)."""
    agreed: dict[str, bytes] = {}
    for item in proposal.primitive.user_information:
        if isinstance(item, SOPClassExtendedNegotiation) and str(item.sop_class_uid) in QUERY_RETRIEVE:
            asked = bytes(item.service_class_application_information or b"")
            offered = b"\1\1" if str(item.sop_class_uid) in FIND else b"\1"
            agreed[str(item.sop_class_uid)] = bytes(
                int(one == 1 and index < len(offered)) for index, one in enumerate(asked)
            )
    return agreed


def _agreed(proposal: Proposal) -> list[Any]:
    items: list[Any] = []
    for uid, (scu, scp) in _roles(proposal).items():
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid, role.scu_role, role.scp_role = UID(uid), scu, scp
        items.append(role)
    for uid, options in _extended(proposal).items():
        if options:
            extended = SOPClassExtendedNegotiation()
            extended.sop_class_uid, extended.service_class_application_information = UID(uid), options
            items.append(extended)
    return items


def request_pdu(
    *, calling_ae_title: str, called_ae_title: str, proposed: Sequence[tuple[int, str, str]], max_pdu_bytes: int
) -> bytes:
    """An A-ASSOCIATE-RQ PDU; `proposed` holds context id, abstract syntax and one transfer syntax each."""
    contexts = []
    for context_id, abstract_syntax, transfer_syntax in proposed:
        context = PresentationContext()
        context.context_id = context_id
        context.abstract_syntax = UID(abstract_syntax)
        context.transfer_syntax = [UID(transfer_syntax)]
        contexts.append(context)
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(APPLICATION_CONTEXT)
    primitive.calling_ae_title = calling_ae_title
    primitive.called_ae_title = called_ae_title
    primitive.presentation_context_definition_list = contexts
    primitive.user_information = _user_information(max_pdu_bytes)
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def read_accept(pdu: bytes) -> tuple[set[int], int]:
    """Ids of the accepted contexts and the peer's longest PDU (0 means any) from an A-ASSOCIATE-AC."""
    try:
        answer = A_ASSOCIATE_AC()
        answer.decode(pdu)
        primitive = answer.to_primitive()
        contexts = primitive.presentation_context_definition_results_list
        accepted = {int(context.context_id or 0) for context in contexts if context.result == _ACCEPTED}
        return accepted, int(primitive.maximum_length_received or 0)
    except Exception as error:
        raise Aborted("malformed A-ASSOCIATE-AC", INVALID_PARAMETER) from error


def rejection_pdu(reason: tuple[int, int, int]) -> bytes:
    """An A-ASSOCIATE-RJ PDU for one of the ``REJECT_`` reasons."""
    return reject_pdu(*reason)


def _user_information(max_pdu_bytes: int) -> list[Any]:
    length = MaximumLengthNotification()
    length.maximum_length_received = max_pdu_bytes
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return [length, implementation, version]

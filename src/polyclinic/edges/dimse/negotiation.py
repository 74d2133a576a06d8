"""Association negotiation (PS3.8 7.1, PS3.7 D.3), encoded and decoded by pynetdicom: it is rare, so it may be slow."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
from polyclinic.edges.dimse.syntaxes import (
    COMMITMENT_PUSH,
    FIND,
    QUERY_RETRIEVE,
    Service,
    accepted_syntax,
    is_storage,
    service_of,
)
from polyclinic.edges.dimse.wire import INVALID_PARAMETER, Aborted, reject_pdu

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_ACCEPTED, _NOT_ALLOWED, _ABSTRACT_SYNTAX_UNKNOWN, _TRANSFER_SYNTAXES_UNKNOWN = 0, 1, 3, 4
"""Results of a presentation context (PS3.8 table 9-18)."""
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
    peer_is_scu: bool = True
    """Whether the peer uses the service on it, as it does without role selection."""
    peer_is_scp: bool = False
    """Whether the peer serves on it (PS3.7 D.3.3.4): takes C-STORE as C-GET needs, or tells results of commitment."""
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
    except Exception as error:  # the decoder raises of every kind for bytes that are none of its PDUs
        raise Aborted("malformed A-ASSOCIATE-RQ", INVALID_PARAMETER) from error


def negotiate(
    proposal: Proposal, *, offered: Collection[Service], allowed: Collection[Service]
) -> tuple[list[PresentationContext], dict[int, Context]]:
    """Answers to all proposed contexts, and the accepted ones by their id.

    Parameters
    ----------
    offered, allowed
        Services that the node has, and those of them that this peer may use.
    """
    answers: list[PresentationContext] = []
    accepted: dict[int, Context] = {}
    roles = _roles(proposal)
    extended = _extended(proposal)
    for proposed in proposal.primitive.presentation_context_definition_list:
        abstract = str(proposed.abstract_syntax or "")
        context_id = int(proposed.context_id or 0)
        syntaxes = [str(syntax) for syntax in proposed.transfer_syntax]
        answer = PresentationContext()
        answer.context_id = context_id
        answer.abstract_syntax = proposed.abstract_syntax
        chosen = accepted_syntax(abstract, syntaxes)
        service = service_of(abstract)
        if service not in offered:
            answer.result = _ABSTRACT_SYNTAX_UNKNOWN
        elif service not in allowed:
            answer.result = _NOT_ALLOWED
        elif chosen is None:
            answer.result = _TRANSFER_SYNTAXES_UNKNOWN
        else:
            answer.result = _ACCEPTED
            scu, scp = roles.get(abstract, (True, False))
            options = extended.get(abstract, b"").ljust(2, b"\0")
            accepted[context_id] = Context(
                abstract_syntax=abstract,
                transfer_syntax=chosen,
                peer_is_scu=scu,
                peer_is_scp=scp,
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
    """Roles (SCU, SCP) that the requestor proposes for itself, by SOP class that has two."""
    return {
        str(item.sop_class_uid): (bool(item.scu_role), bool(item.scp_role))
        for item in proposal.primitive.user_information
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation)
        and (is_storage(str(item.sop_class_uid)) or item.sop_class_uid == COMMITMENT_PUSH)
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


def _role(sop_class_uid: str, scu: bool, scp: bool) -> SCP_SCU_RoleSelectionNegotiation:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = UID(sop_class_uid), scu, scp
    return role


def _agreed(proposal: Proposal) -> list[Any]:
    items: list[Any] = [_role(uid, scu, scp) for uid, (scu, scp) in _roles(proposal).items()]
    for uid, options in _extended(proposal).items():
        if options:
            extended = SOPClassExtendedNegotiation()
            extended.sop_class_uid, extended.service_class_application_information = UID(uid), options
            items.append(extended)
    return items


def request_pdu(
    *,
    calling_ae_title: str,
    called_ae_title: str,
    proposed: Sequence[tuple[int, str, str]],
    max_pdu_bytes: int,
    serving: Sequence[str] = (),
) -> bytes:
    """An A-ASSOCIATE-RQ PDU.

    Parameters
    ----------
    proposed
        Context id, abstract syntax and one transfer syntax each.
    serving
        SOP classes for which the requestor wants to be SCP (PS3.7 D.3.3.4).
    """
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
    primitive.user_information = [*_user_information(max_pdu_bytes), *(_role(uid, False, True) for uid in serving)]
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
    except Exception as error:  # the decoder raises of every kind for bytes that are none of its PDUs
        raise Aborted("malformed A-ASSOCIATE-AC", INVALID_PARAMETER) from error


def read_served(pdu: bytes) -> frozenset[str]:
    """SOP classes that an A-ASSOCIATE-AC lets the requestor be SCP of."""
    try:
        answer = A_ASSOCIATE_AC()
        answer.decode(pdu)
        items = answer.to_primitive().user_information
    except Exception as error:  # the decoder raises of every kind for bytes that are none of its PDUs
        raise Aborted("malformed A-ASSOCIATE-AC", INVALID_PARAMETER) from error
    return frozenset(
        str(item.sop_class_uid)
        for item in items
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation) and item.scp_role
    )


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

"""Modality performed procedure step: N-CREATE, N-SET and N-GET (PS3.4 F.7, F.8)."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import structlog
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import generate_uid

from polyclinic.core.errors import Conflict, NotFound, PolyclinicError
from polyclinic.core.ids import is_uid_lenient
from polyclinic.departments.records.patients import PerformedStatus, PerformedStep
from polyclinic.departments.records.ports import Orders
from polyclinic.dicom.header import EXPLICIT_BE, IMPLICIT_LE, HeaderError, read_header
from polyclinic.edges.dimse import commands
from polyclinic.edges.dimse.conversation import Answer, Request
from polyclinic.edges.dimse.performed_rules import changed, created, step_of
from polyclinic.edges.dimse.sources import Sources
from polyclinic.edges.dimse.statuses import (
    DUPLICATE_INSTANCE,
    FINAL_STEP,
    INVALID_ARGUMENT,
    INVALID_INSTANCE,
    MISTYPED_ARGUMENT,
    NO_SUCH_INSTANCE,
    NOT_NOW,
    SUCCESS,
    UNRECOGNISED_OPERATION,
    Refused,
    Status,
)
from polyclinic.edges.dimse.syntaxes import PERFORMED_STEP, PERFORMED_STEP_RETRIEVE

log = structlog.get_logger(__name__)

LONGEST_BYTES = 16 * 1024 * 1024
_ATTEMPTS = 5
"""So often a change is tried again when another one came between reading and writing the step."""
_STATUSES = {
    "records.performed-step-exists": DUPLICATE_INSTANCE,
    "records.performed-step-final": FINAL_STEP,
    "records.no-performed-step": NO_SUCH_INSTANCE,
}


def answer(request: Request, sources: Sources) -> Status | Answer:
    """Answer a normalised request about a performed procedure step."""
    field = request.command.number(commands.COMMAND_FIELD) or 0
    service = _SERVICES.get((request.context.abstract_syntax, field))
    if service is None or sources.orders is None:
        return UNRECOGNISED_OPERATION
    try:
        return service(request, sources, sources.orders)
    except Refused as refused:
        status = refused.status
    except PolyclinicError as error:
        status = _STATUSES.get(error.code, NOT_NOW)
        log.warning("dimse.step-not-kept", peer=request.peer, code=error.code, status=status.code)
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
        # pydicom raises any of these for values that are not of their kind
        log.warning("dimse.step-not-understood", peer=request.peer, error=type(error).__name__)
        status = INVALID_ARGUMENT
    return status


def _create(request: Request, sources: Sources, orders: Orders) -> Answer:
    """N-CREATE: a step begins. Without a SOP Instance UID it gets one (PS3.7 10.1.5.1.4)."""
    given = request.command.uid(commands.AFFECTED_SOP_INSTANCE_UID)
    uid = given or str(generate_uid(prefix=None))
    if not is_uid_lenient(uid):
        raise Refused(INVALID_INSTANCE)
    attributes = created(_attributes(request))
    step = step_of(uid, attributes, version=0, zone=sources.zone)
    orders.put_performed_step(step, expected_version=0)
    log.info("dimse.step-began", peer=request.peer, modality=step.modality)
    return Answer(status=SUCCESS, more={} if given else {commands.AFFECTED_SOP_INSTANCE_UID: uid})


def _set(request: Request, sources: Sources, orders: Orders) -> Status:
    """N-SET: a step goes on, or ends (PS3.4 F.7.2.2)."""
    changes = _attributes(request)
    for attempt in range(_ATTEMPTS):
        known = _known(request, orders)
        attributes = changed(Dataset.from_json(dict(known.attributes or {})), changes)
        step = step_of(known.sop_instance_uid, attributes, version=known.version, zone=sources.zone)
        try:
            orders.put_performed_step(step, expected_version=known.version)
        except Conflict as error:
            if error.code != "records.stale-performed-step" or attempt == _ATTEMPTS - 1:
                raise
            continue
        log.info("dimse.step-changed", peer=request.peer, modality=step.modality, state=step.status)
        break
    return SUCCESS


def _get(request: Request, _sources: Sources, orders: Orders) -> Answer:
    """N-GET: all attributes of a step; the few that a requestor may name are among them (PS3.4 F.8.2.1)."""
    known = _known(request, orders, may_be_final=True)
    dataset = Dataset.from_json(dict(known.attributes or {}))
    out = DicomBytesIO()
    out.is_implicit_VR = request.context.transfer_syntax == IMPLICIT_LE
    out.is_little_endian = request.context.transfer_syntax != EXPLICIT_BE
    dataset.SpecificCharacterSet = "ISO_IR 192"
    write_dataset(out, dataset, parent_encoding="utf-8")
    return Answer(status=SUCCESS, dataset=bytes(out.getvalue()))


def _known(request: Request, orders: Orders, *, may_be_final: bool = False) -> PerformedStep:
    uid = request.command.uid(commands.REQUESTED_SOP_INSTANCE_UID)
    try:
        step = orders.performed_step(uid)
    except NotFound as error:
        raise Refused(NO_SUCH_INSTANCE) from error
    if step.status is not PerformedStatus.IN_PROGRESS and not may_be_final:
        raise Refused(FINAL_STEP)
    return step


def _attributes(request: Request) -> Dataset:
    """The dataset of a request, decoded; raises `Refused`."""
    if request.dataset is None:
        raise Refused(MISTYPED_ARGUMENT)
    syntax = request.context.transfer_syntax
    if len(request.dataset) > LONGEST_BYTES:
        raise Refused(INVALID_ARGUMENT)
    try:
        read_header(request.dataset, syntax)  # bounds depth and number of elements for the reader that does not
    except HeaderError as error:
        raise Refused(INVALID_ARGUMENT) from error
    dataset = read_dataset(
        BytesIO(bytes(request.dataset)), is_implicit_VR=syntax == IMPLICIT_LE, is_little_endian=syntax != EXPLICIT_BE
    )
    dataset.decode()
    return dataset


_SERVICES: dict[tuple[str, int], Callable[[Request, Sources, Orders], Status | Answer]] = {
    (PERFORMED_STEP, commands.N_CREATE_RQ): _create,
    (PERFORMED_STEP, commands.N_SET_RQ): _set,
    (PERFORMED_STEP_RETRIEVE, commands.N_GET_RQ): _get,
}

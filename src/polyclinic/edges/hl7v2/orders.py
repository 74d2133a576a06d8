"""ORM^O01 and OMI^O23: imaging orders (IHE Radiology Scheduled Workflow, RAD-2 to RAD-4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from polyclinic.core.ids import is_uid_lenient, stable_id, stable_uid
from polyclinic.departments.records.patients import (
    Order,
    OrderPriority,
    OrderStatus,
    PatientKey,
    ScheduledStep,
)
from polyclinic.edges.hl7v2.acknowledge import Answer, ErrorCode, NotTaken, Refusal
from polyclinic.edges.hl7v2.er7 import Message, Segment
from polyclinic.edges.hl7v2.fields import code_of, moment_of, staff_name, zone_of

CONTROLS: dict[str, OrderStatus | None] = {
    "NW": OrderStatus.ACTIVE,
    "XO": None,
    "SC": None,
    "CA": OrderStatus.REVOKED,
    "OC": OrderStatus.REVOKED,
    "DC": OrderStatus.REVOKED,
    "HD": OrderStatus.ON_HOLD,
    "RL": OrderStatus.ACTIVE,
}
"""ORC-1 (HL7 table 0119) -> the status it brings; None where ORC-5 or nothing does."""
CREATING = frozenset({"NW", "XO"})
_STATUSES = {
    "A": OrderStatus.ACTIVE,
    "IP": OrderStatus.ACTIVE,
    "SC": OrderStatus.ACTIVE,
    "HD": OrderStatus.ON_HOLD,
    "CM": OrderStatus.COMPLETED,
    "CA": OrderStatus.REVOKED,
    "DC": OrderStatus.REVOKED,
}
"""ORC-5 (HL7 table 0038)."""
_PRIORITIES = {
    "S": OrderPriority.STAT,
    "STAT": OrderPriority.STAT,
    "A": OrderPriority.ASAP,
    "ASAP": OrderPriority.ASAP,
    "P": OrderPriority.URGENT,
    "T": OrderPriority.URGENT,
    "U": OrderPriority.URGENT,
    "R": OrderPriority.ROUTINE,
    "C": OrderPriority.ROUTINE,
}
"""TQ1-9, ORC-7.6, OBR-27.6, OBR-5 (HL7 table 0485)."""
_ACCESSION_CHARACTERS = 16
_CODE_STRING = re.compile("[A-Z0-9_ ]{1,16}")


@dataclass(slots=True)
class Group:
    """The segments of one order."""

    control: Segment
    request: Segment | None = None
    timing: Segment | None = None
    procedure_steps: list[Segment] = field(default_factory=list)
    study: Segment | None = None

    @property
    def code(self) -> str:
        """ORC-1."""
        return self.control.text_of(1).upper()

    @property
    def placer_number(self) -> str:
        """ORC-2, or OBR-2."""
        return self.control.text_of(2) or (self.request.text_of(2) if self.request else "")

    @property
    def filler_number(self) -> str:
        """ORC-3, or OBR-3."""
        return self.control.text_of(3) or (self.request.text_of(3) if self.request else "")


def groups(message: Message) -> Iterator[Group]:
    """The orders of a message; a ZDS at its end belongs to every order without one of its own.

    Raises
    ------
    NotTaken
        When there is none, one has no number or no control code that is served, or a new one no OBR.
    """
    found: list[Group] = []
    for segment in message.segments:
        if segment.name == "ORC":
            found.append(Group(segment))
        elif found and segment.name == "OBR" and found[-1].request is None:
            found[-1].request = segment
        elif found and segment.name == "TQ1" and found[-1].timing is None:
            found[-1].timing = segment
        elif found and segment.name == "IPC":
            found[-1].procedure_steps.append(segment)
        elif found and segment.name == "ZDS":
            for group in found:
                group.study = group.study or segment
    if not found:
        raise _refused(ErrorCode.SEGMENT_SEQUENCE, "The message has no ORC segment", "ORC", 0)
    for group in found:
        if group.code not in CONTROLS:
            served = ", ".join(CONTROLS)
            raise _refused(ErrorCode.TABLE_VALUE, f"ORC-1 must be one of {served}", "ORC", 1)
        if not group.placer_number and not group.filler_number:
            raise _refused(ErrorCode.REQUIRED_FIELD, "ORC-2 or ORC-3 must number the order", "ORC", 2)
        if group.code == "NW" and group.request is None:
            raise _refused(ErrorCode.SEGMENT_SEQUENCE, "A new order needs an OBR segment", "OBR", 0)
        yield group


def order_of(group: Group, kept: Order | None, *, patient: PatientKey, zone: timezone | None) -> Order:
    """The order as it is after this message; fields that it leaves out stay as they were.

    Parameters
    ----------
    kept
        The order as it stood; None for a new one.
    zone
        Of times that name none, see `message_zone`.
    """
    order = kept or Order(
        order_id=stable_id("hl7-order", patient.issuer, group.placer_number, group.filler_number), patient=patient
    )
    placer, filler = group.placer_number or order.placer_number, group.filler_number or order.filler_number
    order = replace(order, patient=patient, placer_number=placer, filler_number=filler, status=_status(group, order))
    if group.request is not None:
        order = _requested(order, group, group.request, zone)
    accession = order.accession_number or filler[:_ACCESSION_CHARACTERS]
    study = order.study_instance_uid or stable_uid("ordered-study", patient.issuer, accession or order.order_id)
    return replace(order, accession_number=accession, study_instance_uid=study)


def message_zone(message: Message) -> timezone | None:
    """The time zone of MSH-7, which holds for every time of the message that names none."""
    return zone_of(message.header.text_of(7))


def _status(group: Group, order: Order) -> OrderStatus:
    said = _STATUSES.get(group.control.text_of(5).upper())
    return CONTROLS[group.code] or said or order.status


def _requested(order: Order, group: Group, request: Segment, zone: timezone | None) -> Order:
    first_step = group.procedure_steps[0] if group.procedure_steps else None
    universal = code_of(request.field(4))
    procedure = code_of(request.field(44)) or universal
    indication = " ".join(
        filter(None, (request.text_of(13), *(f.text(2) or f.text(1) for f in request.repetitions(31))))
    )
    requester = staff_name(group.control.field(12)) or staff_name(request.field(16))
    study = first_step.text_of(3) if first_step else group.study.text_of(1) if group.study else ""
    order = replace(
        order,
        accession_number=(first_step.text_of(1) if first_step else "") or request.text_of(18) or order.accession_number,
        requested_procedure_id=(first_step.text_of(2) if first_step else "")
        or request.text_of(19)
        or order.requested_procedure_id,
        procedure=procedure or order.procedure,
        description=(procedure.display if procedure else "") or order.description,
        indication=indication or order.indication,
        requester=requester or order.requester,
        priority=_priority(group, request) or order.priority,
        ordered_at=moment_of(group.control.text_of(9), zone=zone) or order.ordered_at,
        study_instance_uid=study if is_uid_lenient(study) else order.study_instance_uid,
    )
    return replace(order, steps=_steps(order, group, request, zone))


def _priority(group: Group, request: Segment) -> OrderPriority | None:
    said = (
        group.timing.text_of(9) if group.timing else "",
        group.control.text_of(7, 6),
        request.text_of(27, 6),
        request.text_of(5),
    )
    return next((_PRIORITIES[s.upper()] for s in said if s.upper() in _PRIORITIES), None)


def _starts_at(group: Group, request: Segment, zone: timezone | None) -> datetime | None:
    said = (
        group.timing.text_of(7) if group.timing else "",
        request.text_of(36),
        group.control.text_of(7, 4),
        request.text_of(27, 4),
        request.text_of(6),
    )
    return next((at for s in said if s and (at := moment_of(s, zone=zone))), None)


def _steps(order: Order, group: Group, request: Segment, zone: timezone | None) -> tuple[ScheduledStep, ...]:
    """Of OMI one step an IPC; of ORM the one that OBR describes. Without time or modality nothing is scheduled yet."""
    starts_at = _starts_at(group, request, zone) or (order.steps[0].starts_at if order.steps else None)
    if starts_at is None:
        return order.steps
    performing = staff_name(request.field(34)) or staff_name(request.field(32))
    made = []
    for number, ipc in enumerate(group.procedure_steps or [None], start=1):
        kept = order.steps[number - 1] if number <= len(order.steps) else None
        modality = _code_string((ipc.text_of(5) if ipc else "") or request.text_of(24)) or (
            kept.modality if kept else ""
        )
        if not modality:
            return order.steps
        protocol = (code_of(ipc.field(6)) if ipc else None) or order.procedure
        fallback_id = f"{stable_id('step', order.order_id, number)[:13]}{number:03d}"
        made.append(
            replace(
                kept or ScheduledStep(step_id="", modality=modality, starts_at=starts_at),
                step_id=((ipc.text_of(4) if ipc else "") or request.text_of(20) or (kept.step_id if kept else ""))[:16]
                or fallback_id,
                modality=modality,
                starts_at=starts_at,
                station_ae_title=((ipc.text_of(9) if ipc else "") or request.text_of(21))[:16]
                or (kept.station_ae_title if kept else ""),
                station_name=(ipc.text_of(7) if ipc else "")[:16] or (kept.station_name if kept else ""),
                location=(ipc.text_of(8) if ipc else "")[:64] or (kept.location if kept else ""),
                performing_physician=performing or (kept.performing_physician if kept else ""),
                description=(protocol.display if protocol else order.description)[:64],
                protocol=protocol,
            )
        )
    return tuple(made)


def _code_string(text: str) -> str:
    """A DICOM CS such as a modality; empty when it is none."""
    said = text.strip().upper()
    return said if _CODE_STRING.fullmatch(said) else ""


def _refused(code: ErrorCode, text: str, segment: str, place: int) -> NotTaken:
    return NotTaken(Refusal(answer=Answer.ERROR, code=code, text=text, where=(segment, place)))

"""Modality worklist C-FIND (PS3.4 K): scheduled procedure steps of active orders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta, tzinfo
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from polyclinic.core.errors import NotFound, PolyclinicError
from polyclinic.departments.archive.matching import is_universal
from polyclinic.departments.records.patients import Order, OrderStatus, PatientKey, PatientRecord, StepStatus
from polyclinic.departments.records.ports import OrderQuery, Orders, Patients
from polyclinic.edges.dimse.conversation import Answer, Conversation, Request
from polyclinic.edges.dimse.identifier import BadIdentifier, Identifier, Keys, encode_identifier, read_identifier
from polyclinic.edges.dimse.query import Mismatch, check_value
from polyclinic.edges.dimse.sources import Sources, zone_of
from polyclinic.edges.dimse.statuses import (
    CANCELLED,
    MISTYPED_ARGUMENT,
    PENDING,
    PENDING_OPTIONAL_KEYS,
    SUCCESS,
    TOO_MANY_MATCHES,
    UNABLE,
    UNREADABLE_IDENTIFIER,
    Status,
    mismatch,
)
from polyclinic.edges.dimse.value_matching import in_moment, matches
from polyclinic.edges.dimse.worklist_entries import STEPS, entry, has_unknown, returned

log = structlog.get_logger(__name__)

_PAGE = 500
_OPEN = frozenset({StepStatus.SCHEDULED, StepStatus.ARRIVED, StepStatus.READY, StepStatus.STARTED})
"""Steps that are listed unless the request names a status itself."""
_START = ("ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime")
_IGNORED = frozenset({"TimezoneOffsetFromUTC"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A checked request."""

    identifier: Identifier
    step: Keys
    """Keys of the scheduled procedure step, without its start."""
    dates: str
    times: str
    first: datetime | None
    """Start of the first day that is asked for."""
    last: datetime | None
    """End of the last one."""
    zone: tzinfo | None
    is_partial: bool


def wanted_of(identifier: Identifier, zone: tzinfo | None) -> Wanted:
    """Check an identifier; raises `Mismatch`."""
    items = identifier.sequences.get(STEPS, ())
    if len(items) > 1:
        raise Mismatch("A sequence key has one item")
    step = items[0] if items else Keys(values={}, sequences={}, others=False)
    for keyword, value in (*identifier.keys.items(), *step.values.items()):
        check_value(keyword, value)
    zone = zone_of(identifier.keys.get("TimezoneOffsetFromUTC", "")) or zone
    dates = step.values.get(_START[0], "")
    first, last = _span(dates, zone)
    unknown = has_unknown(set(identifier.keys) - _IGNORED, identifier.sequences)
    return Wanted(
        identifier=identifier,
        step=replace(step, values={k: v for k, v in step.values.items() if k not in _START}),
        dates=dates,
        times=step.values.get(_START[1], ""),
        first=first,
        last=last,
        zone=zone,
        is_partial=identifier.others or unknown,
    )


def find(
    conversation: Conversation,
    request: Request,
    sources: Sources,
    *,
    character_sets: tuple[str, ...] = (),
    limit: int,
) -> Status:
    """Answer C-FIND of the worklist: a pending response for each step; the final status is returned."""
    if request.dataset is None or sources.orders is None or sources.patients is None:
        return MISTYPED_ARGUMENT
    try:
        identifier = read_identifier(request.dataset, request.context.transfer_syntax)
        wanted = wanted_of(identifier, sources.zone)
    except BadIdentifier:
        return UNREADABLE_IDENTIFIER
    except Mismatch as error:
        return mismatch(str(error))
    pending = PENDING_OPTIONAL_KEYS if wanted.is_partial else PENDING
    count, status = 0, SUCCESS
    try:
        for found in entries(wanted, sources.orders, sources.patients):
            if conversation.is_cancelled() or count == limit:
                status = TOO_MANY_MATCHES if count == limit else CANCELLED
                break
            dataset = encode_identifier(
                found.items(), request.context.transfer_syntax, identifier.character_sets, character_sets
            )
            conversation.respond(Answer(status=pending, dataset=dataset))
            count += 1
    except (PolyclinicError, SQLAlchemyError) as error:
        log.warning("dimse.worklist-failed", peer=request.peer, error=type(error).__name__)
        return UNABLE
    log.info("dimse.worklist-read", peer=request.peer, matches=count, status=status.code)
    return status


def entries(wanted: Wanted, orders: Orders, patients: Patients) -> Iterator[dict[str, Any]]:
    """What the request asks of each matching step, ordered as the orders are found."""
    people: dict[PatientKey, PatientRecord] = {}
    for order in _orders(wanted, orders):
        if order.patient not in people:
            people[order.patient] = _patient(order.patient, patients)
        for step in order.steps:
            if not _is_listed(step.status, wanted):
                continue
            whole = entry(order, step, people[order.patient], wanted.zone)
            if _matches(wanted, whole):
                yield returned(whole, wanted.identifier.keys, wanted.identifier.sequences)


def _is_listed(status: StepStatus, wanted: Wanted) -> bool:
    asked = wanted.step.values.get("ScheduledProcedureStepStatus", "")
    return status in _OPEN or not is_universal(asked)


def _matches(wanted: Wanted, whole: dict[str, Any]) -> bool:
    (step,) = whole[STEPS]
    others = {keyword: items for keyword, items in wanted.identifier.sequences.items() if keyword != STEPS}
    return (
        in_moment(wanted.dates, wanted.times, step[_START[0]], step[_START[1]])
        and matches(step, wanted.step.values, wanted.step.sequences)
        and matches(whole, wanted.identifier.keys, others)
    )


def _patient(key: PatientKey, patients: Patients) -> PatientRecord:
    """The identity that holds now; an order whose patient is not known yet is listed with its Patient ID only."""
    try:
        return patients.patient(patients.surviving(key))
    except NotFound:
        return PatientRecord(key=key, name="")


def _orders(wanted: Wanted, orders: Orders) -> Iterator[Order]:
    """Active orders that may have a matching step: what the port can narrow down, page by page."""
    query = OrderQuery(
        statuses=frozenset({OrderStatus.ACTIVE}),
        modality=_single(wanted.step.values.get("Modality", "")),
        station_ae_title=_single(wanted.step.values.get("ScheduledStationAETitle", "")),
        accession_number=_single(wanted.identifier.keys.get("AccessionNumber", "")),
        study_instance_uid=_single(wanted.identifier.keys.get("StudyInstanceUID", "")),
        starts_from=wanted.first,
        starts_to=wanted.last,
        limit=_PAGE,
    )
    while page := orders.find_orders(query):
        yield from page
        if len(page) < _PAGE:
            return
        query = replace(query, offset=query.offset + _PAGE)


def _single(value: str) -> str:
    return "" if set(value) & set("*?\\") else value


def _span(dates: str, zone: tzinfo | None) -> tuple[datetime | None, datetime | None]:
    """The days that are asked for, in full: times of day are matched afterwards. Raises `Mismatch`."""
    if is_universal(dates):
        return None, None
    first, dash, last = dates.partition("-")
    last = last if dash else first
    return (
        _midnight(first, zone) if first else None,
        _midnight(last, zone) + timedelta(days=1) if last else None,
    )


def _midnight(date: str, zone: tzinfo | None) -> datetime:
    try:
        day = datetime.strptime(date, "%Y%m%d").date()  # noqa: DTZ007 - a day has no zone
        start = datetime.combine(day, time())
        return start.replace(tzinfo=zone) if zone is not None else start.astimezone()  # may leave the calendar
    except (ValueError, OverflowError) as error:
        raise Mismatch("Bad value of ScheduledProcedureStepStartDate") from error

"""What the platform does with a message, and what it answers: accepted means that the effect is durable."""

from __future__ import annotations

import hashlib
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy.exc import OperationalError

from polyclinic.core.errors import Conflict, NotFound, PolyclinicError, Rejected, Unavailable
from polyclinic.departments.records.patients import Order, PatientKey
from polyclinic.departments.records.ports import Inbox, InboxEntry, OrderQuery, Record
from polyclinic.edges.hl7v2 import adt, orders
from polyclinic.edges.hl7v2.acknowledge import (
    VERSIONS,
    Answer,
    ErrorCode,
    NotTaken,
    Refusal,
    acknowledge,
    control_id_of,
)
from polyclinic.edges.hl7v2.charsets import UTF_8
from polyclinic.edges.hl7v2.er7 import Message, Segment, parse

log = logging.getLogger(__name__)

ORDER_MESSAGES = (("ORM", "O01"), ("OMI", "O23"))
_TRIES = 5


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """Takes messages one by one; may be called from any thread.

    Parameters
    ----------
    site_issuer
        Assigning authority of identifiers that name none.
    charset
        Character set (HL7 table 0211) of messages that name none.
    """

    record: Record
    inbox: Inbox
    site_issuer: str = ""
    charset: str = UTF_8
    now: Callable[[], datetime] = _utc_now

    def answer(self, raw: bytes) -> bytes:
        """The acknowledgment for a message as it came out of its frame. Never raises."""
        began = time.perf_counter()
        header: Segment | None = None
        refusal: Refusal | None = None
        what = "unread"
        try:
            message = parse(raw, default_charset=self.charset)
            header = message.header
            what = _safe("^".join(message.kind))
            repeated = self._take(message, raw)
            what += " (again)" if repeated else ""
        except NotTaken as error:
            refusal = error.refusal
        except PolyclinicError as error:
            refusal = _refusal_of(error, readable=header is not None)
        except OperationalError:
            refusal = _come_back()
        except Exception as error:  # noqa: BLE001 - a message that breaks the handler is refused, not the connection
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("a %s message broke its handler: %s\n%s", what, type(error).__name__, frames)
            refusal = _come_back()
        said = refusal.answer if refusal else Answer.ACCEPT
        took_ms = (time.perf_counter() - began) * 1000
        log.info("HL7 %s: %s %s in %.1f ms", what, said, refusal.code if refusal else "", took_ms)
        text = acknowledge(header, refusal, at=self.now(), control_id=uuid4().hex[:20])
        return text.encode(header.codec if header else "ascii", "replace")

    def too_large(self, head: bytes) -> bytes:
        """The answer to a message of which only the beginning was read."""
        text = "The message is larger than this receiver takes"
        refusal = Refusal(answer=Answer.REJECT, code=ErrorCode.INTERNAL, text=text)
        header: Segment | None = None
        try:
            header = parse(head.split(b"\r", 1)[0], default_charset=self.charset).header
        except PolyclinicError:
            log.info("HL7 message without a readable header is too large")
        return acknowledge(header, refusal, at=self.now(), control_id=uuid4().hex[:20]).encode("ascii", "replace")

    def _take(self, message: Message, raw: bytes) -> bool:
        """Do what the message asks for, unless it was done; whether it was."""
        control_id = control_id_of(message)
        header = message.header
        sender = hashlib.sha256("\x1f".join((header.raw(3), header.raw(4))).encode()).hexdigest()
        body = raw.split(b"\r", 1)[-1]
        entry = InboxEntry(
            sender_sha256=sender,
            control_id_sha256=hashlib.sha256(control_id.encode()).hexdigest(),
            body_sha256=hashlib.sha256(body).hexdigest(),
            kind=_safe("^".join(message.kind)),
            received_at=self.now(),
        )
        if self.inbox.accepted(entry):
            return True
        if message.version not in VERSIONS:
            text = f"Versions {', '.join(VERSIONS)} are taken"
            raise NotTaken(Refusal(answer=Answer.REJECT, code=ErrorCode.VERSION, text=text, where=("MSH", 12)))
        self._act(message)
        self.inbox.note(entry)
        return False

    def _act(self, message: Message) -> None:
        code, event = message.kind
        source = f"HL7 {_safe(code)}^{_safe(event)}"
        if code == "ADT" and event in adt.UPDATES:
            person = adt.person_segment(message)
            self._update(adt.identification(message, person, site_issuer=self.site_issuer), source)
        elif code == "ADT" and event in adt.MERGES:
            for survivor, prior in list(adt.merges(message, site_issuer=self.site_issuer)):
                self._update(survivor, source)
                self.record.merge_patients(prior, survivor.key, source=source, at=self.now())
        elif (code, event) in ORDER_MESSAGES:
            self._take_orders(message, source)
        elif code in ("ADT", "ORM", "OMI"):
            text = "This event is not taken; docs/hl7.md lists those that are"
            raise NotTaken(Refusal(answer=Answer.REJECT, code=ErrorCode.EVENT_CODE, text=text, where=("MSH", 9)))
        else:
            text = "This message type is not taken; docs/hl7.md lists those that are"
            raise NotTaken(Refusal(answer=Answer.REJECT, code=ErrorCode.MESSAGE_TYPE, text=text, where=("MSH", 9)))

    def _update(self, said: adt.Identification, source: str, *, only_new: bool = False) -> None:
        """Bring the record to what the message says; somebody else may write at the same time."""
        for last in (*(False,) * (_TRIES - 1), True):
            try:
                kept = self.record.patient(said.key)
            except NotFound:
                kept = None
            if only_new and kept is not None and kept.name:
                return
            version = 0 if kept is None else kept.version
            try:
                self.record.put_patient(said.applied_to(kept), source=source, at=self.now(), expected_version=version)
            except Conflict as error:
                if last or error.code != "records.stale-patient":
                    raise
            else:
                return

    def _take_orders(self, message: Message, source: str) -> None:
        said = adt.identification(message, adt.person_segment(message), site_issuer=self.site_issuer)
        zone = orders.message_zone(message)
        wanted = list(orders.groups(message))
        if self.record.surviving(said.key) == said.key:
            self._update(said, source, only_new=True)
        for group in wanted:
            self._check(self._kept_order(group), group, said.key)
        for group in wanted:
            for last in (*(False,) * (_TRIES - 1), True):
                kept = self._kept_order(group)
                self._check(kept, group, said.key)
                order = orders.order_of(group, kept, patient=self.record.surviving(said.key), zone=zone)
                version = 0 if kept is None else kept.version
                try:
                    self.record.put_order(order, source=source, at=self.now(), expected_version=version)
                except Conflict as error:
                    if last or error.code != "records.stale-order":
                        raise
                else:
                    break

    def _kept_order(self, group: orders.Group) -> Order | None:
        """By filler number; by placer number where one of the two sides names no filler number yet."""
        placer, filler = group.placer_number, group.filler_number
        if filler:
            for order in self.record.find_orders(OrderQuery(filler_number=filler, limit=10)):
                if not placer or order.placer_number in ("", placer):
                    return order
        if placer:
            for order in self.record.find_orders(OrderQuery(placer_number=placer, limit=10)):
                if not filler or not order.filler_number:
                    return order
        return None

    def _check(self, kept: Order | None, group: orders.Group, patient: PatientKey) -> None:
        if kept is None and group.code not in orders.CREATING:
            text = "No order of that number is known"
            raise NotTaken(Refusal(answer=Answer.ERROR, code=ErrorCode.UNKNOWN_KEY, text=text, where=("ORC", 2)))
        if kept is not None and self.record.surviving(kept.patient) != self.record.surviving(patient):
            text = "The order of that number is another patient's"
            raise NotTaken(Refusal(answer=Answer.ERROR, code=ErrorCode.DUPLICATE_KEY, text=text, where=("PID", 3)))


def _refusal_of(error: PolyclinicError, *, readable: bool) -> Refusal:
    if isinstance(error, Unavailable):
        return _come_back()
    text = f"{error.message} [{error.code}]"
    if not readable:
        return Refusal(answer=Answer.REJECT, code=ErrorCode.DATA_TYPE, text=text)
    if isinstance(error, NotFound):
        return Refusal(answer=Answer.ERROR, code=ErrorCode.UNKNOWN_KEY, text=text)
    code = ErrorCode.DATA_TYPE if isinstance(error, Rejected) else ErrorCode.DUPLICATE_KEY
    return Refusal(answer=Answer.ERROR, code=code, text=text)


def _come_back() -> Refusal:
    text = "The message could not be kept now; send it again"
    return Refusal(answer=Answer.REJECT, code=ErrorCode.INTERNAL, text=text)


def _safe(text: str) -> str:
    """Fit for the log: what a stranger wrote into MSH-9 stays out of it."""
    return text if len(text) <= 16 and all(c.isascii() and (c.isalnum() or c == "^") for c in text) else "unknown"

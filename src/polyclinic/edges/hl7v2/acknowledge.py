"""Answers to messages: MSA and ERR (HL7 v2.5.1 2.9.2, 2.14.5, 2.14.8), original acknowledgment mode."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from polyclinic.core.errors import PolyclinicError
from polyclinic.edges.hl7v2.er7 import STANDARD, Message, Segment, components, escape, segment_text
from polyclinic.edges.hl7v2.fields import timestamp

VERSIONS = ("2.3.1", "2.4", "2.5", "2.5.1")
_OWN_VERSION = "2.5.1"
_ERR_WITH_LOCATION_FIRST = ("2.3.1", "2.4")
APPLICATION = "POLYCLINIC"


class Answer(StrEnum):
    """Acknowledgment code (HL7 table 0008)."""

    ACCEPT = "AA"
    ERROR = "AE"
    """The content is wrong: sending it again changes nothing."""
    REJECT = "AR"
    """Not taken for another reason: of a kind or version that is not served, unreadable, or come back later."""


class ErrorCode(StrEnum):
    """HL7 table 0357."""

    SEGMENT_SEQUENCE = "100"
    REQUIRED_FIELD = "101"
    DATA_TYPE = "102"
    TABLE_VALUE = "103"
    MESSAGE_TYPE = "200"
    EVENT_CODE = "201"
    VERSION = "203"
    UNKNOWN_KEY = "204"
    DUPLICATE_KEY = "205"
    LOCKED = "206"
    INTERNAL = "207"


MEANINGS = {
    ErrorCode.SEGMENT_SEQUENCE: "Segment sequence error",
    ErrorCode.REQUIRED_FIELD: "Required field missing",
    ErrorCode.DATA_TYPE: "Data type error",
    ErrorCode.TABLE_VALUE: "Table value not found",
    ErrorCode.MESSAGE_TYPE: "Unsupported message type",
    ErrorCode.EVENT_CODE: "Unsupported event code",
    ErrorCode.VERSION: "Unsupported version id",
    ErrorCode.UNKNOWN_KEY: "Unknown key identifier",
    ErrorCode.DUPLICATE_KEY: "Duplicate key identifier",
    ErrorCode.LOCKED: "Application record locked",
    ErrorCode.INTERNAL: "Application internal error",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a message is not accepted. `text` names our error code and what to do, never what the message says."""

    answer: Answer
    code: ErrorCode
    text: str
    where: tuple[str, int] | None = None
    """Segment and field."""


class NotTaken(PolyclinicError):
    """Stops the handling of a message with its refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"hl7.{refusal.code}", refusal.text)
        self.refusal = refusal


def acknowledge(header: Segment | None, refusal: Refusal | None, *, at: datetime, control_id: str) -> str:
    """The answer to a message.

    Parameters
    ----------
    header
        Its MSH segment; None when none could be read.
    refusal
        None to accept it.
    control_id
        Of the answer itself.
    """
    version = header.text_of(12) if header else ""
    version = version if version in VERSIONS else _OWN_VERSION
    event = header.text_of(9, 2) if header else ""
    kind = ("ACK", event, "ACK") if version not in _ERR_WITH_LOCATION_FIRST else ("ACK", event)
    charset = escape(header.text_of(18)) if header else ""
    lines = [
        segment_text(
            "MSH",
            [
                STANDARD.encoding_characters,
                APPLICATION,
                escape(header.text_of(6)) if header else "",
                components(*(header.text_of(3, n) for n in (1, 2, 3))) if header else "",
                components(*(header.text_of(4, n) for n in (1, 2, 3))) if header else "",
                timestamp(at),
                "",
                components(*kind),
                control_id,
                escape(header.text_of(11)) or "P" if header else "P",
                version,
                *("",) * 5,
                charset,
            ],
        ),
        segment_text(
            "MSA",
            [
                refusal.answer if refusal else Answer.ACCEPT,
                escape(header.text_of(10)) if header else "",
                escape(refusal.text) if refusal else "",
            ],
        ),
    ]
    if refusal:
        lines.append(_error_segment(refusal, version))
    return "".join(f"{line}\r" for line in lines)


def _error_segment(refusal: Refusal, version: str) -> str:
    segment, field = refusal.where or ("", 0)
    place = [segment, "1" if segment else "", str(field) if field else ""]
    if version in _ERR_WITH_LOCATION_FIRST:
        coded = "&".join((refusal.code, escape(MEANINGS[refusal.code]), "HL70357"))
        return segment_text("ERR", ["^".join([*place, coded])])
    coded = components(refusal.code, MEANINGS[refusal.code], "HL70357")
    return segment_text("ERR", ["", "^".join(place).rstrip("^"), coded, "E", "", "", "", escape(refusal.text)])


def control_id_of(message: Message) -> str:
    """MSH-10, which every message needs.

    Raises
    ------
    NotTaken
        When it is missing or longer than ours can be.
    """
    control_id = message.control_id
    if not control_id or len(control_id) > 199:
        text = "MSH-10 must name the message, with at most 199 characters"
        raise NotTaken(Refusal(answer=Answer.REJECT, code=ErrorCode.REQUIRED_FIELD, text=text, where=("MSH", 10)))
    return control_id

"""DIMSE statuses that the node answers, as data (PS3.7 C, PS3.4 tables B.2-1 and C.4-1 to C.4-3)."""

from __future__ import annotations

from typing import NamedTuple

from polyclinic.core.errors import PolyclinicError, Unavailable


class Status(NamedTuple):
    """A status code and the comment that goes with it; the comment never holds patient data."""

    code: int
    comment: str = ""
    error_id: int | None = None
    """Error ID (0000,0903), where a service defines some."""


SUCCESS = Status(0x0000)
NO_SUCH_SOP_CLASS = Status(0x0118, "SOP class not supported")
UNRECOGNISED_OPERATION = Status(0x0211, "Unrecognised operation")
MISTYPED_ARGUMENT = Status(0x0212, "Mistyped argument")
PROCESSING_FAILURE = Status(0x0110, "Not stored, try again")
KEPT_ASIDE = Status(0xB000, "Kept aside: UID is known with other bytes")
"""A warning, since nothing is lost: the bytes are in quarantine. No success, since their UID does not find them."""

PENDING = Status(0xFF00)
PENDING_OPTIONAL_KEYS = Status(0xFF01)
"""The match continues, but an optional key was not matched or is not known (PS3.4 table C.4-1)."""
CANCELLED = Status(0xFE00)
TOO_MANY_MATCHES = Status(0xA700, "Too many matches: narrow the query")
NOT_COUNTED = Status(0xA701, "Too many instances: retrieve less at once")
NONE_SENT = Status(0xA702, "No instance could be sent")
UNKNOWN_DESTINATION = Status(0xA801, "Move destination is not configured")
DESTINATION_LOST = Status(0xA702, "Move destination does not answer")
SOME_FAILED = Status(0xB000, "Some instances could not be sent")
UNREADABLE_IDENTIFIER = Status(0xC000, "Identifier cannot be read")
UNABLE = Status(0xC001, "Unable to process, try again")

INVALID_ARGUMENT = Status(0x0115, "Invalid argument value")
NO_SUCH_INSTANCE = Status(0x0112, "No such SOP instance")
INVALID_INSTANCE = Status(0x0117, "Invalid SOP instance UID")
DUPLICATE_INSTANCE = Status(0x0111, "SOP instance exists already")
NO_SUCH_ACTION = Status(0x0123, "No such action")
NO_SUCH_EVENT = Status(0x0113, "No such event type")
TRANSACTION_IN_USE = Status(0x0110, "Transaction UID is used for others")
NOT_NOW = Status(0x0110, "Unable to process, try again")
FINAL_STEP = Status(0x0110, "Performed step may not be updated", 0xA710)
"""The step is completed or discontinued (PS3.4 table F.7.2-2)."""


def mismatch(comment: str) -> Status:
    """The identifier does not fit the information model (PS3.4 tables C.4-1 to C.4-3)."""
    return Status(0xA900, comment)


class Refused(ValueError):
    """A request that breaks the rules of its service, with the status that says so."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.comment)
        self.status = status


def missing(keyword: str) -> Status:
    """A required attribute is not there."""
    return Status(0x0120, f"Missing attribute {keyword}")


def missing_value(keyword: str) -> Status:
    """A required attribute has no value."""
    return Status(0x0121, f"Missing value of {keyword}")


def invalid_value(keyword: str) -> Status:
    """An attribute has a value that it must not have."""
    return Status(0x0106, f"Invalid value of {keyword}")


_BY_CODE: dict[str, Status] = {
    "archive.out-of-space": Status(0xA700, "Out of resources"),
    "archive.other-uid": Status(0xA900, "Dataset and command name other UIDs"),
    "priors.other-patient": Status(0xA900, "Patient is not the one asked for"),
    "archive.missing-uid": Status(0xA900, "A required UID is missing"),
    "archive.bad-uid": Status(0xA900, "A required UID is malformed"),
    "archive.truncated": Status(0xC001, "Dataset is cut"),
    "archive.malformed": Status(0xC002, "Dataset cannot be parsed"),
    "archive.too-large": Status(0xC003, "Dataset is too large"),
    "archive.not-dicom": Status(0xC000, "Cannot understand"),
}


def status_of(error: PolyclinicError) -> Status:
    """Status that tells a C-STORE sender what to do about an error."""
    fallback = PROCESSING_FAILURE if isinstance(error, Unavailable) else Status(0xC000, "Cannot understand")
    return _BY_CODE.get(error.code, fallback)

"""DIMSE statuses that the node answers, as data (PS3.7 C, PS3.4 tables B.2-1 and C.4-1 to C.4-3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from polyclinic.core.errors import PolyclinicError, Unavailable
from polyclinic.edges.dimse.syntaxes import Service


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


_N_SERVICES = (
    (SUCCESS, "Done"),
    (UNRECOGNISED_OPERATION, "The operation is not defined for the SOP class"),
    (INVALID_ARGUMENT, "The data set cannot be read, or has no instances"),
    (NO_SUCH_INSTANCE, "There is no such SOP instance, or it is not the well-known one"),
    (NOT_NOW, "A failure here; the same request may succeed later"),
)
MEANINGS: Mapping[Service, tuple[tuple[Status, str], ...]] = {
    Service.VERIFICATION: (
        (SUCCESS, "The node answers"),
        (NO_SUCH_SOP_CLASS, "C-ECHO in another presentation context than Verification"),
    ),
    Service.STORE: (
        (SUCCESS, "Bytes and index row are durable"),
        (KEPT_ASIDE, "Other bytes under a SOP Instance UID that is known: kept, but not found by that UID"),
        (PROCESSING_FAILURE, "A failure here; send again"),
        (NO_SUCH_SOP_CLASS, "The SOP class is not that of the presentation context"),
        (MISTYPED_ARGUMENT, "The request has no data set or no UIDs"),
        *((status, f"The instance cannot be kept ({code})") for code, status in _BY_CODE.items()),
    ),
    Service.QUERY: (
        (SUCCESS, "All matches have been sent"),
        (PENDING, "A match"),
        (PENDING_OPTIONAL_KEYS, "A match; at least one optional key is not known or was not matched"),
        (CANCELLED, "Ended by C-CANCEL"),
        (TOO_MANY_MATCHES, "More matches than are sent for one request"),
        (mismatch("Identifier does not match SOP class"), "A unique key is missing, or a value is not of its kind"),
        (UNREADABLE_IDENTIFIER, "The identifier is no data set, or larger than a query is"),
        (UNABLE, "The index does not answer; ask again"),
        (NO_SUCH_SOP_CLASS, "C-FIND in a presentation context of another service"),
        (MISTYPED_ARGUMENT, "The request has no identifier"),
    ),
    Service.RETRIEVE: (
        (SUCCESS, "All instances have been sent"),
        (PENDING, "Sub-operations continue"),
        (SOME_FAILED, "At least one sub-operation failed or warned; those that failed are listed"),
        (CANCELLED, "Ended by C-CANCEL"),
        (NOT_COUNTED, "More instances than are sent for one request"),
        (NONE_SENT, "No sub-operation succeeded"),
        (DESTINATION_LOST, "The destination does not answer"),
        (UNKNOWN_DESTINATION, "C-MOVE to a destination that is not configured"),
        (mismatch("Identifier does not match SOP class"), "A unique key is missing or names several entities"),
        (UNREADABLE_IDENTIFIER, "The identifier is no data set, or larger than a query is"),
        (UNABLE, "The index does not answer; ask again"),
        (NO_SUCH_SOP_CLASS, "C-MOVE or C-GET in a presentation context of another service"),
        (MISTYPED_ARGUMENT, "The request has no identifier"),
    ),
    Service.WORKLIST: (
        (SUCCESS, "All scheduled procedure steps have been sent"),
        (PENDING, "A scheduled procedure step"),
        (PENDING_OPTIONAL_KEYS, "A scheduled procedure step; at least one key is not known"),
        (CANCELLED, "Ended by C-CANCEL"),
        (TOO_MANY_MATCHES, "More matches than are sent for one request"),
        (
            mismatch("Identifier does not match SOP class"),
            "A value is not of its kind, or a sequence key has two items",
        ),
        (UNREADABLE_IDENTIFIER, "The identifier is no data set, or larger than a query is"),
        (UNABLE, "The record does not answer; ask again"),
        (MISTYPED_ARGUMENT, "The request has no identifier"),
    ),
    Service.PERFORMED: (
        *_N_SERVICES,
        (MISTYPED_ARGUMENT, "The request has no attributes"),
        (DUPLICATE_INSTANCE, "N-CREATE of a step that exists"),
        (INVALID_INSTANCE, "N-CREATE with a malformed SOP Instance UID"),
        (FINAL_STEP, "N-SET of a step that is completed or discontinued"),
        (missing("an attribute"), "A required attribute is not there"),
        (missing_value("an attribute"), "A required attribute has no value"),
        (invalid_value("an attribute"), "A value is not allowed, or N-SET changes what must not change"),
    ),
    Service.COMMITMENT: (
        *_N_SERVICES,
        (NO_SUCH_ACTION, "N-ACTION with an Action Type ID other than 1"),
        (NO_SUCH_EVENT, "N-EVENT-REPORT with an Event Type ID other than 1 and 2"),
        (TRANSACTION_IN_USE, "The Transaction UID stands for other instances"),
    ),
}
"""Every status that is answered, by service, and when; the conformance statement prints this table."""

"""DIMSE statuses that the node answers, as data (PS3.7 C, PS3.4 table B.2-1)."""

from __future__ import annotations

from typing import NamedTuple

from polyclinic.core.errors import PolyclinicError, Unavailable


class Status(NamedTuple):
    """A status code and the comment that goes with it; the comment never holds patient data."""

    code: int
    comment: str = ""


SUCCESS = Status(0x0000)
NO_SUCH_SOP_CLASS = Status(0x0118, "SOP class not supported")
UNRECOGNISED_OPERATION = Status(0x0211, "Unrecognised operation")
MISTYPED_ARGUMENT = Status(0x0212, "Mistyped argument")
PROCESSING_FAILURE = Status(0x0110, "Not stored, try again")
KEPT_ASIDE = Status(0xB000, "Kept aside: UID is known with other bytes")
"""A warning, since nothing is lost: the bytes are in quarantine. No success, since their UID does not find them."""

_BY_CODE: dict[str, Status] = {
    "archive.out-of-space": Status(0xA700, "Out of resources"),
    "archive.other-uid": Status(0xA900, "Dataset and command name other UIDs"),
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

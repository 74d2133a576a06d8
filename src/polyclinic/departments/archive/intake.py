"""From the bytes of an instance to what the index needs of it: checked, and as cheap as walking its header."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Any

from polyclinic.core.errors import Rejected
from polyclinic.core.ids import is_uid_lenient
from polyclinic.core.names import fold_name
from polyclinic.dicom.header import FileMeta, Header, HeaderError, read_file_meta, read_header
from polyclinic.dicom.text import decode, encodings_of

_MESSAGES = {
    "not-dicom": "This is no DICOM file (PS3.10): send files with preamble and file meta information",
    "truncated": "The instance is cut: send it again from the source",
    "malformed": "The instance's data elements cannot be read: check the sending device",
    "too-large": "The instance has more elements than a real one, or inflates without end: check the sending device",
}
_INTEGER = re.compile(r"[+-]?[0-9]{1,12}")
MAX_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What an instance says about itself. `pixel_offset` counts from the start of the dataset."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    instance_number: int | None
    rows: int | None
    columns: int | None
    number_of_frames: int
    pixel_offset: int | None
    header: Header


def examine_file(part10: bytes | memoryview) -> tuple[FileMeta, Facts]:
    """Check a DICOM file. Raises `Rejected`, see `polyclinic.departments.archive.ports.Archive.store`."""
    try:
        meta = read_file_meta(part10)
    except HeaderError as error:
        raise rejection(error) from error
    return meta, examine_dataset(memoryview(part10)[meta.dataset_offset :], meta.transfer_syntax_uid)


def examine_dataset(dataset: bytes | memoryview, transfer_syntax_uid: str) -> Facts:
    """Check an encoded dataset; raises `Rejected` as `examine_file` does."""
    try:
        header = read_header(dataset, transfer_syntax_uid)
    except HeaderError as error:
        raise rejection(error) from error
    uids = {name: header.text(tag) for name, tag in _UID_TAGS.items()}
    missing = [name for name, uid in uids.items() if not uid]
    if missing:
        raise Rejected("archive.missing-uid", f"The instance has no {missing[0]}: the sending device must set it")
    for name, uid in [*uids.items(), ("Transfer Syntax UID", transfer_syntax_uid)]:
        if not is_uid_lenient(uid):
            raise Rejected("archive.bad-uid", f"{name} is no UID (PS3.5 9.1): the sending device must correct it")
    pixel_offset = None if header.data is not dataset else header.pixel_element_offset
    return Facts(
        sop_class_uid=uids["SOP Class UID"],
        sop_instance_uid=uids["SOP Instance UID"],
        series_instance_uid=uids["Series Instance UID"],
        study_instance_uid=uids["Study Instance UID"],
        transfer_syntax_uid=transfer_syntax_uid,
        instance_number=integer(header.text(0x00200013)),
        rows=header.uint16(0x00280010),
        columns=header.uint16(0x00280011),
        number_of_frames=min(max(integer(header.text(0x00280008)) or 1, 1), MAX_INT32),
        pixel_offset=pixel_offset if pixel_offset is None or pixel_offset <= MAX_INT32 else None,
        header=header,
    )


_UID_TAGS = {
    "SOP Class UID": 0x00080016,
    "SOP Instance UID": 0x00080018,
    "Study Instance UID": 0x0020000D,
    "Series Instance UID": 0x0020000E,
}


def rejection(error: HeaderError) -> Rejected:
    """The archive's answer to an unreadable instance."""
    return Rejected(f"archive.{error.reason}", _MESSAGES[error.reason])


def integer(value: str) -> int | None:
    """First value of an IS element, or None when it is no integer (devices write ``1A`` and worse)."""
    first = value.split("\\", 1)[0].strip()
    return int(first) if _INTEGER.fullmatch(first) else None


def study_values(header: Header) -> dict[str, Any]:
    """Columns of the study row, from the first instance of the study."""
    encodings = encodings_of(header.raw(0x00080005))

    def value(tag: int, length: int, *, person_name: bool = False) -> str:
        return decode(header.raw(tag), encodings, person_name=person_name).replace("\0", "")[:length]

    name = value(0x00100010, 400, person_name=True)
    return {
        "patient_id": value(0x00100020, 128),
        "issuer": value(0x00100021, 128),
        "patient_name": name,
        "patient_name_folded": fold_name(name),
        "birth_date": value(0x00100030, 16),
        "sex": value(0x00100040, 16),
        "study_date": value(0x00080020, 16),
        "study_time": value(0x00080030, 16),
        "accession_number": value(0x00080050, 64),
        "study_id": value(0x00200010, 64),
        "referring_physician_name": value(0x00080090, 400, person_name=True),
        "description": value(0x00081030, 400),
    }


def series_values(header: Header) -> dict[str, Any]:
    """Columns of the series row, from the first instance of the series."""
    encodings = encodings_of(header.raw(0x00080005))

    def value(tag: int, length: int) -> str:
        return decode(header.raw(tag), encodings).replace("\0", "")[:length]

    return {
        "modality": value(0x00080060, 32).replace("\\", ""),
        "series_number": integer(header.text(0x00200011)),
        "description": value(0x0008103E, 400),
        "body_part": value(0x00180015, 64),
        "station_name": value(0x00081010, 64),
        "series_date": value(0x00080021, 16),
        "series_time": value(0x00080031, 16),
    }


def date_of(value: str) -> date | None:
    """A DICOM DA value as date, or None when it is none."""
    try:
        return date(int(value[:4]), int(value[4:6]), int(value[6:8])) if len(value) == 8 else None
    except ValueError:
        return None

"""Instances on their way out: as they are kept, or in an uncompressed transfer syntax that the receiver takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO

from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from polyclinic.core.errors import Rejected
from polyclinic.departments.archive.ports import KeptFile
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.dicom.header import DEFLATED_LE, EXPLICIT_LE, IMPLICIT_LE, HeaderError, read_file_meta
from polyclinic.edges.decoding.isolated import decoders
from polyclinic.edges.dimse.wire import FRAGMENT_BYTES

CONVERTIBLE_FROM = frozenset({EXPLICIT_LE, DEFLATED_LE, IMPLICIT_LE})
"""Transfer syntaxes without compressed pixels: elements are written anew."""
CONVERTIBLE_TO = frozenset({EXPLICIT_LE, IMPLICIT_LE})
DECODABLE = frozenset(
    {
        "1.2.840.10008.1.2.5",
        *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)),
    }
)
"""Compressed transfer syntaxes of still images that are decoded for peers that take none; video stays as it is."""
_PREFERENCE = (EXPLICIT_LE, IMPLICIT_LE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One instance to be sent."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    size_bytes: int
    """Of the dataset, without file meta information."""
    pieces: Callable[[], Iterator[bytes | memoryview]]
    """The dataset from its start, in pieces of bounded size."""
    whole: Callable[[], bytes | memoryview]
    """The DICOM file (PS3.10)."""


def of_file(part10: bytes | memoryview) -> Outgoing:
    """An instance in memory; raises `Rejected` (``dimse.not-dicom``) when it is no DICOM file."""
    try:
        meta = read_file_meta(part10)
    except HeaderError as error:
        raise Rejected("dimse.not-dicom", "This is no DICOM file (PS3.10) and cannot be sent") from error
    dataset = memoryview(part10)[meta.dataset_offset :]
    return Outgoing(
        sop_class_uid=meta.sop_class_uid,
        sop_instance_uid=meta.sop_instance_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        size_bytes=len(dataset),
        pieces=lambda: iter([dataset]),
        whole=lambda: part10,
    )


def of_archive(archive: SqlArchive, kept: KeptFile) -> Outgoing:
    """A kept instance, which is never in memory as a whole unless it must be converted."""
    if kept.corrected:
        return _of_corrected(archive, kept)
    size_bytes = kept.record.size_bytes

    def pieces() -> Iterator[bytes]:
        with archive.parts(kept) as read:
            for start in range(kept.dataset_offset, size_bytes, FRAGMENT_BYTES):
                yield read(start, min(start + FRAGMENT_BYTES, size_bytes))

    return Outgoing(
        sop_class_uid=kept.record.sop_class_uid,
        sop_instance_uid=kept.record.sop_instance_uid,
        transfer_syntax_uid=kept.record.transfer_syntax_uid,
        size_bytes=size_bytes - kept.dataset_offset,
        pieces=pieces,
        whole=lambda: archive.read_part(kept),
    )


def _of_corrected(archive: SqlArchive, kept: KeptFile) -> Outgoing:
    """A kept instance whose header leaves with the patient's identity of now; its pixels are not held in memory."""
    size_bytes, dataset_offset = archive.given_out(kept)

    def pieces() -> Iterator[bytes | memoryview]:
        left_out = dataset_offset
        for piece in archive.stream(kept):
            for start in range(left_out, len(piece), FRAGMENT_BYTES):
                yield piece[start : start + FRAGMENT_BYTES]
            left_out = max(0, left_out - len(piece))

    return Outgoing(
        sop_class_uid=kept.record.sop_class_uid,
        sop_instance_uid=kept.record.sop_instance_uid,
        transfer_syntax_uid=kept.record.transfer_syntax_uid,
        size_bytes=size_bytes - dataset_offset,
        pieces=pieces,
        whole=lambda: b"".join(archive.stream(kept)),
    )


def instead_of(transfer_syntax_uid: str) -> tuple[str, ...]:
    """What an instance can be written in for a peer that does not take its own transfer syntax, the better first."""
    if transfer_syntax_uid not in CONVERTIBLE_FROM and transfer_syntax_uid not in DECODABLE:
        return ()
    return tuple(syntax for syntax in _PREFERENCE if syntax != transfer_syntax_uid)


def converted(outgoing: Outgoing, transfer_syntax_uid: str) -> bytes:
    """The dataset of an instance in one of `CONVERTIBLE_TO`; compressed pixels are decoded.

    Raises
    ------
    Rejected
        ``dimse.not-convertible`` when its elements cannot be written anew, or see `decompressed`.
    """
    part10 = outgoing.whole()
    if outgoing.transfer_syntax_uid not in CONVERTIBLE_FROM:
        part10 = decoders.decompressed(part10)
    try:
        dataset = dcmread(BytesIO(part10))
        out = DicomBytesIO()
        out.is_implicit_VR, out.is_little_endian = transfer_syntax_uid == IMPLICIT_LE, True
        write_dataset(out, dataset)
    except Exception as error:  # a hostile data set breaks the writer in every way; the original is kept
        raise Rejected(
            "dimse.not-convertible", "The instance cannot be written in another transfer syntax: it stays as it is"
        ) from error
    return bytes(out.getvalue())


def rewritten(outgoing: Outgoing, transfer_syntax_uid: str) -> Outgoing:
    """The same instance in another transfer syntax; raises as `converted`."""
    dataset = converted(outgoing, transfer_syntax_uid)
    return replace(
        outgoing,
        transfer_syntax_uid=transfer_syntax_uid,
        size_bytes=len(dataset),
        pieces=lambda: iter([dataset]),
    )

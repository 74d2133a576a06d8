"""Instances as Explicit VR Little Endian when a client cannot take them as they are stored (PS3.18 8.7.3.2)."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from struct import pack

from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from polyclinic.core.errors import Rejected
from polyclinic.departments.archive.ports import KeptFile
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.dicom.header import EXPLICIT_LE, NATIVE, PIXEL_DATA
from polyclinic.edges.dicomweb.stored import frame_arrays, little_endian, open_kept

_LONGEST_VALUE_BYTES = 0xFFFFFFFE
_EXTENDED_OFFSETS = (0x7FE00001, 0x7FE00002)
_UNREADABLE = (ValueError, AttributeError, NotImplementedError, KeyError, TypeError, EOFError, OSError, RuntimeError)


def explicit_little_endian(archive: SqlArchive, kept: KeptFile) -> Iterator[bytes]:
    """A kept instance with uncompressed pixels, frame by frame; the header comes first and says how many follow.

    Raises
    ------
    Rejected
        ``dicomweb.no-decoder``: no decoder for these pixels, more than 4 GB of them, or a header that contradicts them.
    """
    if kept.record.transfer_syntax_uid == EXPLICIT_LE:
        yield from archive.stream(kept)
        return
    if kept.record.transfer_syntax_uid in NATIVE or kept.record.rows is None:
        yield _rewritten(archive, kept)
        return
    count = kept.record.number_of_frames
    frames = frame_arrays(archive, kept, list(range(1, count + 1)), raw=False)
    first = next(frames)
    frame_bytes = first.nbytes
    length = frame_bytes * count
    if length > _LONGEST_VALUE_BYTES:
        raise _impossible()
    with open_kept(archive, kept) as file:
        dataset = dcmread(file, force=True, stop_before_pixels=True)
    for tag in _EXTENDED_OFFSETS:
        dataset.pop(tag, None)
    if first.ndim == 3:
        dataset.PlanarConfiguration = 0
        if str(dataset.get("PhotometricInterpretation", "")).startswith("YBR"):
            dataset.PhotometricInterpretation = "RGB"
    dataset.BitsAllocated = first.dtype.itemsize * 8
    vr = b"OB" if first.dtype.itemsize == 1 else b"OW"
    header = pack("<HH2sHL", PIXEL_DATA >> 16, PIXEL_DATA & 0xFFFF, vr, 0, length + length % 2)
    yield _written(dataset) + header + little_endian(first)
    for frame in frames:
        if frame.nbytes != frame_bytes:
            raise _impossible()
        yield little_endian(frame)
    if length % 2:
        yield b"\0"


def _rewritten(archive: SqlArchive, kept: KeptFile) -> bytes:
    """Another byte order, implicit VR, or deflated: the same elements in Explicit VR Little Endian."""
    try:
        with open_kept(archive, kept) as file:
            dataset = dcmread(file, force=True)
        if "PixelData" in dataset and not dataset.original_encoding[1]:
            # pydicom leaves the words of pixel data as they were read
            dataset.PixelData = b"".join(little_endian(f) for f in frame_arrays(archive, kept, _every(kept)))
            dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
        return _written(dataset)
    except _UNREADABLE as error:
        raise _impossible() from error


def _every(kept: KeptFile) -> list[int]:
    return list(range(1, kept.record.number_of_frames + 1))


def _written(dataset: Dataset) -> bytes:
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = BytesIO()
    try:
        dcmwrite(out, dataset, enforce_file_format=True)
    except _UNREADABLE as error:
        raise _impossible() from error
    return out.getvalue()


def _impossible() -> Rejected:
    return Rejected("dicomweb.no-decoder", "This instance cannot be decoded: fetch it as stored (transfer-syntax=*)")

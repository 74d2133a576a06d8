"""A compressed instance written anew without compression, for receivers that take nothing else."""

from __future__ import annotations

from io import BytesIO

from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from polyclinic.core.errors import Rejected

MAX_PIXEL_BYTES = 1024**3
"""Decoded pixels that are held in memory at once; a longer one is not decompressed."""


def decompressed(part10: bytes | memoryview) -> bytes:
    """The DICOM file in Explicit VR Little Endian with the same SOP Instance UID.

    Pixels are what the codec gives, so that what was compressed with loss stays marked as such (DICOM PS3.3
    C.7.6.1.1.5). Colour comes out as RGB.

    Raises
    ------
    Rejected
        ``dicom.not-decompressible``: damaged, in a codec that is not here, video, or too large.
    """
    try:
        dataset = dcmread(BytesIO(part10))
        size_bytes = _pixel_bytes(dataset)
        if 0 < size_bytes <= MAX_PIXEL_BYTES:
            dataset.decompress(generate_instance_uid=False)
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            out = BytesIO()
            dcmwrite(out, dataset, enforce_file_format=True)
            return out.getvalue()
    except Exception as error:  # decoders raise of every kind; the instance is refused with what to do
        raise Rejected(
            "dicom.not-decompressible", "The instance cannot be decompressed here: have it sent as it is kept"
        ) from error
    raise Rejected("dicom.not-decompressible", "The instance has no pixels or too many to decompress: send it as it is")


def _pixel_bytes(dataset: Dataset) -> int:
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    samples = int(dataset.get("SamplesPerPixel", 1) or 1)
    bits = int(dataset.get("BitsAllocated", 0) or 0)
    return int(dataset.get("Rows", 0) or 0) * int(dataset.get("Columns", 0) or 0) * frames * samples * bits // 8

"""Dataset -> DICOM file bytes (DICOM PS3.10 7.1)."""

from __future__ import annotations

from io import BytesIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian

from polyclinic.core.ids import stable_uid

IMPLEMENTATION_CLASS_UID = stable_uid("implementation-class", "polyclinic")
IMPLEMENTATION_VERSION_NAME = "POLYCLINIC"


def file_meta(dataset: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> FileMetaDataset:
    """File meta information of an instance that Polyclinic made."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def to_part10(dataset: Dataset) -> bytes:
    """`dataset` with preamble and file meta information in Explicit VR Little Endian.

    Equal datasets give equal bytes: nothing here depends on the clock or the machine.
    """
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = file_meta(dataset)
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()

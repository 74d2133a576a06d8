"""MetaImage volumes (.mhd with .raw or .zraw, .mha), the format of LUNA16's scans, as CT datasets for an agent."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from polyclinic.core.errors import Rejected
from polyclinic.core.ids import is_uid_lenient, stable_uid
from polyclinic.dicom.geometry import VolumeGeometry
from polyclinic.dicom.volume import AIR_HU, MOST_VOXELS

_HEADER_BYTES = 65536
_TYPES = {"MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_FLOAT": "f4", "MET_UCHAR": "u1"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MetaImage:
    """`hu` has the axes (slice, row, column)."""

    name: str
    """File name without its ending; in LUNA16 the Series Instance UID."""
    hu: npt.NDArray[np.int16]
    geometry: VolumeGeometry


def read_metaimage(path: Path) -> MetaImage:
    """Read a three-dimensional scalar image; ITK's world coordinates are DICOM's LPS.

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``assessment.metaimage`` with the reason.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
    except OSError as error:
        raise _bad(path, "it cannot be read") from error
    fields, offset = _fields(head)
    try:
        shape, geometry = _geometry(fields, path.stem)
        kind = np.dtype(("<", ">")[_is_true(fields, "BinaryDataByteOrderMSB")] + _TYPES[fields["ElementType"]])
        if int(fields.get("ElementNumberOfChannels", "1")) != 1:
            raise ValueError("more than one channel")
        raw = _bytes(path, fields, offset, math.prod(shape) * kind.itemsize)
    except (KeyError, ValueError, OSError, zlib.error) as error:
        raise _bad(path, f"its header or data are not as expected ({type(error).__name__})") from error
    values = np.frombuffer(raw, dtype=kind).reshape(shape)
    hu = np.clip(np.rint(values), AIR_HU, 32767).astype(np.int16)
    return MetaImage(name=path.stem, hu=hu, geometry=geometry)


def datasets(image: MetaImage, patient_id: str) -> Iterator[Dataset]:
    """One CT image for each slice, in memory only; the series UID is the image's name where that is a UID."""
    geometry = image.geometry
    series = image.name if is_uid_lenient(image.name) else stable_uid("metaimage-series", image.name)
    for index in range(image.hu.shape[0]):
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, UID(stable_uid("metaimage", image.name, index))
        ds.StudyInstanceUID, ds.SeriesInstanceUID = UID(stable_uid("metaimage-study", image.name)), UID(series)
        ds.FrameOfReferenceUID = geometry.frame_of_reference_uid
        ds.Modality, ds.PatientID, ds.InstanceNumber = "CT", patient_id, index + 1
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.ImagePositionPatient = [round(float(v), 6) for v in geometry.to_patient((index, 0, 0))]
        ds.ImageOrientationPatient = [*geometry.column_direction, *geometry.row_direction]
        ds.PixelSpacing = list(geometry.spacing_mm[1:])
        ds.SliceThickness = geometry.spacing_mm[0]
        ds.Rows, ds.Columns = image.hu.shape[1:]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "HU"
        ds.PixelData = image.hu[index].astype("<i2").tobytes()
        ds["PixelData"].VR = "OW"
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        yield ds


def _fields(head: bytes) -> tuple[dict[str, str], int]:
    """Header lines up to ElementDataFile, and where they end."""
    fields: dict[str, str] = {}
    offset = 0
    for line in head.split(b"\n"):
        offset += len(line) + 1
        name, equals, value = line.decode("latin-1").partition("=")
        if equals:
            fields[name.strip()] = value.strip()
        if name.strip() == "ElementDataFile":
            break
    return fields, offset


def _geometry(fields: dict[str, str], name: str) -> tuple[tuple[int, int, int], VolumeGeometry]:
    columns, rows, slices = (int(v) for v in fields["DimSize"].split())
    if min(columns, rows, slices) < 1 or columns * rows * slices > MOST_VOXELS:
        raise ValueError("size")
    x_mm, y_mm, z_mm = (float(v) for v in fields["ElementSpacing"].split())
    origin = [float(v) for v in fields.get("Offset", fields.get("Position", "0 0 0")).split()]
    turn = [float(v) for v in fields.get("TransformMatrix", "1 0 0 0 1 0 0 0 1").split()]
    # The file lists the direction of each image axis in turn: column index, row index, slice index.
    x, y, z = (tuple(turn[3 * n : 3 * n + 3]) for n in range(3))
    if len(origin) != 3 or len(turn) != 9 or min(x_mm, y_mm, z_mm) <= 0:
        raise ValueError("geometry")
    geometry = VolumeGeometry(
        frame_of_reference_uid=stable_uid("metaimage-frame", name),
        shape=(slices, rows, columns),
        origin_mm=(origin[0], origin[1], origin[2]),
        slice_direction=(z[0], z[1], z[2]),
        row_direction=(y[0], y[1], y[2]),
        column_direction=(x[0], x[1], x[2]),
        spacing_mm=(z_mm, y_mm, x_mm),
    )
    return geometry.shape, geometry


def _bytes(path: Path, fields: dict[str, str], offset: int, size: int) -> bytes:
    """The voxels, unpacked no further than `size`."""
    where = fields["ElementDataFile"]
    packed = _is_true(fields, "CompressedData")
    if where == "LOCAL":
        source = path
    else:
        source, offset = path.parent / Path(where).name, 0  # a header may not point outside its folder
    with source.open("rb") as file:
        file.seek(offset)
        data = zlib.decompressobj().decompress(file.read(), size) if packed else file.read(size)
    if len(data) != size:
        raise ValueError("length")
    return data


def _is_true(fields: dict[str, str], name: str) -> bool:
    return fields.get(name, "False").lower() == "true"


def _bad(path: Path, why: str) -> Rejected:
    return Rejected("assessment.metaimage", f"The image {path.name} cannot be used: {why}")

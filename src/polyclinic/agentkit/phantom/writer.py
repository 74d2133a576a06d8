"""A phantom as CT Image Storage instances (DICOM PS3.3 A.3), obviously synthetic and the same at every writing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from polyclinic.agentkit.phantom.spec import ChestPhantom, PhantomStudy
from polyclinic.core.errors import Rejected
from polyclinic.core.ids import stable_uid

_NATIVE = frozenset(
    {ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian}
)
_IMPLEMENTATION_UID = UID(stable_uid("implementation", "polyclinic-phantom"))
_INTERCEPT_HU = -1024


def study_instance_uid(spec: ChestPhantom) -> str:
    """Study Instance UID of the phantom; it follows from the specification alone."""
    return stable_uid("phantom-study", spec)


def series_instance_uid(spec: ChestPhantom) -> str:
    """Series Instance UID of the phantom's only series."""
    return stable_uid("phantom-series", spec)


def sop_instance_uid(spec: ChestPhantom, slice_index: int) -> str:
    """SOP Instance UID of the image of `slice_index` of the volume."""
    return stable_uid("phantom-instance", spec, slice_index)


def to_datasets(study: PhantomStudy, transfer_syntax_uid: str = str(ExplicitVRLittleEndian)) -> Iterator[Dataset]:
    """One CT image for each slice, from head to foot as scanners number them, with file meta information.

    Parameters
    ----------
    transfer_syntax_uid
        Any uncompressed syntax, or one that pydicom has an encoder for here (RLE, JPEG-LS, JPEG 2000); only
        lossless ones belong in a phantom.

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``phantom.transfer-syntax`` when no encoder is installed for it.
    """
    template = _template(study)
    for number, index in enumerate(range(study.hu.shape[0] - 1, -1, -1), start=1):
        yield _instance(template, study, index, number, transfer_syntax_uid)


def write_phantom(
    study: PhantomStudy, folder: Path, transfer_syntax_uid: str = str(ExplicitVRLittleEndian)
) -> list[Path]:
    """Write each instance to ``folder/CT0001.dcm`` and so on; returns the paths in instance order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for dataset in to_datasets(study, transfer_syntax_uid):
        path = folder / f"CT{int(dataset.InstanceNumber):04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _instance(template: Dataset, study: PhantomStudy, index: int, number: int, transfer_syntax_uid: str) -> Dataset:
    ds = Dataset()
    ds.update(template)
    x, y, z = (float(v) for v in study.geometry.to_patient((index, 0, 0)))
    ds.SOPInstanceUID = UID(sop_instance_uid(study.spec, index))
    ds.InstanceNumber = number
    ds.ImagePositionPatient = [round(x, 4), round(y, 4), round(z, 4)]
    ds.SliceLocation = round(z, 4)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.ImplementationClassUID = _IMPLEMENTATION_UID
    meta.ImplementationVersionName = "POLYCLINIC_PHAN"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta = meta
    stored = (study.hu[index].astype(np.int32) - _INTERCEPT_HU).astype("<u2")
    if transfer_syntax_uid in _NATIVE:
        big = transfer_syntax_uid == ExplicitVRBigEndian
        ds.PixelData = (stored.byteswap() if big else stored).tobytes()
        ds["PixelData"].VR = "OW"
        meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    else:
        _compress(ds, stored, transfer_syntax_uid)
    return ds


def _compress(ds: Dataset, stored: npt.NDArray[np.uint16], transfer_syntax_uid: str) -> None:
    try:
        ds.compress(UID(transfer_syntax_uid), stored, generate_instance_uid=False)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise Rejected(
            "phantom.transfer-syntax",
            f"Transfer syntax {transfer_syntax_uid} cannot be encoded here; choose an uncompressed one",
        ) from error


def _template(study: PhantomStudy) -> Dataset:
    spec = study.spec
    ds = Dataset()
    _identity(ds, spec)
    _equipment_and_acquisition(ds, spec)
    low = int(study.hu.min()) - _INTERCEPT_HU
    high = int(study.hu.max()) - _INTERCEPT_HU
    if low < 0 or high > 4095:
        raise Rejected("phantom.range", "HU of a phantom must lie between -1024 and 3071")
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = spec.rows, spec.columns
    ds.PixelSpacing = [round(v, 6) for v in spec.spacing_mm]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.FrameOfReferenceUID = study.geometry.frame_of_reference_uid
    ds.PositionReferenceIndicator = "XY"
    ds.SliceThickness = spec.slice_thickness_mm
    ds.SpacingBetweenSlices = spec.slice_spacing_mm
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = _INTERCEPT_HU, 1, "HU"
    ds.WindowCenter, ds.WindowWidth = [-600, 40], [1500, 400]
    ds.WindowCenterWidthExplanation = ["LUNG", "MEDIASTINUM"]
    return ds


def _identity(ds: Dataset, spec: ChestPhantom) -> None:
    at = spec.acquired_at
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CTImageStorage
    ds.PatientName = spec.patient_name
    ds.PatientID = spec.patient_id
    birth: date = at.date() - timedelta(days=round(spec.age_years * 365.25) + 90)
    ds.PatientBirthDate = birth.strftime("%Y%m%d")
    ds.PatientSex = spec.sex
    ds.PatientAge = f"{spec.age_years:03d}Y"
    ds.PatientPosition = "HFS"
    ds.StudyInstanceUID = study_instance_uid(spec)
    ds.SeriesInstanceUID = series_instance_uid(spec)
    ds.StudyID = spec.accession_number
    ds.AccessionNumber = spec.accession_number
    ds.StudyDescription = spec.study_description
    ds.SeriesDescription = f"Chest {spec.slice_thickness_mm:g} mm {spec.kernel.value}"
    ds.SeriesNumber, ds.AcquisitionNumber = 2, 1
    ds.ReferringPhysicianName = "Synthetic^Referrer"
    for kind in ("Study", "Series", "Acquisition", "Content"):
        setattr(ds, f"{kind}Date", at.strftime("%Y%m%d"))
        setattr(ds, f"{kind}Time", at.strftime("%H%M%S"))
    ds.InstanceCreationDate, ds.InstanceCreationTime = ds.ContentDate, ds.ContentTime
    ds.QualityControlImage = "YES"


def _equipment_and_acquisition(ds: Dataset, spec: ChestPhantom) -> None:
    ds.Modality = "CT"
    ds.Manufacturer = "Polyclinic"
    ds.ManufacturerModelName = "Synthetic chest phantom"
    ds.InstitutionName = "Synthetic Hospital"
    ds.StationName = "PHANTOM"
    ds.DeviceSerialNumber = "0"
    ds.SoftwareVersions = "1"
    ds.BodyPartExamined = "CHEST"
    ds.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    ds.DerivationDescription = "Computed from a geometric model of a chest; no patient"
    ds.LossyImageCompression = "00"
    ds.KVP = 120
    ds.XRayTubeCurrent, ds.ExposureTime, ds.Exposure = 200, 500, 100
    ds.DataCollectionDiameter = 500.0
    ds.ReconstructionDiameter = round(spec.columns * spec.spacing_mm[1], 3)
    ds.GantryDetectorTilt = 0
    ds.TableHeight = 150
    ds.RotationDirection = "CW"
    ds.FilterType = "BODY FILTER"
    ds.ConvolutionKernel = spec.kernel.value
    ds.ProtocolName = "Synthetic chest"
    if spec.contrast:
        ds.ContrastBolusAgent = "Synthetic contrast"
        ds.ContrastBolusRoute = "IV"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "43799004", "SCT", "Thorax"
    ds.AnatomicRegionSequence = Sequence([code])

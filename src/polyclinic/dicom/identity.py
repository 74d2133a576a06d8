"""Instances that leave with the patient's corrected identity (IHE Radiology Patient Information Reconciliation)."""

from __future__ import annotations

import copy
import io
import warnings
from datetime import UTC, datetime

from pydicom import config, dcmread
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence

from polyclinic.core.errors import Rejected
from polyclinic.core.people import Patient

_KEYWORDS = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
_MODIFYING_SYSTEM = "POLYCLINIC"
_UTF_8 = "ISO_IR 192"


def with_identity(part10: bytes, patient: Patient, *, at: datetime, source: str) -> bytes:
    """A DICOM file, or its beginning up to the pixel data, with the identity of `patient`.

    What it said before goes to Original Attributes Sequence (0400,0561), PS3.3 C.12.1.1.9. Elements that are not
    about the identity keep their bytes, unless the new name needs another character set: then the text of the file is
    written anew in UTF-8. Equal identity gives the bytes back as they are.

    Parameters
    ----------
    part10
        Preamble, file meta information and data set; may end before the pixel data element.
    at, source
        When and by whom it was corrected.

    Raises
    ------
    Rejected
        ``dicom.not-correctable`` when its elements cannot be written anew.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = dcmread(io.BytesIO(part10), force=True)
            wanted = _wanted(dataset, patient)
            if not wanted:
                return part10
            if not _fits(dataset, patient):
                dataset.decode()
                dataset.SpecificCharacterSet = _UTF_8
            before = _as_it_was(dataset, wanted, at=at, source=source)
            for keyword, value in wanted.items():
                _set(dataset, keyword, value)
            kept = list(dataset.get("OriginalAttributesSequence") or [])
            dataset.OriginalAttributesSequence = Sequence([*kept, before])
            return _written(dataset)
        except Exception as error:  # a hostile header breaks the writer in every way; nothing uncorrected goes out
            raise Rejected(
                "dicom.not-correctable",
                "The instance's header cannot be written with the corrected identity; see it in the archive's index",
            ) from error


def _wanted(dataset: Dataset, patient: Patient) -> dict[str, str]:
    """The attributes that differ, with their new values; what is unknown of the patient stays as the file says."""
    said = {
        "PatientName": patient.name,
        "PatientID": patient.patient_id,
        "IssuerOfPatientID": patient.issuer,
        "PatientBirthDate": patient.birth_date.strftime("%Y%m%d") if patient.birth_date else "",
        "PatientSex": patient.sex,
    }
    here = {keyword: str(dataset.get(keyword) or "").strip() for keyword in _KEYWORDS}
    return {keyword: value for keyword, value in said.items() if value and value != here[keyword]}


def _fits(dataset: Dataset, patient: Patient) -> bool:
    """Whether the file's own character set can write the new values: single sets only, to be sure of it."""
    named = dataset.get("SpecificCharacterSet")
    if named == _UTF_8:
        return True
    text = patient.name + patient.patient_id + patient.issuer
    if text.isascii():
        return True
    if named in (None, "") or not isinstance(named, str) or named not in python_encoding:
        return False
    try:
        text.encode(python_encoding[named])
    except (UnicodeError, LookupError):
        return False
    return True


def _as_it_was(dataset: Dataset, wanted: dict[str, str], *, at: datetime, source: str) -> Dataset:
    former = Dataset()
    for keyword in wanted:
        if keyword in dataset:
            former[keyword] = copy.deepcopy(dataset[keyword])
        else:
            _set(former, keyword, "")
    item = Dataset()
    item.AttributeModificationDateTime = at.astimezone(UTC).strftime("%Y%m%d%H%M%S.%f+0000")
    item.ModifyingSystem = _MODIFYING_SYSTEM
    item.SourceOfPreviousValues = source[:64]
    item.ReasonForTheAttributeModification = "CORRECT"
    item.ModifiedAttributesSequence = Sequence([former])
    return item


def _set(dataset: Dataset, keyword: str, value: str) -> None:
    validation = config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    try:
        setattr(dataset, keyword, value)
    finally:
        config.settings.writing_validation_mode = validation


def _written(dataset: Dataset) -> bytes:
    out = io.BytesIO()
    dcmwrite(out, dataset, enforce_file_format=False)
    return out.getvalue()

"""What every object made from a study shares: identity copied from the sources, equipment, times, text encoding."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime

from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pydicom.valuerep import PersonName

from polyclinic.core.errors import Rejected
from polyclinic.core.findings import Source
from polyclinic.dicom.codes import coding_scheme_identification, uses_local_codes
from polyclinic.dicom.part10 import file_meta

MANUFACTURER = "Polyclinic"
UTF_8 = "ISO_IR 192"

_IDENTITY_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
_IDENTITY_OPTIONAL = (
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "PatientBirthTime",
    "OtherPatientIDsSequence",
    "EthnicGroup",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyDescription",
    "IssuerOfAccessionNumberSequence",
    "ProcedureCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "TimezoneOffsetFromUTC",
    "LongitudinalTemporalInformationModified",
)
_ENUMERATED = {"PatientSex": {"M", "F", "O"}}
_SAME_IN_ALL = ("StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "IssuerOfPatientID")
_TEXT_VRS = {"LO", "LT", "PN", "SH", "ST", "UC", "UT"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesIdentity:
    """Where a derived instance goes. Equal identity and inputs give equal bytes."""

    series_instance_uid: str
    sop_instance_uid: str
    series_number: int
    made_at: datetime
    """Aware time. It is written as the wall clock of the source's Timezone Offset From UTC where the source has
    one, otherwise as its own wall clock, so give hospital time."""
    description: str


def check_same_study(sources: Sequence[Dataset]) -> Dataset:
    """The first source, after checking that all are of one patient and one study.

    Raises
    ------
    Rejected
        ``dicom.no-sources`` or ``dicom.mixed-sources``; the message names the attribute, never its value.
    """
    if not sources:
        raise Rejected("dicom.no-sources", "A derived object needs at least one source image")
    first = sources[0]
    for keyword in _SAME_IN_ALL:
        if len({str(s.get(keyword, "") or "") for s in sources}) > 1:
            raise Rejected(
                "dicom.mixed-sources",
                f"The source images differ in {keyword}; make one object per patient and study",
            )
    if not first.get("StudyInstanceUID"):
        raise Rejected("dicom.no-study", "The source images carry no Study Instance UID")
    return first


def start_derived(
    sources: Sequence[Dataset],
    *,
    sop_class_uid: str,
    modality: str,
    identity: SeriesIdentity,
    maker: Source,
) -> Dataset:
    """Dataset with the patient, study, series, equipment and SOP common modules filled.

    Patient and study attributes are copied from the sources; type 2 attributes that old files lack come out
    empty, and values outside a closed list (PatientSex ``"U"``) are left empty rather than passed on.
    """
    source = check_same_study(sources)
    dataset = Dataset()
    declared = source.get("SpecificCharacterSet")
    if declared:
        dataset.SpecificCharacterSet = declared
    for keyword in _IDENTITY_TYPE_2:
        setattr(dataset, keyword, _copied(source, keyword))
    for keyword in _IDENTITY_OPTIONAL:
        if source.get(keyword) not in (None, "", []):
            setattr(dataset, keyword, _copied(source, keyword))
    dataset.StudyInstanceUID = source.StudyInstanceUID

    local = _local_time(identity.made_at, str(source.get("TimezoneOffsetFromUTC", "") or ""))
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = identity.sop_instance_uid
    dataset.SeriesInstanceUID = identity.series_instance_uid
    dataset.SeriesNumber = identity.series_number
    dataset.InstanceNumber = 1
    dataset.Modality = modality
    dataset.SeriesDescription = identity.description[:64]
    for event in ("Series", "Content", "InstanceCreation"):
        setattr(dataset, f"{event}Date", local.strftime("%Y%m%d"))
        setattr(dataset, f"{event}Time", local.strftime("%H%M%S"))
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = maker.id[:64]
    dataset.DeviceSerialNumber = "software"
    dataset.SoftwareVersions = maker.version[:64] or "unversioned"
    return dataset


def finish_derived(dataset: Dataset) -> Dataset:
    """Explain private codes, choose a character set that can hold every text, add file meta information."""
    if uses_local_codes(dataset):
        dataset.CodingSchemeIdentificationSequence = coding_scheme_identification()
    declared = dataset.get("SpecificCharacterSet")
    texts = list(_texts([dataset]))
    if not _can_encode(declared, texts):
        dataset.SpecificCharacterSet = UTF_8
    dataset.file_meta = file_meta(dataset)
    return dataset


def reference(sop_class_uid: str, sop_instance_uid: str, frames: Iterable[int] = ()) -> Dataset:
    """Item that names an instance (SOP Instance Reference Macro, DICOM PS3.3 table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = UID(sop_class_uid)
    item.ReferencedSOPInstanceUID = UID(sop_instance_uid)
    numbers = list(frames)
    if numbers:
        item.ReferencedFrameNumber = numbers if len(numbers) > 1 else numbers[0]
    return item


def evidence_item(instances: Iterable[Dataset]) -> Dataset:
    """Instances of one study as an item of Current Requested Procedure Evidence Sequence (PS3.3 C.17.2)."""
    item = Dataset()
    series: dict[str, dict[str, str]] = {}
    for instance in instances:
        item.StudyInstanceUID = instance.StudyInstanceUID
        series.setdefault(str(instance.SeriesInstanceUID), {})[str(instance.SOPInstanceUID)] = str(instance.SOPClassUID)
    item.ReferencedSeriesSequence = []
    for series_instance_uid, members in series.items():
        one = Dataset()
        one.SeriesInstanceUID = UID(series_instance_uid)
        one.ReferencedSOPSequence = [reference(members[uid], uid) for uid in members]
        item.ReferencedSeriesSequence.append(one)
    return item


def datetime_text(moment: datetime) -> str:
    """DT value with its offset from UTC (DICOM PS3.5 6.2)."""
    return moment.strftime("%Y%m%d%H%M%S") + (moment.strftime("%z")[:5])


def _local_time(made_at: datetime, offset: str) -> datetime:
    if made_at.tzinfo is None:
        raise Rejected("dicom.naive-time", "The time of a derived object must carry its time zone")
    if not re.fullmatch(r"[+-]\d{4}", offset):
        return made_at
    return made_at.astimezone(datetime.strptime(offset, "%z").tzinfo)


def _copied(source: Dataset, keyword: str) -> object:
    value = source.get(keyword)
    if value is None:
        return ""
    if isinstance(value, PersonName):
        return str(value)
    if keyword in _ENUMERATED and str(value) not in _ENUMERATED[keyword]:
        return ""
    if keyword.endswith("Date"):
        # ACR-NEMA wrote yyyy.mm.dd, which DICOM PS3.5 6.2 asks readers to understand and writers not to repeat.
        digits = str(value).replace(".", "")
        return digits if re.fullmatch(r"\d{8}", digits) else ""
    return deepcopy(value)


def _texts(datasets: Iterable[Dataset]) -> Iterator[str]:
    for dataset in datasets:
        for element in dataset:
            if element.VR == "SQ" and element.keyword != "PerFrameFunctionalGroupsSequence":
                yield from _texts(element.value)
            elif element.VR in _TEXT_VRS and element.value is not None:
                yield from ([str(element.value)] if element.VM <= 1 else map(str, element.value))


def _can_encode(declared: object, texts: Iterable[str]) -> bool:
    """Whether the declared character set holds every text.

    Without a declaration only ASCII is legal. Code extensions (several values) are rewritten as UTF-8 as soon as
    there is any text outside ASCII: the letters stay the same, and fewer readers get them wrong.
    """
    extended = [text for text in texts if not text.isascii()]
    if not extended:
        return True
    if not isinstance(declared, str) or not declared:
        return False
    codec = convert_encodings(declared)[0]
    try:
        for text in extended:
            text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True

"""What every object made from a study shares: identity copied from the sources, equipment, times, text encoding."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime

from pydicom.charset import convert_encodings, python_encoding
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
_ENUMERATED = {
    "PatientSex": {"M", "F", "O"},
    "PatientIdentityRemoved": {"YES", "NO"},
    "LongitudinalTemporalInformationModified": {"UNMODIFIED", "MODIFIED", "REMOVED"},
}
_FORMS = {
    "StudyTime": re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"),
    "PatientAge": re.compile(r"\d{3}[DWMY]"),
    "PatientSize": re.compile(r"\d{1,3}(\.\d{1,12})?"),
    "PatientWeight": re.compile(r"\d{1,3}(\.\d{1,12})?"),
    "TimezoneOffsetFromUTC": re.compile(r"[+-](0\d|1[0-4])[0-5]\d"),
}
"""What a value must look like to be passed on; names and numbers of patients are passed on as they are."""
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
    if declared and _is_known(declared):
        dataset.SpecificCharacterSet = declared
    for keyword in _IDENTITY_TYPE_2:
        setattr(dataset, keyword, _copied(source, keyword))
    for keyword in _IDENTITY_OPTIONAL:
        if (value := _copied(source, keyword)) not in (None, "", []):
            setattr(dataset, keyword, value)
    dataset.StudyInstanceUID = source.StudyInstanceUID

    local = _local_time(identity.made_at, str(dataset.get("TimezoneOffsetFromUTC", "")))
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
    if not _can_encode(dataset):
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
    return made_at.astimezone(datetime.strptime(offset, "%z").tzinfo) if offset else made_at


def _copied(source: Dataset, keyword: str) -> object:
    """Value to pass on; empty when it is absent or so malformed that it would spoil the object."""
    try:
        value = source.get(keyword)
    except (ValueError, OverflowError, NotImplementedError):
        # pydicom decodes when asked: a number that is none shows itself only here.
        return ""
    if value is None or not _well_formed(keyword, str(value).strip()):
        return ""
    if isinstance(value, PersonName):
        return str(value)
    if keyword.endswith("Date"):
        # ACR-NEMA wrote yyyy.mm.dd, which DICOM PS3.5 6.2 asks readers to understand and writers not to repeat.
        digits = str(value).replace(".", "")
        return digits if re.fullmatch(r"\d{8}", digits) else ""
    return deepcopy(value)


def _well_formed(keyword: str, text: str) -> bool:
    if keyword in _ENUMERATED:
        return text in _ENUMERATED[keyword]
    return keyword not in _FORMS or _FORMS[keyword].fullmatch(text) is not None


def _texts(datasets: Iterable[Dataset]) -> Iterator[str]:
    for dataset in datasets:
        for element in dataset:
            if element.VR == "SQ" and element.keyword != "PerFrameFunctionalGroupsSequence":
                yield from _texts(element.value)
            elif element.VR in _TEXT_VRS and element.value is not None:
                yield from ([str(element.value)] if element.VM <= 1 else map(str, element.value))


def _is_known(declared: object) -> bool:
    terms = [declared] if isinstance(declared, str) else list(declared) if isinstance(declared, Iterable) else []
    return all(str(t) in python_encoding for t in terms)


def _can_encode(dataset: Dataset) -> bool:
    """Whether the declared character set holds every text.

    Without a declaration only ASCII is legal. Text that the source itself carried without declaring it is passed on
    byte for byte: whoever guesses the source's letters guesses ours the same way. Code extensions (several values)
    are rewritten as UTF-8 as soon as there is text outside ASCII: the letters stay, and fewer readers get them wrong.
    """
    declared = dataset.get("SpecificCharacterSet")
    extended = [text for text in _texts([dataset]) if not text.isascii()]
    if not extended:
        return True
    if not declared:
        inherited = {str(dataset.get(k)) for k in (*_IDENTITY_TYPE_2, *_IDENTITY_OPTIONAL)}
        return all(text in inherited and _fits(text, "latin-1") for text in extended)
    return isinstance(declared, str) and all(_fits(text, convert_encodings(declared)[0]) for text in extended)


def _fits(text: str, codec: str) -> bool:
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True

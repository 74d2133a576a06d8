"""A folder of DICOM files as studies, read lazily: headers now, pixels when somebody asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import overload

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from polyclinic.agentkit.case import Case, CasePrior, CaseSeries
from polyclinic.core.errors import Rejected
from polyclinic.core.ids import is_uid_lenient
from polyclinic.departments.records.rules import parse_da

_IDENTIFYING_TAGS = [
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "SOPClassUID",
    "Modality",
    "SeriesDescription",
    "PatientSex",
    "PatientAge",
    "StudyDate",
]


class FileDatasets(Sequence[Dataset]):
    """Datasets of the given files; each indexing reads one file."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Dataset: ...
    @overload
    def __getitem__(self, index: slice) -> FileDatasets: ...
    def __getitem__(self, index: int | slice) -> Dataset | FileDatasets:
        if isinstance(index, slice):
            return FileDatasets(self._paths[index])
        return pydicom.dcmread(self._paths[index])


@dataclass(frozen=True, slots=True, kw_only=True)
class FileProblem:
    """A file that was left out. `name` is relative to the folder."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderStudy:
    """One study of the folder; `files` is the file of each instance by SOP Instance UID, in reading order."""

    study_instance_uid: str
    series: tuple[CaseSeries, ...]
    files: Mapping[str, Path]
    sex: str
    age: str
    study_date: date | None = None

    def case(self, priors: tuple[CasePrior, ...] = ()) -> Case:
        """The study as an agent gets it; nothing but the images is known of it."""
        context = {name: value for name, value in (("sex", self.sex), ("age", self.age)) if value}
        return Case(
            study_instance_uid=self.study_instance_uid, revision=1, series=self.series, context=context, priors=priors
        )

    def prior(self) -> CasePrior:
        """The study as one to compare with."""
        return CasePrior(study_instance_uid=self.study_instance_uid, study_date=self.study_date, series=self.series)


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderContents:
    studies: tuple[FolderStudy, ...]
    problems: tuple[FileProblem, ...]


def dicom_files(folder: Path) -> Iterator[Path]:
    """Regular files below `folder` in a stable order, hidden ones and DICOMDIR left out."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.name.upper() != "DICOMDIR":
            yield path


def read_folder(folder: Path, on_file: Callable[[int], None] = lambda _count: None) -> FolderContents:
    """Group the DICOM files below `folder` into studies and series.

    Files that are no DICOM, carry no UIDs or repeat a SOP Instance UID are listed as problems, not hidden.

    Raises
    ------
    Rejected
        ``folder.missing`` when there is no such folder, ``folder.no-dicom`` when no file in it can be read.
    """
    if not folder.is_dir():
        raise Rejected("folder.missing", f"There is no folder {folder}; give a folder of DICOM files")
    seen: set[str] = set()
    problems: list[FileProblem] = []
    grouped: dict[str, dict[str, list[tuple[Path, Dataset]]]] = defaultdict(lambda: defaultdict(list))
    for count, path in enumerate(dicom_files(folder), 1):
        on_file(count)
        header, reason = _header(path, seen)
        if header is None:
            problems.append(FileProblem(name=str(path.relative_to(folder)), reason=reason))
            continue
        seen.add(str(header.SOPInstanceUID))
        grouped[str(header.StudyInstanceUID)][str(header.SeriesInstanceUID)].append((path, header))
    if not grouped:
        raise Rejected("folder.no-dicom", f"No file in {folder} could be read as DICOM; give a folder of DICOM images")
    studies = tuple(_study(uid, series) for uid, series in sorted(grouped.items()))
    return FolderContents(studies=studies, problems=tuple(problems))


def _header(path: Path, seen: set[str]) -> tuple[Dataset | None, str]:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_IDENTIFYING_TAGS)
    except (InvalidDicomError, EOFError, OSError, ValueError, KeyError):
        return None, "not a readable DICOM file"
    uids = [str(header.get(name, "")) for name in _IDENTIFYING_TAGS[:3]]
    if not all(is_uid_lenient(uid) for uid in uids):
        return None, "study, series or SOP instance UID is missing or malformed"
    if uids[2] in seen:
        return None, "its SOP Instance UID was already read from another file"
    return header, ""


def _study(uid: str, series: dict[str, list[tuple[Path, Dataset]]]) -> FolderStudy:
    made: list[CaseSeries] = []
    files: dict[str, Path] = {}
    first: Dataset | None = None
    for series_uid, members in sorted(series.items()):
        header = members[0][1]
        first = first or header
        paths = tuple(path for path, _ in members)
        files |= {str(each.SOPInstanceUID): path for path, each in members}
        made.append(
            CaseSeries(
                series_instance_uid=series_uid,
                modality=str(header.get("Modality", "")),
                description=str(header.get("SeriesDescription", "")),
                datasets=FileDatasets(paths),
            )
        )
    return FolderStudy(
        study_instance_uid=uid,
        series=tuple(made),
        files=files,
        sex=str(first.get("PatientSex", "")) if first else "",
        age=str(first.get("PatientAge", "")) if first else "",
        study_date=parse_da(str(first.get("StudyDate", ""))) if first else None,
    )

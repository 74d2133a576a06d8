"""A dataset with its images at hand: scans with truth, one at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom

from polyclinic.agentkit.assessment import chest_phantoms
from polyclinic.agentkit.assessment.annotations import Nodule, read_lidc_json, read_luna16, read_pn9
from polyclinic.agentkit.assessment.cases import CaseTruth
from polyclinic.agentkit.assessment.dataset import (
    DatasetManifest,
    ImageLayout,
    Truth,
    TruthLayout,
    check_listing,
    listing_sha256,
)
from polyclinic.agentkit.assessment.lidc_xml import Reading, nodules_of, read_lidc_xml
from polyclinic.agentkit.assessment.metaimage import datasets, read_metaimage
from polyclinic.agentkit.case import Case, CaseSeries
from polyclinic.app.dicom_folder import FolderStudy, read_folder
from polyclinic.core.errors import Rejected
from polyclinic.dicom.geometry import VolumeGeometry
from polyclinic.dicom.volume import read_volume

Image = tuple[npt.NDArray[np.int16], VolumeGeometry]
NoduleSource = Callable[[str, VolumeGeometry], tuple[Nodule, ...]]
"""Nodules of a series on an image's geometry; none listed means that the scan has none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AssessData:
    """What an agent is to be run on."""

    manifest: DatasetManifest
    patients: tuple[str, ...]
    count: int
    cases: Callable[[], Iterator[CaseTruth]]


def open_data(manifest: DatasetManifest, folder: Path, images: Path | None) -> AssessData:
    """Check that the data are those of the manifest, and list the scans of its split.

    Raises
    ------
    Rejected
        ``assessment.listing``, ``assessment.patients`` when a patient of the split has no images, and the codes of the
        readers.
    """
    if manifest.phantoms is not None:
        check_listing(manifest, chest_phantoms.plans_sha256(manifest.phantoms))
        plans = chest_phantoms.plans(manifest.phantoms)
        return AssessData(
            manifest=manifest,
            patients=tuple(plan.patient for plan in plans),
            count=len(plans),
            cases=lambda: map(chest_phantoms.make, plans),
        )
    root = images or folder
    below, truth = _below(root, manifest.images.folder), manifest.truth
    sources = [_below(root, name) for name in (truth.file, truth.excluded) if name]
    check_listing(manifest, listing_sha256(below, sources))
    wanted = _wanted(manifest)
    scans = _dicom_scans(below, wanted) if manifest.images.layout is ImageLayout.DICOM else _meta_scans(below, wanted)
    nodules = _nodule_source(truth, root)
    missing = len(wanted - {scan.patient_id for scan in scans})
    if missing:
        raise Rejected("assessment.patients", f"{missing} patients of the split have no images; correct dataset.toml")
    return AssessData(
        manifest=manifest,
        patients=tuple(sorted(wanted)),
        count=len(scans),
        cases=lambda: map(_with_truth, range(1, len(scans) + 1), scans, [nodules] * len(scans)),
    )


def _wanted(manifest: DatasetManifest) -> frozenset[str]:
    assert manifest.split is not None  # the manifest's own check
    return frozenset(manifest.split.patients[manifest.split.use])


def _below(root: Path, name: str) -> Path:
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()) or not path.exists():
        raise Rejected("assessment.dataset", f"There is no {name} below the folder of images; give it with --images")
    return path


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scan:
    patient_id: str
    groups: Mapping[str, str]
    load: Callable[[], tuple[Case, str, Image]]
    """The case, the series UID or name that the truth goes by, and the image."""


def _dicom_scans(folder: Path, wanted: frozenset[str]) -> list[_Scan]:
    scans = []
    for study in read_folder(folder).studies:
        header = pydicom.dcmread(next(iter(study.files.values())), stop_before_pixels=True)
        patient_id = str(header.get("PatientID", ""))
        if patient_id in wanted:
            device = " ".join(str(header.get(name, "")) for name in ("Manufacturer", "ManufacturerModelName")).strip()
            groups = {"sex": study.sex, "age": _age_group(study.age), "device": device}
            scans.append(
                _Scan(
                    patient_id=patient_id,
                    groups={key: value for key, value in groups.items() if value},
                    load=partial(_load_dicom, study),
                )
            )
    return scans


def _load_dicom(study: FolderStudy) -> tuple[Case, str, Image]:
    case = study.case()
    longest = max((one for one in case.series if one.modality == "CT"), key=lambda one: len(one.datasets), default=None)
    if longest is None:
        raise Rejected("assessment.patients", "A study of the split holds no CT series; leave its patient out")
    volume = read_volume(longest.datasets)
    return case, longest.series_instance_uid, (volume.hu, volume.geometry)


def _meta_scans(folder: Path, wanted: frozenset[str]) -> list[_Scan]:
    """MetaImage files by name: in LUNA16 the series UID, which stands for the patient there, in PN9 the pid."""
    files = sorted(path for kind in ("*.mhd", "*.mha") for path in folder.rglob(kind))
    return [
        _Scan(patient_id=path.stem, groups={}, load=partial(_load_meta, path)) for path in files if path.stem in wanted
    ]


def _load_meta(path: Path) -> tuple[Case, str, Image]:
    image = read_metaimage(path)
    images = tuple(datasets(image, path.stem))
    series = CaseSeries(
        series_instance_uid=str(images[0].SeriesInstanceUID), modality="CT", description="", datasets=images
    )
    case = Case(study_instance_uid=str(images[0].StudyInstanceUID), revision=1, series=(series,))
    return case, path.stem, (image.hu, image.geometry)


def _with_truth(number: int, scan: _Scan, nodules: NoduleSource) -> CaseTruth:
    case, key, image = scan.load()
    return CaseTruth(
        name=f"scan {number}",  # a record names no patient
        patient=hashlib.sha256(scan.patient_id.encode()).hexdigest()[:12],
        case=case,
        nodules=nodules(key, image[1]),
        groups=scan.groups,
        read_volume=lambda: image,
    )


def _nodule_source(truth: Truth, root: Path) -> NoduleSource:
    """The reader of a layout; lists are read once, XML files only as far as their series is asked for."""
    path = _below(root, truth.file) if truth.file else root
    if truth.layout is TruthLayout.LUNA16:
        listed = read_luna16(path, _below(root, truth.excluded) if truth.excluded else None)
        return lambda key, _geometry: listed.get(key, ())
    if truth.layout is TruthLayout.PN9:
        by_index = read_pn9(path)
        return lambda key, geometry: tuple(one.placed(geometry) for one in by_index.get(key, ()))
    if truth.layout is TruthLayout.LIDC_JSON:
        return lambda key, geometry: _read_by_someone(read_lidc_json(path, {key: geometry}, truth.readers).get(key))
    readings: dict[str, Reading] = {}
    for file in sorted(path.rglob("*.xml")) if path.is_dir() else [path]:
        try:
            reading = read_lidc_xml(file)
        except Rejected:
            continue  # the collection keeps the XML of its radiographs beside those of its CTs
        readings[reading.series_instance_uid] = reading
    return lambda key, geometry: _read_by_someone(
        nodules_of(readings[key], geometry, truth.readers) if key in readings else None
    )


def _read_by_someone(nodules: tuple[Nodule, ...] | None) -> tuple[Nodule, ...]:
    """A scan that nobody read is not one without nodules."""
    if nodules is None:
        raise Rejected("assessment.annotations", "A scan of the split has no readings; leave its patient out")
    return nodules


def _age_group(age: str) -> str:
    """Of a DICOM age such as ``061Y``; empty where it is none in years."""
    if len(age) != 4 or not age[:3].isdigit() or age[3] != "Y":
        return ""
    years = int(age[:3])
    return "below 50" if years < 50 else "50 to 69" if years < 70 else "70 and more"

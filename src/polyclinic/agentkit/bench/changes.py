"""What may befall a study on its way: each change is a function from Case to Case, and says what must stay equal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from polyclinic.agentkit.bench.synthetic import VOLUMES
from polyclinic.agentkit.case import Case, CaseSeries
from polyclinic.core.ids import stable_uid

Stored = npt.NDArray[np.integer]


class Demand(StrEnum):
    """What is asked of the result after a change."""

    EQUAL = "equal"
    """The change must not matter."""
    STEADY = "steady"
    """No exception and nothing impossible; how far the result moves is reported."""


class NotApplicable(Exception):
    """This change means nothing for this study; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    name: str
    demand: Demand
    apply: Callable[[Case], Case]


def _reversed(case: Case) -> Case:
    return _each_series(case, lambda datasets: list(reversed(datasets)), at_least=2)


def _renamed_patient(case: Case) -> Case:
    new = {"PatientName": "Other^Person", "PatientID": "OTHER-7", "AccessionNumber": "OTHER-ACC"}
    return _each_image(case, lambda image: changed(image, **new))


def renamed_uid(uid: str) -> str:
    """The UID that `renamed UIDs` puts in place of `uid`."""
    return stable_uid("bench-renamed", uid)


def _renamed_uids(case: Case) -> Case:
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")

    def rename(image: Dataset) -> Dataset:
        return changed(image, **{name: renamed_uid(str(image[name].value)) for name in names if name in image})

    moved = _each_image(case, rename)
    series = tuple(replace(one, series_instance_uid=renamed_uid(one.series_instance_uid)) for one in moved.series)
    return replace(moved, study_instance_uid=renamed_uid(case.study_instance_uid), series=series)


def _shifted(case: Case) -> Case:
    def shift(stored: Stored) -> Stored:
        step = max(stored.shape[1] // 32, 1)
        moved = np.full_like(stored, stored.min())
        moved[:, step:] = stored[:, :-step]
        return moved

    return _each_image(case, lambda image: with_pixels(image, shift(pixels(image))))


def _moved(case: Case) -> Case:
    def move(image: Dataset) -> Dataset:
        position = image.get("ImagePositionPatient")
        if not position:
            raise NotApplicable("the images have no position in space")
        return changed(image, ImagePositionPatient=[float(v) + d for v, d in zip(position, (17, -9, 140), strict=True)])

    return _each_image(case, move)


def _mirrored(case: Case) -> Case:
    return _each_image(case, lambda image: with_pixels(image, np.ascontiguousarray(pixels(image)[:, ::-1])))


def _noisy(case: Case) -> Case:
    rng = np.random.default_rng(5)

    def add(image: Dataset) -> Dataset:
        stored = pixels(image)
        low, high = np.percentile(stored, (1, 99))
        limits = stored_limits(image)
        values = stored + rng.normal(0.0, max(0.02 * (high - low), 1.0), stored.shape)
        return with_pixels(image, np.clip(np.rint(values), *limits).astype(stored.dtype))

    return _each_image(case, add)


def _cropped(case: Case) -> Case:
    def crop(image: Dataset) -> Dataset:
        stored = pixels(image)
        top, left = stored.shape[0] // 12, stored.shape[1] // 12
        if not top or not left:
            raise NotApplicable("the images are too small to crop")
        made = with_pixels(image, np.ascontiguousarray(stored[top:-top, left:-left]))
        if image.get("ImagePositionPatient") and image.get("ImageOrientationPatient") and image.get("PixelSpacing"):
            direction = np.asarray([float(v) for v in image.ImageOrientationPatient])
            row_mm, column_mm = (float(v) for v in image.PixelSpacing)
            origin = np.asarray([float(v) for v in image.ImagePositionPatient])
            origin = origin + left * column_mm * direction[:3] + top * row_mm * direction[3:]
            made = changed(made, ImagePositionPatient=[round(float(v), 4) for v in origin])
        return made

    return _each_image(case, crop)


def _rewindowed(case: Case) -> Case:
    return _each_image(case, lambda image: changed(image, WindowCenter=3000, WindowWidth=12))


def _thinned(case: Case) -> Case:
    def drop(datasets: Sequence[Dataset]) -> list[Dataset]:
        placed = sorted(datasets, key=lambda image: float((image.get("ImagePositionPatient") or (0, 0, 0))[2]))
        return [image for index, image in enumerate(placed) if index % 12 != 6]

    return _each_series(case, drop, at_least=8)


def _broken(case: Case) -> Case:
    def cut(datasets: Sequence[Dataset]) -> list[Dataset]:
        middle = len(datasets) // 2
        data = datasets[middle].get("PixelData")
        if not data:
            raise NotApplicable("the images have no pixel data")
        half = len(data) // 4 * 2
        return [changed(d, PixelData=data[:half]) if i == middle else d for i, d in enumerate(datasets)]

    return _each_series(case, cut, at_least=1)


CHANGES: Mapping[str, Change] = {
    change.name: change
    for change in (
        Change(name="instances reversed", demand=Demand.EQUAL, apply=_reversed),
        Change(name="patient renamed", demand=Demand.EQUAL, apply=_renamed_patient),
        Change(name="UIDs renamed", demand=Demand.EQUAL, apply=_renamed_uids),
        Change(name="shifted", demand=Demand.STEADY, apply=_shifted),
        Change(name="moved in space", demand=Demand.STEADY, apply=_moved),
        Change(name="mirrored", demand=Demand.STEADY, apply=_mirrored),
        Change(name="noise added", demand=Demand.STEADY, apply=_noisy),
        Change(name="cropped", demand=Demand.STEADY, apply=_cropped),
        Change(name="re-windowed header", demand=Demand.STEADY, apply=_rewindowed),
        Change(name="missing slices", demand=Demand.STEADY, apply=_thinned),
        Change(name="broken image", demand=Demand.STEADY, apply=_broken),
    )
}

QUICK = ("instances reversed", "UIDs renamed", "cropped", "broken image")


def relabelled(case: Case, modality: str) -> Case:
    """The same pixels under another modality."""
    series = tuple(
        replace(one, modality=modality, datasets=[changed(d, Modality=modality) for d in one.datasets])
        for one in case.series
    )
    return replace(case, series=series)


def first_images(case: Case, count: int) -> Case:
    """Only the first `count` images of each series, lowest position first."""

    def keep(datasets: Sequence[Dataset]) -> list[Dataset]:
        return sorted(datasets, key=lambda d: float((d.get("ImagePositionPatient") or (0, 0, 0))[2]))[:count]

    return _each_series(case, keep, at_least=0)


def is_volume(case: Case) -> bool:
    """Whether the study is of a modality that makes stacks, with more than one image."""
    return any(one.modality in VOLUMES and len(one.datasets) > 1 for one in case.series)


def changed(image: Dataset, **attributes: object) -> Dataset:
    """A shallow copy with these attributes; the original keeps its own elements."""
    made = Dataset()
    made.update(image)
    made.file_meta = image.file_meta
    for keyword, value in attributes.items():
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ValueError(f"{keyword} is no DICOM keyword")
        vr = "OW" if keyword == "PixelData" else dictionary_VR(tag)
        made.add_new(tag, vr, value)
    return made


def pixels(image: Dataset) -> Stored:
    """Stored values of a single-frame greyscale image, shape (rows, columns).

    Raises
    ------
    NotApplicable
        For colour, several frames and pixels that cannot be decoded.
    """
    if int(image.get("SamplesPerPixel", 1)) != 1 or int(image.get("NumberOfFrames", 1) or 1) != 1:
        raise NotApplicable("the images are in colour or have several frames")
    try:
        stored: Stored = image.pixel_array
    except (AttributeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise NotApplicable("the pixels of the images cannot be decoded here") from error
    return stored


def stored_limits(image: Dataset) -> tuple[int, int]:
    """Smallest and largest stored value that Bits Stored and Pixel Representation allow."""
    bits = int(image.get("BitsStored", 16))
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if image.get("PixelRepresentation") else (0, (1 << bits) - 1)


def with_pixels(image: Dataset, stored: Stored) -> Dataset:
    """The image with other stored values, uncompressed."""
    made = changed(image, PixelData=stored.tobytes(), Rows=stored.shape[0], Columns=stored.shape[1])
    made.file_meta = FileMetaDataset()
    made.file_meta.update(image.file_meta)
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def _each_image(case: Case, change: Callable[[Dataset], Dataset]) -> Case:
    return _each_series(case, lambda datasets: [change(image) for image in datasets], at_least=1)


def _each_series(case: Case, change: Callable[[Sequence[Dataset]], Iterable[Dataset]], *, at_least: int) -> Case:
    if all(len(one.datasets) < at_least for one in case.series):
        raise NotApplicable(f"no series has {at_least} images or more")
    made: list[CaseSeries] = []
    for one in case.series:
        held = [one.datasets[index] for index in range(len(one.datasets))]
        made.append(replace(one, datasets=list(change(held)) if len(held) >= at_least else held))
    return replace(case, series=tuple(made))

"""From instances to one volume: order, faults, values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from polyclinic.core.errors import Rejected
from polyclinic.dicom.stack import ProblemKind
from polyclinic.dicom.volume import AIR_HU, read_volume

ROWS, COLUMNS = 12, 10


def image(z_mm: float, *, value: int = 100, number: int = 1, **changes: object) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.SOPInstanceUID = f"2.25.{1000 + round(z_mm * 100) + 7 * number}"
    ds.SeriesInstanceUID = "2.25.5"
    ds.FrameOfReferenceUID = "2.25.6"
    ds.Modality = "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Rows, ds.Columns = ROWS, COLUMNS
    ds.PixelSpacing = [0.8, 0.5]
    ds.SliceThickness = 2.0
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.ImagePositionPatient = [-10.0, -20.0, z_mm]
    ds.InstanceNumber = number
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelRepresentation, ds.SamplesPerPixel = 1, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    pixels = np.full((ROWS, COLUMNS), value, dtype=np.int16)
    pixels[0, 0] = 7
    ds.PixelData = pixels.tobytes()
    for name, changed in changes.items():
        setattr(ds, name, changed)
    return ds


def series(count: int = 8, step_mm: float = 2.0) -> list[Dataset]:
    return [image(index * step_mm, value=100 + index, number=index + 1) for index in range(count)]


def kinds(volume: object) -> set[ProblemKind]:
    return {problem.kind for problem in volume.problems}  # type: ignore[attr-defined]


def test_values_places_and_images_of_a_plain_series() -> None:
    volume = read_volume(series())
    assert volume.hu.shape == (8, ROWS, COLUMNS)
    assert volume.hu.dtype == np.int16
    assert [int(plane[3, 3]) for plane in volume.hu] == [100 + index - 1024 for index in range(8)]
    assert volume.geometry.spacing_mm == (2.0, 0.8, 0.5)
    assert volume.geometry.to_patient([3, 2, 1]) == pytest.approx([-9.5, -18.4, 6.0])
    assert len(volume.images) == 8
    assert not volume.problems


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(9)), st.sampled_from([1, -1]))
def test_the_order_of_instances_changes_nothing(order: list[int], numbering: int) -> None:
    given_in_order = [image(index * 1.5, value=index, number=50 + numbering * index) for index in range(9)]
    plain = read_volume(given_in_order)
    shuffled = read_volume([given_in_order[index] for index in order])
    assert np.array_equal(plain.hu, shuffled.hu)
    assert plain.geometry == shuffled.geometry
    assert plain.images == shuffled.images


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-40, 40), min_size=3, max_size=3))
def test_index_and_patient_space_are_inverse(index: list[float]) -> None:
    geometry = read_volume(series(3)).geometry
    assert geometry.to_index(geometry.to_patient(index)) == pytest.approx(index, abs=1e-6)


def test_missing_slices_are_named_and_filled_between_their_neighbours() -> None:
    with_hole = [one for position, one in enumerate(series(10)) if position not in (4, 5)]
    volume = read_volume(with_hole)
    assert volume.hu.shape[0] == 10
    assert volume.interpolated == (4, 5)
    assert volume.longest_gap_mm == pytest.approx(6.0)
    assert ProblemKind.MISSING in kinds(volume)
    assert volume.problems[0].count == 2
    assert volume.hu[3, 3, 3] < volume.hu[4, 3, 3] < volume.hu[5, 3, 3] < volume.hu[6, 3, 3]


def test_copies_are_dropped_and_conflicts_are_told() -> None:
    copy = image(4.0, value=102, number=99)
    volume = read_volume([*series(), copy])
    assert kinds(volume) == {ProblemKind.DOUBLED}
    assert volume.hu.shape[0] == 8
    other = image(4.0, value=900, number=99)
    assert kinds(read_volume([*series(), other])) == {ProblemKind.CONFLICTING}


def test_two_acquisitions_of_the_same_positions_give_one() -> None:
    first = [image(index * 2.0, value=1, number=index, AcquisitionNumber=1) for index in range(6)]
    second = [image(index * 2.0, value=2, number=index + 50, AcquisitionNumber=2) for index in range(6)]
    volume = read_volume([*first, *second])
    assert kinds(volume) == {ProblemKind.MIXED}
    assert len({int(plane[3, 3]) for plane in volume.hu}) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
        {"PixelSpacing": [1.0, 1.0]},
        {"FrameOfReferenceUID": "2.25.77"},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"ConvolutionKernel": "BONE"},
    ],
)
def test_what_does_not_belong_is_left_out_and_told(changes: dict[str, object]) -> None:
    volume = read_volume([image(3.0, number=90, **changes), *series()])
    assert volume.hu.shape[0] == 8
    assert kinds(volume) == {ProblemKind.MIXED}


def test_images_without_position_are_counted() -> None:
    lost = image(3.0, number=90)
    del lost.ImagePositionPatient
    assert kinds(read_volume([lost, *series()])) == {ProblemKind.UNPLACED}


def test_uneven_spacing_is_resampled() -> None:
    places = (0.0, 2.0, 4.0, 6.0, 7.0, 8.0, 10.0, 12.0)
    volume = read_volume([image(z, number=index) for index, z in enumerate(places)])
    assert ProblemKind.UNEVEN in kinds(volume)
    assert volume.geometry.shape[0] == 7


def test_a_tilted_gantry_is_straightened() -> None:
    """A rod along the patient's axis drifts through tilted images and stands straight in the volume."""
    tilt = np.deg2rad(15.0)
    down = [0.0, float(np.cos(tilt)), float(-np.sin(tilt))]
    normal = np.cross([1, 0, 0], down)
    images = []
    for index in range(9):
        ds = image(index * 2.0, number=index, ImageOrientationPatient=[1, 0, 0, *down], Rows=40, Columns=40)
        ds.ImagePositionPatient = [0.0, 0.0, index * 2.0]
        rows = np.arange(40) * 0.8
        along_normal = np.asarray(normal) * 1.0
        # The rod follows the normal of the images through the middle of the first one.
        centre = 20 * 0.8 + index * (2.0 * along_normal[2] * along_normal - np.asarray([0, 0, 2.0])) @ np.asarray(down)
        pixels = np.zeros((40, 40), dtype=np.int16)
        pixels[np.abs(rows - centre) < 2.0, 15:25] = 1024
        ds.PixelData = pixels.tobytes()
        images.append(ds)
    volume = read_volume(images)
    assert ProblemKind.TILT in kinds(volume)
    assert volume.facts.tilt_degrees == pytest.approx(15.0, abs=0.2)
    middles = [np.average(np.arange(40), weights=np.clip(plane[:, 20] + 1024.0, 0, None)) for plane in volume.hu]
    assert np.ptp(middles) < 1.0  # uncorrected it drifts by more than five pixels


def test_padding_and_slopes_become_hounsfield_units() -> None:
    images = series()
    for ds in images:
        pixels = np.frombuffer(ds.PixelData, dtype=np.int16).copy()
        pixels[5] = -2000
        ds.PixelData = pixels.tobytes()
        ds.PixelPaddingValue = 63536
        ds["PixelPaddingValue"].VR = "US"
    images[2].RescaleSlope, images[2].RescaleIntercept = 2, -1000
    volume = read_volume(images)
    assert volume.hu[0, 0, 5] == AIR_HU
    assert volume.hu[2, 3, 3] == 102 * 2 - 1000


def test_unsigned_values_do_not_wrap() -> None:
    images = series()
    for ds in images:
        ds.PixelRepresentation = 0
        ds.PixelData = np.full((ROWS, COLUMNS), 40000, dtype=np.uint16).tobytes()
    assert read_volume(images).hu.max() == np.iinfo(np.int16).max


@pytest.mark.parametrize("intercept", [-1024, 0, 500])
@pytest.mark.parametrize("highest", [4095, 32767, 65535])
def test_unsigned_values_are_rescaled_over_their_whole_range(intercept: int, highest: int) -> None:
    images = series()
    stored = np.linspace(0, highest, ROWS * COLUMNS).astype(np.uint16).reshape(ROWS, COLUMNS)
    for ds in images:
        ds.PixelRepresentation, ds.RescaleIntercept = 0, intercept
        ds.PixelData = stored.tobytes()
    expected = np.clip(stored.astype(np.int64) + intercept, AIR_HU, np.iinfo(np.int16).max)
    assert np.array_equal(read_volume(images).hu[1], expected)


def test_an_enhanced_multi_frame_image_is_a_volume() -> None:
    ds = image(0.0)
    frames = np.stack([np.full((ROWS, COLUMNS), index, dtype=np.int16) for index in range(5)])
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        del ds[name]
    ds.NumberOfFrames = 5
    ds.PixelData = frames.tobytes()

    def group(name: str, **values: object) -> Dataset:
        inner, outer = Dataset(), Dataset()
        for key, value in values.items():
            setattr(inner, key, value)
        setattr(outer, name, Sequence([inner]))
        return outer

    shared = group("PixelMeasuresSequence", PixelSpacing=[0.8, 0.5], SliceThickness=2.0)
    shared.update(group("PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 1, 0]))
    shared.update(group("PixelValueTransformationSequence", RescaleSlope=1, RescaleIntercept=-1000))
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    places = (4.0, 0.0, 2.0, 8.0, 6.0)
    ds.PerFrameFunctionalGroupsSequence = Sequence(
        [group("PlanePositionSequence", ImagePositionPatient=[0, 0, z]) for z in places]
    )
    volume = read_volume([ds])
    assert [int(plane[0, 0]) + 1000 for plane in volume.hu] == [1, 2, 0, 4, 3]
    assert [reference.frame for reference in volume.images] == [2, 3, 1, 5, 4]


@pytest.mark.parametrize(
    ("datasets", "code"),
    [
        ([], "volume.no-planes"),
        ([image(0.0)], "volume.too-few-slices"),
        ([image(0.0), image(4.0, number=2, PixelData=b"\0\0")], "volume.undecodable"),
        ([image(index * 2.0, number=index, RescaleType="Z_EFF") for index in range(4)], "volume.not-hounsfield"),
    ],
)
def test_what_cannot_be_a_volume_is_rejected_with_a_code(datasets: list[Dataset], code: str) -> None:
    with pytest.raises(Rejected) as caught:
        read_volume(datasets)
    assert caught.value.code == code

"""Segmentations hold every voxel where it was, to readers that are not ours."""

from __future__ import annotations

import io
from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
from derived_objects import (
    AGENT,
    MakeCt,
    geometry,
    identity,
    references,
    segment,
    segmentation,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from polyclinic.core import codes
from polyclinic.core.errors import Rejected
from polyclinic.core.findings import (
    ImageReference,
)
from polyclinic.dicom.part10 import to_part10
from polyclinic.dicom.segmentation import (
    build_segmentation,
    finding_tracking_uid,
    segment_references,
)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 11), st.integers(1, 19), st.integers(1, 19)),
    seed=st.integers(0, 2**31),
    labels=st.integers(1, 4),
)
def test_every_voxel_of_any_grid_comes_back(shape: tuple[int, int, int], seed: int, labels: int) -> None:
    """Frames of any size are packed end to end; highdicom unpacks the very same label map."""
    voxels = np.random.default_rng(seed).integers(0, labels + 1, shape).astype(np.uint8)
    voxels[0, 0, 0] = 1
    sources = _planes(shape)
    made = segmentation(sources, voxels, [segment(n) for n in range(1, labels + 1)])
    present = [n for n in range(1, labels + 1) if (voxels == n).any()]
    read = hd.seg.segread(io.BytesIO(to_part10(made)))
    back = read.get_pixels_by_source_instance(
        [s.SOPInstanceUID for s in sources],
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    expected = np.zeros_like(voxels)
    for number, label in enumerate(present, start=1):
        expected[voxels == label] = number
    assert np.array_equal(back, expected)


def _planes(shape: tuple[int, int, int]) -> list[Dataset]:
    planes = []
    for k in range(shape[0]):
        plane = Dataset()
        plane.SOPClassUID, plane.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"2.25.7{k:03d}"
        plane.StudyInstanceUID, plane.SeriesInstanceUID, plane.FrameOfReferenceUID = "2.25.1", "2.25.2", "2.25.3"
        plane.ImagePositionPatient = [-10.5, -20.25, -100.0 + 2.5 * k]
        plane.Rows, plane.Columns = shape[1:]
        planes.append(plane)
    return planes


def test_segmentation_keeps_geometry_sources_and_tracking(tiny_ct: MakeCt) -> None:
    sources = tiny_ct()
    voxels = np.zeros((6, 20, 17), np.uint8)
    voxels[1:5, 3:9, 2:8] = 1
    voxels[2:4, 4:6, 3:5] = 7
    voxels[0, 0, 0] = 9
    made = segmentation(sources, voxels, [segment(1), segment(5), segment(7, "n1")])
    read = hd.seg.segread(io.BytesIO(to_part10(made)))
    assert read.number_of_segments == 2, "a segment without voxels is left out, label 9 has no description"
    assert read.NumberOfFrames == 4 + 2
    assert [s.SegmentNumber for s in read.SegmentSequence] == [1, 2]
    assert read.get_tracking_ids() == [("n1", finding_tracking_uid("n1"))]
    assert read.SegmentSequence[1].AnatomicRegionSequence[0].CodeValue == codes.LUNG.code
    for frame in read.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        header = next(s for s in sources if s.SOPInstanceUID == source.ReferencedSOPInstanceUID)
        assert frame.PlanePositionSequence[0].ImagePositionPatient == header.ImagePositionPatient
    volume = read.get_volume(combine_segments=True)
    for index in np.argwhere(volume.array):
        place = geometry(sources).to_index(volume.affine[:3, :3] @ index + volume.affine[:3, 3])
        expected = voxels[tuple(np.rint(place).astype(int))]
        assert {1: 1, 2: 7}[int(volume.array[tuple(index)])] == expected
    tracked = segment_references(made)["n1"]
    assert tracked.segment_number == 2
    assert tracked.frame_numbers == (5, 6)
    assert [i.sop_instance_uid for i in tracked.images] == [s.SOPInstanceUID for s in sources[2:4]]


def test_segmentation_of_one_multiframe_image_names_its_frames() -> None:
    voxels = np.zeros((3, 4, 8), np.uint8)
    voxels[1:, 1, 2] = 1
    header = _planes((1, 4, 8))[0]
    header.SOPClassUID, header.NumberOfFrames = "1.2.840.10008.5.1.4.1.1.2.1", 3
    del header.ImagePositionPatient
    frames = [
        ImageReference(
            series_instance_uid=str(header.SeriesInstanceUID),
            sop_class_uid=str(header.SOPClassUID),
            sop_instance_uid=str(header.SOPInstanceUID),
            frame=k + 1,
        )
        for k in range(3)
    ]
    grid = replace(geometry([header]), shape=(3, 4, 8))
    made = build_segmentation(
        voxels=voxels,
        geometry=grid,
        images=frames,
        sources=[header],
        segments=[segment(1, "n1")],
        identity=identity(1),
        maker=AGENT,
    )
    read = hd.seg.segread(io.BytesIO(to_part10(made)))
    back = read.get_pixels_by_source_frame(
        header.SOPInstanceUID, [1, 2, 3], combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(back, voxels)
    positions = [f.PlanePositionSequence[0].ImagePositionPatient[2] for f in read.PerFrameFunctionalGroupsSequence]
    assert positions == [-97.5, -95.0]
    assert [i.frame for i in segment_references(made)["n1"].images] == [2, 3]


def test_segmentation_refuses_shapes_and_sources_that_do_not_fit(tiny_ct: MakeCt) -> None:
    sources = tiny_ct()
    voxels = np.zeros((6, 20, 17), np.uint8)
    with pytest.raises(Rejected, match="segmentation-empty"):
        segmentation(sources, voxels, [segment(1)])
    with pytest.raises(Rejected, match="segmentation-shape"):
        segmentation(sources, voxels[:, :, 1:], [segment(1)])
    voxels[:] = 1
    with pytest.raises(Rejected, match="segmentation-source"):
        build_segmentation(
            voxels=voxels,
            geometry=geometry(sources),
            images=references(sources),
            sources=sources[1:],
            segments=[segment(1)],
            identity=identity(1),
            maker=AGENT,
        )

"""DICOM Segmentation (DICOM PS3.3 A.51, C.8.20) from a label map on the grid of its source series."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import UID, SegmentationStorage
from pydicom.valuerep import format_number_as_ds

from polyclinic.core.codes import SNOMED_CT, Code
from polyclinic.core.errors import Rejected
from polyclinic.core.findings import ImageReference, Source
from polyclinic.core.ids import stable_uid
from polyclinic.dicom.codes import to_concept
from polyclinic.dicom.derived import SeriesIdentity, evidence_item, finish_derived, reference, start_derived
from polyclinic.dicom.geometry import VolumeGeometry

ANATOMICAL_STRUCTURE = Code(system=SNOMED_CT, code="123037004", display="Anatomical Structure")
ALTERED_STRUCTURE = Code(system=SNOMED_CT, code="49755003", display="Morphologically Altered Structure")
"""Segmented property categories (DICOM PS3.16 CID 7150)."""

_POSITION_TOLERANCE_MM = 0.01
_COLOURS_CIELAB = (
    (43803, 26565, 37722),
    (34885, 41762, 27242),
    (46482, 44200, 51450),
    (52327, 28013, 20800),
    (38550, 48059, 46260),
    (40092, 24158, 49344),
)
"""Recommended display values, scaled to 16 bits (DICOM PS3.3 C.10.7.1.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentDescription:
    """One label of the label map and what it means."""

    number: int
    """Voxel value in the label map, 1 to 255; segments are renumbered from 1 in the object."""
    code: Code
    """Segmented property type."""
    title: str
    category: Code = ANATOMICAL_STRUCTURE
    site: Code | None = None
    """Anatomic region; None where the property type is itself anatomy."""
    algorithm: Source
    tracking_id: str = ""
    """The Finding that the segment outlines; the tracking UID is `finding_tracking_uid` of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReference:
    """One segment of a stored segmentation, as a measurement report cites it."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    segment_number: int
    frame_numbers: tuple[int, ...]
    images: tuple[ImageReference, ...]
    """Source images of the frames, in frame order; their series is that of the referenced series item."""


def finding_tracking_uid(finding_id: str) -> str:
    """Tracking UID that segmentation and report give the finding (DICOM PS3.3 C.8.20.2)."""
    return stable_uid("finding-tracking", finding_id)


def build_segmentation(
    *,
    voxels: npt.NDArray[np.uint8],
    geometry: VolumeGeometry,
    images: Sequence[ImageReference],
    sources: Sequence[Dataset],
    segments: Sequence[SegmentDescription],
    identity: SeriesIdentity,
    maker: Source,
) -> Dataset:
    """Binary segmentation, one bit-packed frame for each non-empty pair of segment and slice.

    Parameters
    ----------
    voxels
        Label map ``(slice, row, column)`` of shape ``geometry.shape``; labels without a description are left out.
    geometry
        Grid in LPS mm. Frame positions are those of the source images where these agree within 0.01 mm.
    images
        Source image of each slice, in slice order; length ``geometry.shape[0]``.
    sources
        Headers of the source images (no pixel data needed), any order; each SOP instance that `images` names.
    segments
        What the labels mean; a segment without a voxel is left out.

    Raises
    ------
    Rejected
        ``dicom.segmentation-shape``, ``dicom.segmentation-empty``, ``dicom.segmentation-source`` or
        ``dicom.mixed-sources``.
    """
    if voxels.shape != geometry.shape or len(images) != geometry.shape[0]:
        raise Rejected(
            "dicom.segmentation-shape", "Label map, geometry and source images must have the same number of slices"
        )
    slices_of = _occupied_slices(voxels, [s.number for s in segments])
    present = [s for s in segments if slices_of[s.number]]
    if not present:
        raise Rejected("dicom.segmentation-empty", "No voxel of the label map carries a described label")
    by_uid = {str(s.SOPInstanceUID): s for s in sources}
    if missing := {i.sop_instance_uid for i in images} - by_uid.keys():
        raise Rejected("dicom.segmentation-source", f"{len(missing)} source images have no header among `sources`")

    dataset = start_derived(sources, sop_class_uid=SegmentationStorage, modality="SEG", identity=identity, maker=maker)
    _add_image_modules(dataset, geometry, sources, identity)
    dataset.SegmentSequence = [_segment_item(n, s) for n, s in enumerate(present, start=1)]
    _add_dimensions(dataset, identity.sop_instance_uid)
    dataset.SharedFunctionalGroupsSequence = [_shared_groups(geometry, sources[0])]
    frames = [(n, s, k) for n, s in enumerate(present, start=1) for k in slices_of[s.number]]
    used = sorted({k for _, _, k in frames})
    geometric_order = {k: rank for rank, k in enumerate(used, start=1)}
    slice_groups = {k: _slice_groups(geometry, images[k], by_uid[images[k].sop_instance_uid], k) for k in used}
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame_item(number, geometric_order[k], slice_groups[k]) for number, _, k in frames
    ]
    dataset.NumberOfFrames = len(frames)
    evidence = evidence_item(by_uid[uid] for uid in dict.fromkeys(images[k].sop_instance_uid for k in used))
    dataset.ReferencedSeriesSequence = [_with_instances(series) for series in evidence.ReferencedSeriesSequence]
    dataset.PixelData = _packed(voxels, [(s.number, k) for _, s, k in frames])
    dataset["PixelData"].VR = "OB"
    return finish_derived(dataset)


def segment_references(segmentation: Dataset) -> dict[str, SegmentReference]:
    """Finding id (tracking id) -> the segment that outlines it, for every tracked segment of a segmentation."""
    frames: dict[int, list[tuple[int, ImageReference]]] = {}
    series_of = {
        str(instance.ReferencedSOPInstanceUID): str(series.SeriesInstanceUID)
        for series in segmentation.ReferencedSeriesSequence
        for instance in series.ReferencedInstanceSequence
    }
    for frame_number, groups in enumerate(segmentation.PerFrameFunctionalGroupsSequence, start=1):
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        uid = str(source.ReferencedSOPInstanceUID)
        image = ImageReference(
            series_instance_uid=series_of.get(uid, ""),
            sop_class_uid=str(source.ReferencedSOPClassUID),
            sop_instance_uid=uid,
            frame=int(source.get("ReferencedFrameNumber", 1)),
        )
        frames.setdefault(number, []).append((frame_number, image))
    return {
        str(segment.TrackingID): SegmentReference(
            series_instance_uid=str(segmentation.SeriesInstanceUID),
            sop_class_uid=str(segmentation.SOPClassUID),
            sop_instance_uid=str(segmentation.SOPInstanceUID),
            segment_number=int(segment.SegmentNumber),
            frame_numbers=tuple(n for n, _ in frames[int(segment.SegmentNumber)]),
            images=tuple(i for _, i in frames[int(segment.SegmentNumber)]),
        )
        for segment in segmentation.SegmentSequence
        if segment.get("TrackingID")
    }


def _occupied_slices(voxels: npt.NDArray[np.uint8], labels: Collection[int]) -> Mapping[int, list[int]]:
    occupied: dict[int, list[int]] = {label: [] for label in labels}
    for k, plane in enumerate(voxels):
        if plane.any():
            present = np.bincount(plane.ravel(), minlength=256) > 0
            for label, slices in occupied.items():
                if present[label]:
                    slices.append(k)
    return occupied


def _packed(voxels: npt.NDArray[np.uint8], frames: Sequence[tuple[int, int]]) -> bytes:
    """Bits of all frames end to end, first pixel in the lowest bit (DICOM PS3.5 8.1.1, annex D)."""
    pixels = voxels.shape[1] * voxels.shape[2]
    packed = bytearray()
    # Eight frames are always a whole number of bytes, whatever the frame size.
    for start in range(0, len(frames), 8):
        batch = frames[start : start + 8]
        bits = np.empty((len(batch), pixels), dtype=bool)
        for row, (label, k) in zip(bits, batch, strict=True):
            np.equal(voxels[k].ravel(), label, out=row)
        packed += np.packbits(bits.ravel(), bitorder="little").tobytes()
    if len(packed) % 2:
        packed.append(0)
    return bytes(packed)


def _add_image_modules(
    dataset: Dataset, geometry: VolumeGeometry, sources: Sequence[Dataset], identity: SeriesIdentity
) -> None:
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.FrameOfReferenceUID = UID(geometry.frame_of_reference_uid)
    dataset.PositionReferenceIndicator = str(sources[0].get("PositionReferenceIndicator", "") or "")
    dataset.Rows, dataset.Columns = geometry.shape[1:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = 0
    dataset.PixelRepresentation = 0
    dataset.LossyImageCompression = "00"
    lossy = next((s for s in sources if s.get("LossyImageCompression") == "01"), None)
    if lossy is not None:
        dataset.LossyImageCompression = "01"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if lossy.get(keyword):
                setattr(dataset, keyword, lossy.get(keyword))
    dataset.SegmentationType = "BINARY"
    dataset.SegmentsOverlap = "NO"
    dataset.ContentLabel = "SEGMENTATION"
    dataset.ContentDescription = identity.description[:64]
    dataset.ContentCreatorName = ""


def _segment_item(number: int, segment: SegmentDescription) -> Dataset:
    item = Dataset()
    item.SegmentNumber = number
    item.SegmentLabel = segment.title[:64] or segment.code.display[:64]
    item.SegmentAlgorithmType = "AUTOMATIC"
    item.SegmentAlgorithmName = segment.algorithm.id[:64]
    algorithm = Dataset()
    algorithm.AlgorithmFamilyCodeSequence = [_dicom_concept(codes.DCM.ArtificialIntelligence)]
    algorithm.AlgorithmName = segment.algorithm.id[:64]
    algorithm.AlgorithmVersion = segment.algorithm.version[:64] or "unversioned"
    item.SegmentationAlgorithmIdentificationSequence = [algorithm]
    item.SegmentedPropertyCategoryCodeSequence = [to_concept(segment.category)]
    item.SegmentedPropertyTypeCodeSequence = [to_concept(segment.code)]
    if segment.site is not None:
        item.AnatomicRegionSequence = [to_concept(segment.site)]
    item.RecommendedDisplayCIELabValue = list(_COLOURS_CIELAB[(number - 1) % len(_COLOURS_CIELAB)])
    if segment.tracking_id:
        item.TrackingID = segment.tracking_id
        item.TrackingUID = finding_tracking_uid(segment.tracking_id)
    return item


def _add_dimensions(dataset: Dataset, sop_instance_uid: str) -> None:
    organization = stable_uid("dimension-organization", sop_instance_uid)
    item = Dataset()
    item.DimensionOrganizationUID = organization
    dataset.DimensionOrganizationSequence = [item]
    dataset.DimensionIndexSequence = []
    for pointer, group, label in (
        (0x0062000B, 0x0062000A, "Segment Number"),
        (0x00200032, 0x00209113, "Image Position Patient"),
    ):
        index = Dataset()
        index.DimensionOrganizationUID = organization
        index.DimensionIndexPointer = pointer
        index.FunctionalGroupPointer = group
        index.DimensionDescriptionLabel = label
        dataset.DimensionIndexSequence.append(index)


def _shared_groups(geometry: VolumeGeometry, source: Dataset) -> Dataset:
    orientation = Dataset()
    orientation.ImageOrientationPatient = _ds([*geometry.column_direction, *geometry.row_direction])
    measures = Dataset()
    measures.PixelSpacing = _ds(geometry.spacing_mm[1:])
    measures.SpacingBetweenSlices = _ds([geometry.spacing_mm[0]])[0]
    measures.SliceThickness = source.get("SliceThickness") or measures.SpacingBetweenSlices
    shared = Dataset()
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [measures]
    return shared


def _slice_groups(geometry: VolumeGeometry, image: ImageReference, header: Dataset, k: int) -> Dataset:
    """Functional groups that every segment's frame on slice `k` shares: position and source image."""
    position = Dataset()
    position.ImagePositionPatient = _frame_position(geometry, header, k)
    source = reference(
        image.sop_class_uid,
        image.sop_instance_uid,
        [image.frame] if int(header.get("NumberOfFrames", 1) or 1) > 1 else [],
    )
    source.SpatialLocationsPreserved = "YES"
    source.PurposeOfReferenceCodeSequence = [_dicom_concept(codes.DCM.SourceImageForImageProcessingOperation)]
    derivation = Dataset()
    derivation.SourceImageSequence = [source]
    derivation.DerivationCodeSequence = [_dicom_concept(codes.DCM.Segmentation)]
    groups = Dataset()
    groups.PlanePositionSequence = [position]
    groups.DerivationImageSequence = [derivation]
    return groups


def _frame_item(segment_number: int, slice_rank: int, slice_groups: Dataset) -> Dataset:
    item = Dataset()
    item.update(slice_groups)
    content = Dataset()
    content.DimensionIndexValues = [segment_number, slice_rank]
    item.FrameContentSequence = [content]
    identification = Dataset()
    identification.ReferencedSegmentNumber = segment_number
    item.SegmentIdentificationSequence = [identification]
    return item


def _frame_position(geometry: VolumeGeometry, header: Dataset, k: int) -> list[str]:
    computed = geometry.to_patient([k, 0, 0])
    written = header.get("ImagePositionPatient")
    if written is not None and np.allclose(np.asarray(written, float), computed, atol=_POSITION_TOLERANCE_MM):
        return [str(v) for v in written]
    return _ds(computed)


def _with_instances(series: Dataset) -> Dataset:
    """Referenced Series item with the attribute names of the Common Instance Reference module (C.12.2)."""
    item = Dataset()
    item.SeriesInstanceUID = series.SeriesInstanceUID
    item.ReferencedInstanceSequence = series.ReferencedSOPSequence
    return item


def _ds(values: Sequence[float] | npt.NDArray[np.float64]) -> list[str]:
    return [format_number_as_ds(float(v)) for v in values]


def _dicom_concept(code: DicomCode) -> Dataset:
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item

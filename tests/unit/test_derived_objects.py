"""SEG, SR, key object and encapsulated PDF say what the findings say, to readers that are not ours."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import highdicom as hd
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from polyclinic.core import codes
from polyclinic.core.codes import Code
from polyclinic.core.errors import Rejected
from polyclinic.core.findings import (
    Attribute,
    Contour,
    Evidence,
    Finding,
    FindingState,
    ImageReference,
    Measurement,
    Region,
    Source,
    SourceKind,
)
from polyclinic.core.units import HOUNSFIELD, MILLIMETRE, PERCENT
from polyclinic.dicom import codes as dicom_codes
from polyclinic.dicom.derived import SeriesIdentity
from polyclinic.dicom.encapsulated_pdf import build_encapsulated_pdf
from polyclinic.dicom.geometry import VolumeGeometry
from polyclinic.dicom.key_object import KeyObjectTitle, build_key_object
from polyclinic.dicom.measurement_report import VerifyingPerson, build_measurement_report
from polyclinic.dicom.part10 import to_part10
from polyclinic.dicom.regions import to_image_coordinates
from polyclinic.dicom.segmentation import (
    SegmentDescription,
    build_segmentation,
    finding_tracking_uid,
    segment_references,
)

AGENT = Source(kind=SourceKind.AGENT, id="chest_ct", version="0.1.0")
READER = Source(kind=SourceKind.PERSON, id="p1")
MADE_AT = datetime(2026, 1, 3, 4, 5, 6, tzinfo=UTC)
SIGNER = VerifyingPerson(name="Li^Min=李^敏", organisation="Demo hospital", at=MADE_AT)

MakeCt = Callable[..., list[Dataset]]


def identity(n: int) -> SeriesIdentity:
    return SeriesIdentity(
        series_instance_uid=f"2.25.{n}00",
        sop_instance_uid=f"2.25.{n}01",
        series_number=900 + n,
        made_at=MADE_AT,
        description="Lungs and nodules",
    )


def references(sources: list[Dataset]) -> list[ImageReference]:
    return [
        ImageReference(
            series_instance_uid=str(s.SeriesInstanceUID),
            sop_class_uid=str(s.SOPClassUID),
            sop_instance_uid=str(s.SOPInstanceUID),
        )
        for s in sources
    ]


def geometry(sources: list[Dataset]) -> VolumeGeometry:
    return VolumeGeometry(
        frame_of_reference_uid=str(sources[0].FrameOfReferenceUID),
        shape=(len(sources), sources[0].Rows, sources[0].Columns),
        origin_mm=(-10.5, -20.25, -100.0),
        slice_direction=(0.0, 0.0, 1.0),
        row_direction=(0.0, 1.0, 0.0),
        column_direction=(1.0, 0.0, 0.0),
        spacing_mm=(2.5, 0.75, 0.8),
    )


def segment(number: int, tracking_id: str = "") -> SegmentDescription:
    return SegmentDescription(
        number=number,
        code=codes.PULMONARY_NODULE if tracking_id else codes.LUNG,
        title=f"Segment {number}",
        site=codes.LUNG if tracking_id else None,
        algorithm=AGENT,
        tracking_id=tracking_id,
    )


def segmentation(sources: list[Dataset], voxels: np.ndarray, segments: list[SegmentDescription]) -> Dataset:
    return build_segmentation(
        voxels=voxels,
        geometry=geometry(sources),
        images=references(sources),
        sources=sources,
        segments=segments,
        identity=identity(1),
        maker=AGENT,
    )


def report(sources: list[Dataset], findings: list[Finding], **options: object) -> Dataset:
    return build_measurement_report(findings=findings, sources=sources, identity=identity(2), maker=AGENT, **options)


def read_sr(dataset: Dataset) -> hd.sr.Comprehensive3DSR:
    return hd.sr.srread(io.BytesIO(to_part10(dataset)))


def nodule(sources: list[Dataset], finding_id: str = "n1", **changes: object) -> Finding:
    made = Finding(
        id=finding_id,
        study_instance_uid=str(sources[0].StudyInstanceUID),
        code=codes.PULMONARY_NODULE,
        source=AGENT,
        body_site=codes.RIGHT_LUNG,
        laterality=codes.RIGHT,
        measurements=(
            Measurement(code=codes.LONG_AXIS, value=8.123456789012345, unit=MILLIMETRE, method="largest slice"),
            Measurement(code=codes.MEAN_ATTENUATION, value=-33.5, unit=HOUNSFIELD, method="mean " * 20),
        ),
        attributes=(Attribute(code=codes.NODULE_ATTENUATION, value=codes.PART_SOLID),),
        confidence=0.87,
        limits=("Thick slices.",),
        evidence=Evidence(images=(references(sources)[2],)),
    )
    return replace(made, **changes)


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


def test_identity_is_copied_and_chinese_survives(tiny_ct: MakeCt) -> None:
    for charset in ("GB18030", "ISO_IR 192"):
        sources = tiny_ct(SpecificCharacterSet=charset, StudyDescription="胸部平扫", PatientAge="065Y")
        made = build_key_object(
            images=references(sources)[:1],
            sources=sources,
            title=KeyObjectTitle.OF_INTEREST,
            description="右肺结节",
            identity=identity(3),
            maker=AGENT,
        )
        read = pydicom.dcmread(io.BytesIO(to_part10(made)))
        assert read.SpecificCharacterSet == charset
        for keyword in (
            "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge",
            "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "StudyDescription",
            "ReferringPhysicianName",
        ):  # fmt: skip
            assert str(read[keyword].value) == str(sources[0][keyword].value), keyword


@pytest.mark.parametrize(
    ("declared", "note", "expected"),
    [
        ("ISO_IR 100", "plain", "ISO_IR 100"),
        ("ISO_IR 100", "größer", "ISO_IR 100"),
        ("ISO_IR 100", "毛玻璃", "ISO_IR 192"),
        ("", "毛玻璃", "ISO_IR 192"),
        ("", "plain", None),
        (["ISO 2022 IR 6", "ISO 2022 IR 58"], "毛玻璃", "ISO_IR 192"),
    ],
)
def test_character_set_is_kept_while_it_can_hold_the_text(
    tiny_ct: MakeCt, declared: object, note: str, expected: str | None
) -> None:
    sources = tiny_ct(PatientName="Wang^XiaoDong", SpecificCharacterSet=declared)
    made = report(sources, [nodule(sources, note=note)])
    read = pydicom.dcmread(io.BytesIO(to_part10(made)))
    assert read.get("SpecificCharacterSet") == expected
    assert note in {i.TextValue for i in _leaves(read) if i.ValueType == "TEXT"}


def _leaves(item: Dataset) -> list[Dataset]:
    below = [leaf for child in item.get("ContentSequence", []) for leaf in _leaves(child)]
    return [*([item] if "ValueType" in item else []), *below]


def test_report_reads_back_as_the_findings_say(tiny_ct: MakeCt) -> None:
    sources = tiny_ct()
    voxels = np.zeros((6, 20, 17), np.uint8)
    voxels[2:4, 4:6, 3:5] = 1
    seg = segmentation(sources, voxels, [segment(1, "n1")])
    outline = Contour(
        image=references(sources)[3], points_mm=((0.0, -15.0, -92.5), (1.0, -15.0, -92.5), (1.0, -14.0, -92.5))
    )
    region = Region(frame_of_reference_uid=str(sources[0].FrameOfReferenceUID), centre_mm=(0.5, 0.5, -92.5))
    emphysema = Finding(
        id="e1",
        study_instance_uid=str(sources[0].StudyInstanceUID),
        code=codes.EMPHYSEMA,
        source=AGENT,
        state=FindingState.ACCEPTED,
        body_site=codes.LUNG,
        measurements=(Measurement(code=codes.LAA_950, value=3.25, unit=PERCENT, method="both lungs"),),
    )
    own = replace(region, contours=(outline,))
    findings = [
        nodule(sources, "n1"),
        nodule(sources, "n2", state=FindingState.REJECTED),
        emphysema,
        nodule(sources, "n3", source=READER, state=FindingState.ACCEPTED, region=own, confidence=None),
        nodule(sources, "n4", source=READER, state=FindingState.EDITED, region=region, note="边缘毛刺"),
    ]
    read = read_sr(report(sources, findings, segmentations=[seg]))
    content = read.content
    volumes = content.get_volumetric_roi_measurement_groups()
    planes = content.get_planar_roi_measurement_groups()
    whole = content.get_image_measurement_groups()
    assert [g.tracking_identifier for g in volumes] == ["n1"]
    assert [g.tracking_identifier for g in planes] == ["n3", "n4"]
    assert [g.tracking_identifier for g in whole] == ["e1"], "the rejected n2 is nowhere"

    first = volumes[0]
    assert first.tracking_uid == finding_tracking_uid("n1")
    assert dicom_codes.from_concept(first.finding_type).same_as(codes.PULMONARY_NODULE)
    assert dicom_codes.from_concept(first.finding_sites[0].value).same_as(codes.RIGHT_LUNG)
    assert dicom_codes.from_concept(first.finding_sites[0].laterality).same_as(codes.RIGHT)
    assert first.referenced_segment.referenced_sop_instance_uid == seg.SOPInstanceUID
    values = {m.name.value: (m.value, m.unit.value) for m in first.get_measurements()}
    assert values["103339001"] == (pytest.approx(8.123456789012345), "mm")
    assert values["mean-attenuation"] == (pytest.approx(-33.5), "[hnsf'U]")
    assert values["111012"] == (pytest.approx(87.0), "%")
    evaluations = {e.name.value: e.value.value for e in first.get_qualitative_evaluations()}
    assert evaluations == {"nodule-atten": "part-solid", "finding-state": "proposed"}
    assert [m.value for m in whole[0].get_measurements()] == [3.25]
    drawn = planes[0].roi.value
    assert np.allclose(drawn[0], drawn[-1]), "outlines are closed"
    assert np.allclose(drawn[0], ((0 + 10.5) / 0.8 + 0.5, (20.25 - 15) / 0.75 + 0.5))
    assert {"Thick slices.", "边缘毛刺"} <= {i.TextValue for i in _leaves(read) if i.ValueType == "TEXT"}
    assert (read.VerificationFlag, read.CompletionFlag) == ("UNVERIFIED", "PARTIAL")
    evidence = {uid for _, _, uid, _ in read.get_evidence()}
    assert evidence == {seg.SOPInstanceUID, *(sources[k].SOPInstanceUID for k in (2, 3))}


def test_signed_report_names_the_person_and_holds_nothing_undecided(tiny_ct: MakeCt) -> None:
    sources = tiny_ct()
    accepted = nodule(sources, state=FindingState.ACCEPTED)
    read = read_sr(report(sources, [accepted], verified_by=SIGNER))
    assert (read.VerificationFlag, read.CompletionFlag, read.PreliminaryFlag) == ("VERIFIED", "COMPLETE", "FINAL")
    observer = read.VerifyingObserverSequence[0]
    assert str(observer.VerifyingObserverName) == "Li^Min=李^敏"
    assert observer.VerificationDateTime == "20260103040506+0000"
    kinds = [c.observer_type.meaning for c in read.content.get_observer_contexts()]
    assert sorted(kinds) == ["Device", "Person"]
    with pytest.raises(Rejected, match="sr-undecided"):
        report(sources, [nodule(sources)], verified_by=SIGNER)


def test_report_refuses_what_it_cannot_say(tiny_ct: MakeCt) -> None:
    sources = tiny_ct()
    with pytest.raises(Rejected, match="sr-no-findings"):
        report(sources, [nodule(sources, state=FindingState.REJECTED)])
    endless = Measurement(code=codes.VOLUME, value=float("nan"), unit="mm3", method="")
    with pytest.raises(Rejected, match="sr-not-finite"):
        report(sources, [nodule(sources, measurements=(endless,))])
    foreign = Code(system="http://example.org", code="x", display="x")
    with pytest.raises(Rejected, match="unknown-code-system"):
        report(sources, [nodule(sources, code=foreign)])
    with pytest.raises(Rejected, match="sr-source"):
        report(sources[:1], [nodule(sources)])


def test_key_object_points_at_each_chosen_image_once(tiny_ct: MakeCt) -> None:
    sources = tiny_ct()
    chosen = references(sources)
    made = build_key_object(
        images=[chosen[4], chosen[1], chosen[4]],
        sources=sources,
        title=KeyObjectTitle.FOR_REPORT_ATTACHMENT,
        description="Nodule 1",
        identity=identity(3),
        maker=AGENT,
        person_name="Li^Min",
    )
    read = hd.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(io.BytesIO(to_part10(made))))
    shown = [i for i in read.content[0].ContentSequence if i.ValueType == "IMAGE"]
    uids = [i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in shown]
    assert uids == [sources[4].SOPInstanceUID, sources[1].SOPInstanceUID]
    assert read.resolve_reference(uids[0])[1] == sources[0].SeriesInstanceUID
    assert read.ConceptNameCodeSequence[0].CodeValue == "113020"
    with pytest.raises(Rejected, match="key-object-empty"):
        build_key_object(
            images=[],
            sources=sources,
            title=KeyObjectTitle.OF_INTEREST,
            description="",
            identity=identity(3),
            maker=AGENT,
        )


def test_pdf_comes_out_as_it_went_in(tiny_ct: MakeCt) -> None:
    sources = tiny_ct()
    pdf = b"%PDF-1.4\nodd length!!"
    assert len(pdf) % 2
    made = build_encapsulated_pdf(
        pdf=pdf,
        title="报告",
        sources=sources,
        images=references(sources)[:2],
        signed=True,
        identity=identity(4),
        maker=AGENT,
    )
    read = pydicom.dcmread(io.BytesIO(to_part10(made)))
    assert read.EncapsulatedDocument[: read.EncapsulatedDocumentLength] == pdf
    assert read.DocumentTitle == "报告"
    assert read.VerificationFlag == "VERIFIED"
    assert len(read.SourceInstanceSequence) == 2
    with pytest.raises(Rejected, match="not-pdf"):
        build_encapsulated_pdf(
            pdf=b"<html>", title="", sources=sources, signed=False, identity=identity(4), maker=AGENT
        )


def test_equal_inputs_give_equal_bytes(tiny_ct: MakeCt) -> None:
    def build() -> list[bytes]:
        sources = tiny_ct()
        voxels = np.zeros((6, 20, 17), np.uint8)
        voxels[2:4, 4:6, 3:5] = 1
        seg = segmentation(sources, voxels, [segment(1, "n1")])
        sr = report(sources, [nodule(sources, state=FindingState.ACCEPTED)], segmentations=[seg], verified_by=SIGNER)
        return [to_part10(seg), to_part10(sr)]

    assert build() == build()


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "PatientID", "PatientName"])
def test_sources_of_two_patients_or_studies_are_refused_without_naming_them(tiny_ct: MakeCt, keyword: str) -> None:
    sources = tiny_ct()
    setattr(sources[3], keyword, "2.25.99")
    with pytest.raises(Rejected, match=keyword) as caught:
        report(sources, [nodule(sources)])
    assert "2.25.99" not in str(caught.value)
    assert "Wang" not in str(caught.value)


def test_times_follow_the_source_and_must_carry_a_zone(tiny_ct: MakeCt) -> None:
    sources = tiny_ct(TimezoneOffsetFromUTC="+0800")
    made = report(sources, [nodule(sources)])
    assert (made.ContentDate, made.ContentTime, made.TimezoneOffsetFromUTC) == ("20260103", "120506", "+0800")
    plain = tiny_ct()
    here = replace(identity(2), made_at=MADE_AT.astimezone(timezone(timedelta(hours=-5))))
    without = build_measurement_report(findings=[nodule(plain)], sources=plain, identity=here, maker=AGENT)
    assert (without.ContentDate, without.ContentTime) == ("20260102", "230506")
    naive = replace(identity(2), made_at=MADE_AT.replace(tzinfo=None))
    with pytest.raises(Rejected, match="naive-time"):
        build_measurement_report(findings=[nodule(plain)], sources=plain, identity=naive, maker=AGENT)


def test_old_headers_are_mended_not_passed_on(tiny_ct: MakeCt) -> None:
    sources = tiny_ct(PatientSex="U", PatientBirthDate="", StudyTime=None)
    for source in sources:
        del source.StudyID, source.ReferringPhysicianName
    made = report(sources, [nodule(sources)])
    for keyword in ("PatientSex", "PatientBirthDate", "StudyTime", "StudyID", "ReferringPhysicianName"):
        assert keyword in made
        assert not made[keyword].value


@pytest.mark.parametrize(
    ("keyword", "vr", "raw", "expected"),
    [
        ("PatientSize", "DS", b"tall", None),
        ("PatientWeight", "DS", b"1e999999999999999", None),
        ("PatientAge", "AS", b"80", None),
        ("StudyTime", "TM", b"99junk", ""),
        ("StudyDate", "DA", b"2000.01.02", "20000102"),
        ("PatientBirthDate", "DA", b"junk", ""),
        ("PatientSex", "CS", b"U", ""),
        ("PatientIdentityRemoved", "CS", b"MAYBE", None),
        ("TimezoneOffsetFromUTC", "SH", b"+9999", None),
        ("SpecificCharacterSet", "CS", b"NONSENSE", None),
        ("AccessionNumber", "SH", b"A" * 40, "A" * 40),
        ("PatientID", "LO", b"a\\b", ["a", "b"]),
        ("PatientName", "PN", b"X" * 200, "X" * 200),
    ],
)
def test_malformed_values_are_left_out_but_identity_is_never_cut(
    tiny_ct: MakeCt, keyword: str, vr: str, raw: bytes, expected: object
) -> None:
    sources = tiny_ct(1, PatientName="Doe^Jane")
    _plant(sources[0], keyword, vr, raw)
    read = pydicom.dcmread(io.BytesIO(to_part10(_key_object(sources))))
    assert read.get(keyword) == expected


def test_undeclared_letters_are_passed_on_byte_for_byte(tiny_ct: MakeCt) -> None:
    sources = tiny_ct(1)
    del sources[0].SpecificCharacterSet
    raw = "王^小东".encode("gb18030")
    _plant(sources[0], "PatientName", "PN", raw)
    written = to_part10(_key_object(sources))
    assert raw in written
    assert "SpecificCharacterSet" not in pydicom.dcmread(io.BytesIO(written))


def _plant(header: Dataset, keyword: str, vr: str, raw: bytes) -> None:
    """Put undecoded bytes where a file would have them."""
    tag = Tag(keyword)
    header._dict[tag] = RawDataElement(tag, vr, len(raw), raw, 0, False, True)


def _key_object(sources: list[Dataset]) -> Dataset:
    return build_key_object(
        images=references(sources)[:1],
        sources=sources,
        title=KeyObjectTitle.OF_INTEREST,
        description="",
        identity=identity(3),
        maker=AGENT,
    )


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


def test_image_coordinates_count_from_the_corner(tiny_ct: MakeCt) -> None:
    header = tiny_ct()[0]
    centre_of_first = tuple(float(v) for v in header.ImagePositionPatient)
    assert np.allclose(to_image_coordinates(header, [centre_of_first]), [[0.5, 0.5]])
    step = (centre_of_first[0] + 0.8 * 3, centre_of_first[1] + 0.75 * 2, centre_of_first[2])
    assert np.allclose(to_image_coordinates(header, [step]), [[3.5, 2.5]])


def test_codes_come_back_from_dicom() -> None:
    long_code = Code(system=codes.RADLEX, code="RID-12345678901234567890", display="long")
    assert "LongCodeValue" in dicom_codes.to_concept(long_code)
    for code in (
        codes.LUNG,
        codes.NODULE_ATTENUATION,
        long_code,
        codes.SOLID,
        Code(system=codes.LOINC, code="24627-2", display="CT Chest"),
    ):
        assert dicom_codes.from_concept(dicom_codes.to_concept(code)) == code
    local = [c for c in vars(codes).values() if isinstance(c, Code) and c.system == codes.LOCAL]
    assert all("CodeValue" in dicom_codes.to_concept(c) for c in local), "add it to SHORT_LOCAL_CODES"
    with pytest.raises(Rejected, match="unknown-unit"):
        dicom_codes.unit_concept("furlong")

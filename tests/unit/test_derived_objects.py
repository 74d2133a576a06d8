"""SR, key object and encapsulated PDF say what the findings say, to readers that are not ours."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta, timezone

import highdicom as hd
import numpy as np
import pydicom
import pytest
from derived_objects import (
    AGENT,
    MADE_AT,
    READER,
    SIGNER,
    MakeCt,
    identity,
    nodule,
    read_sr,
    references,
    report,
    segment,
    segmentation,
)
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from polyclinic.core import codes
from polyclinic.core.codes import Code
from polyclinic.core.errors import Rejected
from polyclinic.core.findings import (
    Contour,
    Finding,
    FindingState,
    Measurement,
    Region,
)
from polyclinic.core.units import PERCENT
from polyclinic.dicom import codes as dicom_codes
from polyclinic.dicom.encapsulated_pdf import build_encapsulated_pdf
from polyclinic.dicom.key_object import KeyObjectTitle, build_key_object
from polyclinic.dicom.measurement_report import build_measurement_report
from polyclinic.dicom.part10 import to_part10
from polyclinic.dicom.regions import to_image_coordinates
from polyclinic.dicom.segmentation import (
    finding_tracking_uid,
)


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

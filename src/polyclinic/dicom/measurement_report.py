"""Findings -> Comprehensive 3D SR, TID 1500 Measurement Report (DICOM PS3.16 TID 1500, 1410, 1411, 1501)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    FindingSite,
    ImageRegion,
    LanguageOfContentItemAndDescendants,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceImageForSegmentation,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr import Measurement as SrMeasurement
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import Comprehensive3DSRStorage

from polyclinic.core.codes import DCM, LOCAL, Code
from polyclinic.core.errors import Rejected
from polyclinic.core.findings import Finding, FindingState, ImageReference, Source, SourceKind
from polyclinic.core.units import PERCENT
from polyclinic.dicom.codes import method_concept, to_concept, unit_concept
from polyclinic.dicom.derived import (
    SeriesIdentity,
    datetime_text,
    evidence_item,
    finish_derived,
    start_derived,
)
from polyclinic.dicom.observers import as_person_name, device_observer, person_observer
from polyclinic.dicom.regions import image_point, image_regions
from polyclinic.dicom.segmentation import SegmentReference, finding_tracking_uid, segment_references

CERTAINTY = Code(system=DCM, code="111012", display="Certainty of Finding")
FINDING_STATE = Code(system=LOCAL, code="finding-state", display="State of the finding")
_CERTAINTY_METHOD = "Calibrated probability that a reader agrees"
_IMAGES_CITED_ONE_BY_ONE = 64
"""A segment on more slices than this cites its source series; whole lungs would only repeat the series."""
_DESCRIBED_BY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "Rows")
"""What an image library entry tells of a cross-sectional image (TID 1604); old files without it are only cited."""
_ENGLISH = CodedConcept("en", "RFC5646", "English")
_PROCEDURES = {
    "CT": ("77477000", "Computed tomography"),
    "MR": ("113091000", "Magnetic resonance imaging"),
    "CR": ("168537006", "Plain radiography"),
    "DX": ("168537006", "Plain radiography"),
}

Group = (
    PlanarROIMeasurementsAndQualitativeEvaluations
    | VolumetricROIMeasurementsAndQualitativeEvaluations
    | MeasurementsAndQualitativeEvaluations
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyingPerson:
    """The physician who signed."""

    name: str
    """DICOM PN."""
    organisation: str
    """Whom the person is accountable to; empty takes the institution of the images."""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Cited:
    """What the groups may point at."""

    headers: Mapping[str, Dataset]
    segments: Mapping[str, SegmentReference]


def build_measurement_report(
    *,
    findings: Sequence[Finding],
    sources: Sequence[Dataset],
    segmentations: Sequence[Dataset] = (),
    identity: SeriesIdentity,
    maker: Source,
    verified_by: VerifyingPerson | None = None,
    procedure: Code | None = None,
) -> Dataset:
    """One measurement group for each finding that is not rejected.

    Parameters
    ----------
    findings
        Rejected ones are left out. A signed report may not hold a proposed one.
    sources
        Headers of the images that findings and segmentations cite, all of one study.
    segmentations
        Segmentation datasets of the same study; a segment whose tracking id is a finding's id is its region.
    maker
        Who assembled the document, written as equipment; the agents stand in each group.
    verified_by
        The signing physician; None gives an unverified, partial, preliminary document observed by the device.
    procedure
        Procedure reported; by default that of the modality.

    Raises
    ------
    Rejected
        ``dicom.sr-no-findings``, ``dicom.sr-undecided``, ``dicom.sr-not-finite``, ``dicom.mixed-sources`` or a
        code that has no DICOM form.
    """
    reported = [f for f in findings if f.state is not FindingState.REJECTED]
    if not reported:
        raise Rejected("dicom.sr-no-findings", "A measurement report needs a finding that is not rejected")
    if verified_by is not None and any(f.state is FindingState.PROPOSED for f in reported):
        raise Rejected("dicom.sr-undecided", "A verified report holds no proposed finding; decide all first")
    cited = _Cited(
        headers={str(s.SOPInstanceUID): s for s in sources},
        segments={k: v for seg in segmentations for k, v in segment_references(seg).items()},
    )
    dataset = start_derived(
        sources, sop_class_uid=Comprehensive3DSRStorage, modality="SR", identity=identity, maker=maker
    )
    _add_document_state(dataset, verified_by, str(sources[0].get("InstitutionName", "") or ""))
    images = _cited_images(reported, cited)
    library = [h for uid in images if all((h := cited.headers[uid]).get(k) for k in _DESCRIBED_BY)]
    content = MeasurementReport(
        observation_context=_observers(reported, maker, verified_by),
        procedure_reported=to_concept(procedure or _procedure_of(sources[0])),
        imaging_measurements=[_group(f, cited) for f in reported],
        title=codes.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(_ENGLISH),
        referenced_images=library or None,
    )
    for element in content[0]:
        dataset[element.tag] = element
    used = {cited.segments[f.id].sop_instance_uid for f in reported if f.id in cited.segments}
    members = [cited.headers[uid] for uid in images] + [s for s in segmentations if s.SOPInstanceUID in used]
    if members:
        dataset.CurrentRequestedProcedureEvidenceSequence = [evidence_item(members)]
    return finish_derived(dataset)


def _add_document_state(dataset: Dataset, verified_by: VerifyingPerson | None, institution: str) -> None:
    """SR Document General module (DICOM PS3.3 C.17.2)."""
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CompletionFlag = "PARTIAL" if verified_by is None else "COMPLETE"
    dataset.PreliminaryFlag = "PRELIMINARY" if verified_by is None else "FINAL"
    dataset.VerificationFlag = "UNVERIFIED" if verified_by is None else "VERIFIED"
    if verified_by is not None:
        observer = Dataset()
        observer.VerifyingObserverName = as_person_name(verified_by.name)
        # Type 1: a signature without any organisation says so, rather than being left out.
        observer.VerifyingOrganization = (verified_by.organisation or institution or "Not stated")[:64]
        observer.VerificationDateTime = datetime_text(verified_by.at)
        observer.VerifyingObserverIdentificationCodeSequence = []
        dataset.VerifyingObserverSequence = [observer]


def _observers(findings: Sequence[Finding], maker: Source, verified_by: VerifyingPerson | None) -> ObservationContext:
    """The person who verified, and the one agent that proposed (the platform where there were several)."""
    agents = sorted({(f.source.id, f.source.version) for f in findings if f.source.kind is SourceKind.AGENT})
    device = Source(kind=SourceKind.AGENT, id=agents[0][0], version=agents[0][1]) if len(agents) == 1 else maker
    return ObservationContext(
        observer_person_context=None
        if verified_by is None
        else person_observer(verified_by.name, verified_by.organisation),
        observer_device_context=device_observer(device) if agents or verified_by is None else None,
    )


def _procedure_of(source: Dataset) -> Code:
    value, meaning = _PROCEDURES.get(str(source.get("Modality", "")), ("363679005", "Imaging"))
    return Code(system="http://snomed.info/sct", code=value, display=meaning)


def _own_images(finding: Finding) -> list[ImageReference]:
    contours = finding.region.contours if finding.region else ()
    return [*finding.evidence.images, *(c.image for c in contours)]


def _cited_images(findings: Sequence[Finding], cited: _Cited) -> list[str]:
    """SOP Instance UIDs of every source image that a group points at, each once, with a header at hand."""
    uids: dict[str, None] = {}
    for finding in findings:
        images = _own_images(finding)
        segment = cited.segments.get(finding.id)
        if segment is not None and len(segment.images) <= _IMAGES_CITED_ONE_BY_ONE:
            images += segment.images
        uids.update(dict.fromkeys(i.sop_instance_uid for i in images))
    if missing := [uid for uid in uids if uid not in cited.headers]:
        raise Rejected("dicom.sr-source", f"{len(missing)} cited images have no header among `sources`")
    return list(uids)


def _group(finding: Finding, cited: _Cited) -> Group:
    common: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(uid=finding_tracking_uid(finding.id), identifier=finding.id),
        "finding_type": to_concept(finding.code),
        "finding_sites": _sites(finding),
        "measurements": _measurements(finding, cited),
        "qualitative_evaluations": _evaluations(finding),
        "algorithm_id": None
        if finding.source.kind is SourceKind.PERSON
        else AlgorithmIdentification(
            name=finding.source.id,
            version=finding.source.version or "unversioned",
            parameters=[f"{m.code.display}: {m.method}" for m in finding.measurements if len(m.method) > 64] or None,
        ),
    }
    group = _placed(finding, cited, common)
    comments = [
        *finding.limits,
        *(f"{rule.id}: {rule.result} ({rule.citation})" for rule in finding.evidence.rules),
        *([finding.note] if finding.note else []),
    ]
    for text in comments:
        group[0].ContentSequence.append(
            TextContentItem(name=codes.DCM.Comment, value=text, relationship_type=RelationshipTypeValues.CONTAINS)
        )
    return group


def _placed(finding: Finding, cited: _Cited, common: Mapping[str, Any]) -> Group:
    """The template that fits the region: segment, outlines, a point, or the image as a whole."""
    segment = cited.segments.get(finding.id)
    if segment is not None:
        return VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=_segment_item(segment, cited), **common
        )
    regions = image_regions(finding, cited.headers)
    if len(regions) == 1:
        return PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=regions[0], **common)
    flat = [r for r in regions if isinstance(r, ImageRegion)]
    if flat:
        # TID 1411 takes image regions only; an outline known in patient space alone is left to the point below.
        return VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_regions=flat, **common)
    point = image_point(finding, cited.headers)
    if point is not None:
        return PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=point, **common)
    images = [
        SourceImageForMeasurementGroup(i.sop_class_uid, i.sop_instance_uid, _frames(i, cited))
        for i in finding.evidence.images
    ]
    return MeasurementsAndQualitativeEvaluations(source_images=images or None, **common)


def _segment_item(segment: SegmentReference, cited: _Cited) -> ReferencedSegment:
    if len(segment.images) > _IMAGES_CITED_ONE_BY_ONE:
        source: dict[str, Any] = {"source_series": SourceSeriesForSegmentation(segment.images[0].series_instance_uid)}
    else:
        source = {
            "source_images": [
                SourceImageForSegmentation(i.sop_class_uid, i.sop_instance_uid, _frames(i, cited))
                for i in segment.images
            ]
        }
    return ReferencedSegment(
        sop_class_uid=segment.sop_class_uid,
        sop_instance_uid=segment.sop_instance_uid,
        segment_number=segment.segment_number,
        **source,
    )


def _frames(image: ImageReference, cited: _Cited) -> list[int] | None:
    header = cited.headers.get(image.sop_instance_uid)
    many = header is not None and int(header.get("NumberOfFrames", 1) or 1) > 1
    return [image.frame] if many else None


def _sites(finding: Finding) -> list[FindingSite] | None:
    if finding.body_site is None:
        return None
    laterality = None if finding.laterality is None else to_concept(finding.laterality)
    return [FindingSite(anatomic_location=to_concept(finding.body_site), laterality=laterality)]


def _measurements(finding: Finding, cited: _Cited) -> list[SrMeasurement]:
    if not all(math.isfinite(m.value) for m in finding.measurements):
        raise Rejected("dicom.sr-not-finite", "A measurement is not a finite number; the agent must leave it out")
    items = [
        SrMeasurement(
            name=to_concept(m.code),
            value=m.value,
            unit=unit_concept(m.unit),
            method=method_concept(m.method) if m.method else None,
        )
        for m in finding.measurements
    ]
    if finding.confidence is not None:
        items.append(
            SrMeasurement(
                name=to_concept(CERTAINTY),
                value=round(finding.confidence * 100, 6),
                unit=unit_concept(PERCENT),
                method=method_concept(_CERTAINTY_METHOD),
            )
        )
    return items


def _evaluations(finding: Finding) -> list[QualitativeEvaluation]:
    state = Code(system=LOCAL, code=finding.state.value, display=finding.state.value.capitalize())
    return [
        QualitativeEvaluation(name=to_concept(name), value=to_concept(value))
        for name, value in [*((a.code, a.value) for a in finding.attributes), (FINDING_STATE, state)]
    ]

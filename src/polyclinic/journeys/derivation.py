"""What a report becomes for other systems: SEG, SR (TID 1500), key object, encapsulated PDF. No room is touched.

Everything that could differ between two builds is derived from the study, the revision and the report's content, so
that a build repeated after a crash gives the same instances with the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset

import polyclinic
from polyclinic.agentkit.outcome import Assessed, Mask
from polyclinic.core import codes
from polyclinic.core.findings import Finding, ImageReference, Source, SourceKind
from polyclinic.core.ids import stable_uid
from polyclinic.departments.reading.contracts import ObjectKind, Report
from polyclinic.dicom.derived import SeriesIdentity
from polyclinic.dicom.encapsulated_pdf import build_encapsulated_pdf
from polyclinic.dicom.key_object import KeyObjectTitle, build_key_object
from polyclinic.dicom.measurement_report import VerifyingPerson, build_measurement_report
from polyclinic.dicom.segmentation import ALTERED_STRUCTURE, SegmentDescription, build_segmentation

MAKER = Source(kind=SourceKind.AGENT, id="Polyclinic", version=polyclinic.__version__)

_FIRST_SERIES_NUMBER = 9000
_SR_NUMBER, _KEY_OBJECT_NUMBER, _PDF_NUMBER = 50, 60, 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What the objects of one revision are made from."""

    report: Report
    """Signed, or a draft: its objects then say that nobody verified them."""
    content_sha256: str
    made_at: datetime
    """Aware; of a signed report the time of its signature."""
    findings: tuple[Finding, ...]
    """Those that stand in the report."""
    outcomes: tuple[Assessed, ...]
    sources: tuple[Dataset, ...]
    """Headers of every image that a finding, a mask or a key image names; at least one."""

    def identity(self, kind: ObjectKind, number: int, description: str) -> SeriesIdentity:
        """Where the object goes: a series of its own, the same at every build."""
        study, revision = self.report.study_instance_uid, self.report.revision
        return SeriesIdentity(
            series_instance_uid=stable_uid("derived-series", study, revision, kind, number),
            sop_instance_uid=stable_uid("derived-instance", study, revision, kind, number, self.content_sha256),
            series_number=_FIRST_SERIES_NUMBER + number,
            made_at=self.made_at.astimezone(),
            description=description,
        )


def derive(
    reported: Reported, pdf: bytes, *, wanted: Set[ObjectKind] = frozenset(ObjectKind)
) -> tuple[tuple[ObjectKind, Dataset], ...]:
    """Every wanted object of the report, each with its kind; the PDF always.

    A report without a finding has no SR and no key object, and without a mask no SEG.
    """
    segmentations = _segmentations(reported) if ObjectKind.SEGMENTATION in wanted else []
    built: list[tuple[ObjectKind, Dataset]] = [(ObjectKind.SEGMENTATION, s) for s in segmentations]
    if reported.findings and ObjectKind.STRUCTURED_REPORT in wanted:
        built.append((ObjectKind.STRUCTURED_REPORT, _measurement_report(reported, segmentations)))
    images = key_images(reported.findings, reported.outcomes)
    if images and ObjectKind.KEY_OBJECT in wanted:
        built.append((ObjectKind.KEY_OBJECT, _key_object(reported, tuple(dict.fromkeys(images.values())))))
    built.append((ObjectKind.PDF, _encapsulated_pdf(reported, pdf)))
    return tuple(built)


def images_of(findings: Iterable[Finding]) -> tuple[ImageReference, ...]:
    """Every image that the findings cite or are outlined on, each once, in order."""
    images: dict[ImageReference, None] = {}
    for finding in findings:
        for image in finding.evidence.images:
            images[image] = None
        for contour in finding.region.contours if finding.region else ():
            images[contour.image] = None
    return tuple(images)


def key_images(findings: Iterable[Finding], outcomes: Iterable[Assessed] = ()) -> dict[str, ImageReference]:
    """One image for each finding id that has any: the agent's choice, else the middle one of its outline."""
    chosen = {k.finding_id: k.image for o in outcomes for k in o.key_images if k.finding_id}
    keys: dict[str, ImageReference] = {}
    for finding in findings:
        own = images_of([finding])
        image = chosen.get(finding.id) or (own[len(own) // 2] if own else None)
        if image is not None:
            keys[finding.id] = image
    return keys


def _segmentations(reported: Reported) -> list[Dataset]:
    masks = [(outcome, mask) for outcome in reported.outcomes for mask in outcome.masks]
    built = []
    for number, (outcome, mask) in enumerate(masks):
        segments = _segments(reported, outcome, mask)
        if any(bool((mask.voxels == segment.number).any()) for segment in segments):
            wanted = {image.sop_instance_uid for image in mask.images}
            built.append(
                build_segmentation(
                    voxels=mask.voxels,
                    geometry=mask.geometry,
                    images=mask.images,
                    sources=[source for source in reported.sources if str(source.SOPInstanceUID) in wanted],
                    segments=segments,
                    identity=reported.identity(ObjectKind.SEGMENTATION, number, f"{mask.title} (segmentation)"),
                    maker=MAKER,
                )
            )
    return built


def _segments(reported: Reported, outcome: Assessed, mask: Mask) -> list[SegmentDescription]:
    """Anatomy, and the outlines of the report's findings whose size the reader left as the agent drew it."""
    proposed = {finding.id: finding for finding in outcome.findings}
    as_drawn = {f.id for f in reported.findings if f.id in proposed and _same_size(f, proposed[f.id])}
    return [
        SegmentDescription(
            number=label.number,
            code=label.code,
            title=label.title,
            algorithm=outcome.agent,
            tracking_id=label.finding_id,
            site=proposed[label.finding_id].body_site if label.finding_id else None,
            **({"category": ALTERED_STRUCTURE} if label.finding_id else {}),
        )
        for label in mask.labels
        if not label.finding_id or label.finding_id in as_drawn
    ]


def _same_size(reported: Finding, proposed: Finding) -> bool:
    return all(reported.measurement(code) == proposed.measurement(code) for code in (codes.LONG_AXIS, codes.SHORT_AXIS))


def _measurement_report(reported: Reported, segmentations: Sequence[Dataset]) -> Dataset:
    signature = reported.report.signature
    verified_by = (
        VerifyingPerson(name=signature.person_name, organisation="", at=signature.at.astimezone())
        if signature
        else None
    )
    return build_measurement_report(
        findings=reported.findings,
        sources=reported.sources,
        segmentations=segmentations,
        identity=reported.identity(ObjectKind.STRUCTURED_REPORT, _SR_NUMBER, "Measurements (SR)"),
        maker=MAKER,
        verified_by=verified_by,
    )


def _key_object(reported: Reported, images: Sequence[ImageReference]) -> Dataset:
    signature = reported.report.signature
    return build_key_object(
        images=images,
        sources=reported.sources,
        title=KeyObjectTitle.FOR_REPORT_ATTACHMENT,
        description="Images of the findings in the report",
        identity=reported.identity(ObjectKind.KEY_OBJECT, _KEY_OBJECT_NUMBER, "Key images"),
        maker=MAKER,
        person_name=signature.person_name if signature else "",
    )


def _encapsulated_pdf(reported: Reported, pdf: bytes) -> Dataset:
    return build_encapsulated_pdf(
        pdf=pdf,
        title="Radiology report",
        sources=reported.sources,
        signed=reported.report.signature is not None,
        identity=reported.identity(ObjectKind.PDF, _PDF_NUMBER, "Report (PDF)"),
        maker=MAKER,
    )

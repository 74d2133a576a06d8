"""Objects that other systems read, built from a signed report: SEG, SR (TID 1500), key object, encapsulated PDF.

Everything that could differ between two builds is derived from the study, the revision and the signature, so that a
build repeated after a crash gives the same instances with the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset

import polyclinic
from polyclinic.agentkit.outcome import Assessed, Mask
from polyclinic.core import codes
from polyclinic.core.errors import NotFound
from polyclinic.core.findings import Finding, ImageReference, Source, SourceKind
from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.contracts import DERIVED_SOURCE
from polyclinic.departments.reading.contracts import DerivedObject, ObjectKind, Report, RunState, Signature
from polyclinic.dicom.derived import SeriesIdentity
from polyclinic.dicom.encapsulated_pdf import build_encapsulated_pdf
from polyclinic.dicom.key_object import KeyObjectTitle, build_key_object
from polyclinic.dicom.measurement_report import VerifyingPerson, build_measurement_report
from polyclinic.dicom.part10 import to_part10
from polyclinic.dicom.segmentation import ALTERED_STRUCTURE, SegmentDescription, build_segmentation
from polyclinic.journeys.case_files import headers, snapshot_instances
from polyclinic.journeys.outcomes import load_outcome
from polyclinic.journeys.rooms import Rooms

MAKER = Source(kind=SourceKind.AGENT, id="Polyclinic", version=polyclinic.__version__)

_FIRST_SERIES_NUMBER = 9000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    """What the objects of one revision are made from."""

    report: Report
    signature: Signature
    counting: tuple[Finding, ...]
    """Accepted and edited findings."""
    outcomes: tuple[Assessed, ...]
    wanted: frozenset[str]
    """Kinds of objects that the scenarios of the study ask for."""
    sources: tuple[Dataset, ...]
    """Headers of every image that a finding, a mask or a key image names."""

    def identity(self, kind: ObjectKind, number: int, description: str) -> SeriesIdentity:
        """Where the object goes: a series of its own, the same at every build."""
        study, revision = self.report.study_instance_uid, self.report.revision
        return SeriesIdentity(
            series_instance_uid=stable_uid("derived-series", study, revision, kind, number),
            sop_instance_uid=stable_uid("derived-instance", study, revision, kind, number, self.signature.sha256),
            series_number=_FIRST_SERIES_NUMBER + number,
            made_at=self.signature.at.astimezone(),
            description=description,
        )


def build_objects(rooms: Rooms, study_instance_uid: str, revision: int) -> tuple[DerivedObject, ...]:
    """Build every object of a signed revision and store it in the archive with the study.

    A report without a counting finding has no SR and no key object, and without a mask no SEG; it always has a PDF.

    Raises
    ------
    NotFound
        ``reading.not-signed``.
    """
    signed = _signed(rooms, study_instance_uid, revision)
    segmentations = _segmentations(signed) if ObjectKind.SEGMENTATION in signed.wanted else []
    built: list[tuple[ObjectKind, Dataset]] = [(ObjectKind.SEGMENTATION, s) for s in segmentations]
    if signed.counting and ObjectKind.STRUCTURED_REPORT in signed.wanted:
        built.append((ObjectKind.STRUCTURED_REPORT, _measurement_report(signed, segmentations)))
    if ObjectKind.KEY_OBJECT in signed.wanted and (key_images := _key_images(signed)):
        built.append((ObjectKind.KEY_OBJECT, _key_object(signed, key_images)))
    built.append((ObjectKind.PDF, _pdf(rooms, signed)))
    return tuple(_store(rooms, kind, dataset, signed.signature.at) for kind, dataset in built)


def _signed(rooms: Rooms, study_instance_uid: str, revision: int) -> _Signed:
    kept = rooms.reading.signed_report(study_instance_uid, revision)
    if kept is None or kept[0].signature is None:
        raise NotFound("reading.not-signed", "The report is not signed; objects are made from signed reports")
    report, found = kept
    runs = rooms.runs.of_revision(study_instance_uid, revision)
    loaded = [load_outcome(rooms.objects, run.run_id) for run in runs if run.state is RunState.DONE]
    outcomes = tuple(outcome for outcome in loaded if isinstance(outcome, Assessed))
    counting = tuple(item.finding for item in found if item.finding.state.counts)
    wanted = {o.series_instance_uid for o in outcomes} | {i.series_instance_uid for i in _images_of(counting)}
    instances = snapshot_instances(rooms.archive, study_instance_uid, revision)
    chosen = [i.sop_instance_uid for i in instances if i.series_instance_uid in wanted]
    # Without agents and findings the PDF still needs one image to take the identity from.
    chosen = chosen or [i.sop_instance_uid for i in instances[:1]]
    return _Signed(
        report=report,
        signature=kept[0].signature,
        counting=counting,
        outcomes=outcomes,
        wanted=_wanted(rooms, {run.task.agent_id for run in runs}),
        sources=tuple(headers(rooms.archive, chosen)),
    )


def _wanted(rooms: Rooms, agent_ids: Set[str]) -> frozenset[str]:
    """What the scenarios ask for whose agents looked; every kind for a study that only people looked at."""
    asked = [set(scenario.outputs) for scenario in rooms.scenarios if agent_ids & set(scenario.agents)]
    return frozenset(set().union(*asked) if asked else ObjectKind)


def _images_of(findings: Iterable[Finding]) -> list[ImageReference]:
    images: dict[ImageReference, None] = {}
    for finding in findings:
        for image in finding.evidence.images:
            images[image] = None
        for contour in finding.region.contours if finding.region else ():
            images[contour.image] = None
    return list(images)


def _segmentations(signed: _Signed) -> list[Dataset]:
    masks = [(outcome, mask) for outcome in signed.outcomes for mask in outcome.masks]
    built = []
    for number, (outcome, mask) in enumerate(masks):
        segments = _segments(signed, outcome, mask)
        if any(bool((mask.voxels == segment.number).any()) for segment in segments):
            built.append(
                build_segmentation(
                    voxels=mask.voxels,
                    geometry=mask.geometry,
                    images=mask.images,
                    sources=_of_images(signed.sources, mask.images),
                    segments=segments,
                    identity=signed.identity(ObjectKind.SEGMENTATION, number, f"{mask.title} (segmentation)"),
                    maker=MAKER,
                )
            )
    return built


def _segments(signed: _Signed, outcome: Assessed, mask: Mask) -> list[SegmentDescription]:
    """Anatomy, and the outlines of findings that count and whose size the reader left as the agent drew it."""
    proposed = {finding.id: finding for finding in outcome.findings}
    as_drawn = {f.id for f in signed.counting if f.id in proposed and _same_size(f, proposed[f.id])}
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


def _same_size(signed: Finding, proposed: Finding) -> bool:
    return all(signed.measurement(code) == proposed.measurement(code) for code in (codes.LONG_AXIS, codes.SHORT_AXIS))


def _measurement_report(signed: _Signed, segmentations: Sequence[Dataset]) -> Dataset:
    return build_measurement_report(
        findings=signed.counting,
        sources=signed.sources,
        segmentations=segmentations,
        identity=signed.identity(ObjectKind.STRUCTURED_REPORT, 50, "Measurements (SR)"),
        maker=MAKER,
        verified_by=VerifyingPerson(
            name=signed.signature.person_name, organisation="", at=signed.signature.at.astimezone()
        ),
    )


def _key_images(signed: _Signed) -> list[ImageReference]:
    """One image a finding that counts: the agent's choice, else the middle one of its outline."""
    chosen = {k.finding_id: k.image for o in signed.outcomes for k in o.key_images if k.finding_id}
    images: dict[ImageReference, None] = {}
    for finding in signed.counting:
        own = _images_of([finding])
        image = chosen.get(finding.id) or (own[len(own) // 2] if own else None)
        if image is not None:
            images[image] = None
    return list(images)


def _key_object(signed: _Signed, images: Sequence[ImageReference]) -> Dataset:
    return build_key_object(
        images=images,
        sources=signed.sources,
        title=KeyObjectTitle.FOR_REPORT_ATTACHMENT,
        description="Images of the findings in the signed report",
        identity=signed.identity(ObjectKind.KEY_OBJECT, 60, "Key images"),
        maker=MAKER,
        person_name=signed.signature.person_name,
    )


def _pdf(rooms: Rooms, signed: _Signed) -> Dataset:
    study = rooms.archive.study(signed.report.study_instance_uid)
    return build_encapsulated_pdf(
        pdf=rooms.render_pdf(signed.report, study),
        title="Radiology report",
        sources=signed.sources,
        signed=True,
        identity=signed.identity(ObjectKind.PDF, 70, "Report (PDF)"),
        maker=MAKER,
    )


def _of_images(sources: Sequence[Dataset], images: Sequence[ImageReference]) -> list[Dataset]:
    wanted = {image.sop_instance_uid for image in images}
    return [source for source in sources if str(source.SOPInstanceUID) in wanted]


def _store(rooms: Rooms, kind: ObjectKind, dataset: Dataset, at: datetime) -> DerivedObject:
    part10 = to_part10(dataset)
    rooms.archive.store(part10, source=DERIVED_SOURCE)
    return DerivedObject(
        kind=kind,
        series_instance_uid=str(dataset.SeriesInstanceUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        description=str(dataset.SeriesDescription),
        size_bytes=len(part10),
        created_at=at,
    )

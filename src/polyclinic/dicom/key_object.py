"""Key Object Selection Document (DICOM PS3.3 A.35.4, PS3.16 TID 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from highdicom.sr import CodedConcept, ContainerContentItem, ContentSequence, ImageContentItem, TextContentItem
from highdicom.sr import RelationshipTypeValues as Relation
from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from polyclinic.core.errors import Rejected
from polyclinic.core.findings import ImageReference, Source
from polyclinic.dicom.derived import SeriesIdentity, evidence_item, finish_derived, start_derived
from polyclinic.dicom.observers import device_observer, person_observer


class KeyObjectTitle(Enum):
    """Why the images were chosen (DICOM PS3.16 CID 7010)."""

    OF_INTEREST = ("113000", "Of Interest")
    FOR_REPORT_ATTACHMENT = ("113020", "For Report Attachment")

    def concept(self) -> CodedConcept:
        """Coded document title."""
        return CodedConcept(self.value[0], "DCM", self.value[1])


def build_key_object(
    *,
    images: Sequence[ImageReference],
    sources: Sequence[Dataset],
    title: KeyObjectTitle,
    description: str,
    identity: SeriesIdentity,
    maker: Source,
    person_name: str = "",
) -> Dataset:
    """Key object document that points at the chosen frames.

    Parameters
    ----------
    images
        Chosen images in the order to show; one named twice is written once.
    sources
        Headers that hold at least the chosen images, all of one study.
    description
        Why they were chosen, e.g. one line a finding.
    maker
        The device that chose; written as device observer unless `person_name` is given.
    person_name
        DICOM PN of the physician who chose.

    Raises
    ------
    Rejected
        ``dicom.key-object-empty``, ``dicom.key-object-source`` or ``dicom.mixed-sources``.
    """
    chosen = list(dict.fromkeys(images))
    if not chosen:
        raise Rejected("dicom.key-object-empty", "A key object needs at least one image")
    headers = {str(s.SOPInstanceUID): s for s in sources}
    if missing := {i.sop_instance_uid for i in chosen} - headers.keys():
        raise Rejected("dicom.key-object-source", f"{len(missing)} chosen images have no header among `sources`")
    dataset = start_derived(
        sources, sop_class_uid=KeyObjectSelectionDocumentStorage, modality="KO", identity=identity, maker=maker
    )
    # The series module of key objects has no series date, and a type 2 step reference (C.17.6.1).
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.CurrentRequestedProcedureEvidenceSequence = [
        evidence_item(headers[uid] for uid in dict.fromkeys(i.sop_instance_uid for i in chosen))
    ]
    root = ContainerContentItem(name=title.concept(), template_id="2010")
    items = ContentSequence()
    items.extend(person_observer(person_name, "") if person_name else device_observer(maker))
    if description:
        items.append(
            TextContentItem(
                name=CodedConcept("113012", "DCM", "Key Object Description"),
                value=description,
                relationship_type=Relation.CONTAINS,
            )
        )
    for image in chosen:
        many = int(headers[image.sop_instance_uid].get("NumberOfFrames", 1) or 1) > 1
        items.append(
            ImageContentItem(
                name=CodedConcept("260753009", "SCT", "Source"),
                referenced_sop_class_uid=image.sop_class_uid,
                referenced_sop_instance_uid=image.sop_instance_uid,
                referenced_frame_numbers=[image.frame] if many else None,
                relationship_type=Relation.CONTAINS,
            )
        )
    root.ContentSequence = items
    for element in root:
        dataset[element.tag] = element
    return finish_derived(dataset)

"""Encapsulated PDF (DICOM PS3.3 A.45.1, C.24.2)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from polyclinic.core.codes import LOINC, Code
from polyclinic.core.errors import Rejected
from polyclinic.core.findings import ImageReference, Source
from polyclinic.dicom.codes import to_concept
from polyclinic.dicom.derived import SeriesIdentity, finish_derived, reference, start_derived

DIAGNOSTIC_IMAGING_STUDY = Code(system=LOINC, code="18748-4", display="Diagnostic imaging study")


def build_encapsulated_pdf(
    *,
    pdf: bytes,
    title: str,
    sources: Sequence[Dataset],
    images: Sequence[ImageReference] = (),
    signed: bool,
    identity: SeriesIdentity,
    maker: Source,
    concept: Code = DIAGNOSTIC_IMAGING_STUDY,
) -> Dataset:
    """`pdf` as an instance of the sources' study.

    Parameters
    ----------
    pdf
        Whole file; the reader finds its length in Encapsulated Document Length.
    title
        Document title as a reader sees it.
    sources
        Headers of the study.
    images
        The images the document was made from (Source Instance Sequence); empty leaves it out.
    signed
        Verification Flag: the document was verified by an accountable physician.

    Raises
    ------
    Rejected
        ``dicom.not-pdf`` or ``dicom.mixed-sources``.
    """
    if not pdf.startswith(b"%PDF-"):
        raise Rejected("dicom.not-pdf", "The document to encapsulate is no PDF")
    dataset = start_derived(
        sources, sop_class_uid=EncapsulatedPDFStorage, modality="DOC", identity=identity, maker=maker
    )
    dataset.ConversionType = "WSD"
    dataset.AcquisitionDateTime = ""
    dataset.BurnedInAnnotation = "YES"
    dataset.DocumentTitle = title[:1024]
    dataset.ConceptNameCodeSequence = [to_concept(concept)]
    dataset.VerificationFlag = "VERIFIED" if signed else "UNVERIFIED"
    if images:
        dataset.SourceInstanceSequence = [reference(i.sop_class_uid, i.sop_instance_uid) for i in dict.fromkeys(images)]
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocument = pdf + b"\x00" * (len(pdf) % 2)
    dataset.EncapsulatedDocumentLength = len(pdf)
    return finish_derived(dataset)

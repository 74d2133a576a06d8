"""Builders of SEG and SR that several tests use."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset

from polyclinic.core import codes
from polyclinic.core.findings import (
    Attribute,
    Evidence,
    Finding,
    ImageReference,
    Measurement,
    Source,
    SourceKind,
)
from polyclinic.core.units import HOUNSFIELD, MILLIMETRE
from polyclinic.dicom.derived import SeriesIdentity
from polyclinic.dicom.geometry import VolumeGeometry
from polyclinic.dicom.measurement_report import VerifyingPerson, build_measurement_report
from polyclinic.dicom.part10 import to_part10
from polyclinic.dicom.segmentation import (
    SegmentDescription,
    build_segmentation,
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

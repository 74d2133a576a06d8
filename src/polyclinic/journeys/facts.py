"""What the reading room asks of the archive and the record (port `StudyFacts`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydicom.dataset import Dataset

from polyclinic.agentkit.outcome import Assessed, Mask, MaskLabel
from polyclinic.core.codes import Code
from polyclinic.core.errors import NotFound, Rejected
from polyclinic.core.findings import ImageReference, Point
from polyclinic.departments.reading.contracts import Background, ImagePlane, Report, RunState
from polyclinic.departments.records.rules import parse_da
from polyclinic.journeys.case_files import dataset_of, headers, snapshot_instances
from polyclinic.journeys.identity import identity_when
from polyclinic.journeys.outcomes import load_outcome
from polyclinic.journeys.rooms import Rooms

_AROUND_MM = 10.0


class RoomFacts:
    """Port `polyclinic.departments.reading.ports.StudyFacts`."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def background(self, study_instance_uid: str, revision: int) -> Background:
        """Dates of the priors and the age as they were gathered, and the numbers of the images."""
        try:
            context = self._rooms.records.load(study_instance_uid, revision)
        except NotFound:
            return Background(prior_dates=(), instance_numbers={})
        studies = [self._rooms.archive.study(uid) for uid in context.prior_study_instance_uids]
        return Background(
            prior_dates=tuple(day for s in studies if (day := parse_da(s.study_date)) is not None),
            instance_numbers={
                i.sop_instance_uid: i.instance_number
                for i in snapshot_instances(self._rooms.archive, study_instance_uid, revision)
                if i.instance_number is not None
            },
            age_years=context.age_years,
        )

    def plane(self, study_instance_uid: str, image: ImageReference) -> ImagePlane:
        """How the image lies, from its header; it must belong to the study."""
        header = headers(self._rooms.archive, [image.sop_instance_uid])[0]
        if str(header.get("StudyInstanceUID", "")) != study_instance_uid:
            raise NotFound("archive.no-instance", "The image is not part of this study; read the study again")
        orientation = header.get("ImageOrientationPatient")
        if not orientation or len(orientation) != 6:
            raise Rejected("reading.no-plane", "The image does not say how it lies; measure on another one")
        if image.frame > int(header.get("NumberOfFrames", 1) or 1):
            raise NotFound("archive.no-frame", "The image has no such frame; read the study again")
        values = [float(value) for value in orientation]
        row: Point = (values[0], values[1], values[2])
        column: Point = (values[3], values[4], values[5])
        return ImagePlane(
            image=ImageReference(
                series_instance_uid=str(header.SeriesInstanceUID),
                sop_class_uid=str(header.SOPClassUID),
                sop_instance_uid=image.sop_instance_uid,
                frame=image.frame,
            ),
            frame_of_reference_uid=str(header.get("FrameOfReferenceUID", "") or ""),
            row_direction=row,
            column_direction=column,
            origin_mm=_origin_mm(header),
            size_mm=_size_mm(header),
        )

    def site_at(self, study_instance_uid: str, revision: int, point_mm: Point) -> Code | None:
        """The label of an agent's anatomy mask at that place, or the nearest one a few millimetres around."""
        for run in self._rooms.runs.of_revision(study_instance_uid, revision):
            if run.state is not RunState.DONE:
                continue
            outcome = load_outcome(self._rooms.objects, run.run_id)
            for mask in outcome.masks if isinstance(outcome, Assessed) else ():
                if (label := _label_at(mask, point_mm)) is not None and not label.finding_id:
                    return label.code
        return None

    def pdf(self, report: Report) -> bytes:
        """The report printed, with pictures of the findings that stand in it."""
        rooms = self._rooms
        found = rooms.reading.findings(report.study_instance_uid, report.revision)
        counting = [item.finding for item in found if item.finding.state.counts]
        study = rooms.archive.study(report.study_instance_uid)
        if report.signature is not None:
            # What was signed stays as it was signed, also whose it was held to be
            history = rooms.archive.identity_history(report.study_instance_uid)
            study = replace(study, patient=identity_when(history, report.signature.at, study.patient))
        return rooms.render_pdf(report, study, counting, lambda uid: dataset_of(rooms.archive, uid))


def _origin_mm(header: Dataset) -> Point | None:
    position = header.get("ImagePositionPatient")
    if not position or len(position) != 3:
        return None
    return float(position[0]), float(position[1]), float(position[2])


def _size_mm(header: Dataset) -> tuple[float, float] | None:
    spacing = header.get("PixelSpacing")
    if not spacing or len(spacing) != 2:
        return None
    return float(spacing[1]) * int(header.get("Columns", 1)), float(spacing[0]) * int(header.get("Rows", 1))


def _label_at(mask: Mask, point_mm: Point) -> MaskLabel | None:
    """The commonest label within `_AROUND_MM` of the place: a nodule at the wall may lie just outside the lung."""
    at = np.rint(mask.geometry.to_index(point_mm)).astype(int)
    reach = [round(_AROUND_MM / spacing) for spacing in mask.geometry.spacing_mm]
    box = tuple(slice(max(0, int(i) - r), max(0, int(i) + r + 1)) for i, r in zip(at, reach, strict=True))
    counts = np.bincount(mask.voxels[box].ravel(), minlength=256)
    best = max(mask.labels, key=lambda label: int(counts[label.number]), default=None)
    return best if best is not None and counts[best.number] else None

"""The objects of a signed report: built (`derivation.py`), and stored in the archive with their study."""

from __future__ import annotations

from collections.abc import Set
from datetime import datetime

from pydicom.dataset import Dataset

from polyclinic.agentkit.outcome import Assessed
from polyclinic.core.errors import NotFound
from polyclinic.departments.archive.contracts import DERIVED_SOURCE
from polyclinic.departments.reading.contracts import DerivedObject, ObjectKind, RunState
from polyclinic.dicom.part10 import to_part10
from polyclinic.journeys.case_files import dataset_of, headers, snapshot_instances
from polyclinic.journeys.derivation import Reported, derive, images_of
from polyclinic.journeys.outcomes import load_outcome
from polyclinic.journeys.rooms import Rooms


def build_objects(rooms: Rooms, study_instance_uid: str, revision: int) -> tuple[DerivedObject, ...]:
    """Build every object of a signed revision and store it in the archive with the study.

    Raises
    ------
    NotFound
        ``reading.not-signed``.
    """
    kept = rooms.reading.signed_report(study_instance_uid, revision)
    if kept is None or kept[0].signature is None:
        raise NotFound("reading.not-signed", "The report is not signed; objects are made from signed reports")
    report, found = kept
    signature = kept[0].signature
    runs = rooms.runs.of_revision(study_instance_uid, revision)
    loaded = [load_outcome(rooms.objects, run.run_id) for run in runs if run.state is RunState.DONE]
    outcomes = tuple(outcome for outcome in loaded if isinstance(outcome, Assessed))
    counting = tuple(item.finding for item in found if item.finding.state.counts)
    series = {o.series_instance_uid for o in outcomes} | {i.series_instance_uid for i in images_of(counting)}
    instances = snapshot_instances(rooms.archive, study_instance_uid, revision)
    chosen = [i.sop_instance_uid for i in instances if i.series_instance_uid in series]
    # Without agents and findings the PDF still needs one image to take the identity from.
    chosen = chosen or [i.sop_instance_uid for i in instances[:1]]
    reported = Reported(
        report=report,
        content_sha256=signature.sha256,
        made_at=signature.at,
        findings=counting,
        outcomes=outcomes,
        sources=tuple(headers(rooms.archive, chosen)),
    )
    study = rooms.archive.study(study_instance_uid)
    pdf = rooms.render_pdf(report, study, counting, lambda uid: dataset_of(rooms.archive, uid))
    built = derive(reported, pdf, wanted=_wanted(rooms, {run.task.agent_id for run in runs}))
    return tuple(_store(rooms, kind, dataset, signature.at) for kind, dataset in built)


def _wanted(rooms: Rooms, agent_ids: Set[str]) -> frozenset[ObjectKind]:
    """What the scenarios ask for whose agents looked; every kind for a study that only people looked at."""
    asked = [scenario.outputs for scenario in rooms.scenarios if agent_ids & set(scenario.agents)]
    return frozenset(ObjectKind(kind) for outputs in asked for kind in outputs) if asked else frozenset(ObjectKind)


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

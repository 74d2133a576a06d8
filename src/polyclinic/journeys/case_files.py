"""A settled study as agents and checks see it: which series it has, a Case of them, and where their images lie."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from typing import Protocol, overload

import orjson
import pydicom
from pydicom.dataset import Dataset

from polyclinic.agentkit.case import Case, CasePrior, CaseSeries
from polyclinic.core.plain import to_plain
from polyclinic.departments.archive.contracts import InstanceRecord, SeriesRecord, StudySnapshot
from polyclinic.departments.reading.contracts import AgentRun, PlannedSeries, SeriesExtent, Task
from polyclinic.departments.records.contracts import ClinicalContext
from polyclinic.dicom.extent import series_box


class KeptStudies(Protocol):
    """The part of the archive that is read here; worker processes have no more of it."""

    def series(self, study_instance_uid: str) -> tuple[SeriesRecord, ...]: ...
    def instances(self, study_instance_uid: str) -> tuple[InstanceRecord, ...]: ...
    def read(self, sop_instance_uid: str) -> bytes: ...
    def load_snapshot(self, study_instance_uid: str, revision: int) -> StudySnapshot: ...


class ArchivedDatasets(Sequence[Dataset]):
    """The datasets of a series, each read from the archive when it is asked for; nothing is kept."""

    def __init__(self, archive: KeptStudies, sop_instance_uids: Sequence[str]) -> None:
        self._archive = archive
        self._uids = tuple(sop_instance_uids)

    def __len__(self) -> int:
        return len(self._uids)

    @overload
    def __getitem__(self, index: int) -> Dataset: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Dataset]: ...
    def __getitem__(self, index: int | slice) -> Dataset | Sequence[Dataset]:
        if isinstance(index, slice):
            return ArchivedDatasets(self._archive, self._uids[index])
        return dataset_of(self._archive, self._uids[index])


def dataset_of(archive: KeptStudies, sop_instance_uid: str) -> Dataset:
    """The instance with its pixel data, still encoded."""
    return pydicom.dcmread(io.BytesIO(archive.read(sop_instance_uid)), force=True)


def snapshot_instances(archive: KeptStudies, study_instance_uid: str, revision: int) -> tuple[InstanceRecord, ...]:
    """The instances that the study had when it settled, by series, instance number, then UID."""
    frozen = set(archive.load_snapshot(study_instance_uid, revision).sop_instance_uids)
    return tuple(i for i in archive.instances(study_instance_uid) if i.sop_instance_uid in frozen)


def planned_series(archive: KeptStudies, study_instance_uid: str, revision: int) -> tuple[PlannedSeries, ...]:
    """What planning needs of each series of the snapshot."""
    counts: dict[str, int] = {}
    for instance in snapshot_instances(archive, study_instance_uid, revision):
        counts[instance.series_instance_uid] = counts.get(instance.series_instance_uid, 0) + 1
    return tuple(
        PlannedSeries(
            series_instance_uid=series.series_instance_uid,
            modality=series.modality,
            body_part=series.body_part,
            instance_count=counts[series.series_instance_uid],
        )
        for series in archive.series(study_instance_uid)
        if series.series_instance_uid in counts
    )


def inputs_sha256(
    instances: Iterable[InstanceRecord], task: Task, context: ClinicalContext, priors: Sequence[Sequence[str]] = ()
) -> str:
    """Hash of everything an agent's result may depend on: bytes of its images, the context it is told, its priors.

    `priors` is of `case_priors.prior_inputs`.
    """
    wanted = set(task.series_instance_uids)
    images = sorted((i.sop_instance_uid, i.sha256) for i in instances if i.series_instance_uid in wanted)
    told = to_plain(dict(context.for_agents()))
    inputs = [images, told, priors] if priors else [images, told]
    return hashlib.sha256(orjson.dumps(inputs, option=orjson.OPT_SORT_KEYS)).hexdigest()


def case_of(archive: KeptStudies, run: AgentRun, context: ClinicalContext, priors: tuple[CasePrior, ...] = ()) -> Case:
    """The Case for a run: the series it was planned for, at the revision that asked for it."""
    wanted = set(run.task.series_instance_uids)
    members: dict[str, list[str]] = {uid: [] for uid in run.task.series_instance_uids}
    for instance in snapshot_instances(archive, run.study_instance_uid, run.revision):
        if instance.series_instance_uid in wanted:
            members[instance.series_instance_uid].append(instance.sop_instance_uid)
    return Case(
        study_instance_uid=run.study_instance_uid,
        revision=run.revision,
        series=tuple(
            CaseSeries(
                series_instance_uid=series.series_instance_uid,
                modality=series.modality,
                description=series.description,
                datasets=ArchivedDatasets(archive, members[series.series_instance_uid]),
            )
            for series in archive.series(run.study_instance_uid)
            if series.series_instance_uid in wanted
        ),
        context=dict(context.for_agents()),
        priors=priors,
    )


def headers(archive: KeptStudies, sop_instance_uids: Iterable[str]) -> list[Dataset]:
    """The datasets without pixel data, in the order given."""
    return [
        pydicom.dcmread(io.BytesIO(archive.read(uid)), stop_before_pixels=True, force=True) for uid in sop_instance_uids
    ]


def extent_of(
    archive: KeptStudies, study_instance_uid: str, revision: int, series_instance_uid: str
) -> SeriesExtent | None:
    """Where the images of a series of the snapshot lie; None when it is not there or has no positions."""
    uids = [
        i.sop_instance_uid
        for i in snapshot_instances(archive, study_instance_uid, revision)
        if i.series_instance_uid == series_instance_uid
    ]
    box = series_box(headers(archive, uids))
    if box is None:
        return None
    frame_of_reference_uid, low_mm, high_mm = box
    return SeriesExtent(
        series_instance_uid=series_instance_uid,
        frame_of_reference_uid=frame_of_reference_uid,
        low_mm=low_mm,
        high_mm=high_mm,
        sop_instance_uids=frozenset(uids),
    )

"""Which earlier studies an agent is given to compare with: those of the same patient that show the same, newest first.

The list of the patient's earlier studies was frozen when the study was gathered; studies follow their patient's
identity through merges (`Archive.priors`). What is missing of an earlier study makes it fall out here, never the run
fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from polyclinic.agentkit.case import MAX_PRIORS, CasePrior, CaseSeries
from polyclinic.core.errors import NotFound
from polyclinic.core.findings import Finding
from polyclinic.departments.archive.contracts import InstanceRecord, SeriesRecord, StudyRecord
from polyclinic.departments.reading.contracts import DecidedFinding, Report, Signature, Task
from polyclinic.departments.records.contracts import ClinicalContext
from polyclinic.departments.records.rules import parse_da
from polyclinic.journeys.case_files import ArchivedDatasets, KeptStudies

_CHEST = frozenset({"CHEST", "THORAX", "LUNG"})
"""Names of one part of the body; the agents' manifests list them side by side."""


class KeptPriors(KeptStudies, Protocol):
    """The part of the archive that is read here."""

    def study(self, study_instance_uid: str) -> StudyRecord: ...


class SignedReports(Protocol):
    """The part of the reading room that is read here."""

    def signatures(self, study_instance_uid: str) -> dict[int, Signature]: ...
    def signed_report(
        self, study_instance_uid: str, revision: int
    ) -> tuple[Report, tuple[DecidedFinding, ...]] | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RelevantPrior:
    """An earlier study with the series that show the same."""

    study_instance_uid: str
    series: tuple[SeriesRecord, ...]


def overlaps(one: str, other: str) -> bool:
    """Whether two Body Part Examined values (PS3.3 C.7.3.1) mean or hold the same part; unknown ones may.

    Combined parts are written together, such as CHESTABDOMEN.
    """
    first, second = ("".join(filter(str.isalnum, part.upper())) for part in (one, other))
    if not first or not second:
        return True
    return any(a in b or b in a for a in _names(first) for b in _names(second))


def _names(part: str) -> frozenset[str]:
    return frozenset({part, *(_CHEST if part in _CHEST else ())})


def relevant_priors(
    archive: KeptPriors, study_instance_uid: str, task: Task, context: ClinicalContext
) -> tuple[RelevantPrior, ...]:
    """At most `MAX_PRIORS`, newest first, each with at least one series of the task's modality and body part."""
    wanted = set(task.series_instance_uids)
    now = [one for one in archive.series(study_instance_uid) if one.series_instance_uid in wanted]
    found = []
    today = archive.study(study_instance_uid).study_date
    for uid in context.prior_study_instance_uids:
        if _day(archive, uid) == today != "":
            continue  # nobody can say which of two studies of a day is the earlier one
        same = tuple(
            one
            for one in archive.series(uid)
            if not one.derived and any(one.modality == s.modality and overlaps(one.body_part, s.body_part) for s in now)
        )
        if same:
            found.append(RelevantPrior(study_instance_uid=uid, series=same))
        if len(found) == MAX_PRIORS:
            break
    return tuple(found)


def _day(archive: KeptPriors, study_instance_uid: str) -> str:
    """Study Date (DA); empty when it is not stated or the study was deleted."""
    try:
        return archive.study(study_instance_uid).study_date
    except NotFound:
        return ""


def prior_inputs(archive: KeptPriors, reports: SignedReports, priors: Iterable[RelevantPrior]) -> list[list[str]]:
    """Hashes of everything that a comparison may depend on: the images of each prior, and what was signed of it."""
    inputs = []
    for prior in priors:
        wanted = {one.series_instance_uid for one in prior.series}
        instances = archive.instances(prior.study_instance_uid)
        images = sorted(i.sha256 for i in instances if i.series_instance_uid in wanted)
        signed = reports.signatures(prior.study_instance_uid)
        inputs.append([prior.study_instance_uid, signed[max(signed)].sha256 if signed else "", *images])
    return inputs


def priors_of(
    archive: KeptPriors, reports: SignedReports, study_instance_uid: str, task: Task, context: ClinicalContext
) -> tuple[CasePrior, ...]:
    """The relevant earlier studies as an agent gets them; one that was deleted meanwhile is none."""
    return tuple(_made(archive, reports, relevant_priors(archive, study_instance_uid, task, context)))


def _made(archive: KeptPriors, reports: SignedReports, priors: Iterable[RelevantPrior]) -> Iterator[CasePrior]:
    for prior in priors:
        signed = _signed(reports, prior.study_instance_uid)
        yield CasePrior(
            study_instance_uid=prior.study_instance_uid,
            study_date=parse_da(_day(archive, prior.study_instance_uid)),
            series=_series(archive, prior, archive.instances(prior.study_instance_uid)),
            signed=signed is not None,
            findings=signed or (),
        )


def _series(archive: KeptPriors, prior: RelevantPrior, instances: Sequence[InstanceRecord]) -> tuple[CaseSeries, ...]:
    return tuple(
        CaseSeries(
            series_instance_uid=series.series_instance_uid,
            modality=series.modality,
            description=series.description,
            datasets=ArchivedDatasets(
                archive, [i.sop_instance_uid for i in instances if i.series_instance_uid == series.series_instance_uid]
            ),
        )
        for series in prior.series
    )


def _signed(reports: SignedReports, study_instance_uid: str) -> tuple[Finding, ...] | None:
    """Findings that stand in the newest signed report; None when none was signed."""
    signatures = reports.signatures(study_instance_uid)
    report = reports.signed_report(study_instance_uid, max(signatures)) if signatures else None
    if report is None:
        return None
    return tuple(one.finding for one in report[1] if one.finding.state.counts)

"""From what happened to a study to the jobs that send it on: one step of its path, decided by rules."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from polyclinic.core.errors import NotFound
from polyclinic.core.findings import SourceKind
from polyclinic.core.people import Patient
from polyclinic.departments.archive.contracts import QUIET_SOURCES
from polyclinic.departments.archive.ports import Archive
from polyclinic.departments.archive.reads import ArchiveReads
from polyclinic.departments.reading.store import ReadingStore
from polyclinic.departments.routing.contracts import Facts, FindingFacts, SeriesFacts, Trigger
from polyclinic.departments.routing.rules import route
from polyclinic.journeys import durable
from polyclinic.journeys.rooms import Rooms


def facts_of(
    archive: ArchiveReads | Archive,
    reading: ReadingStore,
    study_instance_uid: str,
    revision: int,
    trigger: Trigger,
    *,
    patient_class: Callable[[Patient], str],
) -> Facts:
    """What the rules may ask of the study as it is now; of a revision that settled.

    Raises
    ------
    NotFound
        ``archive.no-study`` or ``archive.no-snapshot``.
    """
    study = archive.study(study_instance_uid)
    frozen = set(archive.load_snapshot(study_instance_uid, revision).sop_instance_uids)
    senders: dict[str, set[str]] = {}
    for instance in archive.instances(study_instance_uid):
        if instance.sop_instance_uid in frozen:
            senders.setdefault(instance.series_instance_uid, set()).add(instance.source)
    findings = reading.findings(study_instance_uid, revision) if trigger is not Trigger.SETTLED else ()
    urgency = ""
    if trigger is not Trigger.SETTLED:
        (status,) = reading.statuses([study_instance_uid]) or (None,)
        urgency = status.urgency.value if status else ""
    return Facts(
        study_instance_uid=study_instance_uid,
        revision=revision,
        trigger=trigger,
        study_description=study.description,
        patient_class=patient_class(study.patient),
        urgency=urgency,
        series=tuple(
            SeriesFacts(
                series_instance_uid=series.series_instance_uid,
                modality=series.modality,
                station_name=series.station_name,
                description=series.description,
                body_part=series.body_part,
                calling_ae_titles=frozenset(senders[series.series_instance_uid] - QUIET_SOURCES),
            )
            for series in archive.series(study_instance_uid)
            if series.series_instance_uid in senders
        ),
        findings=tuple(
            FindingFacts(
                code=item.finding.code.code,
                system=item.finding.code.system,
                decision=item.finding.state.value,
                agent=item.finding.source.id if item.finding.source.kind is SourceKind.AGENT else "",
            )
            for item in findings
        ),
    )


@durable.step("route")
def send_on(rooms: Rooms, study_instance_uid: str, revision: int, trigger: str) -> int:
    """Queue what the rules ask for; how many jobs. Sending is `routing_forward.Forwarder`'s."""
    neighbours = rooms.neighbours
    if neighbours is None or not any(rule.when == trigger for rule in neighbours.table.rules):
        return 0
    try:
        facts = facts_of(
            rooms.archive,
            rooms.reading,
            study_instance_uid,
            revision,
            Trigger(trigger),
            patient_class=neighbours.patient_class,
        )
    except NotFound:  # deleted meanwhile: there is nothing to send on
        return 0
    at = datetime.fromtimestamp(rooms.now(), UTC)
    deliveries = route(facts, neighbours.table.rules, at, neighbours.table.destinations)
    return len(neighbours.jobs.enqueue(study_instance_uid, revision, deliveries, now=rooms.now()))

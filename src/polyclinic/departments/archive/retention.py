"""Retention: what the rules say of every series, and the deletions that follow. The rules are in `rules`."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Engine, func, select

from polyclinic.core.errors import Conflict, NotFound
from polyclinic.departments.archive import schema
from polyclinic.departments.archive.contracts import Removed, StudyRecord
from polyclinic.departments.archive.reads import study_record
from polyclinic.departments.archive.rules import ReportState, RetentionPolicy, SeriesFacts, deletions
from polyclinic.departments.archive.store import SqlArchive

log = structlog.get_logger(__name__)

BY = "retention"
_PAGE = 200
Reports = Callable[[Sequence[str]], Mapping[str, ReportState]]
"""States of reports by Study Instance UID; a study that is missing has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A series, or a whole study, that a rule deletes."""

    study_instance_uid: str
    series_instance_uid: str | None
    """None for the whole study."""
    modality: str
    rule: str
    instances: int
    size_bytes: int
    newest_received_at: datetime


def due(engine: Engine, policy: RetentionPolicy, reports: Reports, now: datetime) -> Iterator[Due]:
    """What the rules delete now, study by study; deletes nothing."""
    if not any(not rule.keep for rule in policy.rules):
        return
    before = now - timedelta(days=min(policy.least_age_days, 365_000))
    for studies in _studies(engine, schema.to_microseconds(before)):
        states = reports([study.study_instance_uid for study in studies])
        for study in studies:
            facts = series_facts(engine, study, states.get(study.study_instance_uid, ReportState.NONE))
            yield from _of_study(facts, deletions(facts, policy, now))


def _of_study(facts: Sequence[SeriesFacts], going: Sequence[tuple[SeriesFacts, str]]) -> Iterator[Due]:
    if len(going) == len(facts) and len({rule for _, rule in going}) == 1:
        yield Due(
            study_instance_uid=facts[0].study.study_instance_uid,
            series_instance_uid=None,
            modality="\\".join(sorted({series.modality for series in facts})),
            rule=going[0][1],
            instances=sum(series.instance_count for series in facts),
            size_bytes=sum(series.size_bytes for series in facts),
            newest_received_at=max(series.newest_received_at for series in facts),
        )
        return
    for series, rule in going:
        yield Due(
            study_instance_uid=series.study.study_instance_uid,
            series_instance_uid=series.series_instance_uid,
            modality=series.modality,
            rule=rule,
            instances=series.instance_count,
            size_bytes=series.size_bytes,
            newest_received_at=series.newest_received_at,
        )


def apply(
    archive: SqlArchive,
    policy: RetentionPolicy,
    reports: Reports,
    now: datetime,
    *,
    stopping: threading.Event | None = None,
    before: Callable[[Due], None] = lambda _: None,
    passed_over: Callable[[Due, str], None] = lambda *_: None,
    told: Callable[[Due], None] = lambda _: None,
) -> Removed:
    """Delete what is due, each with the name of its rule as the reason; what it took away.

    Parameters
    ----------
    before
        Called before each deletion; where it raises, nothing more is deleted.
    passed_over
        Called instead of `told` with an error's code where nothing was deleted.
    told
        Called after each deletion.
    """
    instances = size_bytes = 0
    for one in due(archive.engine, policy, reports, now):
        if stopping is not None and stopping.is_set():
            break
        before(one)
        try:
            removed = archive.delete(
                one.study_instance_uid, series_instance_uid=one.series_instance_uid, reason=one.rule, by=BY
            )
        except (NotFound, Conflict) as error:  # somebody deleted it, or put it on hold, in the meantime
            log.info("archive.retention-passed-over", code=error.code)
            passed_over(one, error.code)
            continue
        instances += removed.instances
        size_bytes += removed.size_bytes
        told(one)
    return Removed(instances=instances, size_bytes=size_bytes)


def _studies(engine: Engine, before_us: int) -> Iterator[list[StudyRecord]]:
    """Pages of studies whose first instance came before that time; deleting meanwhile disturbs nothing."""
    study, after = schema.study.c, ""
    while True:
        query = (
            select(schema.study)
            .where(study.study_instance_uid > after, study.first_received_at_us <= before_us)
            .order_by(study.study_instance_uid)
            .limit(_PAGE)
        )
        with engine.connect() as connection:
            found = [study_record(row) for row in connection.execute(query).mappings()]
        if not found:
            return
        yield found
        after = found[-1].study_instance_uid


def series_facts(engine: Engine, study: StudyRecord, report: ReportState) -> tuple[SeriesFacts, ...]:
    """Facts of every series of a study."""
    instance, series = schema.instance.c, schema.series.c
    this = instance.study_instance_uid == study.study_instance_uid
    sums = (
        select(
            instance.series_instance_uid,
            func.max(instance.received_at_us).label("newest_us"),
            func.count().label("instances"),
            func.sum(instance.size_bytes).label("size_bytes"),
        )
        .where(this)
        .group_by(instance.series_instance_uid)
    )
    sources: dict[str, set[str]] = defaultdict(set)
    with engine.connect() as connection:
        of_series = select(series.series_instance_uid, series.modality, series.derived)
        named = connection.execute(of_series.where(series.study_instance_uid == study.study_instance_uid))
        rows: dict[str, Any] = {row.series_instance_uid: row for row in named}
        counted = connection.execute(sums).all()
        came_from = select(instance.series_instance_uid, instance.source).where(this).distinct()
        for uid, source in connection.execute(came_from):
            sources[uid].add(source)
    return tuple(
        SeriesFacts(
            study=study,
            series_instance_uid=row.series_instance_uid,
            modality=rows[row.series_instance_uid].modality,
            derived=rows[row.series_instance_uid].derived,
            sources=frozenset(sources[row.series_instance_uid]),
            newest_received_at=schema.from_microseconds(row.newest_us),
            instance_count=row.instances,
            size_bytes=int(row.size_bytes),
            report=report,
        )
        for row in counted
        if row.series_instance_uid in rows
    )

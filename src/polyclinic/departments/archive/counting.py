"""What rows of studies and series say about their instances, counted again after some went away."""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy import Connection, delete, func, select, update

from polyclinic.core.errors import PolyclinicError
from polyclinic.departments.archive import schema
from polyclinic.departments.archive.contracts import DERIVED_SOURCE
from polyclinic.departments.archive.corrections import IDENTITY_COLUMNS, forget, keeps_identity
from polyclinic.departments.archive.intake import Facts, examine_file, series_values, study_values
from polyclinic.departments.archive.segments import Place, Segments

log = structlog.get_logger(__name__)

_instance, _series, _study = schema.instance.c, schema.series.c, schema.study.c


def count_again(connection: Connection, segments: Segments, study_instance_uid: str) -> None:
    """Make the rows of a study and its series what they would be had only the instances that are left ever come.

    A row without instances goes. What a row says about patient, study and series comes from its first instance; when
    that one went, from the first that is left.
    """
    _count_series(connection, segments, study_instance_uid)
    series = connection.execute(
        select(_series.modality, _series.instance_count).where(_series.study_instance_uid == study_instance_uid)
    ).all()
    this = _study.study_instance_uid == study_instance_uid
    if not series:
        connection.execute(delete(schema.study).where(this))
        forget(connection, study_instance_uid)
        return
    of_study = _instance.study_instance_uid == study_instance_uid
    first_us = connection.execute(select(func.min(_instance.received_at_us)).where(of_study)).scalar_one()
    primary, last_us = connection.execute(
        select(func.count(), func.max(_instance.received_at_us)).where(of_study, _instance.derived.is_(False))
    ).one()
    aside = select(func.count()).where(schema.aside.c.study_instance_uid == study_instance_uid)
    values: dict[str, Any] = {
        "modalities": "".join(f"{m}\\" for m in sorted({row.modality for row in series if row.modality})),
        "series_count": len(series),
        "instance_count": sum(row.instance_count for row in series),
        "primary_count": primary,
        "settled_count": settled_count(connection, study_instance_uid),
        "kept_aside_count": connection.execute(aside).scalar_one(),
        "first_received_at_us": first_us,
        "last_received_at_us": max(first_us, last_us or 0),
    }
    before_us = connection.execute(select(_study.first_received_at_us).where(this)).scalar_one()
    if first_us != before_us:
        first = _first_instance(connection, segments, of_study)
        said = {} if first is None else study_values(first[1].header)
        if keeps_identity(connection, study_instance_uid):
            said = {name: value for name, value in said.items() if name not in IDENTITY_COLUMNS}
        values |= said
    connection.execute(update(schema.study).where(this).values(values))


def _count_series(connection: Connection, segments: Segments, study_instance_uid: str) -> None:
    rows = connection.execute(
        select(
            _instance.series_instance_uid,
            func.count().label("instances"),
            func.min(_instance.received_at_us).label("first_us"),
        )
        .where(_instance.study_instance_uid == study_instance_uid)
        .group_by(_instance.series_instance_uid)
    )
    left = {row.series_instance_uid: row for row in rows}
    known = connection.execute(
        select(_series.series_instance_uid, _series.instance_count).where(
            _series.study_instance_uid == study_instance_uid
        )
    ).all()
    for uid, instance_count in known:
        this = (_series.study_instance_uid == study_instance_uid) & (_series.series_instance_uid == uid)
        if uid not in left:
            connection.execute(delete(schema.series).where(this))
        elif left[uid].instances != instance_count:
            values: dict[str, Any] = {"instance_count": left[uid].instances}
            if _lost_its_first(connection, study_instance_uid, uid, left[uid].first_us):
                of_series = (_instance.study_instance_uid == study_instance_uid) & (
                    _instance.series_instance_uid == uid
                )
                first = _first_instance(connection, segments, of_series)
                values |= {} if first is None else series_values(first[1].header) | {"derived": first[0]}
            connection.execute(update(schema.series).where(this).values(values))


def _lost_its_first(connection: Connection, study_instance_uid: str, series_instance_uid: str, first_us: int) -> bool:
    """Whether a fresh tombstone is of an instance that came before all that are left."""
    tombstone = schema.deletion.c
    gone = select(func.min(tombstone.received_at_us)).where(
        ~tombstone.voided,
        tombstone.study_instance_uid == study_instance_uid,
        tombstone.series_instance_uid == series_instance_uid,
        tombstone.kept_aside.is_(False),
    )
    gone_us = connection.execute(gone).scalar()
    return gone_us is not None and gone_us <= first_us


def _first_instance(connection: Connection, segments: Segments, condition: Any) -> tuple[bool, Facts] | None:
    """Whether we made the first of some instances, and what it says; None when its bytes cannot be read."""
    row = connection.execute(
        select(schema.instance).where(condition).order_by(_instance.received_at_us, _instance.sop_instance_uid).limit(1)
    ).one()
    place = Place(segment=row.segment, offset_bytes=row.offset_bytes, size_bytes=row.size_bytes)
    try:
        return row.source == DERIVED_SOURCE, examine_file(segments.read(place))[1]
    except PolyclinicError as error:
        log.warning("archive.first-instance-unreadable", code=error.code)
        return None


def settled_count(connection: Connection, study_instance_uid: str) -> int:
    """Instances of the study's latest snapshot that are here."""
    table = schema.snapshot.c
    latest = connection.execute(
        select(table.sop_instance_uids)
        .where(table.study_instance_uid == study_instance_uid)
        .order_by(table.revision.desc())
        .limit(1)
    ).scalar()
    if latest is None:
        return 0
    here = connection.execute(
        select(_instance.sop_instance_uid).where(
            _instance.study_instance_uid == study_instance_uid, _instance.derived.is_(False)
        )
    ).scalars()
    return len(set(latest.split("\n")).intersection(here))

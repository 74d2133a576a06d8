"""Orders and procedure steps in SQL tables, with every version of an order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, delete, insert, or_, select, update

from polyclinic.core.errors import Conflict, NotFound
from polyclinic.departments.records.patients import Order, PatientKey, PerformedStatus, PerformedStep
from polyclinic.departments.records.ports import OrderQuery
from polyclinic.departments.records.rules import check_order, first_start, moved_along, same_order
from polyclinic.departments.records.tables import order as table
from polyclinic.departments.records.tables import (
    order_version,
    patient,
    performed_step,
    scheduled_step,
    to_microseconds,
)
from polyclinic.departments.records.writing import dump, load, writing


class SqlOrders:
    """Port `polyclinic.departments.records.ports.Orders`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def order(self, order_id: str) -> Order:
        """See `Orders.order`."""
        with self._engine.connect() as connection:
            found = _kept(connection, order_id)
        if found is None:
            raise no_order()
        return found

    def find_orders(self, query: OrderQuery) -> Sequence[Order]:
        """See `Orders.find_orders`."""
        with self._engine.connect() as connection:
            wanted = (
                select(table.c.record)
                .where(*_conditions(connection, query))
                .order_by(table.c.first_start_us, table.c.order_id)
                .limit(query.limit)
                .offset(query.offset)
            )
            return tuple(load(Order, text) for text in connection.execute(wanted).scalars())

    def put_order(self, order: Order, *, source: str, at: datetime, expected_version: int | None = None) -> Order:
        """See `Orders.put_order`."""
        check_order(order)
        with writing(self._engine) as connection:
            kept = _kept(connection, order.order_id)
            if expected_version is not None and expected_version != (0 if kept is None else kept.version):
                raise stale_order()
            wanted = replace(order, patient=surviving(connection, order.patient))
            if kept is not None and same_order(kept, wanted):
                return kept
            return _write(connection, wanted, before=kept, source=source, at=at)

    def order_history(self, order_id: str) -> Sequence[Order]:
        """See `Orders.order_history`."""
        query = (
            select(order_version.c.record).where(order_version.c.order_id == order_id).order_by(order_version.c.version)
        )
        with self._engine.connect() as connection:
            return tuple(load(Order, text) for text in connection.execute(query).scalars())

    def performed_step(self, sop_instance_uid: str) -> PerformedStep:
        """See `Orders.performed_step`."""
        with self._engine.connect() as connection:
            found = _performed(connection, sop_instance_uid)
        if found is None:
            raise no_performed_step()
        return found

    def performed_steps(self, study_instance_uid: str) -> Sequence[PerformedStep]:
        """See `Orders.performed_steps`."""
        column = performed_step.c
        query = (
            select(column.record)
            .where(column.study_instance_uid == study_instance_uid)
            .order_by(column.started_at_us, column.sop_instance_uid)
        )
        with self._engine.connect() as connection:
            return tuple(load(PerformedStep, text) for text in connection.execute(query).scalars())

    def put_performed_step(self, step: PerformedStep, *, expected_version: int) -> PerformedStep:
        """See `Orders.put_performed_step`."""
        with writing(self._engine) as connection:
            kept = _performed(connection, step.sop_instance_uid)
            check_performed(kept, expected_version)
            after = replace(step, version=expected_version + 1)
            row: dict[str, Any] = {
                "study_instance_uid": after.study_instance_uid,
                "started_at_us": to_microseconds(after.started_at),
                "version": after.version,
                "record": dump(after),
            }
            if kept is None:
                connection.execute(insert(performed_step), row | {"sop_instance_uid": step.sop_instance_uid})
            else:
                this = performed_step.c.sop_instance_uid == step.sop_instance_uid
                connection.execute(update(performed_step).where(this).values(**row))
            _move_along(connection, after)
            return after


def surviving(connection: Connection, key: PatientKey) -> PatientKey:
    """The identity that holds now. Merges never make a circle, see `Patients.merge_patients`."""
    while True:
        query = select(patient.c.into_patient_id, patient.c.into_issuer).where(
            patient.c.patient_id == key.patient_id, patient.c.issuer == key.issuer, patient.c.into_patient_id != ""
        )
        row = connection.execute(query).first()
        if row is None:
            return key
        key = PatientKey(patient_id=row[0], issuer=row[1])


def no_order() -> NotFound:
    """Nobody has ordered that."""
    return NotFound("records.no-order", "There is no such order; check its number")


def no_performed_step() -> NotFound:
    """No modality has begun that."""
    return NotFound("records.no-performed-step", "There is no such performed procedure step; check its UID")


def stale_order() -> Conflict:
    """Somebody else was faster."""
    return Conflict("records.stale-order", "The order was changed meanwhile; read it again")


def check_performed(kept: PerformedStep | None, expected_version: int) -> None:
    """Whether a performed step may be written; raises as `Orders.put_performed_step` says."""
    if kept is not None and expected_version == 0:
        raise Conflict("records.performed-step-exists", "This performed procedure step exists; set it instead")
    if kept is not None and kept.status is not PerformedStatus.IN_PROGRESS:
        raise Conflict("records.performed-step-final", "This performed procedure step has ended and stays as it is")
    if (0 if kept is None else kept.version) != expected_version:
        raise Conflict("records.stale-performed-step", "The performed procedure step was changed meanwhile; read again")


def move_orders(connection: Connection, prior: PatientKey, into: PatientKey, *, source: str, at: datetime) -> None:
    """Give every order of `prior` to `into`, each as a new version of its own."""
    query = select(table.c.record).where(table.c.patient_id == prior.patient_id, table.c.issuer == prior.issuer)
    for text in connection.execute(query).scalars().all():
        kept = load(Order, text)
        _write(connection, replace(kept, patient=into), before=kept, source=source, at=at)


def _kept(connection: Connection, order_id: str) -> Order | None:
    text = connection.execute(select(table.c.record).where(table.c.order_id == order_id)).scalar_one_or_none()
    return None if text is None else load(Order, text)


def _performed(connection: Connection, sop_instance_uid: str) -> PerformedStep | None:
    query = select(performed_step.c.record).where(performed_step.c.sop_instance_uid == sop_instance_uid)
    text = connection.execute(query).scalar_one_or_none()
    return None if text is None else load(PerformedStep, text)


def _conditions(connection: Connection, query: OrderQuery) -> list[ColumnElement[bool]]:
    names = ("order_id", "accession_number", "placer_number", "filler_number", "study_instance_uid")
    where: list[ColumnElement[bool]] = [table.c[n] == getattr(query, n) for n in names if getattr(query, n)]
    if query.patient is not None:
        key = surviving(connection, query.patient)
        where += [table.c.patient_id == key.patient_id, table.c.issuer == key.issuer]
    if query.statuses:
        where.append(table.c.status.in_(sorted(query.statuses)))
    of_step: list[ColumnElement[bool]] = []
    step = scheduled_step.c
    if query.modality:
        of_step.append(step.modality == query.modality)
    if query.station_ae_title:
        of_step.append(step.station_ae_title == query.station_ae_title)
    if query.starts_from is not None:
        of_step.append(step.starts_at_us >= to_microseconds(query.starts_from))
    if query.starts_to is not None:
        of_step.append(step.starts_at_us <= to_microseconds(query.starts_to))
    if of_step:
        where.append(select(step.order_id).where(step.order_id == table.c.order_id, *of_step).exists())
    return where


def _write(connection: Connection, order: Order, *, before: Order | None, source: str, at: datetime) -> Order:
    after = replace(order, version=(before.version if before else 0) + 1, changed_at=at)
    start = first_start(after)
    row: dict[str, Any] = {
        "patient_id": after.patient.patient_id,
        "issuer": after.patient.issuer,
        "accession_number": after.accession_number,
        "placer_number": after.placer_number,
        "filler_number": after.filler_number,
        "study_instance_uid": after.study_instance_uid,
        "status": after.status,
        "priority": after.priority,
        "first_start_us": to_microseconds(start) if start else 0,
        "version": after.version,
        "record": dump(after),
    }
    if before is None:
        connection.execute(insert(table), row | {"order_id": after.order_id})
    else:
        connection.execute(update(table).where(table.c.order_id == after.order_id).values(**row))
    connection.execute(delete(scheduled_step).where(scheduled_step.c.order_id == after.order_id))
    steps = [
        {
            "order_id": after.order_id,
            "position": position,
            "modality": step.modality,
            "station_ae_title": step.station_ae_title,
            "starts_at_us": to_microseconds(step.starts_at),
        }
        for position, step in enumerate(after.steps)
    ]
    if steps:
        connection.execute(insert(scheduled_step), steps)
    kept = {"order_id": after.order_id, "version": after.version, "source": source[:64], "record": row["record"]}
    connection.execute(insert(order_version), kept)
    return after


def _move_along(connection: Connection, performed: PerformedStep) -> None:
    if not performed.scheduled_step_ids:
        return
    of_study = [table.c.study_instance_uid == performed.study_instance_uid]
    if performed.accession_number:
        of_study.append(table.c.accession_number == performed.accession_number)
    for text in connection.execute(select(table.c.record).where(or_(*of_study))).scalars().all():
        kept = load(Order, text)
        after = moved_along(kept, performed)
        if not same_order(kept, after):
            at = performed.ended_at or performed.started_at
            _write(connection, after, before=kept, source="MPPS", at=at)

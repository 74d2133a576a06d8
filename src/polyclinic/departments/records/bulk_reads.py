"""What pages of many resources ask of the record, in one query each, whatever their number."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Engine, or_, select

from polyclinic.departments.records.patients import Order, OrderStatus, PatientKey
from polyclinic.departments.records.tables import order, patient
from polyclinic.departments.records.writing import load


def orders_after(engine: Engine, after: str, *, statuses: Collection[OrderStatus] = (), limit: int) -> Sequence[Order]:
    """Orders by id behind `after`; all statuses when none is named. Page 1000 costs what page 1 costs."""
    query = select(order.c.record).where(order.c.order_id > after).order_by(order.c.order_id).limit(limit)
    if statuses:
        query = query.where(order.c.status.in_([status.value for status in statuses]))
    with engine.connect() as connection:
        return tuple(load(Order, text) for text in connection.execute(query).scalars())


def orders_of_studies(engine: Engine, studies: Sequence[tuple[str, str]]) -> Mapping[str, list[str]]:
    """Ids of the orders that studies fulfil, by Study Instance UID.

    Parameters
    ----------
    studies
        (Study Instance UID, accession number or empty) of each.
    """
    column = order.c
    uids = [uid for uid, _ in studies]
    accessions = [accession for _, accession in studies if accession]
    query = select(column.order_id, column.study_instance_uid, column.accession_number).where(
        or_(column.study_instance_uid.in_(uids), column.accession_number.in_(accessions))
    )
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(column.order_id)).all()
    return {
        uid: [
            row.order_id
            for row in rows
            if row.study_instance_uid == uid or (accession and row.accession_number == accession)
        ]
        for uid, accession in studies
    }


def merged_keys(engine: Engine, keys: Collection[PatientKey]) -> frozenset[PatientKey]:
    """Those of the identities that others have taken over."""
    column = patient.c
    query = select(column.patient_id, column.issuer).where(
        column.patient_id.in_({key.patient_id for key in keys}), column.into_patient_id != ""
    )
    with engine.connect() as connection:
        found = {PatientKey(patient_id=row.patient_id, issuer=row.issuer) for row in connection.execute(query)}
    return frozenset(found & set(keys))

"""How urgent the orders behind some studies are, for the worklist."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, or_, select

from polyclinic.departments.reading.contracts import Urgency
from polyclinic.departments.records.patients import OrderPriority, OrderStatus
from polyclinic.departments.records.tables import order

URGENCIES = {
    OrderPriority.STAT: Urgency.STAT,
    OrderPriority.ASAP: Urgency.PRIORITY,
    OrderPriority.URGENT: Urgency.PRIORITY,
}
_RANKS = {Urgency.ROUTINE: 0, Urgency.PRIORITY: 1, Urgency.STAT: 2}


def ordered_urgencies(connection: Connection, studies: Sequence[RowMapping]) -> dict[str, tuple[Urgency, str]]:
    """Urgency and its reason by Study Instance UID, for studies whose order is more than routine.

    Orders are found as `polyclinic.journeys.orders.orders_of` does: by Study Instance UID, or by accession number and
    patient.
    """
    uids = [study["study_instance_uid"] for study in studies]
    numbers = sorted({study["accession_number"] for study in studies} - {""})
    if not uids:
        return {}
    query = select(order.c.study_instance_uid, order.c.accession_number, order.c.patient_id, order.c.priority).where(
        or_(order.c.study_instance_uid.in_(uids), order.c.accession_number.in_(numbers)),
        order.c.priority.in_(list(URGENCIES)),
        order.c.status != OrderStatus.REVOKED,
    )
    by_uid: dict[str, list[str]] = {}
    by_number: dict[tuple[str, str], list[str]] = {}
    for row in connection.execute(query):
        by_uid.setdefault(row.study_instance_uid, []).append(row.priority)
        by_number.setdefault((row.accession_number, row.patient_id), []).append(row.priority)
    found = {}
    for study in studies:
        numbered = by_number.get((study["accession_number"], study["patient_id"]), [])
        priorities = by_uid.get(study["study_instance_uid"]) or (numbered if study["accession_number"] else [])
        if priorities:
            priority = max(map(OrderPriority, priorities), key=lambda p: _RANKS[URGENCIES[p]])
            found[study["study_instance_uid"]] = (URGENCIES[priority], f"Ordered as {priority}")
    return found


def more_urgent(one: str, other: str) -> bool:
    """Whether `one` comes before `other` on the worklist."""
    return _RANKS[Urgency(one)] > _RANKS[Urgency(other)]

"""Orders meet studies: which order a study answers, and when the modality says that it has sent everything."""

from __future__ import annotations

from dataclasses import replace

from polyclinic.departments.archive.contracts import StudyRecord
from polyclinic.departments.archive.ports import Archive, UnsettledStudy
from polyclinic.departments.records.contracts import ClinicalContext
from polyclinic.departments.records.patients import Order, OrderStatus, PatientKey, PerformedStatus, StepStatus
from polyclinic.departments.records.ports import OrderQuery, Record

_OPEN_STEPS = (StepStatus.SCHEDULED, StepStatus.ARRIVED, StepStatus.READY, StepStatus.STARTED)
_MOST_ORDERS = 20


def orders_of(record: Record, study: StudyRecord) -> tuple[Order, ...]:
    """The orders that a study answers, those that stand first: by Study Instance UID, else by accession number.

    An accession number counts only with the patient that the study carries: other sites use the same numbers.
    """
    uid = study.study_instance_uid
    found = record.find_orders(OrderQuery(study_instance_uid=uid, limit=_MOST_ORDERS))
    if not found and study.accession_number:
        numbered = record.find_orders(OrderQuery(accession_number=study.accession_number, limit=_MOST_ORDERS))
        found = [order for order in numbered if _is_of(record, order, study)]
    return tuple(sorted(found, key=lambda order: order.status is OrderStatus.REVOKED))


def with_order(context: ClinicalContext, order: Order | None) -> ClinicalContext:
    """The context of a study with what was asked for."""
    if order is None:
        return context
    return replace(
        context,
        indication=order.indication,
        requester=order.requester,
        priority=order.priority,
        order_id=order.order_id,
        procedure=order.description,
    )


def modality_has_ended(record: Record, archive: Archive, study: UnsettledStudy) -> str | None:
    """Why the study may be held complete by its performed procedure steps, or None.

    Every step of the study must have ended, every instance that they name must be here, and nothing that was ordered
    with it may still be due.
    """
    performed = record.performed_steps(study.study_instance_uid)
    if not performed or any(step.status is PerformedStatus.IN_PROGRESS for step in performed):
        return None
    expected = {uid for step in performed for series in step.series for uid in series.sop_instance_uids}
    if not expected or study.instance_count < len(expected):
        return None
    orders = record.find_orders(OrderQuery(study_instance_uid=study.study_instance_uid, limit=_MOST_ORDERS))
    standing = (order for order in orders if order.status is not OrderStatus.REVOKED)
    if any(step.status in _OPEN_STEPS for order in standing for step in order.steps):
        return None
    if not expected <= {instance.sop_instance_uid for instance in archive.instances(study.study_instance_uid)}:
        return None
    return f"performed procedure step ended, all {len(expected)} instances that it names are here"


def _is_of(record: Record, order: Order, study: StudyRecord) -> bool:
    patient = study.patient
    if order.patient.patient_id == patient.patient_id and patient.issuer in ("", order.patient.issuer):
        return True
    carried = PatientKey(patient_id=patient.patient_id, issuer=patient.issuer or order.patient.issuer)
    return record.surviving(carried) == order.patient

"""Results out: the signed report to receivers that take messages, at least once and under one key."""

from __future__ import annotations

from polyclinic.core.errors import NotFound, Unavailable
from polyclinic.core.people import Patient
from polyclinic.departments.archive.contracts import StudyRecord
from polyclinic.departments.reading.contracts import Delivery
from polyclinic.departments.records.patients import Order, PatientKey
from polyclinic.departments.records.rules import patient_of
from polyclinic.journeys.orders import orders_of
from polyclinic.journeys.rooms import Result, Rooms


def send_result(rooms: Rooms, item: Delivery) -> None:
    """Tell one receiver the result of a signed revision, with the patient's identity as it is now.

    Raises
    ------
    Unavailable, Rejected
        See `ResultSender`; ``results.no-way`` when this process has no way to send messages.
    NotFound
        ``reading.not-signed``.
    """
    if rooms.send_result is None:
        raise Unavailable("results.no-way", "No way is set up to send results; set POLYCLINIC_HL7_RESULTS_TO")
    rooms.send_result(item.destination, result_of(rooms, item))


def result_of(rooms: Rooms, item: Delivery) -> Result:
    """What a receiver is told of a signed revision. Raises `NotFound` (``reading.not-signed``)."""
    kept = rooms.reading.signed_report(item.study_instance_uid, item.revision)
    if kept is None:
        raise NotFound("reading.not-signed", "The report is not signed; results are sent of signed reports")
    report, found = kept
    study = rooms.archive.study(item.study_instance_uid)
    order = next(iter(orders_of(rooms.record, study)), None) if rooms.record else None
    return Result(
        key=item.key,
        report=report,
        findings=tuple(one.finding for one in found if one.finding.state.counts),
        study=study,
        patient=_patient_of(rooms, study, order),
        order=order,
        corrects=any(earlier < item.revision for earlier in rooms.reading.signatures(item.study_instance_uid)),
    )


def _patient_of(rooms: Rooms, study: StudyRecord, order: Order | None) -> Patient:
    """The names and the number that the receiver knows, which images may carry in part only."""
    carried = PatientKey(patient_id=study.patient.patient_id, issuer=study.patient.issuer)
    if rooms.record is None:
        return study.patient
    try:
        return patient_of(rooms.record.patient(rooms.record.surviving(order.patient if order else carried)))
    except NotFound:
        return study.patient

"""The ways out of the house, fitted to the ports of the journeys: C-STORE and the printed report."""

from __future__ import annotations

from polyclinic.core.errors import Unavailable
from polyclinic.departments.archive.contracts import StudyRecord
from polyclinic.departments.reading.contracts import Report
from polyclinic.departments.records.rules import parse_da
from polyclinic.edges.report_pdf import render_report_pdf
from polyclinic.journeys.rooms import Sender


def print_report(report: Report, study: StudyRecord) -> bytes:
    """Port `polyclinic.journeys.rooms.PdfRenderer`."""
    return render_report_pdf(
        report,
        patient=study.patient,
        study_date=parse_da(study.study_date),
        accession_number=study.accession_number,
        description=study.description,
        institution="",
    )


def sender(ae_title: str) -> Sender:
    """Port `polyclinic.journeys.rooms.Sender` by C-STORE."""

    def send_one(destination: str, part10: bytes) -> None:
        raise Unavailable("dimse.none", "x")

    return send_one

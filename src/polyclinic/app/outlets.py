"""The ways out of the house, fitted to the ports of the journeys: C-STORE and the printed report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydicom.dataset import Dataset

from polyclinic.app.report_pictures import report_pictures
from polyclinic.app.sending import parse_peer
from polyclinic.core.errors import Rejected, Unavailable
from polyclinic.core.findings import Finding
from polyclinic.departments.archive.contracts import StudyRecord
from polyclinic.departments.reading.contracts import Report
from polyclinic.departments.reading.draft import describing_sentences
from polyclinic.departments.records.rules import parse_da
from polyclinic.edges.dimse.sender import CONTEXT_REFUSED, send
from polyclinic.edges.report_pdf import render_report_pdf
from polyclinic.journeys.derivation import key_images
from polyclinic.journeys.rooms import Sender

_WILL_NEVER_FIT = frozenset({CONTEXT_REFUSED, *range(0xA900, 0xAA00), *range(0xC000, 0xD000)})
"""Statuses that another attempt does not change: not supported, data set does not match, cannot understand (PS3.4
table B.2-1)."""


def print_report(
    report: Report, study: StudyRecord, findings: Sequence[Finding], read: Callable[[str], Dataset]
) -> bytes:
    """Port `polyclinic.journeys.rooms.PdfRenderer`."""
    return render_report_pdf(
        report,
        patient=study.patient,
        study_date=parse_da(study.study_date),
        accession_number=study.accession_number,
        description=study.description,
        institution="",
        images=report_pictures(findings, key_images(findings), read, describing_sentences(report)),
    )


def sender(ae_title: str) -> Sender:
    """Port `polyclinic.journeys.rooms.Sender` by C-STORE."""

    def send_one(destination: str, part10: bytes) -> None:
        (answer,) = send([part10], parse_peer(destination), ae_title=ae_title)
        if answer.kept:
            return
        if answer.status in _WILL_NEVER_FIT:
            raise Rejected("dimse.refused", f"The destination does not take this object (status {answer.status:04X}H)")
        raise Unavailable("dimse.failed", f"The destination could not keep it now (status {answer.status:04X}H)")

    return send_one

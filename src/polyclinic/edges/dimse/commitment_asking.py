"""Asking destinations of routing for storage commitment (DICOM PS3.4 J.3), as often as it takes."""

from __future__ import annotations

from collections.abc import Sequence

from polyclinic.core.errors import NotFound
from polyclinic.core.ids import stable_uid
from polyclinic.departments.routing.contracts import Destination, Job, Standing
from polyclinic.edges.dimse.commitment_link import request_commitment
from polyclinic.edges.dimse.commitment_store import FAILURE_REASONS, Commitments, Failure, Reference, Report, State
from polyclinic.edges.dimse.forwarding import peer_of

_ANSWER_S = 2.0
"""So long the association stays open for an answer; a later one comes to our own node."""


class DicomResponsibility:
    """Port `polyclinic.departments.routing.ports.Responsibility`."""

    def __init__(self, commitments: Commitments, *, ae_title: str) -> None:
        self._commitments = commitments
        self._ae_title = ae_title

    def standing(self, destination: Destination, job: Job) -> Standing:
        """See `Responsibility.standing`."""
        reports: list[Report] = []
        while (report := self._report(destination, job.key, len(reports) + 1)) is not None:
            reports.append(report)
        if not reports:
            return Standing()
        answered = [one for one in reports if one.state is State.ANSWERED]
        committed = {one.sop_instance_uid for report in answered for one in report.committed}
        last = reports[-1]
        # A job that somebody has queued once more begins anew
        lately = [one for one in reports if one.requested_at and one.requested_at.timestamp() >= job.queued_at]
        before = {one.sop_instance_uid for report in lately[:-1] for one in report.failures}
        return Standing(
            round=len(reports),
            asked_at=last.requested_at.timestamp() if last.accepted and last.requested_at else None,
            answered=last.state is State.ANSWERED,
            committed=frozenset(committed),
            failures={f.sop_instance_uid: _why(f) for f in last.failures if f.sop_instance_uid not in committed},
            failed_before=frozenset(before),
        )

    def ask(self, destination: Destination, key: str, number: int, instances: Sequence[tuple[str, str]]) -> None:
        """See `Responsibility.ask`."""
        request_commitment(
            peer_of(destination),
            [Reference(sop_class_uid=sop_class, sop_instance_uid=uid) for sop_class, uid in instances],
            commitments=self._commitments,
            transaction_uid=_transaction_uid(key, number),
            ae_title=self._ae_title,
            wait_s=_ANSWER_S,
        )

    def _report(self, destination: Destination, key: str, number: int) -> Report | None:
        try:
            return self._commitments.result(destination.ae_title, _transaction_uid(key, number))
        except NotFound:
            return None


def _transaction_uid(key: str, number: int) -> str:
    return stable_uid("routing-commitment", key, number)


def _why(failure: Failure) -> str:
    known = FAILURE_REASONS.get(failure.reason, "see its log").replace(" here", " there")
    return f"The destination does not commit it (reason {failure.reason:04X}H): {known}"

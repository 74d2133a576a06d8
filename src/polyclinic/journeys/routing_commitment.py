"""Destinations that commit: a forward is done once they have taken responsibility for it (DICOM PS3.4 J).

What was asked stands with the requests themselves, so a restart goes on waiting for the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polyclinic.core.errors import Rejected
from polyclinic.departments.archive.contracts import InstanceRecord
from polyclinic.departments.routing.contracts import Destination, Job, Standing
from polyclinic.departments.routing.ports import Responsibility
from polyclinic.departments.routing.store import RoutingStore

_SHORTEST_LOOK_S, _LONGEST_LOOK_S = 1.0, 60.0
"""So often a job that waits looks for its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why and until when a job that has sent everything is not done."""

    reason: str
    due_at: float
    late: bool = False
    """Whether the destination let the time pass: one attempt more."""


class Committing:
    """Of one destination with ``commitment = true``."""

    def __init__(self, destination: Destination, responsibility: Responsibility | None, jobs: RoutingStore) -> None:
        self._destination = destination
        self._responsibility = responsibility
        self._jobs = jobs

    def prepare(self, job: Job, holder: str, *, now: float, lease_s: float) -> Standing:
        """Before sending: what the destination does not commit is sent once more, and refused when that did not help.

        Raises
        ------
        Rejected
            ``routing.no-commitment``: this process has no way to ask.
        """
        if self._responsibility is None:
            raise Rejected("routing.no-commitment", "Nothing here asks for storage commitment; remove the line")
        standing = self._responsibility.standing(self._destination, job)
        self._jobs.send_again(job.key, standing.failures)
        refused = {uid: reason for uid, reason in standing.failures.items() if uid in standing.failed_before}
        if refused:
            self._jobs.advance(job.key, holder, refused, total=job.total, now=now, lease_s=lease_s)
        return standing

    def waits(self, job: Job, standing: Standing, sent: Sequence[InstanceRecord], *, now: float) -> Waiting | None:
        """After sending: None when all of it is committed, else until when and why the job waits.

        Raises
        ------
        Unavailable, Rejected
            The destination could not be asked.
        """
        assert self._responsibility is not None
        open_ones = [one for one in sent if one.sop_instance_uid not in standing.committed]
        if not open_ones:
            return None
        limit_s = self._destination.commitment_wait_s
        late = False
        if standing.asked_at is not None and not standing.answered:
            waited_s = now - standing.asked_at
            if waited_s < limit_s:
                return Waiting(reason=_waiting(len(open_ones)), due_at=now + _pause_s(waited_s))
            late = True
        again = standing.round > 0 and standing.asked_at is None
        number = standing.round if again else standing.round + 1
        kinds = [(one.sop_class_uid, one.sop_instance_uid) for one in open_ones]
        self._responsibility.ask(self._destination, job.key, number, kinds)
        if late:
            text = f"The destination did not commit within {limit_s:.0f} s: asked again"
            return Waiting(reason=text, due_at=now + _SHORTEST_LOOK_S, late=True)
        return Waiting(reason=_waiting(len(open_ones)), due_at=now)


def _waiting(count: int) -> str:
    return f"All is sent; waiting until the destination commits {count} instances"


def _pause_s(waited_s: float) -> float:
    return min(max(waited_s / 4, _SHORTEST_LOOK_S), _LONGEST_LOOK_S)

"""The archives and workstations around this house: what goes to them, what comes from them, and how."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from polyclinic.core.people import Patient
from polyclinic.departments.routing.contracts import Destination, DestinationKind, RoutingTable
from polyclinic.departments.routing.ports import Outlets, RemoteArchive, Responsibility
from polyclinic.departments.routing.prior_store import PriorStore
from polyclinic.departments.routing.store import RoutingStore
from polyclinic.journeys.priors_intake import PriorIntake


def _nobody_told(patient: Patient) -> str:
    return ""


def _unnoted(action: str, study_instance_uid: str, detail: Mapping[str, str]) -> None:
    """Nobody keeps an audit."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Neighbours:
    """Built once a process by `polyclinic.app.routing`."""

    table: RoutingTable
    jobs: RoutingStore
    prior_searches: PriorStore
    outlets: Mapping[DestinationKind, Outlets]
    remote: RemoteArchive
    intake: PriorIntake
    responsibility: Responsibility | None = None
    """How destinations are asked to commit; None where nothing asks."""
    priors_from: tuple[Destination, ...] = ()
    """Archives that are asked for priors, in this order."""
    patient_class: Callable[[Patient], str] = _nobody_told
    """HL7 patient class of a patient, as the record knows it."""
    note: Callable[[str, str, Mapping[str, str]], None] = _unnoted
    """Called with action, study and details for the audit of what leaves and enters the house."""
    holder: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}")
    """Who holds the jobs of this process."""

    def is_gone(self, holder: str) -> bool:
        """Whether a holder of jobs was an earlier process of this machine that has ended.

        A process that took over its number is not told apart; its jobs are free once their lease is over.
        """
        host, _, rest = holder.partition(":")
        number = rest.partition(":")[0]
        if holder == self.holder or host != socket.gethostname() or not number.isdigit():
            return False
        if int(number) == os.getpid():
            return True
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False

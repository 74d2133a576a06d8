"""Everything a journey may call: the departments, the object store, the agents and the ways out of the house."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pydicom.dataset import Dataset

from polyclinic.agentkit.manifest import Agent
from polyclinic.core.findings import Finding
from polyclinic.core.people import Patient
from polyclinic.departments.archive.contracts import StudyRecord
from polyclinic.departments.archive.ports import Archive
from polyclinic.departments.reading.contracts import Report, Scenario
from polyclinic.departments.reading.outbox import Outbox
from polyclinic.departments.reading.ports import Objects
from polyclinic.departments.reading.runs import RunStore
from polyclinic.departments.reading.store import ReadingStore
from polyclinic.departments.records.patients import Order
from polyclinic.departments.records.ports import Record
from polyclinic.departments.records.store import RecordsStore
from polyclinic.journeys.neighbours import Neighbours


class Sender(Protocol):
    """Sends one DICOM file to a destination ``AE@host:port`` (C-STORE)."""

    def __call__(self, destination: str, part10: bytes) -> None:
        """Raises `Unavailable` when trying later may help, `Rejected` when it cannot."""


class PdfRenderer(Protocol):
    """Prints a report."""

    def __call__(
        self, report: Report, study: StudyRecord, findings: Sequence[Finding], read: Callable[[str], Dataset]
    ) -> bytes:
        """A PDF with pictures of the findings; equal input gives equal bytes.

        `findings` are those that stand in the report; `read` gives a dataset with pixel data by SOP Instance UID.
        """


class ResultSender(Protocol):
    """Sends the result of a signed study to a receiver such as ``hl7:HOST:PORT``."""

    def __call__(self, destination: str, result: Result) -> None:
        """Raises `Unavailable` when trying later may help, `Rejected` when it cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the record outside is told of a signed study."""

    key: str
    """The same however often it is sent."""
    report: Report
    findings: tuple[Finding, ...]
    """Those that stand in the report."""
    study: StudyRecord
    patient: Patient
    """As the record knows them now, else as the study does."""
    order: Order | None
    corrects: bool
    """Whether an earlier revision was signed before."""


def unobserved(when: str, step: str) -> None:
    """Nobody watches the steps."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rooms:
    """What the steps of a journey work with; built once a process by `polyclinic.app.wiring`."""

    archive: Archive
    reading: ReadingStore
    runs: RunStore
    outbox: Outbox
    records: RecordsStore
    objects: Objects
    agents: Mapping[str, Agent]
    scenarios: tuple[Scenario, ...]
    render_pdf: PdfRenderer
    send: Sender
    destinations: tuple[str, ...] = ()
    record: Record | None = None
    """Patients, orders and procedure steps; None where no clinical record is kept."""
    send_result: ResultSender | None = None
    results_to: tuple[str, ...] = ()
    """Receivers of results as ``hl7:HOST:PORT``."""
    neighbours: Neighbours | None = None
    """Archives and workstations that routing sends to and priors come from; None where there are none."""
    now: Callable[[], float] = time.time
    """Seconds since 1970 UTC."""
    observe: Callable[[str, str], None] = unobserved
    """Called as (``before`` or ``after``, step name) around each step; the kill tests end the process here."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the process is about to stop: steps that wait then leave their journey for the next start."""

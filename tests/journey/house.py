"""A house in a temporary folder for the journey tests, and small CT studies to send through it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from polyclinic.app.server import running
from polyclinic.app.settings import Settings
from polyclinic.app.wiring import Services, build
from polyclinic.app.worker import start_worker
from polyclinic.core.ids import stable_uid
from polyclinic.departments.reading.contracts import AgentRun, StudyState, StudyStatus
from polyclinic.dicom.part10 import to_part10
from polyclinic.edges.dimse.node import DimseNode

T = TypeVar("T")
HERE = Path(__file__).parent
ROUTING = """
[[destination]]
name = "nobody"
ae_title = "NOBODY"
host = "127.0.0.1"
port = 1
[[rule]]
name = "results"
when = "agent-result"
match = { agent = "quick_agent", series_description = "routed" }
to = "nobody"
[[rule]]
name = "signed"
when = "report-signed"
match = { series_description = "routed", finding = "427359005", decision = "accepted" }
send = ["derived", "report"]
to = "nobody"
"""
"""Nothing listens there: what is queued stays so."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class House:
    """A running house; `folder` is where the quick agent keeps its notes."""

    folder: Path
    settings: Settings
    services: Services
    node: DimseNode

    def store(self, files: list[bytes]) -> None:
        """Let images arrive."""
        for part10 in files:
            self.services.archive.store(part10, source="TEST")

    def wait(self, study: str, *states: StudyState, revision: int = 1, limit_s: float = 60.0) -> StudyStatus:
        """Wait until the study named so is in one of the states at that revision."""

        def there() -> StudyStatus | None:
            found = self.services.rooms.reading.statuses([study_uid(study)])
            return next((s for s in found if s.state in states and s.revision == revision), None)

        return wait_for(there, limit_s=limit_s)

    def run(self, study: str, revision: int = 1) -> AgentRun:
        """The only run of a study's revision."""
        (run,) = self.services.rooms.runs.of_revision(study_uid(study), revision)
        return run

    def times_run(self, study: str) -> int:
        """How often the quick agent began to look at the study."""
        notes = self.folder / "runs.txt"
        lines = notes.read_text().splitlines() if notes.exists() else []
        return sum(line.startswith(stable_uid("test-series", study)) for line in lines)


@contextlib.contextmanager
def running_house(folder: Path) -> Iterator[House]:
    """Build and run a house with one worker in `folder`."""
    (folder / "routing.toml").write_text(ROUTING)
    hospital = {"hl7_port": free_port(), "patient_id_issuer": "SITE-A", "public_url": "https://reading.example/"}
    settings = settings_in(folder, routing=folder / "routing.toml", **hospital)
    services = build(settings)
    worker = start_worker(settings)
    try:
        with running(services) as node:
            yield House(folder=folder, settings=settings, services=services, node=node)
    finally:
        worker.terminate()
        worker.wait(20)
        services.close()


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def settings_in(folder: Path, **changes: object) -> Settings:
    """Settings of a small and fast house whose only agent is the quick one."""
    if str(HERE / "agents") not in sys.path:
        sys.path.insert(0, str(HERE / "agents"))
    os.environ["QUICK_AGENT_FOLDER"] = str(folder)
    os.environ["PYTHONPATH"] = str(HERE / "agents")
    values: dict[str, object] = {
        "data": folder / "data",
        "scenarios": HERE / "scenarios",
        "agents": ("quick_agent",),
        "agents_extra": ("quick_agent",),
        "settle_quiet_s": 0.2,
        "web_port": 0,
        "dicom_port": 0,
        "workers": 0,
        "worker_lease_s": 2.0,
        "log_level": "WARNING",
    }
    return Settings(**(values | changes))


def images(
    name: str,
    *,
    slices: int = 5,
    first: int = 0,
    description: str = "",
    patient: str = "P1",
    modality: str = "CT",
    series: str = "",
) -> list[bytes]:
    """Part 10 files of one series of 16 x 16 pixels, 2 mm apart; equal arguments give equal bytes."""
    return [
        to_part10(_image(name, number, description, patient, modality, series))
        for number in range(first, first + slices)
    ]


def study_uid(name: str) -> str:
    """Study Instance UID of `images` of that name."""
    return stable_uid("test-study", name)


def _image(name: str, number: int, description: str, patient: str, modality: str, series: str) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = stable_uid("test-image", name, number, series)
    dataset.StudyInstanceUID = study_uid(name)
    dataset.SeriesInstanceUID = stable_uid("test-series", name + series)
    dataset.FrameOfReferenceUID = stable_uid("test-frame", name)
    dataset.PatientID, dataset.PatientName = patient, "Test^Person"
    dataset.PatientBirthDate, dataset.PatientSex = "19600102", "F"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20260102", "101500", "1"
    dataset.AccessionNumber, dataset.ReferringPhysicianName = "A1", ""
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = modality, 1, number + 1
    dataset.SeriesDescription, dataset.BodyPartExamined = description, "CHEST"
    dataset.Manufacturer = "Test"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient = [0.0, 0.0, 2.0 * number]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [1.0, 1.0], 2.0
    dataset.Rows = dataset.Columns = 16
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleIntercept, dataset.RescaleSlope = 0, 1
    dataset.PixelData = bytes(512)
    dataset["PixelData"].VR = "OW"
    return dataset


def wait_for(question: Callable[[], T | None], *, limit_s: float = 60.0) -> T:
    """Ask until there is an answer; the answer."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"it did not happen within {limit_s} s")

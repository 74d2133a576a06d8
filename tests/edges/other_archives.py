"""Real neighbours on loopback: Orthanc, dcmtk's dcmqrscp, and our own server as a process that can be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from polyclinic.departments.archive.arrivals import Arrivals
from polyclinic.departments.archive.reads import ArchiveReads
from polyclinic.departments.archive.segments import Segments
from polyclinic.departments.reading.store import ReadingStore
from polyclinic.departments.records.store import RecordsStore
from polyclinic.departments.routing.prior_store import PriorStore
from polyclinic.departments.routing.store import RoutingStore
from polyclinic.edges.dimse.sender import Peer, send
from polyclinic.edges.sql.engine import open_engine
from polyclinic.screens.worklist import WorklistScreen

T = TypeVar("T")
ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}
PLUGINS = Path("/usr/share/orthanc/plugins")
needs_orthanc = pytest.mark.skipif(shutil.which("Orthanc") is None, reason="Orthanc is not installed")
needs_dcmqrscp = pytest.mark.skipif(shutil.which("dcmqrscp") is None, reason="dcmtk is not installed")
NOTHING = """id = "nothing"
title = "Nothing that is sent here"
[trigger]
modality = ["XX"]
[outputs]
agents = ["chest_ct"]
objects = ["PDF"]
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(question: Callable[[], T | None], *, limit_s: float = 30.0) -> T:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"it did not happen within {limit_s} s")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def started(command: list[str], port: int, **options: Any) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )
    try:
        wait_for(lambda: listens(port) or process.poll() is not None)
        assert process.poll() is None, f"{command[0]} ended with code {process.returncode}"
    except AssertionError:
        process.kill()
        raise
    return process


@dataclass(frozen=True, kw_only=True)
class Orthanc:
    peer: Peer
    http_port: int

    def ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=20) as answer:
            return json.load(answer)

    def sop_instance_uids(self) -> set[str]:
        return {one["MainDicomTags"]["SOPInstanceUID"] for one in self.ask("/instances?expand")}


@contextmanager
def orthanc(folder: Path, *, ae_title: str = "ORTHANC", knows: dict[str, int] | None = None) -> Iterator[Orthanc]:
    """A fresh Orthanc with its DICOMweb plugin; `knows` are ports of other nodes by AE title."""
    folder.mkdir(parents=True)
    dicom_port, http_port = free_port(), free_port()
    configuration = {
        "Name": ae_title,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": ae_title,
        "DicomPort": dicom_port,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomModalities": {name: [name, "127.0.0.1", port] for name, port in (knows or {}).items()},
        "Plugins": [str(PLUGINS / "libOrthancDicomWeb.so")],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    process = started(["Orthanc", str(folder / "orthanc.json")], dicom_port)
    try:
        wait_for(lambda: listens(http_port))
        yield Orthanc(peer=Peer(ae_title=ae_title, host="127.0.0.1", port=dicom_port), http_port=http_port)
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def dcmqrscp(folder: Path, *, ae_title: str = "QRSCP", knows: dict[str, int] | None = None) -> Iterator[Peer]:
    """A fresh dcmqrscp with one storage area."""
    (folder / "storage").mkdir(parents=True)
    port = free_port()
    hosts = "\n".join(f"{name.lower()} = ({name}, 127.0.0.1, {known})" for name, known in (knows or {}).items())
    (folder / "dcmqrscp.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
        f"HostTable BEGIN\n{hosts}\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{ae_title} {folder / 'storage'} RW (200, 1024mb) ANY\nAETable END\n"
    )
    process = started(["dcmqrscp", "-c", str(folder / "dcmqrscp.cfg")], port)
    try:
        yield Peer(ae_title=ae_title, host="127.0.0.1", port=port)
    finally:
        process.terminate()
        process.wait(20)


@dataclass(kw_only=True)
class House:
    """Our server as a process of its own, without workers and agents."""

    folder: Path
    dicom_port: int
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def peer(self) -> Peer:
        return Peer(ae_title="POLYCLINIC", host="127.0.0.1", port=self.dicom_port)

    def start(self) -> None:
        (self.folder / "scenarios").mkdir(exist_ok=True)
        (self.folder / "scenarios" / "nothing.toml").write_text(NOTHING)
        environment = ENVIRONMENT | {
            "POLYCLINIC_DATA": str(self.folder / "data"),
            "POLYCLINIC_DICOM_PORT": str(self.dicom_port),
            "POLYCLINIC_WEB_PORT": "0",
            "POLYCLINIC_WORKERS": "0",
            "POLYCLINIC_SCENARIOS": str(self.folder / "scenarios"),
            "POLYCLINIC_SETTLE_QUIET_S": "0.3",
            **self.settings,
        }
        log = (self.folder / "server.log").open("ab")
        command = [sys.executable, "-m", "polyclinic", "serve"]
        self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        log.close()
        wait_for(lambda: listens(self.dicom_port) or self.process.poll() is not None, limit_s=60)
        assert self.process.poll() is None, (self.folder / "server.log").read_text()

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    def receive(self, files: list[bytes], calling: str = "MODALITY") -> None:
        assert all(answer.kept for answer in send(files, self.peer, ae_title=calling))

    def __post_init__(self) -> None:
        self._engine = open_engine(f"sqlite:///{self.folder / 'data' / 'polyclinic.sqlite'}")
        self.jobs = RoutingStore(self._engine)
        self.prior_searches = PriorStore(self._engine)
        self.reading = ReadingStore(self._engine)
        self.records = RecordsStore(self._engine)
        self.worklist = WorklistScreen(self._engine, Arrivals())
        self.archive = ArchiveReads(self._engine, Segments(self.folder / "data" / "segments"), Arrivals())


@contextmanager
def house(folder: Path, routing: str, *, dicom_port: int, **settings: str) -> Iterator[House]:
    """The server with a routing table; stopped at the end."""
    (folder / "data").mkdir(parents=True)
    (folder / "routing.toml").write_text(routing)
    one = House(
        folder=folder,
        dicom_port=dicom_port,
        settings={"POLYCLINIC_ROUTING": str(folder / "routing.toml"), **settings},
    )
    try:
        one.start()
        yield one
    finally:
        one.stop()


def destination(name: str, peer: Peer, more: str = "") -> str:
    """A [[destination]] of a routing table."""
    return (
        f'[[destination]]\nname = "{name}"\nae_title = "{peer.ae_title}"\nhost = "{peer.host}"\nport = {peer.port}\n'
        f"{more}\n"
    )

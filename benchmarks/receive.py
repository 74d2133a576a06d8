"""C-STORE into Polyclinic, dcmtk's storescp and Orthanc: instances per second on the same files, in one run.

    python benchmarks/receive.py [--kinds ct cr] [--rounds 3] [--only polyclinic orthanc ...]

Every receiver starts fresh with an empty folder for every run; storescu with TCP_NODELAY=1 sends, from one association
and from four at once, CT instances of 512 KB and CR instances of 8 MB. Polyclinic answers success when bytes and index
row are durable; Orthanc runs with its defaults (index and synchronous storage); storescp writes files, indexes nothing
and syncs nothing. On a shared machine each run waits up to `--patience` seconds for a quiet moment. "protocol alone"
is Polyclinic's node without an archive behind it: what storescu can send and Python can read. At last it says what the
disk does: one file, appended and synced after each instance.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, CTImageStorage, ExplicitVRLittleEndian

from polyclinic.departments.archive.arrivals import Arrivals
from polyclinic.departments.archive.contracts import Receipt
from polyclinic.departments.archive.schema import metadata
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.sql.engine import open_engine
from quiet import wait_until_quiet

ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}
START_S = 30.0
RUN_S = 180.0
PARTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Instances of one size; each has `edge` x `edge` pixels of 16 bit."""

    title: str
    modality: str
    sop_class_uid: str
    edge: int
    count: int


KINDS = {
    "ct": Kind(title="CT of 512 KB", modality="CT", sop_class_uid=CTImageStorage, edge=512, count=300),
    "cr": Kind(title="CR of 8 MB", modality="CR", sop_class_uid=ComputedRadiographyImageStorage, edge=2048, count=40),
}


def write_instances(folder: Path, kind: Kind, parts: int = PARTS) -> list[Path]:
    """Instances of a kind in `parts` folders of equal size."""
    count, pixels = kind.count, kind.edge**2
    noise = np.random.default_rng(1).integers(-1024, 1200, pixels + count, np.int16)
    folders = [folder / str(part) for part in range(parts)]
    for part in folders:
        part.mkdir(parents=True)
    for number in range(1, count + 1):
        dataset = _header(number, kind)
        dataset.PixelData = noise[number : number + pixels].tobytes()
        dataset.save_as(folders[number % parts] / f"{number:05}.dcm", enforce_file_format=True)
    return folders


def _header(number: int, kind: Kind) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = kind.sop_class_uid
    dataset.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.1.{number}"
    dataset.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.2"
    dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.3"
    dataset.PatientID, dataset.PatientName = "BENCH", "Bench^Mark"
    dataset.StudyDate, dataset.StudyTime, dataset.Modality = "20260101", "120000", kind.modality
    dataset.Manufacturer, dataset.StationName, dataset.SeriesDescription = "None", "BENCH", "Receive"
    dataset.AccessionNumber, dataset.StudyID, dataset.SeriesNumber = "1", "1", 1
    dataset.InstanceNumber = number
    dataset.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.4"
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, float(number)], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness, dataset.KVP = [0.7, 0.7], 1, 120
    dataset.Rows = dataset.Columns = kind.edge
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleIntercept, dataset.RescaleSlope = 0, 1
    return dataset


def polyclinic(folder: Path, port: int) -> list[str]:
    return [sys.executable, __file__, "--serve", str(folder), str(port)]


def protocol_alone(folder: Path, port: int) -> list[str]:
    return [*polyclinic(folder, port), "--no-archive"]


def storescp(folder: Path, port: int) -> list[str]:
    return ["storescp", "-od", str(folder), str(port)]


def storescp_tuned(folder: Path, port: int) -> list[str]:
    return ["storescp", "--max-pdu", "131072", "--bit-preserving", "--fork", "-od", str(folder), str(port)]


def orthanc(folder: Path, port: int) -> list[str]:
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "DicomPort": port,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "HttpServerEnabled": False,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    return [shutil.which("Orthanc") or "/usr/sbin/Orthanc", str(folder / "orthanc.json")]


RECEIVERS: dict[str, tuple[str, Callable[[Path, int], list[str]]]] = {
    "polyclinic": (sys.executable, polyclinic),
    "orthanc": ("/usr/sbin/Orthanc", orthanc),
    "storescp": ("storescp", storescp),
    "storescp, 128 KB PDU, as is": ("storescp", storescp_tuned),
    "protocol alone": (sys.executable, protocol_alone),
}


class _NoArchive:
    """Takes everything and keeps nothing."""

    def __init__(self) -> None:
        self.arrivals = Arrivals()

    def incoming(self, **_: object) -> None:
        return None

    def store_dataset(self, _dataset: object, **_: object) -> Receipt:
        return Receipt.NEW

    def close(self) -> None:
        return


def serve(folder: Path, port: int, *, with_archive: bool) -> None:
    """Run Polyclinic's archive and node until terminated."""
    engine = open_engine(f"sqlite:///{folder / 'index.db'}")
    metadata.create_all(engine)
    archive: Any = SqlArchive(engine, folder / "segments") if with_archive else _NoArchive()
    node = DimseNode(archive, port=port)
    node.start()
    gc.collect()
    gc.freeze()  # as the server does
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    node.stop()
    archive.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"{process.args} does not listen")


def processor_seconds(server: psutil.Process) -> float:
    """Processor time of a receiver and its children, those that have ended included."""
    times = server.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    return total + sum(sum(child.cpu_times()[:2]) for child in server.children(recursive=True))


def measure(command: Callable[[Path, int], list[str]], groups: list[list[Path]], count: int) -> tuple[float, float]:
    """Instances per second and processor milliseconds per instance of one fresh receiver."""
    place = Path(tempfile.mkdtemp(prefix="polyclinic-bench-"))
    port = free_port()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": ENVIRONMENT}
    server = subprocess.Popen(command(place, port), **quiet)
    try:
        wait_for(port, server)
        time.sleep(0.3)
        process = psutil.Process(server.pid)
        before, start = processor_seconds(process), time.perf_counter()
        senders = [
            subprocess.Popen(["storescu", "127.0.0.1", str(port), "+sd", *map(str, group)], env=ENVIRONMENT)
            for group in groups
        ]
        codes = [sender.wait(RUN_S) for sender in senders]
        seconds = time.perf_counter() - start
        if any(codes):
            raise SystemExit(f"a sender failed: {codes}")
        time.sleep(0.1)
        return count / seconds, (processor_seconds(process) - before) / count * 1000
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(place, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patience", type=float, default=0.0)
    parser.add_argument("--only", nargs="*", default=list(RECEIVERS), help="receivers to measure")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--no-archive", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(Path(options.serve[0]), int(options.serve[1]), with_archive=not options.no_archive)
        return
    if shutil.which("storescu") is None:
        raise SystemExit("storescu is needed: install dcmtk")
    chosen = {name: RECEIVERS[name] for name in options.only if shutil.which(RECEIVERS[name][0])}
    for kind in (KINDS[name] for name in options.kinds):
        source = Path(tempfile.mkdtemp(prefix="polyclinic-bench-source-"))
        try:
            folders = write_instances(source, kind)
            for associations, groups in ((1, [folders]), (PARTS, [[folder] for folder in folders])):
                runs: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
                for _ in range(options.rounds):
                    for name, (_, command) in chosen.items():
                        if options.patience:
                            wait_until_quiet(options.patience)
                        runs[name].append(measure(command, groups, kind.count))
                report(f"{kind.count} {kind.title}, {associations} association{'s' * (associations > 1)}", runs)
            print(f"\nThe disk alone: {synced_per_second(kind):.0f} of {kind.title} a second, each synced", flush=True)
        finally:
            shutil.rmtree(source)


def synced_per_second(kind: Kind) -> float:
    """Instances a second that one thread appends to one file with a sync after each."""
    data = os.urandom(2 * kind.edge**2)
    with tempfile.NamedTemporaryFile(prefix="polyclinic-bench-", buffering=0) as file:
        start = time.perf_counter()
        for _ in range(kind.count):
            file.write(data)
            os.fdatasync(file.fileno())
        return kind.count / (time.perf_counter() - start)


def report(title: str, runs: dict[str, list[tuple[float, float]]]) -> None:
    """Median and spread, and the ratio of Polyclinic to each peer round by round."""
    print(f"\n| {title} | instances/s (spread) | Polyclinic is (spread) | processor ms/instance |\n|---|---|---|---|")
    ours = [rate for rate, _ in runs.get("polyclinic", [])]
    for name, values in runs.items():
        rates = [rate for rate, _ in values]
        ratios = [mine / other for mine, other in zip(ours, rates, strict=True)] if ours else []
        ratio = f"{statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
        spread = f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"
        processor = statistics.median(milliseconds for _, milliseconds in values)
        print(f"| {name} | {spread} | {ratio} | {processor:.1f} |", flush=True)


if __name__ == "__main__":
    main()

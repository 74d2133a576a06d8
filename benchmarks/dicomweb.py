"""STOW-RS, WADO-RS and QIDO-RS of Polyclinic beside Orthanc with its DICOMweb plugin, in one run.

    python benchmarks/dicomweb.py [--instances 300] [--rounds 3] [--profile FILE]

Both servers start fresh with an empty folder for every round, one after the other, on loopback with TCP_NODELAY=1 and
their own defaults (both sync to the disk before they answer a store). The client is the same for both: bare sockets
that send prepared bytes and read into one buffer, so that what is measured is the server. Polyclinic runs its DICOMweb
routes behind the web application's guard, without people: who asks is settled before these routes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import uvicorn
from fastapi import FastAPI
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from polyclinic.app.memory import keep_freed_memory
from polyclinic.app.web import Guarded
from polyclinic.departments.archive.schema import metadata
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dicomweb.router import dicomweb_router
from polyclinic.edges.dicomweb.streams_protocol import DirectProtocol
from polyclinic.edges.sql.engine import open_engine

ORTHANC = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
START_S = 30.0
BOUNDARY = b"polyclinic-benchmark-boundary"
STUDY = "1.2.826.0.1.3680043.8.498.2"
IN_A_REQUEST = 10
FRAME_CONNECTIONS = 6
READINGS, SEARCHES = 5, 100
NOISE = np.random.default_rng(1).integers(-1024, 1200, 512 * 512 + 4096, np.int16)


def instance(series: int, number: int) -> bytes:
    """One CT instance of 512 x 512 x 16 bit as a DICOM file."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = sop_uid(series, number)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, series_uid(series)
    dataset.PatientID, dataset.PatientName = "BENCH", "Bench^Mark"
    dataset.StudyDate, dataset.StudyTime, dataset.Modality = "20260101", "120000", "CT"
    dataset.Manufacturer, dataset.StationName, dataset.SeriesDescription = "None", "BENCH", "Store"
    dataset.AccessionNumber, dataset.StudyID, dataset.SeriesNumber = "1", "1", series
    dataset.InstanceNumber = number
    dataset.FrameOfReferenceUID = f"{STUDY}.4"
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, float(number)], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness, dataset.KVP = [0.7, 0.7], 1, 120
    dataset.Rows = dataset.Columns = 512
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleIntercept, dataset.RescaleSlope = 0, 1
    dataset.PixelData = NOISE[number : number + 512 * 512].tobytes()
    out = BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def series_uid(series: int) -> str:
    return f"{STUDY}.{series}"


def sop_uid(series: int, number: int) -> str:
    return f"{STUDY}.{series}.{number}"


def requests_of(series: int, count: int) -> list[bytes]:
    """Whole STOW-RS requests, `IN_A_REQUEST` instances each."""
    made = []
    for first in range(1, count + 1, IN_A_REQUEST):
        parts = b"".join(
            b"--%s\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % (BOUNDARY, instance(series, number))
            for number in range(first, min(first + IN_A_REQUEST, count + 1))
        )
        body = b"%s--%s--\r\n" % (parts, BOUNDARY)
        head = (
            b"POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/dicom+json\r\n"
            b'Content-Type: multipart/related; type="application/dicom"; boundary=%s\r\n'
            b"Content-Length: %d\r\n\r\n" % (BOUNDARY, len(body))
        )
        made.append(head + body)
    return made


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = memoryview(bytearray(1 << 20))

    def get(self, path: str, accept: str) -> int:
        """Bytes of the answer's body, chunk sizes included where it is chunked."""
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {accept}\r\n\r\n".encode())
        return self._answer()

    def post(self, request: bytes) -> int:
        self._socket.sendall(request)
        return self._answer()

    def _answer(self) -> int:
        head = b""
        while b"\r\n\r\n" not in head:
            got = self._socket.recv_into(self._buffer)
            if not got:
                raise SystemExit("the server closed the connection")
            head += self._buffer[:got]
        headers, _, rest = head.partition(b"\r\n\r\n")
        status, lines = headers.split(b"\r\n", 1)
        if b" 200 " not in status + b" ":
            raise SystemExit(f"{status!r} {rest[:300]!r}")
        named = {k.lower(): v.strip() for k, _, v in (line.partition(b":") for line in lines.split(b"\r\n"))}
        length = int(named.get(b"content-length", -1))
        to_the_end = length < 0 and b"transfer-encoding" not in named  # Orthanc streams so, and closes
        taken, tail = len(rest), rest[-7:]
        while taken < length if length >= 0 else not tail.endswith(b"\r\n0\r\n\r\n"):
            got = self._socket.recv_into(self._buffer)
            if not got and to_the_end:
                break
            if not got:
                raise SystemExit(f"the answer broke off after {taken} of {length}: {headers!r}")
            taken += got
            tail = (tail + bytes(self._buffer[max(got - 7, 0) : got]))[-7:]
        return taken


def in_threads(work: Callable[[Client, int], None], port: int, connections: int) -> float:
    """Seconds that `work` takes on so many connections at once."""
    clients = [Client(port) for _ in range(connections)]
    threads = [threading.Thread(target=work, args=(client, n)) for n, client in enumerate(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def store(port: int, requests: list[bytes], connections: int) -> float:
    def work(client: Client, number: int) -> None:
        for request in requests[number::connections]:
            client.post(request)

    return in_threads(work, port, connections)


def get(port: int, path: str, accept: str, least: int) -> float:
    client = Client(port)
    start = time.perf_counter()
    size = client.get(path, accept)
    seconds = time.perf_counter() - start
    if size < least:
        raise SystemExit(f"{path} gave {size} bytes, not {least}")
    return seconds


def frames(port: int, count: int) -> float:
    def work(client: Client, number: int) -> None:
        for n in range(number + 1, count + 1, FRAME_CONNECTIONS):
            path = f"/dicom-web/studies/{STUDY}/series/{series_uid(5)}/instances/{sop_uid(5, n)}/frames/1"
            got = client.get(path, 'multipart/related; type="application/octet-stream"; transfer-syntax=*')
            assert got >= 512 * 512 * 2

    return in_threads(work, port, FRAME_CONNECTIONS)


def searches(port: int, accept: str) -> float:
    """Seconds of many searches one behind the other on a connection."""
    client = Client(port)
    start = time.perf_counter()
    for _ in range(SEARCHES):
        if client.get("/dicom-web/studies?PatientID=BENCH", accept) < 300:
            raise SystemExit("the study was not found")
    return time.perf_counter() - start


def measure(command: list[str], place: Path, port: int, bodies: dict[int, list[bytes]], count: int) -> dict[str, float]:
    """Rates of one fresh server; reading is the median of three."""
    environment = os.environ | {"TCP_NODELAY": "1"}
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment)
    try:
        wait_for(port, server)
        process = psutil.Process(server.pid)
        results: dict[str, float] = {}

        def row(what: str, amount: float, unit: str, turns: int, one: Callable[[], float]) -> None:
            """The median rate of some turns, and the rate by the processor time that the server spent on them."""
            before = processor_seconds(process)
            results[f"{what}, {unit}"] = amount / statistics.median(one() for _ in range(turns))
            spent = max(processor_seconds(process) - before, 0.01)
            results[f"{what}, {unit} of its processor time"] = amount * turns / spent

        row("STOW-RS, 1 connection", count, "instances/s", 1, lambda: store(port, bodies[5], 1))
        row("STOW-RS, 4 connections", count, "instances/s", 1, lambda: store(port, bodies[6], 4))
        series = f"/dicom-web/studies/{STUDY}/series/{series_uid(5)}"
        dicom, json_type = 'multipart/related; type="application/dicom"; transfer-syntax=*', "application/dicom+json"
        pixels = count * 512 * 512 * 2

        def median(one: Callable[[], float]) -> float:
            return statistics.median(one() for _ in range(3))

        results["series metadata, first time, /s"] = 1 / get(port, f"{series}/metadata", json_type, count * 1000)
        results["series metadata, again, /s"] = 1 / median(
            lambda: get(port, f"{series}/metadata", json_type, count * 1000)
        )
        row("WADO-RS series", pixels / 1e6, "MB/s", READINGS, lambda: get(port, series, dicom, pixels))
        row(f"frames over {FRAME_CONNECTIONS} connections", count, "/s", READINGS, lambda: frames(port, count))
        results[f"QIDO-RS, {count} instances, /s"] = 1 / median(
            lambda: get(port, f"{series}/instances?limit={count}", json_type, count * 300)
        )
        row("QIDO-RS, one study by PatientID", SEARCHES, "/s", 3, lambda: searches(port, json_type))
        return results
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(place, ignore_errors=True)


def processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def polyclinic(folder: Path, port: int) -> list[str]:
    return [sys.executable, __file__, "--serve", str(folder), str(port)]


def orthanc(folder: Path, port: int) -> list[str]:
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "DicomServerEnabled": False,
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [PLUGIN],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    return [ORTHANC, str(folder / "orthanc.json")]


def serve(folder: Path, port: int, profile: str) -> None:
    """Run Polyclinic's DICOMweb routes until terminated."""
    keep_freed_memory()
    engine = open_engine(f"sqlite:///{folder / 'index.db'}")
    metadata.create_all(engine)
    archive = SqlArchive(engine, folder / "segments")
    app = FastAPI(openapi_url=None)
    app.add_middleware(Guarded, upload_limit_bytes=2_000_000_000, loopback_only=False)
    app.include_router(dicomweb_router(archive, lambda *_: None), prefix="/dicom-web")
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        http=DirectProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
    )
    if profile:
        import cProfile  # noqa: PLC0415 - only when asked for

        with cProfile.Profile() as profiler:
            uvicorn.Server(config).run()
        profiler.dump_stats(profile)
    else:
        uvicorn.Server(config).run()
    archive.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                time.sleep(0.3)
                return
        time.sleep(0.05)
    raise SystemExit(f"{process.args} does not listen")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["polyclinic", "orthanc"], nargs="*", default=["polyclinic", "orthanc"])
    parser.add_argument("--profile", default="", help="cProfile output of Polyclinic's event loop thread")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(Path(options.serve[0]), int(options.serve[1]), options.profile)
        return
    servers = {"polyclinic": polyclinic, "orthanc": orthanc}
    chosen = [name for name in options.only if name != "orthanc" or Path(PLUGIN).exists()]
    bodies = {series: requests_of(series, options.instances) for series in (5, 6)}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    for _ in range(options.rounds):
        for name in chosen:
            place, port = Path(tempfile.mkdtemp(prefix="polyclinic-bench-")), free_port()
            command = servers[name](place, port)
            if name == "polyclinic" and options.profile:
                command += ["--profile", options.profile]
            runs[name].append(measure(command, place, port, bodies, options.instances))
    load = psutil.getloadavg()[0]
    print(f"{options.instances} CT instances of 512 KB, {options.rounds} rounds, load average now {load:.1f}\n")
    report(runs)


def report(runs: dict[str, list[dict[str, float]]]) -> None:
    """Medians with spread and the ratio round by round."""
    names = list(runs)
    print(f"| | {' | '.join(names)} | ratio (spread) |\n|---|{'---|' * len(names)}---|")
    for what in runs[names[0]][0]:
        cells = []
        for name in names:
            values = [run[what] for run in runs[name]]
            cells.append(f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})")
        ratio = ""
        if len(names) == 2:
            ratios = [ours[what] / theirs[what] for ours, theirs in zip(runs[names[0]], runs[names[1]], strict=True)]
            ratio = f"{statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {what} | {' | '.join(cells)} | {ratio} |")


if __name__ == "__main__":
    main()

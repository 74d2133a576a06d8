"""What the conformance suite talks to: any DICOMweb server, what it was given, and how answers are taken apart."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pydicom.data
import uvicorn
from fastapi import FastAPI
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.schema import metadata
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dicomweb.router import dicomweb_router
from polyclinic.edges.dicomweb.streams_protocol import DirectProtocol
from polyclinic.edges.sql.engine import open_engine

TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
JSON, DICOM = "application/dicom+json", "application/dicom"
OCTETS = "application/octet-stream"
START_S = 30.0
PLAIN = "*?,-._~:@/!$'();="


def multipart_of(media_type: str, syntax: str = "") -> str:
    """An Accept value."""
    return f'multipart/related; type="{media_type}"' + (f"; transfer-syntax={syntax}" if syntax else "")


@dataclass(frozen=True)
class Part:
    headers: dict[str, str]
    content: bytes

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").split(";")[0].strip()


@dataclass
class DicomWebServer:
    """A server under test with what was stored on it."""

    name: str
    root: str
    stored: dict[str, bytes] = field(default_factory=dict)
    """DICOM files by the names of `files`."""
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, headers={"Accept": JSON}))

    def get(self, path: str, accept: str = JSON, params: Mapping[str, str] | None = None) -> httpx.Response:
        """Only what must be is percent-encoded in `params` (RFC 3986 3.4)."""
        query = "&".join(f"{quote(k)}={quote(v, safe=PLAIN)}" for k, v in (params or {}).items())
        address = f"{self.root}{path}?{query}" if query else self.root + path
        return self.client.get(address, headers={"Accept": accept})

    def store(self, *files: bytes, path: str = "/studies", part_type: str = DICOM) -> httpx.Response:
        body = b"".join(b"--B\r\nContent-Type: " + part_type.encode() + b"\r\n\r\n" + data + b"\r\n" for data in files)
        return self.post(body + b"--B--\r\n", f'multipart/related; type="{DICOM}"; boundary=B', path)

    def post(self, body: bytes, content_type: str, path: str = "/studies") -> httpx.Response:
        return self.client.post(self.root + path, content=body, headers={"Content-Type": content_type})

    def search(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        answer = self.get(path, params=parameters)
        assert answer.status_code in (200, 204), answer.text
        return answer.json() if answer.content else []  # type: ignore[no-any-return]

    def dataset(self, name: str) -> Dataset:
        return dcmread(BytesIO(self.stored[name]))

    def study(self, name: str) -> str:
        return f"/studies/{self.dataset(name).StudyInstanceUID}"

    def series(self, name: str) -> str:
        return f"{self.study(name)}/series/{self.dataset(name).SeriesInstanceUID}"

    def instance(self, name: str) -> str:
        return f"{self.series(name)}/instances/{self.dataset(name).SOPInstanceUID}"


def parts_of(answer: httpx.Response) -> list[Part]:
    """Parts of a multipart/related answer (RFC 2046 5.1)."""
    content_type = answer.headers["content-type"]
    assert content_type.startswith("multipart/related"), content_type
    boundary = content_type.split("boundary=")[1].split(";")[0].strip('" ').encode()
    found = []
    for piece in answer.content.split(b"--" + boundary)[1:-1]:
        head, _, body = piece.partition(b"\r\n\r\n")
        lines = (line.split(":", 1) for line in head.decode().strip().splitlines())
        found.append(Part({k.lower(): v.strip() for k, v in lines}, body.removesuffix(b"\r\n")))
    return found


def value(found: dict[str, Any], tag: str) -> Any:
    """First value of an attribute of a DICOM JSON object."""
    return found[tag]["Value"][0]


def ct(number: int, series: int = 1, study: str = "ct", **attributes: Any) -> bytes:
    """One small CT image."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID = CTImageStorage
    image.StudyInstanceUID = stable_uid("ps3.18", study)
    image.SeriesInstanceUID = stable_uid("ps3.18", study, series)
    image.SOPInstanceUID = stable_uid("ps3.18", study, series, number)
    image.StudyDate, image.StudyTime, image.AccessionNumber, image.StudyID = "20260102", "101112", "ACC-1", "S1"
    image.Modality, image.SeriesNumber, image.InstanceNumber = "CT", series, number
    image.StudyDescription, image.SeriesDescription, image.BodyPartExamined = "Chest", "Lung", "CHEST"
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Wang^Fang", "P-1", "19600102", "F"
    image.ReferringPhysicianName, image.Manufacturer = "Doe^Jane", "Tiny"
    request = Dataset()
    request.ScheduledProcedureStepID, request.RequestedProcedureID = f"SPS-{series}", "RP-1"
    image.RequestAttributesSequence = [request]
    image.Rows, image.Columns = 32, 48
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.PixelData = b"".join((n * 2 % 4096).to_bytes(2, "little") for n in range(32 * 48))
    image["PixelData"].VR = "OW"
    for keyword, given in attributes.items():
        setattr(image, keyword, given)
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    out = BytesIO()
    dcmwrite(out, image, enforce_file_format=True)
    return out.getvalue()


def files() -> dict[str, bytes]:
    """What every server under test is given: plain, compressed, multi-frame and colour images, names in scripts."""
    other = {"StudyDate": "20251224", "StudyTime": "2359", "PatientID": "P-2", "AccessionNumber": "ACC-2"}
    return {
        "ct1": ct(1),
        "ct2": ct(2),
        "ct3": ct(3),
        "second series": ct(1, series=2, Modality="PT", SeriesDescription="Body"),
        "other patient": ct(1, study="other", PatientName="Müller^Jürgen", StudyID="S2", **other),
        "third patient": ct(
            1, study="third", PatientName="Kim^Hong=金^洪=김^홍", PatientID="Q-3", StudyDate="20240501"
        ),
        "jpeg-ls": (TEST_FILES / "MR_small_jpeg_ls_lossless.dcm").read_bytes(),
        "frames": (TEST_FILES / "rtdose.dcm").read_bytes(),
        "colour": (TEST_FILES / "SC_rgb_small_odd.dcm").read_bytes(),
        "structured report": (TEST_FILES / "test-SR.dcm").read_bytes(),
    }


@contextmanager
def polyclinic(folder: Path) -> Iterator[DicomWebServer]:
    """Our own routes on loopback."""
    engine = open_engine(f"sqlite:///{folder / 'index.db'}")
    metadata.create_all(engine)
    archive = SqlArchive(engine, folder / "segments")
    app = FastAPI(openapi_url=None)
    app.include_router(dicomweb_router(archive, lambda *_: None), prefix="/dicom-web")
    server = uvicorn.Server(uvicorn.Config(app, port=0, http=DirectProtocol, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield DicomWebServer("polyclinic", f"http://127.0.0.1:{port}/dicom-web")
    finally:
        server.should_exit = True
        thread.join(10)
        archive.close()
        engine.dispose()


@contextmanager
def orthanc(folder: Path) -> Iterator[DicomWebServer]:
    """Debian's Orthanc with its DICOMweb plugin, with its defaults but for its folders and ports."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "DicomServerEnabled": False,
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DefaultEncoding": "Utf8",
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    configuration = folder / "orthanc.json"
    configuration.write_text(json.dumps(settings))
    executable = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([executable, str(configuration)], stdout=quiet, stderr=quiet)
    try:
        until = time.monotonic() + START_S
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/system").raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None, "Orthanc has ended"
                assert time.monotonic() < until, "Orthanc does not answer"
                time.sleep(0.05)
        yield DicomWebServer("orthanc", f"http://127.0.0.1:{port}/dicom-web")
    finally:
        process.terminate()
        process.wait(20)

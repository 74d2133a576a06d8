"""Hostile claims in a process with little memory: what a file says of itself is not believed before it is paid for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HOSTILE = """
import resource, struct, sys, zlib
from io import BytesIO
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydicom import dcmread
from pydicom.data import get_testdata_file

from polyclinic.core.errors import PolyclinicError
from polyclinic.departments.archive.intake import examine_file
from polyclinic.departments.archive.schema import metadata
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.dicom.header import read_file_meta
from polyclinic.dicom.volume import read_volume
from polyclinic.edges.dicomweb.router import dicomweb_router
from polyclinic.edges.sql.engine import open_engine

folder = Path(sys.argv[1])
engine = open_engine(f"sqlite:///{folder / 'index.db'}")
metadata.create_all(engine)
archive = SqlArchive(engine, folder / "segments")
app = FastAPI()
app.include_router(dicomweb_router(archive, lambda *_: None), prefix="/dicom-web")
web = TestClient(app, base_url="http://archive")
web.get("/dicom-web/studies")


def file_of(name, **attributes):
    dataset = dcmread(get_testdata_file(name))
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    out = BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def bomb():
    data = Path(get_testdata_file("image_dfl.dcm")).read_bytes()
    deflater = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(600)) + deflater.flush()
    return data[: read_file_meta(data).dataset_offset] + zeros


def fragments():
    data = file_of("MR_small_RLE.dcm")
    head = data[: data.index(b"\\xe0\\x7f\\x10\\0OB") + 8] + b"\\xff" * 4
    return head + b"\\xfe\\xff\\0\\xe0\\0\\0\\0\\0" * 200_000 + b"\\xfe\\xff\\xdd\\xe0\\0\\0\\0\\0"


FILES = {
    "bomb": bomb,
    "rows": lambda: file_of("CT_small.dcm", Rows=65535, Columns=65535),
    "rle": lambda: file_of("MR_small_RLE.dcm", Rows=65535, Columns=65535),
    "jpeg-2000": lambda: file_of("JPEG2000.dcm", Rows=65535, Columns=65535, NumberOfFrames=2**31 - 1),
    "frames": lambda: file_of("CT_small.dcm", NumberOfFrames=2**31 - 1, Rows=1, Columns=1, BitsAllocated=8),
    "items": lambda: file_of("CT_small.dcm") + b"\\x40\\0\\x30\\xa7SQ\\0\\0\\0\\0\\0\\0" * 200_000,
    "fragments": fragments,
}


def through(data):
    try:
        facts = examine_file(data)[1]
        archive.store(data, source="TEST")
    except PolyclinicError as error:
        return "refused " + error.code
    base = f"/dicom-web/studies/{facts.study_instance_uid}/series/{facts.series_instance_uid}"
    base += f"/instances/{facts.sop_instance_uid}"
    plain = {"Accept": 'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1'}
    answers = [web.get(base + "/metadata"), web.get(base + "/frames/1"), web.get(base + "/frames/1", headers=plain)]
    answers += [web.get(base + "/rendered"), web.get(base + "/thumbnail")]
    try:
        read_volume([dcmread(BytesIO(archive.read(facts.sop_instance_uid)))] * 2)
    except PolyclinicError:
        pass
    archive.delete(facts.study_instance_uid, reason="tried", by="test")
    return " ".join(["kept", *(str(answer.status_code) for answer in answers)])


names = sys.argv[3:]
files = [FILES[name]() for name in names]
before = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = before + int(sys.argv[2]) * 1_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for name, data in zip(names, files):
    print(name, through(data))
"""


@pytest.mark.parametrize(
    ("mb", "outcomes"),
    [
        (1400, {"bomb": "refused archive.too-large"}),
        (
            500,
            {
                "rows": "kept 200 404",
                "rle": "kept 200 200 406 406 406",
                "jpeg-2000": "kept 200",
                "frames": "kept 200 404",
                "items": "kept 200 200",
                "fragments": "kept 200",
            },
        ),
    ],
)
def test_memory_is_bounded(tmp_path: Path, mb: int, outcomes: dict[str, str]) -> None:
    command = [sys.executable, "-c", HOSTILE, str(tmp_path), str(mb), *outcomes]
    child = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert child.returncode == 0, child.stderr[-3000:]
    said = dict(line.split(" ", 1) for line in child.stdout.splitlines() if line.split(" ", 1)[0] in outcomes)
    assert {name: said[name][: len(outcome)] for name, outcome in outcomes.items()} == outcomes

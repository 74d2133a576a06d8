"""Retrieving and storing hundreds of megabytes does not grow the server (the issue's bound for a study of 2 GB)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from polyclinic.core.ids import stable_uid

GROWTH_BYTES = 60 * 1024 * 1024
INSTANCES, PIXEL_BYTES = 12, 2 * 4096 * 3200
STUDY = stable_uid("study", "1")
SERVER = """
import sys
from pathlib import Path
import uvicorn
from fastapi import FastAPI
from polyclinic.departments.archive.schema import metadata
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dicomweb.router import dicomweb_router
from polyclinic.edges.dicomweb.streams_protocol import DirectProtocol
from polyclinic.edges.sql.engine import open_engine
folder = Path(sys.argv[1])
engine = open_engine(f"sqlite:///{folder / 'index.db'}")
metadata.create_all(engine)
app = FastAPI()
app.include_router(dicomweb_router(SqlArchive(engine, folder / "segments"), lambda *_: None), prefix="/dicom-web")
server = uvicorn.Server(uvicorn.Config(app, port=0, http=DirectProtocol, log_level="error"))
async def run():
    import asyncio
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving
import asyncio
asyncio.run(run())
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[psutil.Process, str]]:
    command = [sys.executable, "-c", SERVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        try:
            yield psutil.Process(server.pid), f"http://127.0.0.1:{port}/dicom-web"
        finally:
            server.terminate()


def instances(part10: Callable[..., bytes]) -> Iterator[bytes]:
    """One request's body; its images are made as it is sent."""
    pixels = bytes(PIXEL_BYTES)
    for number in range(1, INSTANCES + 1):
        yield b"--B\r\nContent-Type: application/dicom\r\n\r\n"
        yield part10(number, Rows=4096, Columns=3200, PixelData=pixels)
        yield b"\r\n"
    yield b"--B--"


def test_a_large_study_goes_in_and_out_in_bounded_memory(
    process: tuple[psutil.Process, str], part10: Callable[..., bytes]
) -> None:
    server, root = process
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=B'}
    with httpx.Client(timeout=120) as client:
        client.get(f"{root}/studies")
        before = peak = server.memory_info().rss
        answer = client.post(f"{root}/studies", content=instances(part10), headers=headers)
        assert answer.status_code == 200, answer.text
        stored = server.memory_info().rss

        taken = 0
        every = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
        until = time.monotonic()
        with client.stream("GET", f"{root}/studies/{STUDY}", headers=every) as stream:
            for piece in stream.iter_raw():
                taken += len(piece)
                if time.monotonic() > until:
                    peak = max(peak, server.memory_info().rss)
                    until = time.monotonic() + 0.05
    assert taken > INSTANCES * PIXEL_BYTES
    assert peak - stored < GROWTH_BYTES, "retrieving"
    assert stored - before < 3 * GROWTH_BYTES, "storing"

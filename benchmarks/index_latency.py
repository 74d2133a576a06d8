"""Latency of searches and of one store at 10 thousand, 100 thousand and 1 million studies, in one run.

    python benchmarks/index_latency.py [--sizes 10000 100000 1000000] [--repeats 60] [--folder DIR] [--analyze]

The index of each size is filled by `index_rows` (10 instances each up to 100 thousand studies, one each beyond) and
kept in `--folder` for the next run. Each figure is one request through its door, without the socket: QIDO-RS through
the web application's ASGI interface, C-FIND through the service with its encoded identifiers, the worklist through its
screen, the store through the archive (a real file, bytes and row durable). Keys change with every repeat; the sizes
take turns. On a shared machine each repeat waits up to `--patience` seconds for a quiet moment.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
from fastapi import FastAPI
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from sqlalchemy import text

import index_rows
from polyclinic.departments.archive.arrivals import Arrivals
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.dicom.header import EXPLICIT_LE
from polyclinic.edges.dicomweb.router import dicomweb_router
from polyclinic.edges.dimse import commands, query
from polyclinic.edges.dimse.commands import Command
from polyclinic.edges.dimse.conversation import Answer, Request
from polyclinic.edges.dimse.identifier import encode_identifier
from polyclinic.edges.dimse.negotiation import Context
from polyclinic.edges.dimse.syntaxes import STUDY_ROOT_FIND
from polyclinic.edges.sql.engine import open_engine
from polyclinic.edges.sql.migrations import migrate
from polyclinic.screens.worklist import WorklistScreen
from quiet import wait_until_quiet

MANY_STUDIES = 100_000
PAGE = 100
NAMES = ("Wang", "王", "Zhang^Xiao", "Müller", "Ouyang", "欧阳", "smi", "やまだ", "Liu^")
MODALITIES = ("CT", "MR", "PT", "SR")


@dataclass(slots=True)
class House:
    """One index with its doors."""

    studies: int
    archive: SqlArchive
    app: FastAPI
    worklist: WorklistScreen
    samples: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, list[float]] = field(default_factory=dict)
    """Processor seconds of the same requests: other work on the machine does not change them much."""
    answers: dict[str, int] = field(default_factory=dict)


def open_house(folder: Path, studies: int, *, analyze: bool) -> House:
    """The index of a size, filled unless it is there."""
    place = folder / str(studies)
    ready = place / "filled"
    engine = open_engine(f"sqlite:///{place / 'index.db'}")
    migrate(engine)
    if not ready.exists():
        start = time.perf_counter()
        index_rows.fill(place / "index.db", studies, 10 if studies <= MANY_STUDIES else 1)
        ready.touch()
        print(f"filled {studies} studies in {time.perf_counter() - start:.0f} s", flush=True)
    if analyze:
        with engine.connect() as connection:
            connection.execute(text("ANALYZE"))
            connection.commit()
    archive = SqlArchive(engine, place / "segments")
    app = FastAPI()
    app.include_router(dicomweb_router(archive, lambda *_: None), prefix="/dicom-web")
    return House(studies, archive, app, WorklistScreen(engine, Arrivals()))


def qido(house: House, **parameters: object) -> int:
    """Number of studies in the answer of QIDO-RS."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/dicom-web/studies", "raw_path": b"/dicom-web/studies", "root_path": "",
        "headers": [(b"host", b"house")],
        "query_string": urlencode(parameters).encode(), "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    requests = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, object]:
        for request in requests:
            return request
        await asyncio.Event().wait()  # the client stays; nothing more comes from it
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    LOOP.run_until_complete(house.app(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] in (200, 204), sent
    return len(orjson.loads(b"".join(m.get("body", b"") for m in sent[1:]) or b"[]"))


LOOP = asyncio.new_event_loop()


class _Listener:
    """The end of a conversation that only counts."""

    def __init__(self) -> None:
        self.count = 0

    def respond(self, answer: Answer) -> None:
        self.count += bool(answer.dataset)

    def is_cancelled(self) -> bool:
        return False


def c_find(house: House, **keys: str) -> int:
    """Number of matches of a C-FIND at study level."""
    wanted = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "", "PatientName": "", "StudyDescription": "", **keys}
    dataset = encode_identifier(wanted.items(), EXPLICIT_LE, ("ISO_IR 192",))
    command = Command({commands.MESSAGE_ID: b"\1\0"})
    context = Context(abstract_syntax=STUDY_ROOT_FIND, transfer_syntax=EXPLICIT_LE)
    request = Request("BENCH", 1, context, command, memoryview(dataset))
    listener = _Listener()
    status = query.find(listener, request, house.archive, ae_title="BENCH", limit=50_000)  # type: ignore[arg-type]
    assert status.code == 0, status
    return listener.count


def store(house: House, number: int) -> int:
    """Keep one new small instance of a new study."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = CTImageStorage
    stamp = f"{time.time_ns()}.{number}"
    image.SOPInstanceUID, image.SeriesInstanceUID, image.StudyInstanceUID = (f"2.25.{k}.{stamp}" for k in (1, 2, 3))
    image.PatientID, image.PatientName, image.Modality = "BENCH", "Bench^Mark", "CT"
    image.StudyDate, image.StudyTime = "20260101", "120000"
    image.Rows = image.Columns = 64
    image.BitsAllocated, image.PixelData = 16, bytes(8192)
    image["PixelData"].VR = "OW"
    out = BytesIO()
    dcmwrite(out, image, enforce_file_format=True)
    data = out.getvalue()
    begin = time.perf_counter()
    house.archive.store(data, source="BENCH")
    STORE_SECONDS.append(time.perf_counter() - begin)
    return 1


STORE_SECONDS: list[float] = []


def doors(chance: random.Random) -> dict[str, Callable[[House], int]]:
    """One request of each kind, with keys by chance."""
    year = chance.randrange(2016, 2025)
    month, day = chance.randrange(1, 12), chance.randrange(1, 28)
    name, modality = chance.choice(NAMES), chance.choice(MODALITIES)
    share, number = chance.random(), chance.randrange(1 << 30)

    def patient(house: House) -> str:
        return f"P{int(share * (house.studies // 3)):08}"

    return {
        "QIDO first page": lambda h: qido(h, limit=PAGE),
        "QIDO page 1000 (offset 99,900)": lambda h: qido(h, limit=PAGE, offset=99_900),
        "QIDO last page": lambda h: qido(h, limit=PAGE, offset=h.studies - PAGE),
        "QIDO PatientID": lambda h: qido(h, PatientID=patient(h)),
        "QIDO StudyDate, one day of 120": lambda h: qido(h, StudyDate=index_rows.BUSY_DAY, limit=PAGE),
        "QIDO StudyDate, a year": lambda h: qido(h, StudyDate=f"{year}{month:02}{day:02}-{year + 1}{month:02}{day:02}"),
        "QIDO name prefix": lambda h: qido(h, PatientName=f"{name}*"),
        "QIDO name prefix and year": lambda h: qido(h, PatientName=f"{name}*", StudyDate=f"{year}0101-{year}1231"),
        "QIDO ModalitiesInStudy": lambda h: qido(h, ModalitiesInStudy=modality),
        "QIDO ModalitiesInStudy, rare": lambda h: qido(h, ModalitiesInStudy=index_rows.RARE_MODALITY),
        "QIDO modality and a year": lambda h: qido(h, ModalitiesInStudy=modality, StudyDate=f"{year}0101-{year}1231"),
        "C-FIND PatientID": lambda h: c_find(h, PatientID=patient(h)),
        "C-FIND StudyDate, one day of 120": lambda h: c_find(h, StudyDate=index_rows.BUSY_DAY),
        "C-FIND name, one patient": lambda h: c_find(h, PatientName="Bench^Mark*"),
        "worklist first page": lambda h: len(h.worklist.page(limit=PAGE).rows),
        "worklist search by name": lambda h: len(h.worklist.page(limit=PAGE, search=name.replace("^", "")).rows),
        "store one instance": lambda h: store(h, number),
    }


def measure(houses: list[House], repeats: int, patience_s: float) -> None:
    """Time every door of every house in turn."""
    chance = random.Random(7)
    for repeat in range(repeats + 2):  # two to warm up
        if repeat == 2:
            gc.collect()
            gc.freeze()  # what libraries loaded is not searched for garbage again; the server does so too
        if patience_s:
            wait_until_quiet(patience_s)
        for name, door in doors(chance).items():
            for house in houses:
                STORE_SECONDS.clear()
                start, begun = time.perf_counter(), time.process_time()
                house.answers[name] = door(house)
                seconds = STORE_SECONDS[0] if STORE_SECONDS else time.perf_counter() - start
                if repeat >= 2:
                    house.samples.setdefault(name, []).append(seconds)
                    house.processor.setdefault(name, []).append(time.process_time() - begun)


def report(houses: list[House]) -> None:
    """Median and 95th percentile of each door at each size, and how much the percentile grew."""
    sizes = " | ".join(f"{h.studies:,}" for h in houses)
    print(f"\n| p50 / p95, ms | {sizes} | p95 grew | p95 of processor time, ms, and grew |")
    print(f"|---|{'---|' * (len(houses) + 2)}")
    for name in houses[0].samples:
        measured = [h for h in houses if "page 1000" not in name or h.studies >= MANY_STUDIES]
        cells = [
            f"{statistics.median(h.samples[name]) * 1000:.1f} / {p95(h.samples[name]) * 1000:.1f}"
            if h in measured
            else "none"
            for h in houses
        ]
        grew = p95(measured[-1].samples[name]) / p95(measured[0].samples[name])
        used = [p95(h.processor[name]) for h in measured]
        processor = " / ".join(f"{seconds * 1000:.1f}" for seconds in used)
        answer = f"{name} ({houses[-1].answers[name]})"
        print(f"| {answer} | {' | '.join(cells)} | {grew:.2f} x | {processor}: {used[-1] / used[0]:.2f} x |")


def p95(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--folder", type=Path, help="kept for the next run")
    parser.add_argument("--patience", type=float, default=0.0)
    parser.add_argument("--analyze", action="store_true", help="give the database its statistics first")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="polyclinic-latency-")))
        houses = [open_house(folder, size, analyze=options.analyze) for size in options.sizes]
        measure(houses, options.repeats, options.patience)
        report(houses)
        for house in houses:
            house.archive.close()


if __name__ == "__main__":
    main()

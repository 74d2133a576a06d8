"""SIGKILL at moments between a message and its answer: nothing acknowledged is lost, nothing is done twice."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest

from polyclinic.core.errors import Unavailable
from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.schema import metadata as archive_tables
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.records.patients import PatientKey
from polyclinic.departments.records.store import SqlRecord
from polyclinic.departments.records.store import metadata as records_tables
from polyclinic.edges.hl7v2.sender import HL7Peer, send_message
from polyclinic.edges.sql.engine import open_engine

MORTAL = Path(__file__).parent / "mortal_record.py"
STUDY = stable_uid("study", "1")


@contextlib.contextmanager
def process(folder: Path, moment: str) -> Iterator[tuple[subprocess.Popen[bytes], HL7Peer]]:
    (folder / "port").unlink(missing_ok=True)
    child = subprocess.Popen([sys.executable, str(MORTAL), str(folder), moment])
    try:
        until(lambda: (folder / "port").exists() or child.poll() is not None)
        yield child, HL7Peer(host="127.0.0.1", port=int((folder / "port").read_text()))
    finally:
        child.kill()
        child.wait()


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def merge() -> bytes:
    header = "MSH|^~\\&|HIS|H|||20260304||ADT^A40|M1|P|2.5.1||||||UNICODE UTF-8"
    return f"{header}\rPID|||P-2^^^SITE-A||Li^Na~李^娜\rMRG|P-1^^^SITE-A".encode()


@pytest.mark.parametrize("moment", ["record", "merge", "ack", "archive"])
def test_a_killed_merge_is_whole_after_it_is_sent_again(
    moment: str, tmp_path: Path, part10: Callable[..., bytes]
) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'index.sqlite'}")
    archive_tables.create_all(engine)
    records_tables.create_all(engine)
    archive = SqlArchive(engine, tmp_path / "segments")
    archive.store(part10(), source="CT1")
    archive.close()
    acknowledged = False
    with process(tmp_path, moment) as (child, peer):
        with contextlib.suppress(Unavailable):
            send_message(merge(), peer, control_id="M1", limit_s=20)
            acknowledged = True
        assert child.wait(60) == -9, "the process died where it was to die"
    record = SqlRecord(engine)
    prior, into = (PatientKey(patient_id=f"P-{n}", issuer="SITE-A") for n in (1, 2))
    if acknowledged:
        assert record.surviving(prior) == into
    with process(tmp_path, "never") as (_, peer):
        if not acknowledged:
            send_message(merge(), peer, control_id="M1", limit_s=20)
        until(lambda: not record.pending_changes())
    assert record.surviving(prior) == into
    assert len(record.patient_history(prior)) == 1
    assert len(record.patient_history(into)) == 1
    archive = SqlArchive(engine, tmp_path / "segments")
    assert archive.study(STUDY).patient.patient_id == "P-2"
    assert len(archive.identity_history(STUDY)) == 1
    given = pydicom.dcmread(io.BytesIO(archive.read(archive.instances(STUDY)[0].sop_instance_uid)))
    assert (given.PatientID, str(given.PatientName)) == ("P-2", "Li^Na=李^娜")
    archive.close()
    engine.dispose()

"""A disk that is full, or nearly: Out of Resources, nothing lost, and all well again once there is room."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from archive_mishaps import STUDY, WHY, numbers, uid
from polyclinic.core.errors import Unavailable
from polyclinic.departments.archive.compaction import compact
from polyclinic.departments.archive.contracts import DERIVED_SOURCE, Receipt
from polyclinic.departments.archive.scrub import Scrub
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.dimse.sender import Peer, Sender

Make = Callable[..., bytes]
Open = Callable[..., SqlArchive]
OUT_OF_RESOURCES = 0xA700
RECEIVER = """
import resource, signal, sys
from pathlib import Path
from polyclinic.departments.archive.schema import metadata
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.sql.engine import open_engine

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as on a full disk, a write then fails
signal.signal(signal.SIGUSR1, lambda *_: resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1)))
folder = Path(sys.argv[1])
engine = open_engine(f"sqlite:///{folder / 'index.db'}")
metadata.create_all(engine)
archive = SqlArchive(engine, folder / "segments", lanes=1)
DimseNode(archive, port=int(sys.argv[2])).start()
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
while True:
    signal.pause()
"""


def large(part10: Make, number: int, series: str = "1") -> bytes:
    return part10(number, series=series, Rows=256, Columns=200, PixelData=bytes(range(256)) * 400)


def test_a_file_system_without_room(tmp_path: Path, part10: Make, open_archive: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-c", RECEIVER, str(tmp_path), str(port), "700000"]
    receiver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        peer = Peer(ae_title="POLYCLINIC", host="127.0.0.1", port=port)
        wait_for(port)
        with Sender(peer) as sender:
            before = [sender.store(large(part10, number)).status for number in range(20)]
            assert set(before) == {0, OUT_OF_RESOURCES}
            assert before == sorted(before, key=bool)  # what fits is kept, then all is refused
            receiver.send_signal(signal.SIGUSR1)
            after = [sender.store(large(part10, number)).status for number in range(20)]  # on the same association
        assert set(after) == {0}
    finally:
        receiver.terminate()
        receiver.wait()
    archive = open_archive(tmp_path)
    assert numbers(archive) == list(range(20))
    scrub = Scrub(archive.engine, archive.segments.folder)
    list(scrub.run())
    assert scrub.result.problems == []


def wait_for(port: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("the receiver does not listen")


def test_below_the_watermark_only_what_the_platform_makes_is_kept(
    tmp_path: Path, part10: Make, open_archive: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_archive(tmp_path, free_bytes_min=1_000_000, lanes=1)
    free = 5_000_000
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free // 1000, f_frsize=1000))
    node = DimseNode(archive, port=0)
    node.start()
    try:
        with Sender(Peer(ae_title="POLYCLINIC", host="127.0.0.1", port=node.port)) as sender:
            assert sender.store(large(part10, 1)).status == 0
            free = 900_000
            assert [sender.store(large(part10, number)).status for number in (2, 3)] == [OUT_OF_RESOURCES] * 2
            with pytest.raises(Unavailable, match=r"archive\.out-of-space"):
                archive.store(part10(4), source="STOW-RS")
            assert archive.store(part10(1, series="9"), source=DERIVED_SOURCE) is Receipt.NEW
            assert archive.snapshot(STUDY, evidence="quiet", at=datetime.now(UTC)).revision == 1
            archive.delete(STUDY, sop_instance_uid=uid(1), **WHY)
            free = 5_000_000
            assert sender.store(large(part10, 2)).status == 0
    finally:
        node.stop()
    assert set(numbers(archive)) == {1, 2}


def test_there_is_room_for_compaction_when_there_is_none_for_images(
    tmp_path: Path, part10: Make, open_archive: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_archive(tmp_path, lanes=1)
    for number in range(4):
        first.store(part10(number), source="CT1")
    first.close()
    archive = open_archive(tmp_path, free_bytes_min=1_000_000)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=1))
    for number in (0, 1, 2):
        archive.delete(STUDY, sop_instance_uid=uid(number), **WHY)
    assert compact(archive.engine, archive.segments, grace_s=0).moved == 1
    assert numbers(archive) == [3]

"""SIGKILL at random moments while four associations store: what was answered with success is there, and whole."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread

from polyclinic.core.errors import Unavailable
from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.scrub import Scrub
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse.sender import Peer, Sender

SENDERS = 4
RECEIVER = """
import os, signal, sys
from pathlib import Path
from polyclinic.departments.archive.schema import metadata
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.sql.engine import open_engine
folder, port = Path(sys.argv[1]), int(sys.argv[2])


def receive():
    engine = open_engine(f"sqlite:///{folder / 'index.db'}")
    metadata.create_all(engine)
    DimseNode(SqlArchive(engine, folder / "segments", segment_bytes=4_000_000), port=port).start()
    signal.pause()


for line in sys.stdin:  # each life is a fork, so that only the first one pays for the imports
    life = os.fork()
    if life == 0:
        receive()
    print(life, flush=True)
    os.waitpid(life, 0)
    print("ended", flush=True)
"""


class Receivers:
    """One receiver after the other on the same folder and port."""

    def __init__(self, folder: Path, port: int) -> None:
        self._port = port
        self._parent = subprocess.Popen(
            [sys.executable, "-c", RECEIVER, str(folder), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def start(self) -> int:
        """Begin a life; returns its process id once it listens."""
        assert self._parent.stdin is not None
        self._parent.stdin.write("\n")
        self._parent.stdin.flush()
        life = int(self._said())
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return life
            time.sleep(0.005)
        raise AssertionError("the receiver does not listen")

    def kill(self, life: int) -> None:
        os.kill(life, signal.SIGKILL)
        while self._said() != "ended":
            pass

    def close(self) -> None:
        self._parent.kill()
        self._parent.wait()

    def _said(self) -> str:
        assert self._parent.stdout is not None
        while True:
            line = self._parent.stdout.readline()
            assert line, "the receiver's parent has ended"
            if line.strip().isdigit() or line.strip() == "ended":  # anything else is its log
                return line.strip()


def send_until_lost(port: int, files: list[bytes], answered: list[str]) -> None:
    try:
        with Sender(Peer(ae_title="POLYCLINIC", host="127.0.0.1", port=port), reply_s=20) as sender:
            for data in files:
                status = sender.store(data)
                assert status.status == 0
                answered.append(status.sop_instance_uid)
    except Unavailable:
        return


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("rounds", "columns"), [(10, 128), (50, 16)], ids=["10 large", "50 small"])
def test_killed_receiver_keeps_what_it_answered(
    tmp_path: Path, part10: Callable[..., bytes], open_archive: Callable[..., SqlArchive], rounds: int, columns: int
) -> None:
    seed = int(os.environ.get("POLYCLINIC_CHAOS_SEED", time.time_ns() % 1_000_000))
    chance = random.Random(seed)
    files = {
        sender: [
            part10(number, series=str(sender), Rows=512, Columns=100 + number, PixelData=bytes(1024 * (100 + number)))
            for number in range(200)
        ]
        for sender in range(SENDERS)  # some come in one piece, most in several, which are written while they arrive
    }
    by_uid = {
        stable_uid("instance", "1", str(sender), number): data
        for sender in range(SENDERS)
        for number, data in enumerate(files[sender])
    }
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    acknowledged: set[str] = set()
    next_file = dict.fromkeys(files, 0)
    receivers = Receivers(tmp_path, port)
    for _ in range(rounds):
        life = receivers.start()
        answered: dict[int, list[str]] = {sender: [] for sender in files}
        threads = [
            threading.Thread(target=send_until_lost, args=(port, files[s][next_file[s] :], answered[s])) for s in files
        ]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.01, 0.25))
        receivers.kill(life)
        for thread in threads:
            thread.join()
        for sender, uids in answered.items():
            acknowledged |= set(uids)
            next_file[sender] = (next_file[sender] + len(uids)) % len(files[sender])
    receivers.close()
    archive = open_archive(tmp_path)
    scrub = Scrub(archive.engine, archive.segments.folder)
    list(scrub.run())
    assert scrub.result.problems == [], f"seed {seed}"
    kept = {record.sop_instance_uid: record for record in archive.instances(stable_uid("study", "1"))}
    assert acknowledged, f"nothing was answered, so nothing was tried (seed {seed})"
    assert acknowledged <= set(kept), f"seed {seed}"
    for uid, record in kept.items():  # those that were not answered may be there too, but only whole
        data = archive.read(uid)
        assert data[-len(by_uid[uid]) // 2 :] == by_uid[uid][-len(by_uid[uid]) // 2 :]
        assert len(data) == record.size_bytes
    sample = chance.choice(sorted(acknowledged))
    path = tmp_path / "sample.dcm"
    path.write_bytes(archive.read(sample))
    assert dcmread(path).SOPInstanceUID == sample
    study = archive.study(stable_uid("study", "1"))
    assert study.instance_count == len(kept)
    assert sum(series.instance_count for series in archive.series(study.study_instance_uid)) == len(kept)
    assert study.kept_aside_count == 0
    archive.close()
    for segment in (tmp_path / "segments").glob("*.tar"):
        with tarfile.open(segment) as tar:
            tar.getmembers()

"""The platform as its own process: starts, serves, streams what changes, replaces a killed worker, stops cleanly."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from house import images, settings_in, study_uid, wait_for

from polyclinic.app.settings import Settings
from polyclinic.edges.dimse.sender import Peer, send


class Server:
    """A running platform and a browser that the demo signed in."""

    def __init__(self, settings: Settings, process: subprocess.Popen[bytes]) -> None:
        self.settings = settings
        self.process = process
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{settings.web_port}", timeout=10)

    def row(self, study: str) -> dict[str, object]:
        rows = self.client.get("/api/v1/worklist").json()["rows"]
        return next((r for r in rows if r["study_instance_uid"] == study_uid(study)), {"state": ""})

    def workers(self) -> list[psutil.Process]:
        """The worker processes, without the agent processes below them."""
        return [p for p in psutil.Process(self.process.pid).children() if "polyclinic.app.worker" in p.cmdline()]

    def send(self, study: str, description: str = "") -> None:
        peer = Peer(ae_title="POLYCLINIC", host="127.0.0.1", port=self.settings.dicom_port)
        assert all(status.kept for status in send(images(study, description=description), peer))


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    ports = {"web_port": free_port(), "dicom_port": free_port()}
    settings = settings_in(folder, workers=1, demo=True, **ports)
    environment = os.environ | settings.environment()
    process = subprocess.Popen([sys.executable, "-m", "polyclinic", "serve"], env=environment)
    running = Server(settings, process)

    def ready() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return running.client.get("/ready").status_code == 200
        return False

    wait_for(ready)
    assert running.client.get("/api/v1/session").json()["demo"] is True
    yield running
    running.client.close()
    if process.poll() is None:
        process.kill()
        process.wait()


def test_a_page_hears_how_a_study_moves(server: Server) -> None:
    heard: list[str] = []

    def listen() -> None:
        with server.client.stream("GET", "/api/v1/events", timeout=60) as stream:
            for line in stream.iter_lines():
                heard.append(line)
                if study_uid("heard") in line and '"state":"ready"' in line:
                    return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    wait_for(lambda: "event: hello" in heard)
    server.send("heard")
    listener.join(60)
    assert not listener.is_alive()
    states = [line for line in heard if study_uid("heard") in line]
    assert any('"state":"running"' in line for line in states)
    assert not any("Test^Person" in line for line in heard)


def test_a_worker_killed_in_the_middle_is_replaced_and_the_study_comes_out(server: Server) -> None:
    server.send("slow", description="slow-once")
    wait_for(lambda: server.row("slow")["state"] == "running" and server.row("slow")["step"] == "start")
    (worker,) = server.workers()
    below = worker.children()
    os.kill(worker.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(below, timeout=10)
    assert alive == [], "the agent's process outlived its supervisor"
    wait_for(lambda: server.row("slow")["state"] == "ready")
    page = server.client.get(f"/api/v1/studies/{study_uid('slow')}").json()
    assert [(run["state"], run["attempt"]) for run in page["runs"]] == [("done", 2)]
    assert len(page["findings"]) == 1


def test_it_stops_when_asked_with_pages_open_and_leaves_no_process(server: Server) -> None:
    below = psutil.Process(server.process.pid).children(recursive=True)
    with server.client.stream("GET", "/api/v1/events", timeout=60) as stream:
        assert stream.status_code == 200
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    assert time.monotonic() - began < 20
    _, alive = psutil.wait_procs(below, timeout=5)
    assert alive == []


def test_a_taken_port_is_a_sentence_not_a_traceback(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = settings_in(tmp_path, web_port=taken.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, "-m", "polyclinic", "serve"],
            env=os.environ | settings.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode != 0
    assert "POLYCLINIC_WEB_PORT" in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr

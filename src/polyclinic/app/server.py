"""The platform as one process: web, DICOM node, journeys and the loops beside them; workers are its children."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator

import uvicorn

from polyclinic.app.archive_care import archive_loops
from polyclinic.app.dicom_node import build_dicom_node
from polyclinic.app.hl7 import Hl7
from polyclinic.app.logs import start_logging
from polyclinic.app.memory import keep_freed_memory
from polyclinic.app.routing import neighbour_loops
from polyclinic.app.settings import Settings
from polyclinic.app.wiring import Services, build, build_app
from polyclinic.app.worker import start_worker
from polyclinic.core.errors import Unavailable
from polyclinic.edges.dicomweb.streams_protocol import DirectProtocol
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.journeys import durable
from polyclinic.journeys.study import depart, resume
from polyclinic.journeys.watchers import Loop, SettlingWatcher, senders

log = logging.getLogger(__name__)

_FEED_EVERY_S = 0.2
_DEPART_EVERY_S = 30.0
_RESTART_AFTER_S = 1.0
_STOP_LIMIT_S = 10.0


class WorkerKeeper:
    """Keeps a number of worker processes alive.

    They are started by this object's own thread: on Linux a child can be told to die with the thread that made it,
    and this one lives as long as the server.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="workers", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask every worker to hand its run back and end."""
        self._stopping.set()
        self._thread.join(timeout=2 * _STOP_LIMIT_S)

    def _keep(self) -> None:
        workers: list[subprocess.Popen[bytes]] = []
        while not self._stopping.is_set():
            for worker in [w for w in workers if w.poll() is not None]:
                log.warning("a worker ended with code %s; starting another", worker.returncode)
                workers.remove(worker)
            while len(workers) < self._settings.workers:
                workers.append(start_worker(self._settings))
            self._stopping.wait(_RESTART_AFTER_S)
        for worker in workers:
            worker.terminate()
        for worker in workers:
            try:
                worker.wait(_STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


class _WebServer(uvicorn.Server):
    """uvicorn without its own signal handlers: the platform stops as a whole."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def running(services: Services) -> Iterator[DimseNode]:
    """Everything but the web server and the workers: DICOM node, journeys, loops."""
    settings, rooms = services.settings, services.rooms
    durable.launch(rooms, settings.journeys_url)
    resume(rooms)
    watcher = SettlingWatcher(rooms, quiet_s=settings.settle_quiet_s, limit_s=settings.settle_limit_s)
    loops = (
        watcher.loop(),
        *(outbox.loop() for outbox in senders(rooms)),
        *neighbour_loops(rooms),
        *archive_loops(settings, services.archive, rooms.reading, services.audit.recorder, rooms.stopping),
        Loop("departures", functools.partial(depart, rooms), every_s=_DEPART_EVERY_S),
        Loop("feed", services.feed.turn, every_s=_FEED_EVERY_S),
        services.workitems.loop(),
    )
    source_of = rooms.neighbours.intake.source_of if rooms.neighbours else None
    node = build_dicom_node(
        settings,
        services.archive,
        services.record,
        services.engine,
        source_of=source_of,
        recorder=services.audit.recorder,
    )
    hl7 = Hl7(settings, services.engine, rooms, services.archive, services.audit.recorder)
    try:
        node.start()
        hl7.start()
        for loop in loops:
            loop.start()
        yield node
    finally:
        rooms.stopping.set()
        hl7.stop()
        node.stop()
        for loop in loops:
            loop.stop_soon()
        for loop in loops:
            loop.stop()
        durable.stop()


def run_server(settings: Settings) -> None:
    """Run the platform until SIGTERM or SIGINT.

    Raises
    ------
    Unavailable
        ``server.port-taken``.
    """
    start_logging(settings.log_level)
    keep_freed_memory()
    listener = _listen(settings)
    services = build(settings)
    up = threading.Event()
    app = build_app(services, ready=up.is_set)
    config = uvicorn.Config(
        app,
        http=DirectProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        proxy_headers=False,
    )
    server = _WebServer(config)

    def stop(_number: int, _frame: object) -> None:
        # In a thread: a handler interrupts the event loop, which may just hold the feed's lock.
        threading.Thread(target=services.feed.close, daemon=True).start()
        server.should_exit = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    workers = WorkerKeeper(settings)
    try:
        with running(services) as node:
            workers.start()
            gc.collect()
            gc.freeze()  # what the libraries loaded is never garbage: searching it again stopped every thread for 0.1 s
            up.set()
            host, port = listener.getsockname()[:2]
            log.info("web http://%s:%d, DICOM %s@%s:%d", host, port, settings.dicom_ae_title, host, node.port)
            if settings.demo:
                log.warning("demo: everybody on this machine is signed in as a demo radiologist")
            server.run(sockets=[listener])
            up.clear()
            workers.stop()
    finally:
        services.close()
    log.info("stopped")


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.web_host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.web_host, settings.web_port))
    except OSError as error:
        listener.close()
        where = f"{settings.web_host}:{settings.web_port}"
        text = f"The web address {where} cannot be used; free it or set POLYCLINIC_WEB_PORT"
        raise Unavailable("server.port-taken", text) from error
    return listener

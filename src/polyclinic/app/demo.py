"""`polyclinic demo`: one chest CT travels the whole path while you watch.

The demo starts the platform as its own process, sends a study to it over a DICOM association, follows the study
through the same JSON interface that the page uses and prints what came out. A small DICOM peer receives what a
signed study is delivered as.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import TaskID

from polyclinic.app.console import findings_table, progress_bar
from polyclinic.app.dicom_folder import dicom_files, read_folder
from polyclinic.app.receiving_peer import ReceivingPeer
from polyclinic.core.errors import Rejected, Unavailable
from polyclinic.core.findings import Finding
from polyclinic.core.plain import from_plain

_START_LIMIT_S = 90.0
_PATH_LIMIT_S = 600.0
_DELIVERY_LIMIT_S = 120.0
_POLL_S = 0.1
_PEER_AE_TITLE = "DEMOPACS"
_AE_TITLE = "POLYCLINIC"
_SEED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """`folder` holds what the demo makes; `study` is a folder of DICOM files or None for the synthetic chest CT."""

    folder: Path
    study: Path | None
    once: bool
    web_port: int
    dicom_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A running platform of the demo."""

    address: str
    dicom_port: int
    log: Path
    process: subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReader:
    """The signed-in demo person at the platform's JSON interface."""

    platform: Platform
    client: httpx.Client
    csrf: str
    console: Console

    def get(self, path: str, **query: str) -> Any:
        """JSON of a read."""
        return self.client.get(f"/api/v1{path}", params=query).raise_for_status().json()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """JSON of a change."""
        headers = {"X-CSRF-Token": self.csrf}
        return self.client.post(f"/api/v1{path}", json=body, headers=headers).raise_for_status().json()


def run_demo(options: DemoOptions, console: Console) -> None:
    """Run the demo; returns when it was asked to stop or, with ``once``, when everything has come out.

    Raises
    ------
    PolyclinicError
        When any step failed; the message says which and where the log is.
    """
    console.rule("[bold]Polyclinic demo[/] - research software, not a medical device")
    study = options.study or synthetic_study(options.folder, console)
    contents = read_folder(study)
    with receiving_peer(options.folder) as peer, platform(options, peer, console) as running:
        send_study(study, running, console)
        with httpx.Client(base_url=running.address, timeout=30) as client:
            reader = DemoReader(platform=running, client=client, csrf=sign_in(client), console=console)
            for found in contents.studies:
                expected = sum(len(series.datasets) for series in found.series)
                print_study(reader, found.study_instance_uid, follow(reader, found.study_instance_uid, expected))
                if options.once:
                    read_and_sign(reader, found.study_instance_uid)
                    await_delivery(reader, found.study_instance_uid, peer)
        if not options.once:
            stay_up(running, console)


def synthetic_study(folder: Path, console: Console) -> Path:
    """Folder of the synthetic chest CT (512 x 512 x 300); made on the first run, kept for the next."""
    from polyclinic.agentkit import phantom  # noqa: PLC0415 - compiles kernels, only when one must be made

    spec = phantom.ChestPhantom(seed=_SEED)
    target = folder / f"synthetic-chest-{phantom.study_instance_uid(spec)[-12:]}"
    if (target / ".complete").exists():
        return target
    shutil.rmtree(target, ignore_errors=True)
    with console.status(f"making a synthetic chest CT of {spec.slices} slices (once)"):
        phantom.write_phantom(phantom.make_chest_phantom(spec), target)
    (target / ".complete").touch()
    return target


@contextlib.contextmanager
def receiving_peer(folder: Path) -> Iterator[ReceivingPeer]:
    """A DICOM peer that keeps what it is sent, standing in for the hospital's PACS."""
    target = folder / "peer"
    shutil.rmtree(target, ignore_errors=True)
    peer = ReceivingPeer(ae_title=_PEER_AE_TITLE, folder=target)
    peer.start()
    try:
        yield peer
    finally:
        peer.stop()


@contextlib.contextmanager
def platform(options: DemoOptions, peer: ReceivingPeer, console: Console) -> Iterator[Platform]:
    """Start the platform in a fresh data folder and stop it at the end."""
    data = options.folder / "data"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    web_port, dicom_port = free_port(options.web_port), free_port(options.dicom_port)
    log = options.folder / "platform.log"
    environment = os.environ | {
        "POLYCLINIC_DATA": str(data),
        "POLYCLINIC_DEMO": "1",
        "POLYCLINIC_WEB_HOST": "127.0.0.1",
        "POLYCLINIC_WEB_PORT": str(web_port),
        "POLYCLINIC_DICOM_HOST": "127.0.0.1",
        "POLYCLINIC_DICOM_PORT": str(dicom_port),
        "POLYCLINIC_DICOM_AE_TITLE": _AE_TITLE,
        "POLYCLINIC_SETTLE_QUIET_S": "2",
        "POLYCLINIC_DESTINATIONS": f"{_PEER_AE_TITLE}@127.0.0.1:{peer.port}",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "polyclinic", "serve"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = Platform(address=f"http://127.0.0.1:{web_port}", dicom_port=dicom_port, log=log, process=process)
    try:
        wait_until_ready(running, console)
        yield running
    finally:
        stop(process)


def free_port(preferred: int) -> int:
    """`preferred` when it can be bound on loopback, otherwise any free port."""
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise Unavailable("demo.no-port", "No free port on 127.0.0.1; close a program that listens there")


def wait_until_ready(running: Platform, console: Console) -> None:
    """Wait for ``/ready``; the log's end is shown when the platform does not come up."""
    with console.status("starting the platform"):
        deadline = time.monotonic() + _START_LIMIT_S
        while time.monotonic() < deadline:
            if running.process.poll() is not None:
                break
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(running.address + "/ready", timeout=2).status_code == httpx.codes.OK:
                    console.print(
                        f"platform is up: {running.address}, DICOM {_AE_TITLE}@127.0.0.1:{running.dicom_port}"
                    )
                    return
            time.sleep(_POLL_S)
    console.print(escape("\n".join(running.log.read_text("utf-8", "replace").splitlines()[-15:])))
    raise Unavailable("demo.not-started", f"The platform did not start; its log is {running.log}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the platform and its workers, politely first."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)


def send_study(study: Path, running: Platform, console: Console) -> None:
    """Send every file of the folder by C-STORE."""
    from polyclinic.app.sending import send_folder  # noqa: PLC0415 - pynetdicom loads slowly

    total = sum(1 for _ in dicom_files(study))
    with progress_bar(console) as progress:
        task = progress.add_task("receive (C-STORE)", total=total)
        result = send_folder(
            study, f"{_AE_TITLE}@127.0.0.1:{running.dicom_port}", lambda done: progress.update(task, completed=done)
        )
    if result.failed:
        raise Rejected(
            "demo.not-received", f"{len(result.failed)} of {total} instances were refused; see {running.log}"
        )


def sign_in(client: httpx.Client) -> str:
    """Take the demo session that loopback gets; returns the CSRF token."""
    session = client.get("/api/v1/session").raise_for_status().json()
    if not session["person"]:
        raise Rejected("demo.no-session", "The platform gave no demo session; it must listen on 127.0.0.1")
    return str(session["csrf"])


def follow(reader: DemoReader, uid: str, expected: int) -> dict[str, Any]:
    """Show settle and each step of the agents until the study is ready; returns the study page."""
    log = reader.platform.log
    deadline = time.monotonic() + _PATH_LIMIT_S
    with progress_bar(reader.console) as progress:
        settle = progress.add_task("settle", total=1)
        bars: dict[str, TaskID] = {}
        while time.monotonic() < deadline:
            response = reader.client.get(f"/api/v1/studies/{uid}")
            page = response.json() if response.status_code == httpx.codes.OK else {}
            row = page.get("row", {})
            if page.get("revision"):
                progress.update(settle, completed=1, description=f"settle: {page['evidence']}")
            for run in page.get("runs", ()):
                if run["id"] not in bars:
                    bars[run["id"]] = progress.add_task(run["agent_title"], total=1)
                text = f"{run['agent_id']}: {run['step'] or run['state']}"
                progress.update(bars[run["id"]], completed=run["fraction"], description=text)
            if row.get("state") in ("ready", "signed", "delivered") and row["instance_count"] >= expected:
                return dict(page)
            if row.get("state") == "failed":
                raise Rejected("demo.study-failed", f"The study failed: {row['reason']}; see {log}")
            if reader.platform.process.poll() is not None:
                raise Unavailable("demo.platform-gone", f"The platform ended early; see {log}")
            time.sleep(_POLL_S)
    raise Unavailable("demo.too-slow", f"The study was not ready after {_PATH_LIMIT_S:.0f} s; see {log}")


def print_study(reader: DemoReader, uid: str, page: dict[str, Any]) -> None:
    """Findings, abstentions, times and the addresses."""
    console, address = reader.console, reader.platform.address
    console.print(findings_table([from_plain(Finding, view["finding"]) for view in page["findings"]]))
    for run in page["runs"]:
        if run["state"] in ("abstained", "failed"):
            console.print(f"[yellow]{escape(run['agent_id'])} {run['state']}: {escape(run['reason'])}[/]")
        if run["seconds"]:
            seconds = ", ".join(f"{name} {s:.2f}" for name, s in run["seconds"])
            console.print(f"[dim]{escape(run['agent_id'])} seconds: {escape(seconds)}[/]")
    console.print(f"page     {address}/study/{uid}", soft_wrap=True)
    console.print(f"report   {address}/api/v1/studies/{uid}/report.pdf", soft_wrap=True)
    console.print(f"objects  {address}/api/v1/studies/{uid}/objects (made when the report is signed)", soft_wrap=True)
    console.print(f"DICOMweb {address}/dicom-web/studies/{uid}", soft_wrap=True)


def read_and_sign(reader: DemoReader, uid: str) -> None:
    """The demo reader accepts what was proposed, signs, and the report is printed."""
    for view in reader.get(f"/studies/{uid}")["findings"]:
        if view["finding"]["state"] == "proposed":
            path = f"/studies/{uid}/findings/{view['finding']['id']}/decision"
            reader.post(path, {"decision": "accept", "version": view["version"]})
    report = reader.get(f"/studies/{uid}/report", lang="en")
    reader.post(f"/studies/{uid}/report/sign", {"lang": "en", "content_sha256": report["content_sha256"]})
    reader.console.print("[bold]Report[/] (accepted in full by the demo reader, signed)")
    for section in report["sections"]:
        reader.console.print(f"[bold]{escape(section['title'])}[/]")
        for sentence in section["sentences"]:
            reader.console.print("  " + escape(sentence["text"]))


def await_delivery(reader: DemoReader, uid: str, peer: ReceivingPeer) -> None:
    """Wait until SEG, SR, KO and PDF are made, stored with the study and received by the peer."""
    log = reader.platform.log
    with reader.console.status("deliver: SEG, SR, KO, PDF"):
        deadline = time.monotonic() + _DELIVERY_LIMIT_S
        row = reader.get(f"/studies/{uid}")["row"]
        while row["state"] != "delivered":
            if row["state"] == "failed" or time.monotonic() > deadline:
                raise Unavailable("demo.not-delivered", f"Not delivered: {row['reason'] or row['state']}; see {log}")
            time.sleep(_POLL_S)
            row = reader.get(f"/studies/{uid}")["row"]
        objects = reader.get(f"/studies/{uid}/objects")
        received = peer.wait_for({item["sop_instance_uid"] for item in objects}, timeout_s=_DELIVERY_LIMIT_S)
    for item in objects:
        arrived = "delivered by C-STORE" if item["sop_instance_uid"] in received else "[red]not delivered[/]"
        line = f"{item['kind']:<4} {item['sop_instance_uid']}  {item['size_bytes']:>9,} bytes  {arrived}"
        reader.console.print(line, soft_wrap=True)
    if missing := {item["sop_instance_uid"] for item in objects} - received:
        raise Unavailable("demo.not-delivered", f"{len(missing)} objects did not reach the peer; see {log}")


def stay_up(running: Platform, console: Console) -> None:
    """Keep running until Ctrl-C or until the platform ends."""
    console.print(f"[bold green]Open {running.address} in a browser.[/] Ctrl-C ends the demo.", soft_wrap=True)
    try:
        if running.process.wait():
            raise Unavailable("demo.platform-gone", f"The platform ended by itself; see {running.log}")
    except KeyboardInterrupt:
        console.print("stopping")

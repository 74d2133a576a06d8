"""A real platform, a real browser and synthetic chest CTs for the tests of the page."""

from __future__ import annotations

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

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from polyclinic.agentkit.phantom import ChestPhantom, make_chest_phantom, study_instance_uid, write_phantom
from polyclinic.app.receiving_peer import ReceivingPeer
from polyclinic.app.sending import send_folder

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM_ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
START_LIMIT_S = 90.0
READ_LIMIT_S = 240.0
LAPTOP = {"width": 1440, "height": 900}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningPlatform:
    """Where the platform of this session answers."""

    address: str
    dicom_port: int
    log: Path

    def send(self, folder: Path) -> None:
        """All files of the folder, by C-STORE."""
        sent = send_folder(folder, f"POLYCLINIC@127.0.0.1:{self.dicom_port}", calling="SCANNER")
        assert not sent.failed

    def wait_until(self, uid: str, state: str) -> None:
        """Ask until the study is in that state."""
        with httpx.Client(base_url=self.address, timeout=30) as client:
            client.get("/api/v1/session").raise_for_status()
            deadline = time.monotonic() + READ_LIMIT_S
            seen = "nothing"
            while time.monotonic() < deadline:
                answer = client.get(f"/api/v1/studies/{uid}")
                if answer.status_code == httpx.codes.OK:
                    seen = answer.json()["row"]["state"]
                    if seen == state:
                        return
                time.sleep(0.3)
        pytest.fail(f"study is {seen}, not {state}; log ends:\n{self.log.read_text('utf-8', 'replace')[-2000:]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticStudy:
    """A phantom on disk."""

    folder: Path
    uid: str
    images: int


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceivingPeer]:
    """The hospital's archive, to which signed objects go."""
    receiving = ReceivingPeer(ae_title="PACS", folder=tmp_path_factory.mktemp("pacs"))
    receiving.start()
    yield receiving
    receiving.stop()


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, peer: ReceivingPeer) -> Iterator[RunningPlatform]:
    """The platform as `polyclinic serve` runs it, in a folder of its own."""
    if not (ROOT / "web" / "dist" / "index.html").is_file():
        pytest.skip("the page is not built (make web)")
    folder = tmp_path_factory.mktemp("platform")
    web_port, dicom_port, log = _free_port(), _free_port(), folder / "platform.log"
    settings = {
        "DATA": str(folder / "data"),
        "DEMO": "1",
        "WEB_PORT": str(web_port),
        "DICOM_PORT": str(dicom_port),
        "SETTLE_QUIET_S": "2",
        "DESTINATIONS": f"PACS@127.0.0.1:{peer.port}",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "polyclinic", "serve"],
            env=os.environ | {f"POLYCLINIC_{name}": value for name, value in settings.items()},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = RunningPlatform(address=f"http://127.0.0.1:{web_port}", dicom_port=dicom_port, log=log)
    try:
        _wait_until_up(running, process)
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)


def _wait_until_up(running: RunningPlatform, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{running.address}/ready", timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    pytest.fail(f"the platform did not start:\n{running.log.read_text('utf-8', 'replace')[-2000:]}")


def _phantom(folder: Path, spec: ChestPhantom) -> SyntheticStudy:
    write_phantom(make_chest_phantom(spec), folder)
    return SyntheticStudy(folder=folder, uid=study_instance_uid(spec), images=spec.slices)


@pytest.fixture(scope="session")
def english_study(tmp_path_factory: pytest.TempPathFactory) -> SyntheticStudy:
    """A chest CT that the tests read in English; whole size when its pictures go to the documentation."""
    if wants_documentation_pictures():
        spec = ChestPhantom(seed=11, slices=200, slice_spacing_mm=1.5, slice_thickness_mm=1.5, nodule_count=5)
    else:
        spec = ChestPhantom.small(seed=11, nodule_count=5)
    return _phantom(tmp_path_factory.mktemp("english"), spec)


@pytest.fixture(scope="session")
def chinese_study(tmp_path_factory: pytest.TempPathFactory) -> SyntheticStudy:
    """Another chest CT, read in Chinese."""
    return _phantom(tmp_path_factory.mktemp("chinese"), ChestPhantom.small(seed=12, nodule_count=3))


@pytest.fixture(scope="session")
def measured_phantom(tmp_path_factory: pytest.TempPathFactory) -> SyntheticStudy:
    """A third chest CT, for what leaves the report unsigned."""
    return _phantom(tmp_path_factory.mktemp("measured"), ChestPhantom.small(seed=13, nodule_count=3))


@pytest.fixture(scope="session")
def measured_study(platform: RunningPlatform, measured_phantom: SyntheticStudy) -> SyntheticStudy:
    """A third study, read but never signed."""
    platform.send(measured_phantom.folder)
    platform.wait_until(measured_phantom.uid, "ready")
    return measured_phantom


OTHERS = ("Mueller^Anna", "Zhang^Wei=张^伟", "O'Brien^Sean", "Li^Na=李^娜", "Yamada^Tarou=山田^太郎=やまだ^たろう")


@pytest.fixture(scope="session")
def other_patients(tmp_path_factory: pytest.TempPathFactory) -> list[SyntheticStudy]:
    """Small studies of several people, so that a pictured worklist looks like one; none in ordinary runs."""
    if not wants_documentation_pictures():
        return []
    specs = [
        ChestPhantom.small(seed=20 + i, patient_name=name, patient_id=f"SYN-{4711 + 13 * i}", sex="FM"[i % 2])
        for i, name in enumerate(OTHERS)
    ]
    return [_phantom(tmp_path_factory.mktemp("other"), spec) for spec in specs]


def wants_documentation_pictures() -> bool:
    """Whether this run renews `docs/images`."""
    return os.environ.get("POLYCLINIC_SCREENSHOTS") == "1"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium of this machine with software WebGL."""
    names = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium or Chrome is installed")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A fresh profile that speaks English, on a laptop's screen."""
    opened = browser.new_context(viewport=LAPTOP, locale="en-GB", accept_downloads=True)
    opened.set_default_timeout(30_000)
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext, platform: RunningPlatform) -> Iterator[Page]:
    """A page that has not gone anywhere yet; errors that its scripts throw fail the test."""
    opened = context.new_page()
    thrown: list[str] = []
    opened.on("pageerror", lambda error: thrown.append(str(error)))
    refused: list[str] = []
    opened.on("console", lambda m: refused.append(m.text) if "Content Security Policy" in m.text else None)
    yield opened
    # An answer that was on its way through a patch when the test ended is nobody's error.
    opened.unroute_all(behavior="ignoreErrors")
    assert thrown == []
    assert refused == []


@pytest.fixture
def picture() -> PictureTaker:
    """Keeps screenshots in `test-results`, and in `docs/images` when asked."""
    return PictureTaker(ROOT)


class PictureTaker:
    """Where screenshots go."""

    def __init__(self, root: Path) -> None:
        self._results = root / "test-results"
        self._documentation = root / "docs" / "images"

    def __call__(self, page: Page, name: str, *, documentation: bool = False) -> Path:
        """Take one; returns where it lies."""
        self._results.mkdir(exist_ok=True)
        path = self._results / f"{name}.png"
        page.screenshot(path=path)
        if documentation and wants_documentation_pictures():
            self._documentation.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, self._documentation / f"{name}.png")
        return path

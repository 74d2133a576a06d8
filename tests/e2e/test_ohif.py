"""The OHIF viewer, as its makers build it, lists and shows a study of our DICOMweb."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from PIL import Image
from playwright.sync_api import Browser, Page, Response
from pydicom.dataset import Dataset
from starlette.responses import FileResponse
from starlette.responses import Response as Answer
from starlette.types import ASGIApp, Receive, Scope, Send

from polyclinic.app.settings import Settings
from polyclinic.app.wiring import build, build_app
from polyclinic.dicom.part10 import to_part10

DIST = Path(__file__).parent / "ohif" / "node_modules" / "@ohif" / "app" / "dist"
CONFIGURATION = """
window.config = {
  routerBasename: null, extensions: [], modes: [], customizationService: {}, showStudyList: true,
  maxNumberOfWebWorkers: 2, investigationalUseDialog: { option: 'never' }, disableTour: true,
  defaultDataSourceName: 'polyclinic',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
    sourceName: 'polyclinic',
    configuration: {
      friendlyName: 'Polyclinic', name: 'polyclinic',
      wadoUriRoot: '/dicom-web', qidoRoot: '/dicom-web', wadoRoot: '/dicom-web',
      qidoSupportsIncludeField: true, supportsFuzzyMatching: false, supportsWildcard: true,
      imageRendering: 'wadors', thumbnailRendering: 'wadors', enableStudyLazyLoad: true,
      omitQuotationForMultipartRequest: true, bulkDataURI: { enabled: true },
    },
  }],
};
"""
EDGE = 128
DARK_HU, BRIGHT_HU = -150, 240


class OneOrigin:
    """What a hospital's reverse proxy does: the viewer's files and our DICOMweb under one address, signed in."""

    def __init__(self, platform: ASGIApp, token: str) -> None:
        self._platform = platform
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.startswith("/dicom-web"):
            signed_in = (b"authorization", f"Bearer {self._token}".encode())
            await self._platform({**scope, "headers": [*scope["headers"], signed_in]}, receive, send)
        elif path == "/app-config.js":
            await Answer(CONFIGURATION, media_type="text/javascript")(scope, receive, send)
        elif scope["type"] == "http":
            file = DIST / path.lstrip("/")
            await FileResponse(file if file.is_file() else DIST / "index.html")(scope, receive, send)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosted:
    address: str
    study_instance_uid: str


@pytest.fixture
def hosted(tmp_path: Path, tiny_ct: Callable[..., list[Dataset]]) -> Iterator[Hosted]:
    """A platform that holds one small CT, dark on its left and bright on its right, with the viewer before it."""
    if not (DIST / "index.html").is_file():
        pytest.skip("the OHIF viewer is not installed (make ohif; it needs npm and its registry)")
    services = build(Settings(data=tmp_path / "data"))
    plane = np.full((EDGE, EDGE), DARK_HU, "<i2")
    plane[:, EDGE // 2 :] = BRIGHT_HU
    window = {"WindowCenter": "40", "WindowWidth": "400", "StudyDescription": "Chest for OHIF"}
    images = tiny_ct(slices=12, rows=EDGE, columns=EDGE, PixelData=plane.tobytes(), **window)
    for image in images:
        image["PixelData"].VR = "OW"
        services.archive.store(to_part10(image), source="TEST")
    person = services.access.add_person(name="viewer", display="V", roles={"device"}, password="a long password")
    token = services.access.new_bearer(person.person_id, "viewer")
    origin = OneOrigin(build_app(services, ready=lambda: True), token)
    server = uvicorn.Server(uvicorn.Config(origin, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Hosted(address=f"http://127.0.0.1:{port}", study_instance_uid=str(images[0].StudyInstanceUID))
    server.should_exit = True
    thread.join(10)
    services.close()


@pytest.fixture
def viewer(browser: Browser, hosted: Hosted) -> Iterator[Page]:
    """A page; what our side answers with an error fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 800}, base_url=hosted.address)
    page = context.new_page()
    page.set_default_timeout(30_000)
    refused: list[str] = []

    def look(answer: Response) -> None:
        if "/dicom-web/" in answer.url and answer.status >= 400:
            refused.append(f"{answer.status} {answer.request.method} {answer.url}")

    page.on("response", look)
    yield page
    context.close()
    assert refused == []


def brightness(page: Page) -> tuple[float, float]:
    """Mean grey of a patch in the left and in the right half of the picture, 0 to 255."""
    shot = Image.open(io.BytesIO(page.locator("canvas").first.screenshot())).convert("L")
    grey = np.asarray(shot, float)
    rows, columns = grey.shape
    band = grey[int(rows * 0.4) : int(rows * 0.6)]
    reach = rows // 4
    middle = columns // 2
    return float(band[:, middle - reach : middle - 10].mean()), float(band[:, middle + 10 : middle + reach].mean())


def test_the_study_is_listed_opened_and_drawn(viewer: Page, hosted: Hosted) -> None:
    viewer.goto("/")
    row = viewer.get_by_text("Chest for OHIF").first
    row.wait_for()
    assert "Wang" in viewer.locator("body").inner_text()
    row.dblclick()
    viewer.wait_for_url(f"**/viewer*StudyInstanceUIDs={hosted.study_instance_uid}*")
    viewer.locator("canvas").first.wait_for()
    deadline = time.monotonic() + 25
    dark = bright = 0.0
    while time.monotonic() < deadline and bright - dark < 100:
        skip = viewer.get_by_text("Skip all")
        if skip.count():
            skip.first.click()
        viewer.wait_for_timeout(250)
        dark, bright = brightness(viewer)
    assert dark < 60, (dark, bright)
    assert bright > 190, (dark, bright)

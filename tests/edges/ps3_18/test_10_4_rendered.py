"""PS3.18 10.4.1.1.3 Rendered Resources and 10.4.1.1.4 Thumbnail Resources, with 8.3.5 Rendering Query Parameters."""

from __future__ import annotations

from typing import Any

import cv2
import httpx
import numpy as np
import numpy.typing as npt
import pytest
from dicomweb_server import DicomWebServer, multipart_of, parts_of

JPEG, PNG = "image/jpeg", "image/png"
MAGIC = {JPEG: b"\xff\xd8\xff", PNG: b"\x89PNG"}


def picture(answer: httpx.Response) -> npt.NDArray[Any]:
    assert answer.status_code == 200, answer.text
    decoded = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    return decoded


@pytest.mark.parametrize("media_type", [JPEG, PNG])
@pytest.mark.parametrize("resource", ["rendered", "frames/1/rendered"])
def test_10_4_1_1_3_instance_and_frame(server: DicomWebServer, resource: str, media_type: str) -> None:
    answer = server.get(f"{server.instance('ct1')}/{resource}", media_type)
    assert answer.headers["content-type"] == media_type
    assert answer.content.startswith(MAGIC[media_type])
    assert picture(answer).shape[:2] == (32, 48)


def test_8_7_4_jpeg_is_the_default(server: DicomWebServer) -> None:
    answer = server.get(f"{server.instance('ct1')}/rendered", "image/*")
    assert answer.headers["content-type"] == JPEG


def test_8_7_4_media_type_that_cannot_be_made(server: DicomWebServer) -> None:
    assert server.get(f"{server.instance('ct1')}/rendered", "image/tiff").status_code == 406


def test_10_4_1_1_3_colour(server: DicomWebServer) -> None:
    shown = picture(server.get(f"{server.instance('colour')}/rendered", PNG))
    stored = server.dataset("colour").pixel_array
    assert np.array_equal(shown[:, :, ::-1], stored)


def test_10_4_1_1_3_compressed(server: DicomWebServer) -> None:
    shown = picture(server.get(f"{server.instance('jpeg-ls')}/rendered", PNG))
    assert shown.shape[:2] == (64, 64)
    assert shown.max() > shown.min()


@pytest.mark.parametrize("level", ["series", "study"])
def test_10_4_1_1_3_series_and_study(server: DicomWebServer, level: str) -> None:
    path = server.series("ct1") if level == "series" else server.study("ct1")
    answer = server.get(f"{path}/rendered", f"{multipart_of(JPEG)}, {JPEG}; q=0.9")
    parts = parts_of(answer)
    assert len(parts) == {"series": 3, "study": 4}[level]
    assert all(part.media_type == JPEG and part.content.startswith(MAGIC[JPEG]) for part in parts)


def test_10_4_1_1_3_what_has_no_pixels(server: DicomWebServer) -> None:
    assert server.get(f"{server.instance('structured report')}/rendered", JPEG).status_code == 406


@pytest.mark.parametrize("shape", ["linear", "linear-exact", "sigmoid"])
def test_8_3_5_1_4_window(server: DicomWebServer, shape: str) -> None:
    path = f"{server.instance('ct1')}/rendered"
    shown = picture(server.get(path, PNG, params={"window": f"1000,400,{shape}"})).astype(float)
    values = server.dataset("ct1").pixel_array.astype(float)
    wanted = {  # PS3.3 C.11.2.1.2.1, C.11.2.1.3
        "linear": np.clip((values - 999.5) / 399 + 0.5, 0, 1),
        "linear-exact": np.clip((values - 1000) / 400 + 0.5, 0, 1),
        "sigmoid": 1 / (1 + np.exp(-4 * (values - 1000) / 400)),
    }[shape]
    assert np.abs(shown - wanted * 255).max() <= 1.5


@pytest.mark.parametrize("window", ["x", "1,2,cubic", "100,0,linear", "100"])
def test_8_3_5_1_4_window_that_is_none(server: DicomWebServer, window: str) -> None:
    assert server.get(f"{server.instance('ct1')}/rendered", JPEG, params={"window": window}).status_code == 400


@pytest.mark.parametrize(("viewport", "shape"), [("24,24", (16, 24)), ("96,64", (64, 96))])
def test_8_3_5_1_3_viewport_keeps_the_proportions(
    server: DicomWebServer, viewport: str, shape: tuple[int, int]
) -> None:
    shown = picture(server.get(f"{server.instance('ct1')}/rendered", PNG, params={"viewport": viewport}))
    assert shown.shape[:2] == shape


def test_8_3_5_1_3_viewport_of_a_region(server: DicomWebServer) -> None:
    path = f"{server.instance('ct1')}/rendered"
    window = {"window": "2048,4096,linear"}
    whole = picture(server.get(path, PNG, params=window))
    region = picture(server.get(path, PNG, params={"viewport": "16,8,20,10,16,8", **window}))
    assert np.array_equal(region, whole[10:18, 20:36])


@pytest.mark.parametrize("viewport", ["x,y", "0,10", "10"])
def test_8_3_5_1_3_viewport_that_is_none(server: DicomWebServer, viewport: str) -> None:
    assert server.get(f"{server.instance('ct1')}/rendered", JPEG, params={"viewport": viewport}).status_code == 400


def test_8_3_5_1_2_quality(server: DicomWebServer) -> None:
    path = f"{server.instance('ct1')}/rendered"
    sizes = [len(server.get(path, JPEG, params={"quality": quality}).content) for quality in ("1", "100")]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("quality", ["0", "101", "best"])
def test_8_3_5_1_2_quality_that_is_none(server: DicomWebServer, quality: str) -> None:
    assert server.get(f"{server.instance('ct1')}/rendered", JPEG, params={"quality": quality}).status_code == 400


def test_8_3_5_1_1_annotation_that_is_not_done_is_said(server: DicomWebServer) -> None:
    answer = server.get(f"{server.instance('ct1')}/rendered", JPEG, params={"annotation": "patient"})
    assert answer.status_code == 200
    assert "annotation values are not supported: patient" in answer.headers.get("warning", "")


def test_10_4_1_1_3_frame_that_does_not_exist(server: DicomWebServer) -> None:
    assert server.get(f"{server.instance('ct1')}/frames/2/rendered", JPEG).status_code in (400, 404)


@pytest.mark.parametrize("level", ["study", "series", "instance", "frame"])
def test_10_4_1_1_4_thumbnail(server: DicomWebServer, level: str) -> None:
    path = {
        "study": server.study("ct1"),
        "series": server.series("ct1"),
        "instance": server.instance("ct1"),
        "frame": f"{server.instance('frames')}/frames/2",
    }[level]
    answer = server.get(f"{path}/thumbnail", JPEG)
    assert answer.headers["content-type"] == JPEG
    assert max(picture(answer).shape[:2]) <= 256


def test_10_4_1_1_4_viewport_of_a_thumbnail(server: DicomWebServer) -> None:
    answer = server.get(f"{server.series('ct1')}/thumbnail", JPEG, params={"viewport": "24,24"})
    assert picture(answer).shape[:2] == (16, 24)

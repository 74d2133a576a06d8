"""Consumer pictures of a frame (PS3.18 8.7.4, 10.4.1.1.3): windowed grey or colour as JPEG or PNG."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from fastapi import Request, Response
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from polyclinic.core.errors import NotFound, Rejected
from polyclinic.departments.archive.ports import KeptFile
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dicomweb.negotiation import media_ranges
from polyclinic.edges.dicomweb.stored import frame_arrays

JPEG, PNG = "image/jpeg", "image/png"


def rendered_frame(
    archive: SqlArchive, kept: KeptFile, frame: int, request: Request, *, longest_edge: int | None = None
) -> Response:
    """One frame as the instance's first window (or the request's ``window=centre,width``) shows it."""
    wanted = {name for name, _ in media_ranges(request.headers.get("accept", ""))}
    media_type = PNG if PNG in wanted and JPEG not in wanted else JPEG
    pixels = next(iter(frame_arrays(archive, kept, [frame], raw=False)), None)
    if pixels is None:
        raise NotFound("dicomweb.no-frame", "The instance has no such frame")
    stop = kept.pixel_offset
    dataset = dcmread(BytesIO(archive.read_part(kept, 0, stop)), force=True, stop_before_pixels=True)
    image: npt.NDArray[Any] = _to_eight_bits(pixels, dataset, request.query_params.get("window", ""))
    if longest_edge is not None:
        scale = longest_edge / max(image.shape[:2])
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".png" if media_type == PNG else ".jpg", image)
    if not done:
        raise Rejected("dicomweb.not-renderable", "This instance cannot be shown as a picture")
    return Response(encoded.tobytes(), media_type=media_type)


def _to_eight_bits(pixels: npt.NDArray[Any], dataset: Dataset, window: str) -> npt.NDArray[np.uint8]:
    if pixels.ndim == 3:
        return np.ascontiguousarray(pixels if pixels.dtype == np.uint8 else (pixels >> 8), np.uint8)
    values = np.asarray(apply_modality_lut(pixels, dataset), np.float32)
    if window:
        low, high = _bounds(window)
    elif "WindowCenter" in dataset and "WindowWidth" in dataset:
        low, high = _bounds(f"{_first(dataset.WindowCenter)},{_first(dataset.WindowWidth)}")
    else:
        if "VOILUTSequence" in dataset:
            values = np.asarray(apply_voi_lut(values.astype(np.int32), dataset, index=0), np.float32)
        low, high = float(values.min()), float(values.max())
    scaled = np.clip((values - low) * (255.0 / max(high - low, 1e-6)), 0, 255)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        scaled = 255 - scaled
    eight_bits: npt.NDArray[np.uint8] = scaled.astype(np.uint8)
    return eight_bits


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, MultiValue) else value)


def _bounds(window: str) -> tuple[float, float]:
    try:
        centre, width = (float(part) for part in window.split(",")[:2])
    except ValueError as error:
        raise Rejected("dicomweb.bad-window", "window is centre,width[,function]") from error
    return centre - width / 2, centre + width / 2

"""A frame as a picture for people (PS3.18 8.3.5, PS3.4 N.2): window, region and viewport, then an image format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from polyclinic.core.errors import NotFound, Rejected
from polyclinic.departments.archive.ports import KeptFile
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.dicom.planes import UNREADABLE
from polyclinic.edges.dicomweb.stored import frame_arrays, open_kept

JPEG, PNG, JP2 = "image/jpeg", "image/png", "image/jp2"
PICTURES = (JPEG, PNG, JP2)
_SUFFIX = {JPEG: ".jpg", PNG: ".png", JP2: ".jp2"}
_SHAPES = frozenset({"linear", "linear-exact", "sigmoid"})
_LONGEST_EDGE = 8192
_NUMBER = re.compile(r"[+-]?(?:\d{1,9}\.?\d{0,9}|\.\d{1,9})(?:[eE][+-]?\d{1,2})?", re.ASCII)
_PROFILES = frozenset({"no", "yes", "srgb", "adobergb", "rommrgb", "displayp3"})
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewport:
    """Where and how large: the picture fits into `width` x `height` and shows a region of the source (8.3.5.1.3).

    `region` is x, y, width, height in pixels of the source; a negative extent turns the picture over.
    """

    width: int
    height: int
    region: tuple[float | None, float | None, float | None, float | None] = (None, None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """How a frame is to be shown."""

    media_type: str = JPEG
    quality: int = 90
    viewport: Viewport | None = None
    window: tuple[float, float, str] | None = None
    """Centre, width, and shape: ``linear``, ``linear-exact`` or ``sigmoid``."""
    warnings: tuple[str, ...] = ()


def parse_rendering(parameters: Mapping[str, str], media_type: str, *, thumbnail: bool = False) -> Rendering:
    """Query parameters of a rendered resource or a thumbnail.

    Raises
    ------
    Rejected
        ``dicomweb.bad-rendering``, ``dicomweb.bad-window``
    """
    warnings = []
    if parameters.get("annotation"):
        asked = {one.strip() for one in parameters["annotation"].split(",")}
        if not asked <= {"patient", "technique"}:
            raise _bad("annotation is patient, technique or both")
        # Burnt-in demographics leave the house with every copy of the picture
        warnings.append(f"The following annotation values are not supported: {','.join(sorted(asked))}")
    profile = parameters.get("iccprofile", "no")
    if profile not in _PROFILES:
        raise _bad("iccprofile is no, yes, srgb, adobergb, rommrgb or displayp3")
    if profile != "no":
        warnings.append("The iccprofile parameter is not supported: no profile is included.")
    quality = parameters.get("quality", "90")
    if not re.fullmatch(r"\d{1,3}", quality, re.ASCII) or not 1 <= int(quality) <= 100:
        raise _bad("quality is a whole number from 1 to 100")
    window = parameters.get("window", "")
    return Rendering(
        media_type=media_type,
        quality=int(quality),
        viewport=_viewport(parameters.get("viewport", ""), thumbnail=thumbnail),
        window=_window(window) if window else None,
        warnings=tuple(warnings),
    )


def _window(text: str) -> tuple[float, float, str]:
    centre, _, rest = text.partition(",")
    width, _, shape = rest.partition(",")
    shape = shape or "linear"
    if shape not in _SHAPES or not _NUMBER.fullmatch(centre) or not _NUMBER.fullmatch(width):
        raise Rejected("dicomweb.bad-window", "window is centre,width,function: linear, linear-exact or sigmoid")
    if (float(width) < 1 and shape == "linear") or float(width) <= 0:
        raise Rejected("dicomweb.bad-window", "The width of a window is at least 1 (linear) or more than 0")
    return float(centre), float(width), shape


def _viewport(text: str, *, thumbnail: bool) -> Viewport | None:
    if not text:
        return None
    parts = text.split(",")
    if len(parts) not in ((2,) if thumbnail else (2, 6)):
        raise _bad("viewport is width,height" + ("" if thumbnail else " or width,height,x,y,width,height"))
    if not all(re.fullmatch(r"\d{1,5}", part, re.ASCII) and 1 <= int(part) <= _LONGEST_EDGE for part in parts[:2]):
        raise _bad(f"A viewport is 1 to {_LONGEST_EDGE} pixels wide and high")
    if not all(_NUMBER.fullmatch(part) or not part for part in parts[2:]):
        raise _bad("The region of a viewport is four numbers, each of which may be left out")
    region: list[float | None] = [float(part) if part else None for part in parts[2:]] or [None] * 4
    if 0 in region[2:]:
        raise _bad("The region of a viewport is empty")
    x, y, width, height = region
    return Viewport(width=int(parts[0]), height=int(parts[1]), region=(x, y, width, height))


def _bad(message: str) -> Rejected:
    return Rejected("dicomweb.bad-rendering", message)


def rendered_frame(archive: SqlArchive, kept: KeptFile, frame: int, how: Rendering) -> bytes:
    """One frame as an encoded picture; its window is the one asked for, else the instance's first, else its range.

    Raises
    ------
    NotFound
        ``dicomweb.no-frame``
    Rejected
        ``dicomweb.no-decoder``, ``dicomweb.bad-rendering``
    """
    pixels = next(iter(frame_arrays(archive, kept, [frame], raw=False)), None)
    if pixels is None:
        raise NotFound("dicomweb.no-frame", "The instance has no such frame")
    try:
        with open_kept(archive, kept) as file:
            dataset = dcmread(file, force=True, stop_before_pixels=True)
        shown = _eight_bits(pixels, dataset, frame, how.window)
    except UNREADABLE as error:  # a slope or a table that is none, and what else devices write
        raise _not_renderable() from error
    image = _placed(shown, how.viewport)
    if image.ndim == 3:
        image = np.ascontiguousarray(image[:, :, ::-1])  # OpenCV writes BGR
    options = [cv2.IMWRITE_JPEG_QUALITY, how.quality] if how.media_type == JPEG else []
    done, encoded = cv2.imencode(_SUFFIX[how.media_type], image, options)
    if not done:
        raise _not_renderable()
    return bytes(encoded.tobytes())


def _not_renderable() -> Rejected:
    return Rejected("dicomweb.not-renderable", "This instance cannot be shown as a picture")


def _placed(image: Picture, viewport: Viewport | None) -> Picture:
    if viewport is None:
        return image
    rows, columns = image.shape[:2]
    x, y, width, height = viewport.region
    across, down = width if width is not None else columns, height if height is not None else rows
    left, top = round(x or 0), round(y or 0)
    right, bottom = left + max(round(abs(across)), 1), top + max(round(abs(down)), 1)
    if left < 0 or top < 0 or left >= columns or top >= rows:
        raise _bad("The region of the viewport lies outside the image")
    image = image[top : min(bottom, rows), left : min(right, columns)]
    if across < 0:
        image = image[:, ::-1]
    if down < 0:
        image = image[::-1]
    scale = min(viewport.width / image.shape[1], viewport.height / image.shape[0])
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(image), size, interpolation=way), np.uint8)


def _eight_bits(
    pixels: npt.NDArray[Any], dataset: Dataset, frame: int, window: tuple[float, float, str] | None
) -> Picture:
    if pixels.ndim == 3:
        return np.ascontiguousarray(pixels if pixels.dtype == np.uint8 else (pixels >> 8), np.uint8)
    if str(dataset.get("PhotometricInterpretation", "")) == "PALETTE COLOR":
        return _coloured(pixels, dataset)
    of_frame = _functional_group(dataset, "PixelValueTransformationSequence", frame)
    values = np.asarray(apply_modality_lut(pixels, of_frame or dataset), np.float32)
    windowed = _functional_group(dataset, "FrameVOILUTSequence", frame) or dataset
    if window is None and "WindowCenter" in windowed and "WindowWidth" in windowed:
        shape = str(windowed.get("VOILUTFunction", "LINEAR") or "LINEAR").lower().replace("_", "-")
        centre, width = _first(windowed.WindowCenter), _first(windowed.WindowWidth)
        window = (centre, width, shape if shape in _SHAPES else "linear") if width > 0 else None
    if window is None:
        if "VOILUTSequence" in dataset:
            values = np.asarray(apply_voi_lut(values.astype(np.int32), dataset, index=0), np.float32)
        low, high = float(values.min()), float(values.max())
        shown = (values - low) * (255.0 / max(high - low, 1e-6))
    else:
        shown = 255.0 * _windowed(values, *window)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        shown = 255 - shown
    picture: Picture = np.clip(shown, 0, 255).astype(np.uint8)
    return picture


def _windowed(values: npt.NDArray[np.float32], centre: float, width: float, shape: str) -> npt.NDArray[np.float32]:
    """Values from 0 to 1 (PS3.3 C.11.2.1.2.1, C.11.2.1.3)."""
    if shape == "sigmoid":
        exponent = np.clip(-4.0 * (values - centre) / width, -60, 60)
        return np.asarray(1.0 / (1.0 + np.exp(exponent)), np.float32)
    if shape == "linear-exact":
        return np.asarray(np.clip((values - centre) / width + 0.5, 0, 1), np.float32)
    spread = max(width - 1, 1e-6)
    return np.asarray(np.clip((values - (centre - 0.5)) / spread + 0.5, 0, 1), np.float32)


def _coloured(pixels: npt.NDArray[Any], dataset: Dataset) -> Picture:
    from pydicom.pixels.processing import apply_color_lut  # noqa: PLC0415 - few images have palettes

    colours = apply_color_lut(pixels, dataset)
    return np.ascontiguousarray(colours if colours.dtype == np.uint8 else colours >> 8, np.uint8)[:, :, :3]


def _functional_group(dataset: Dataset, sequence: str, frame: int) -> Dataset | None:
    """Item of a functional group of a frame, or that all frames share (PS3.3 C.7.6.16)."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for group in (*per_frame[frame - 1 : frame], *shared[:1]):
        items = group.get(sequence)
        if items:
            return items[0]  # type: ignore[no-any-return]
    return None


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, MultiValue) else value)

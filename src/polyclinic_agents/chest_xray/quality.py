"""Whether the pixels can be judged, and what a reader must know when they barely can."""

from __future__ import annotations

import cv2
import numpy as np

from polyclinic_agents.chest_xray.crop import view_box
from polyclinic_agents.chest_xray.fields import SIDE, Fields, GreyArray, cut, find_fields
from polyclinic_agents.chest_xray.plate import Plate, Unsuitable

FEWEST_VALUES = 24
"""Fewer distinct grey values are a drawing or a saturated film."""
CLIPPED_SHARE = 0.30
"""Share of the fields' box at the darkest or brightest value from which too much is lost."""
TEXT_SHARE = 0.03
"""Share of thin, saturated strokes in the view from which lettering is in the way; ten times that of any film seen."""
LETTERED_SIDE = 180
"""Shorter views are too coarse to tell ribs from strokes."""


def check_pixels(plate: Plate) -> Fields:
    """Find the fields; refuse what is no readable frontal chest.

    Raises
    ------
    Unsuitable
        With reason code and sentence.
    """
    image = plate.image
    if np.unique(image[:: max(image.shape[0] // 256, 1), :: max(image.shape[1] // 256, 1)]).size < FEWEST_VALUES:
        raise Unsuitable("chest-xray.no-contrast", "The image has almost no grey values.")
    fields = find_fields(image)
    if not fields.frontal:
        # Only worth a second look when the first failed.
        if find_fields(image.max() + image.min() - image).frontal:
            raise Unsuitable("chest-xray.inverted", "Dark and bright seem exchanged, against what the header says.")
        raise Unsuitable(
            "chest-xray.no-frontal-chest",
            "Two lung fields were not found: this may be no frontal chest, be turned, or be opaque.",
        )
    view = np.ascontiguousarray(cut(image, view_box(fields.box)))
    if min(view.shape) >= LETTERED_SIDE and text_share(view) > TEXT_SHARE:
        raise Unsuitable("chest-xray.burned-in-text", "Text or markers are drawn over the chest.")
    if clipped_share(view) > CLIPPED_SHARE:
        raise Unsuitable("chest-xray.clipped", "Much of the chest is fully black or fully white.")
    return fields


def clipped_share(view: GreyArray) -> float:
    """Share of pixels at the lowest or highest value of the view, whichever is more."""
    step = max(min(view.shape) // 512, 1)
    sample = view[::step, ::step]
    return float(max((sample == sample.min()).mean(), (sample == sample.max()).mean()))


def text_share(view: GreyArray) -> float:
    """Share of thin strokes near the brightest value that stand out sharply, as lettering and wires do."""
    side = 384
    scale = side / max(view.shape)
    if scale < 1:
        view = np.asarray(cv2.resize(view, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.float32)
    low, high = float(view.min()), float(view.max())
    levels = np.clip((view - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    thin = cv2.morphologyEx(levels, cv2.MORPH_TOPHAT, cv2.getStructuringElement(cv2.MORPH_RECT, (9, 9)))
    return float(((thin > 0.25) & (levels > 0.8)).mean())


def limits(plate: Plate, fields: Fields) -> tuple[str, ...]:
    """What a reader must know of this film."""
    said = []
    if not fields.reliable:
        said.append("The lung fields were not found surely; the whole image was judged.")
    if not plate.view:
        said.append("The header does not say whether this is a PA or AP view.")
    elif plate.view == "AP":
        said.append("AP view: heart and mediastinum look larger, and such patients are often sicker.")
    if plate.burned_in:
        said.append("The header says that text is burned into the image.")
    edges = [
        name
        for name, line in (
            ("top", fields.labels[0]),
            ("bottom", fields.labels[-1]),
            ("left", fields.labels[:, 0]),
            ("right", fields.labels[:, -1]),
        )
        if (line > 0).sum() > SIDE // 12
    ]
    if edges:
        said.append(f"A lung field may be cut off at the {' and '.join(edges)} of the image.")
    return tuple(said)

"""An Outcome as files and back: one JSON document and one compressed array per mask.

Writing the same outcome twice gives the same bytes, so that a run repeated after a crash rewrites what is there.
The JSON document is written last: where it exists, everything it names exists.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from polyclinic.agentkit.outcome import Abstained, Assessed, Mask, MaskLabel, Outcome
from polyclinic.core.errors import Rejected
from polyclinic.core.findings import ImageReference
from polyclinic.core.plain import from_plain, to_plain
from polyclinic.dicom.geometry import VolumeGeometry

DOCUMENT = "outcome.json"

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of every member of an archive, so that equal masks give equal bytes."""


def files_of(outcome: Outcome) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file, the document last."""
    if isinstance(outcome, Abstained):
        yield DOCUMENT, _json({"abstained": to_plain(outcome)})
        return
    masks: list[dict[str, Any]] = []
    for number, mask in enumerate(outcome.masks):
        packed = _pack(mask.voxels)
        # Named by content: should two runs of one agent differ, no document can name the mask of the other.
        name = f"mask-{number}-{hashlib.sha256(packed).hexdigest()[:16]}.npz"
        yield name, packed
        masks.append(
            {
                "id": mask.id,
                "title": mask.title,
                "geometry": to_plain(mask.geometry),
                "labels": to_plain(mask.labels),
                "images": to_plain(mask.images),
                "file": name,
            }
        )
    yield DOCUMENT, _json({"assessed": to_plain(_without_masks(outcome)), "masks": masks})


def outcome_from(read: Callable[[str], bytes], *, masks: bool = True) -> Outcome:
    """Read back what `files_of` wrote.

    Parameters
    ----------
    read
        Content of a file by name.
    masks
        False leaves the masks out, for callers who only want the findings.

    Raises
    ------
    polyclinic.core.errors.Rejected
        ``outcome.unreadable`` or ``plain.mismatch``.
    """
    document = orjson.loads(read(DOCUMENT))
    if "abstained" in document:
        return from_plain(Abstained, document["abstained"])
    assessed = from_plain(Assessed, document["assessed"])
    loaded = tuple(_mask(entry, read) for entry in document["masks"]) if masks else ()
    return _with_masks(assessed, loaded)


def _mask(entry: dict[str, Any], read: Callable[[str], bytes]) -> Mask:
    geometry = from_plain(VolumeGeometry, entry["geometry"])
    return Mask(
        id=entry["id"],
        title=entry["title"],
        geometry=geometry,
        voxels=_unpack(read(entry["file"]), geometry.shape),
        labels=tuple(from_plain(MaskLabel, label) for label in entry["labels"]),
        images=tuple(from_plain(ImageReference, image) for image in entry["images"]),
    )


def _with_masks(outcome: Assessed, masks: tuple[Mask, ...]) -> Assessed:
    return Assessed(
        agent=outcome.agent,
        series_instance_uid=outcome.series_instance_uid,
        findings=outcome.findings,
        masks=masks,
        key_images=outcome.key_images,
        facts=outcome.facts,
        normal=outcome.normal,
        not_assessed=outcome.not_assessed,
        seconds=outcome.seconds,
    )


def _without_masks(outcome: Assessed) -> Assessed:
    return _with_masks(outcome, ())


def _json(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def _pack(voxels: npt.NDArray[np.uint8]) -> bytes:
    """``.npz`` with ``voxels``, the box that holds all non-zero voxels, and ``start``, its first index."""
    start, stop = _box(voxels)
    cropped = np.ascontiguousarray(voxels[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))])
    packed = io.BytesIO()
    # Level 1: label maps are long runs; a higher level costs ten times the time for a fifth of the size.
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in (("start", np.asarray(start, dtype=np.int64)), ("voxels", cropped)):
            member = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            archive.writestr(member, content.getbuffer(), compresslevel=1)
    return packed.getvalue()


def _box(voxels: npt.NDArray[np.uint8]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    start, stop = [], []
    for axis in range(voxels.ndim):
        others = tuple(other for other in range(voxels.ndim) if other != axis)
        used = np.flatnonzero(voxels.any(axis=others))
        start.append(int(used[0]) if used.size else 0)
        stop.append(int(used[-1]) + 1 if used.size else 0)
    return tuple(start), tuple(stop)


def _unpack(packed: bytes, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            start, cropped = arrays["start"], arrays["voxels"]
        voxels = np.zeros(shape, dtype=np.uint8)
        voxels[tuple(slice(int(a), int(a) + n) for a, n in zip(start, cropped.shape, strict=True))] = cropped
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise Rejected("outcome.unreadable", "A stored mask cannot be read; run the agent again") from error
    return voxels

"""STOW-RS of metadata and bulk data (PS3.18 10.5.1.4, 10.5.2): DICOM JSON with large values in parts of their own."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import orjson
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from polyclinic.core.errors import Rejected
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.dicom.header import EXPLICIT_LE, NATIVE
from polyclinic.edges.dicomweb.model import Json
from polyclinic.edges.dicomweb.multipart import Part, parse_media_type
from polyclinic.edges.dicomweb.negotiation import MEDIA_TYPES, OCTETS
from polyclinic.edges.dicomweb.store_outcome import Outcome, cannot_understand, keep_file, reference

JSON_TYPES = frozenset({"application/dicom+json", "application/json"})
MAX_METADATA_BYTES = 64 * 1024 * 1024
MAX_PARTS = 500
DESCRIBED_SPOOL_BYTES = 256 * 1024
"""All parts are needed at once, so larger ones wait in temporary files."""
_DEFAULT_SYNTAXES = {
    "image/jpeg": "1.2.840.10008.1.2.4.70",
    "image/jls": "1.2.840.10008.1.2.4.80",
    "image/jp2": "1.2.840.10008.1.2.4.90",
    "image/jpx": "1.2.840.10008.1.2.4.92",
    "image/dicom-rle": "1.2.840.10008.1.2.5",
}
"""Of a compressed part that names none (PS3.18 table 8.7.3-5)."""
_NOT_STORED = frozenset({"00083002", "00081190", "00080056"})
"""Attributes that a service adds to what it gives out; they describe the service and not the instance."""
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, IndexError, NotImplementedError, OverflowError)


def keep_described(archive: SqlArchive, parts: list[Part], study: str | None, root: str) -> list[Outcome]:
    """Put instances together from metadata and bulk data, and keep each.

    Raises
    ------
    Rejected
        ``dicomweb.bad-metadata`` when the metadata are no array of DICOM JSON objects.
    """
    try:
        described = [part for part in parts if parse_media_type(part.content_type)[0] in JSON_TYPES]
        bulk = {part.location: part for part in parts if part.location and part not in described}
        return [_keep(archive, one, bulk, study, root) for part in described for one in _datasets(part)]
    finally:
        for part in parts:
            part.close()


def _datasets(part: Part) -> Iterator[Json]:
    view = part.view()
    if len(view) > MAX_METADATA_BYTES:
        raise _bad("The metadata are too large: send the instances as application/dicom")
    try:
        found = orjson.loads(view)
    except orjson.JSONDecodeError as error:
        raise _bad("The metadata are no JSON") from error
    found = found if isinstance(found, list) else [found]
    if not all(isinstance(one, dict) for one in found):
        raise _bad("The metadata are an array of DICOM JSON objects (PS3.18 F.2)")
    yield from found


def _keep(archive: SqlArchive, described: Json, bulk: dict[str, Part], study: str | None, root: str) -> Outcome:
    uids: Json = {}
    try:
        uids = reference(_uid(described, "00080016"), _uid(described, "00080018"))
        file = _part10(described, bulk)
    except (*_MALFORMED, RecursionError):
        # What pydicom raises for values that do not fit their VR, missing parts and absurd nesting
        return cannot_understand(uids)
    return keep_file(archive, file, study, root)


def _uid(described: Json, tag: str) -> str:
    return str(described[tag]["Value"][0])


def _part10(described: Json, bulk: dict[str, Part]) -> bytes:
    syntax = EXPLICIT_LE

    def value_of(tag: str, _vr: str, uri: str) -> bytes:
        nonlocal syntax
        part = bulk[uri]
        media_type, parameters = parse_media_type(part.content_type)
        data = bytes(part.view())
        if tag.upper() != "7FE00010" or media_type == OCTETS:
            if parameters.get("transfer-syntax", EXPLICIT_LE) != EXPLICIT_LE:
                raise ValueError("octets are little endian")
            return data
        syntax = parameters.get("transfer-syntax", "") or _DEFAULT_SYNTAXES[media_type]
        if MEDIA_TYPES.get(syntax) != media_type or syntax in NATIVE:
            raise ValueError("media type and transfer syntax contradict each other")
        return bytes(encapsulate([data]))

    own = {tag: element for tag, element in described.items() if tag not in _NOT_STORED and not tag.startswith("0002")}
    dataset = Dataset.from_json(own, bulk_data_uri_handler=value_of)
    frames: Any = dataset.get("NumberOfFrames", 1) or 1
    if syntax not in NATIVE and int(frames) != 1:
        raise ValueError("one compressed part holds one frame")
    if "PixelData" in dataset:
        deep = int(dataset.get("BitsAllocated", 8) or 8) > 8
        dataset["PixelData"].VR = "OW" if deep and syntax in NATIVE else "OB"
    dataset.SpecificCharacterSet = "ISO_IR 192"  # JSON is UTF-8
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    out = BytesIO()
    dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


def _bad(message: str) -> Rejected:
    return Rejected("dicomweb.bad-metadata", message)

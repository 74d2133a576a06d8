"""DICOM JSON of instances as text, remembered: a viewer asks for the metadata of a series again and again."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict

import orjson

from polyclinic.departments.archive.ports import KeptFile
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dicomweb.model import to_json
from polyclinic.edges.dicomweb.stored import etag_of, header_of

REMEMBERED_BYTES = 64 * 1024 * 1024


class MetadataTexts:
    """Makes the text of an instance's metadata once and puts the address of the service in each time.

    What is remembered goes by the content of the instance as it is given out, so a correction is never missed; that
    the instance is still there was asked of the index before.
    """

    def __init__(self, archive: SqlArchive, remembered_bytes: int = REMEMBERED_BYTES) -> None:
        self._archive = archive
        self._limit = remembered_bytes
        self._lock = threading.Lock()
        self._texts: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._address = secrets.token_hex(16)  # stands for the address; no file can hold it

    def text(self, kept: KeptFile, url: str) -> bytes:
        """DICOM JSON object of one instance at this address, with its stored transfer syntax as (0008,3002)."""
        key = etag_of(kept)
        with self._lock:
            found = self._texts.get(key)
            if found is not None:
                self._texts.move_to_end(key)
        if found is None:
            dataset = to_json(header_of(self._archive, kept), self._address)
            dataset["00083002"] = {"vr": "UI", "Value": [kept.record.transfer_syntax_uid]}
            found = orjson.dumps(dataset)
            self._remember(key, found)
        return found.replace(self._address.encode(), orjson.dumps(f"{url}/bulkdata")[1:-1])

    def _remember(self, key: str, text: bytes) -> None:
        with self._lock:
            self._size += len(text) - len(self._texts.pop(key, b""))
            self._texts[key] = text
            while self._size > self._limit:
                self._size -= len(self._texts.popitem(last=False)[1])

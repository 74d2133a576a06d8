"""A small DICOM storage peer for the demo and for tests: it keeps what it is sent in a folder."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from pathlib import Path

from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event

from polyclinic.core.errors import Unavailable
from polyclinic.core.ids import is_uid_lenient


class ReceivingPeer:
    """Storage SCP on a free loopback port."""

    def __init__(self, *, ae_title: str, folder: Path) -> None:
        self._folder = folder
        self._received: set[str] = set()
        self._changed = threading.Condition()
        self._entity = AE(ae_title=ae_title)
        self._entity.supported_contexts = StoragePresentationContexts
        self.port = 0

    def start(self) -> None:
        """Listen in a thread of its own; `port` is known afterwards."""
        self._folder.mkdir(parents=True, exist_ok=True)
        server = self._entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        if server is None:
            raise Unavailable("peer.no-port", "The receiving peer found no port on 127.0.0.1")
        self.port = int(server.server_address[1])

    def stop(self) -> None:
        """Close the port and every association."""
        self._entity.shutdown()

    def wait_for(self, sop_instance_uids: Collection[str], *, timeout_s: float) -> frozenset[str]:
        """Those of the instances that have arrived when all have, or when the time is up."""
        wanted = set(sop_instance_uids)
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not wanted <= self._received and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return frozenset(wanted & self._received)

    def _store(self, event: Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID) if isinstance(event.request, C_STORE) else ""
        if not is_uid_lenient(uid):
            return 0xC000
        (self._folder / f"{uid}.dcm").write_bytes(event.encoded_dataset())
        with self._changed:
            self._received.add(uid)
            self._changed.notify_all()
        return 0x0000

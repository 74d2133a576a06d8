"""The anchor file: signed numbers and hashes of the ledger's newest entries, outside the database.

What it proves: entries up to an anchor are those that were there when it was signed, unless somebody also holds the
key. What it does not: entries after the newest anchor can be cut off unseen, and who can write both the database and
this folder can put an older copy of both in place. Copies of the file elsewhere close that.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from polyclinic.core.errors import Rejected
from polyclinic.departments.access.audit import Anchor, sign_anchor
from polyclinic.departments.access.audit_store import Ledger

ANCHOR_NAME = "audit.anchors"
KEY_NAME = "audit.key"


def load_key(folder: Path) -> bytes:
    """Key that anchors are signed with; made on first use, readable by the owner only."""
    path = folder / KEY_NAME
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
        file.flush()
        os.fsync(file.fileno())
    return path.read_bytes()


def read_anchors(path: Path) -> tuple[Anchor, ...]:
    """The anchors of a file, oldest first; none where there is no file.

    Raises
    ------
    Rejected
        ``audit.bad-anchors``.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
        return tuple(_anchor(json.loads(line)) for line in lines if line.strip())
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"The anchor file {path.name} cannot be read: restore it from a copy, or look into who changed it"
        raise Rejected("audit.bad-anchors", text) from error


class Anchorage:
    """Writes an anchor from time to time, when the ledger has grown."""

    def __init__(
        self, ledger: Ledger, folder: Path, *, every_s: float, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._ledger = ledger
        self._path = folder / ANCHOR_NAME
        self._key = load_key(folder)
        self._every_s = every_s
        self._clock = clock
        self._lock = threading.Lock()
        self._last_at: datetime | None = None

    def turn(self) -> None:
        """Write an anchor when it is time."""
        if self._last_at is None or (self._clock() - self._last_at).total_seconds() >= self._every_s:
            self.write()

    def write(self) -> None:
        """Write an anchor of the newest entry, unless the file has it already."""
        with self._lock:
            now = self._clock()
            self._last_at = now
            sequence, sha256 = self._ledger.head()
            known = read_anchors(self._path)
            newest = max((anchor.sequence for anchor in known), default=0)
            # A ledger that is shorter than an anchor says was cut off: that anchor is the evidence and stays.
            if sequence <= newest:
                return
            self._replace(_thinned((*known, sign_anchor(self._key, sequence, sha256, now))))

    def _replace(self, anchors: Iterable[Anchor]) -> None:
        lines = "".join(json.dumps(_plain(anchor)) + "\n" for anchor in anchors)
        # Two processes of one house may write at once: each moves a whole file into place.
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.{threading.get_ident()}")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)


def _thinned(anchors: tuple[Anchor, ...]) -> list[Anchor]:
    """The last anchor of each day, so that the file stays small."""
    return list({anchor.at.date(): anchor for anchor in anchors}.values())


def _plain(anchor: Anchor) -> dict[str, object]:
    return {
        "sequence": anchor.sequence,
        "sha256": anchor.sha256,
        "at": anchor.at.isoformat(),
        "signature": anchor.signature,
    }


def _anchor(data: dict[str, object]) -> Anchor:
    return Anchor(
        sequence=int(str(data["sequence"])),
        sha256=str(data["sha256"]),
        at=datetime.fromisoformat(str(data["at"])),
        signature=str(data["signature"]),
    )

"""The arithmetic of the audit ledger: canonical content, the chain of hashes, signed anchors. Pure.

Each entry's hash covers its content, its number and the hash before it, so an entry that is edited, taken out, put
in or moved breaks the chain where that was done. The chain alone cannot show that its end was cut off, or that somebody
who knows the algorithm wrote all of it anew; an anchor can: number and hash of an entry, signed with a key that is not
in the database.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from polyclinic.core.audit import AuditEntry, KeptEntry
from polyclinic.core.errors import Rejected

GENESIS_SHA256 = hashlib.sha256(b"polyclinic audit ledger").hexdigest()
"""What the first entry follows."""
LONGEST_DETAIL = 300
MOST_DETAILS = 16


class Damage(StrEnum):
    """What `check_chain` and `check_anchors` find."""

    EDITED = "edited"
    """The row's content or hash is not what was written there."""
    MISSING = "missing"
    """Rows are gone between this number and the one before it."""
    CUT = "cut"
    """Rows are gone at the end: an anchor knows of them."""
    REWRITTEN = "rewritten"
    """The chain is whole, but is not the one that an anchor knows."""
    ANCHOR = "anchor"
    """An anchor's own signature is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One place where the ledger is not as it was written."""

    sequence: int
    damage: Damage
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Number and hash of the newest entry at a time, signed."""

    sequence: int
    sha256: str
    at: datetime
    signature: str


def bounded(entry: AuditEntry) -> AuditEntry:
    """The entry itself, once its detail is known to be small.

    Raises
    ------
    Rejected
        ``audit.too-large``.
    """
    pairs = entry.detail.items()
    if len(entry.detail) > MOST_DETAILS or any(len(k) > 40 or len(v) > LONGEST_DETAIL for k, v in pairs):
        limits = f"{MOST_DETAILS} details of {LONGEST_DETAIL} letters"
        raise Rejected("audit.too-large", f"An audit entry has at most {limits}; record less")
    return entry


def microseconds(at: datetime) -> int:
    """Whole microseconds since 1970 of an aware time, without rounding through a float."""
    since = at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def canonical(sequence: int, entry: AuditEntry) -> bytes:
    """The one way an entry is written for its hash: JSON, keys sorted, no spaces, UTF-8."""
    content = {
        "action": entry.action,
        "address": entry.address,
        "agent_id": entry.agent_id,
        "agent_kind": entry.agent_kind.value,
        "at_us": microseconds(entry.at),
        "detail": dict(entry.detail),
        "issuer": entry.issuer,
        "outcome": entry.outcome.value,
        "patient_id": entry.patient_id,
        "roles": list(entry.roles),
        "sequence": sequence,
        "study_instance_uid": entry.study_instance_uid,
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )


def link(previous_sha256: str, sequence: int, entry: AuditEntry) -> str:
    """Hash of an entry that follows the one with `previous_sha256`."""
    return hashlib.sha256(previous_sha256.encode() + b"\n" + canonical(sequence, entry)).hexdigest()


def chain(previous: tuple[int, str], entries: Iterable[AuditEntry]) -> Iterator[KeptEntry]:
    """Number and link entries that follow `previous` (its number and hash)."""
    sequence, sha256 = previous
    for entry in entries:
        sequence += 1
        sha256 = link(sha256, sequence, entry)
        yield KeptEntry(sequence=sequence, entry=entry, sha256=sha256)


def check_chain(kept: Iterable[KeptEntry]) -> Iterator[Problem | KeptEntry]:
    """Each entry in turn, and before it what is wrong with it.

    After a damaged row the check goes on from the hash that stands there, so that each damaged place is named once.
    """
    sequence, sha256 = 0, GENESIS_SHA256
    for row in kept:
        if row.sequence != sequence + 1:
            first, last = sequence + 1, row.sequence - 1
            gone = f"row {first} is missing" if first == last else f"rows {first} to {last} are missing"
            yield Problem(sequence=first, damage=Damage.MISSING, message=gone)
        elif link(sha256, row.sequence, row.entry) != row.sha256:
            text = f"row {row.sequence} is not what was written after row {sequence}"
            yield Problem(sequence=row.sequence, damage=Damage.EDITED, message=text)
        sequence, sha256 = row.sequence, row.sha256
        yield row


def sign_anchor(key: bytes, sequence: int, sha256: str, at: datetime) -> Anchor:
    """An anchor that only the holder of `key` can make (HMAC-SHA256)."""
    return Anchor(sequence=sequence, sha256=sha256, at=at, signature=_signature(key, sequence, sha256, at))


def is_genuine(anchor: Anchor, key: bytes) -> bool:
    """Whether the anchor was signed with this key and not changed since."""
    return hmac.compare_digest(anchor.signature, _signature(key, anchor.sequence, anchor.sha256, anchor.at))


def _signature(key: bytes, sequence: int, sha256: str, at: datetime) -> str:
    return hmac.new(key, f"{sequence}\n{sha256}\n{microseconds(at)}".encode(), hashlib.sha256).hexdigest()

"""Entries of a segment: the ustar format (POSIX.1-1988 IEEE Std 1003.1), so that plain ``tar -xf`` reads the archive.

Besides what tar needs, an entry carries what is needed to rebuild the index from the files alone: the SHA-256 of
the file in the link name (unused for regular files), the source in the group name, and the time of receipt as
modification time, its microseconds as device number (unused for regular files too).
"""

from __future__ import annotations

from dataclasses import dataclass

BLOCK = 512
END_OF_ARCHIVE = b"\0" * (2 * BLOCK)
MAX_ENTRY_BYTES = 8**11 - 1
VOID = ".void"
"""Name of an entry whose bytes do not count: its instance was answered with a failure, deleted or moved elsewhere."""
_ASIDE = "aside/"
_SNAPSHOT = "snapshots/"
_DELETION = "deletions/"
_OWNER, _OWNER_OF_MOVED = b"polyclinic", b"polyclinic-moved"
_DIGEST_LETTERS = 8
_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file in a segment."""

    name: str
    size_bytes: int
    sha256: str
    source: str
    received_at_us: int
    """Microseconds since 1970."""
    moved: bool = False
    """Whether compaction wrote it: it repeats an entry that lay elsewhere."""

    @property
    def is_aside(self) -> bool:
        return self.name.startswith(_ASIDE)

    @property
    def is_snapshot(self) -> bool:
        return self.name.startswith(_SNAPSHOT)

    @property
    def is_deletion(self) -> bool:
        return self.name.startswith(_DELETION)

    @property
    def is_note(self) -> bool:
        """Whether it holds what the archive wrote about instances (JSON), not an instance."""
        return self.is_snapshot or self.is_deletion

    @property
    def sop_instance_uid(self) -> str:
        """Of the instance it holds, as its name says."""
        name = self.name.rpartition("/")[2].removesuffix(".dcm")
        return name[: -1 - _DIGEST_LETTERS] if self.is_aside else name


def entry_name(study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> str:
    """``study/series/sop.dcm``: fits the 155 + 100 characters of ustar for any UIDs."""
    return f"{study_instance_uid}/{series_instance_uid}/{sop_instance_uid}.dcm"


def aside_name(name: str, sha256: str) -> str:
    """Name of an instance that is kept aside because its UID was here before with other bytes."""
    return f"{_ASIDE}{name.removesuffix('.dcm')}.{sha256[:_DIGEST_LETTERS]}.dcm"


def snapshot_name(study_instance_uid: str, revision: int) -> str:
    """Name of the note about a snapshot."""
    return f"{_SNAPSHOT}{study_instance_uid}/{revision}.json"


def deletion_name(stamp: str) -> str:
    """Name of the note about deleted entries."""
    return f"{_DELETION}{stamp}.json"


def padded(size_bytes: int) -> int:
    """Bytes that a file takes after its header block."""
    return -(-size_bytes // BLOCK) * BLOCK


def pack(entry: Entry) -> bytes:
    """The header block of `entry`."""
    prefix, _, name = entry.name.rpartition("/")
    fields = (
        name.encode().ljust(100, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,
        b"%011o\0" % entry.size_bytes,
        b"%011o\0" % (entry.received_at_us // _SECOND_US),
    )
    rest = (
        b"0" + entry.sha256.encode().ljust(100, b"\0") + b"ustar\x0000",
        (_OWNER_OF_MOVED if entry.moved else _OWNER).ljust(32, b"\0"),
        entry.source.encode("ascii", "replace")[:31].ljust(32, b"\0"),
        b"0000000\0%07o\0" % (entry.received_at_us % _SECOND_US),
        prefix.encode().ljust(155, b"\0") + b"\0" * 12,
    )
    head, tail = b"".join(fields), b"".join(rest)
    return head + b"%06o\0 " % (sum(head) + 8 * 32 + sum(tail)) + tail


def unpack(block: bytes) -> Entry | None:
    """The entry whose header `block` is, or None when it is none (end of archive, torn write)."""
    if len(block) < BLOCK or block[257:263] != b"ustar\0":
        return None
    try:
        if int(block[148:154], 8) != sum(block[:148]) + 8 * 32 + sum(block[156:]):
            return None
        name, prefix = _text(block[:100]), _text(block[345:500])
        return Entry(
            name=f"{prefix}/{name}" if prefix else name,
            size_bytes=int(block[124:135], 8),
            sha256=_text(block[157:257]),
            source=_text(block[297:329]),
            received_at_us=int(block[136:147], 8) * _SECOND_US + int(block[337:344], 8),
            moved=block[265:297].rstrip(b"\0") == _OWNER_OF_MOVED,
        )
    except ValueError:
        return None


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("ascii")

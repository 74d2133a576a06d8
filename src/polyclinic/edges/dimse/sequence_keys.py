"""Sequence matching in query and retrieve (PS3.4 C.2.2.2.6): the index has no sequences, so an instance is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping

from polyclinic.core.errors import PolyclinicError
from polyclinic.departments.archive.ports import KeptFile
from polyclinic.departments.archive.search import Level
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse.identifier import BadIdentifier, Keys, read_sequences
from polyclinic.edges.dimse.value_matching import matches, vr_of
from polyclinic.edges.dimse.worklist_entries import returned

MOST_OPENED = 5_000
"""So many entities are opened for one query; one that needs more must be narrowed by what is indexed."""
LONGEST_HEADER_BYTES = 16 * 1024 * 1024
_TOLD_VRS = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "SQ", "ST", "TM", "UC", "UI", "UR", "US", "UT"}
)


def sequences_of(
    archive: SqlArchive, level: Level, row: RowMapping, wanted: Mapping[str, Sequence[Keys]]
) -> dict[str, Any] | None:
    """What a request asks for of the sequences of a match, None when they do not match.

    A study or series is judged by its first instance: these sequences are the same in all, or should be.
    """
    kept = _first(archive, level, row)
    there = {} if kept is None else _read(archive, kept, wanted)
    values = {keyword: [_plain(item) for item in there.get(keyword, ())] for keyword in wanted}
    return returned(values, (), wanted) if matches(values, {}, wanted) else None


def _first(archive: SqlArchive, level: Level, row: RowMapping) -> KeptFile | None:
    try:
        if level is Level.IMAGE:
            return archive.kept_file(row["SOPInstanceUID"])
        series = row["SeriesInstanceUID"] if level is Level.SERIES else None
        return next(iter(archive.kept_files(row["StudyInstanceUID"], series, limit=1)), None)
    except PolyclinicError:  # deleted since
        return None


def _read(archive: SqlArchive, kept: KeptFile, wanted: Mapping[str, Sequence[Keys]]) -> dict[str, tuple[Keys, ...]]:
    end = kept.record.size_bytes if kept.pixel_offset is None else kept.pixel_offset
    if end - kept.dataset_offset > LONGEST_HEADER_BYTES:
        return {}
    try:
        data = archive.read_part(kept, kept.dataset_offset, end)
        return read_sequences(data, kept.record.transfer_syntax_uid, frozenset(wanted))
    except (BadIdentifier, PolyclinicError):
        return {}


def _plain(item: Keys) -> dict[str, Any]:
    values: dict[str, Any] = {keyword: value for keyword, value in item.values.items() if vr_of(keyword) in _TOLD_VRS}
    return values | {keyword: [_plain(inner) for inner in items] for keyword, items in item.sequences.items()}

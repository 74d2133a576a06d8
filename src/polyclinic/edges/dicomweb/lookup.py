"""From the UIDs of an address to what is kept under them, after asking whether the caller may read it."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request

from polyclinic.core.errors import NotFound
from polyclinic.departments.archive.ports import KeptFile
from polyclinic.departments.archive.store import SqlArchive

Authorize = Callable[[Request, str, str | None], None]


class Lookup:
    """Resolves addresses below ``/studies``."""

    def __init__(self, archive: SqlArchive, authorize: Authorize) -> None:
        self._archive = archive
        self._authorize = authorize

    def files(self, request: Request, study: str, series: str | None = None) -> tuple[KeptFile, ...]:
        """Instances of a study or series. Raises `NotFound` (``archive.no-study``)."""
        self._authorize(request, "read", study)
        found = self._archive.kept_files(study, series)
        if not found:
            raise NotFound("archive.no-study", "There is no such study or series: check its UID")
        return found

    def one(self, request: Request, study: str, series: str, sop: str) -> KeptFile:
        """One instance. Raises `NotFound` (``archive.no-instance``) when it does not lie in that series."""
        self._authorize(request, "read", study)
        kept = self._archive.kept_file(sop)
        if (kept.record.study_instance_uid, kept.record.series_instance_uid) != (study, series):
            raise NotFound("archive.no-instance", "There is no such instance in this series: check its UIDs")
        return kept


def uids_of(kept: KeptFile) -> dict[str, str]:
    """The three UIDs of an instance, as addresses need them."""
    record = kept.record
    return {
        "study_instance_uid": record.study_instance_uid,
        "series_instance_uid": record.series_instance_uid,
        "sop_instance_uid": record.sop_instance_uid,
    }

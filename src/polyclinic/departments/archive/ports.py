"""What the archive offers to the other rooms, and what it needs from the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from polyclinic.departments.archive.contracts import (
    IdentityStep,
    InstanceRecord,
    Receipt,
    Removed,
    SeriesRecord,
    StudyRecord,
    StudySnapshot,
)


class Archive(Protocol):
    """The archive as journeys, screens and edges see it. Every method may be called from any thread."""

    def store(self, part10: bytes | memoryview, *, source: str) -> Receipt:
        """Keep one DICOM file (PS3.10) exactly as given; returns once bytes and index row are durable.

        Raises
        ------
        polyclinic.core.errors.Rejected
            ``archive.not-dicom``, ``archive.truncated``, ``archive.missing-uid`` or ``archive.bad-uid``.
        polyclinic.core.errors.Unavailable
            ``archive.out-of-space``: nothing of the instance is kept.
        """

    def delete(
        self,
        study_instance_uid: str,
        *,
        series_instance_uid: str | None = None,
        sop_instance_uid: str | None = None,
        reason: str,
        by: str,
    ) -> Removed:
        """Take away a study, one of its series or one instance, with what was kept aside of them; for good.

        Who did it and why stays on record with UIDs and hashes, and so do the snapshots. An instance that is sent again
        is new.

        Parameters
        ----------
        reason, by
            One short line each, without patient data.

        Raises
        ------
        NotFound
            ``archive.no-study``, ``archive.no-series`` or ``archive.no-instance``.
        Conflict
            ``archive.on-hold``.
        Rejected
            ``archive.no-reason``.
        """

    def study(self, study_instance_uid: str) -> StudyRecord:
        """Raises `NotFound` (``archive.no-study``)."""

    def studies(self, *, limit: int = 100, offset: int = 0) -> tuple[StudyRecord, ...]:
        """Newest arrival first."""

    def series(self, study_instance_uid: str) -> tuple[SeriesRecord, ...]:
        """By series number, then UID."""

    def instances(self, study_instance_uid: str, series_instance_uid: str | None = None) -> tuple[InstanceRecord, ...]:
        """By series, instance number, then UID."""

    def read(self, sop_instance_uid: str) -> bytes:
        """The kept DICOM file. Raises `NotFound` (``archive.no-instance``)."""

    def unsettled(self) -> tuple[UnsettledStudy, ...]:
        """Studies with non-derived instances that are in no snapshot yet. Cheap: called several times a second."""

    def snapshot(self, study_instance_uid: str, *, evidence: str, at: datetime) -> StudySnapshot:
        """Freeze the study as it is now as its next revision (from 1).

        Idempotent: when nothing changed since the latest snapshot, that one is returned.
        """

    def load_snapshot(self, study_instance_uid: str, revision: int) -> StudySnapshot:
        """Raises `NotFound` (``archive.no-snapshot``)."""

    def priors(self, study_instance_uid: str) -> Sequence[StudyRecord]:
        """Other studies of the same patient id and issuer, newest first."""

    def identity_history(self, study_instance_uid: str) -> Sequence[IdentityStep]:
        """How the patient data of a study were corrected since it came, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsettledStudy:
    """A study that is still arriving."""

    study_instance_uid: str
    instance_count: int
    first_received_at: datetime
    last_received_at: datetime
    open_associations: int
    """Associations that are still open and have sent to this study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """An instance and where its parts lie; offsets in bytes from the start of the kept DICOM file."""

    record: InstanceRecord
    dataset_offset: int
    pixel_offset: int | None
    """Of the pixel data element, when it is the last one of a dataset that is not deflated."""
    segment: str
    offset_bytes: int
    """Of the file within its segment."""
    corrected: int = 0
    """How often the patient data of its study were corrected. When it is not 0 the file leaves with the identity of
    its index row: `ArchiveReads.read` and `stream` give other bytes than lie there, and the offsets do not count."""

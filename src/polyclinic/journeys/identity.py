"""The archive follows the record: a merge or a late correction reaches every study of the patient.

The record keeps each change with a mark until the archive has followed it, so a crash in between is made good by the
next look. Following twice changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from polyclinic.core.people import Patient
from polyclinic.departments.archive.contracts import IdentityCorrection, IdentityStep
from polyclinic.departments.records.patients import PatientChange
from polyclinic.departments.records.ports import Patients
from polyclinic.departments.records.rules import patient_of

log = logging.getLogger(__name__)


class CorrectableArchive(Protocol):
    """The part of the archive that follows the record."""

    def follow_identity(self, change: IdentityCorrection) -> tuple[str, ...]:
        """Give the studies of an identity what is known of it now; the UIDs of those that say something new."""


def followed(
    patients: Patients,
    archive: CorrectableArchive,
    *,
    site_issuer: str,
    tell: Callable[[PatientChange, Sequence[str]], None],
) -> int:
    """Bring the archive to where the record is; how many changes it followed.

    Parameters
    ----------
    site_issuer
        Issuer of the site's own patient identifiers, which images may leave out.
    tell
        Told each change with the Study Instance UIDs that say something new by it, none for most changes.
    """
    count = 0
    for change in patients.pending_changes():
        touched = archive.follow_identity(_correction(patients, change, site_issuer))
        if touched:
            log.info("%s reached %d studies", change.source, len(touched))
        tell(change, touched)
        patients.change_applied(change)
        count += 1
    return count


def _correction(patients: Patients, change: PatientChange, site_issuer: str) -> IdentityCorrection:
    merged = change.after.merged_into is not None
    now = patients.patient(patients.surviving(change.key)) if merged else change.after
    return IdentityCorrection(
        patient_id=change.key.patient_id,
        issuer=change.key.issuer,
        before=patient_of(change.before) if change.before is not None else None,
        patient=patient_of(now),
        merged=merged,
        site_issuer=site_issuer,
        source=change.source,
        at=change.at,
    )


def identity_when(history: Sequence[IdentityStep], at: datetime, now: Patient) -> Patient:
    """Who the patient was held to be at a time, such as that of a signature."""
    return next((step.before for step in history if step.at > at), now)

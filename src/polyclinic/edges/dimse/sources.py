"""What the services of the DICOM node work on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta, timezone, tzinfo

from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.records.ports import Orders, Patients
from polyclinic.edges.dimse.commitment_store import Commitments
from polyclinic.edges.dimse.syntaxes import Service

_OF_THE_ARCHIVE = frozenset({Service.VERIFICATION, Service.STORE, Service.QUERY, Service.RETRIEVE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """A service whose source is missing is not offered."""

    archive: SqlArchive
    orders: Orders | None = None
    patients: Patients | None = None
    commitments: Commitments | None = None
    zone: tzinfo | None = None
    """Time zone of dates and times without one; None means the machine's."""

    @property
    def services(self) -> frozenset[Service]:
        """What is offered."""
        offered = set(_OF_THE_ARCHIVE)
        if self.orders is not None:
            offered.add(Service.PERFORMED)
            if self.patients is not None:
                offered.add(Service.WORKLIST)
        if self.commitments is not None:
            offered.add(Service.COMMITMENT)
        return frozenset(offered)


def zone_of(offset: str) -> tzinfo | None:
    """The zone of Timezone Offset From UTC (0008,0201), e.g. ``+0800``; None when there is none."""
    if len(offset) != 5 or offset[0] not in "+-" or not offset[1:].isdecimal():
        return None
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)) if minutes < 24 * 60 else None

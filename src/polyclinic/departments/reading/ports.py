"""What the reading room offers to the other rooms, and what it needs from them."""

from __future__ import annotations

from typing import Protocol

from polyclinic.core.codes import Code
from polyclinic.core.findings import ImageReference, Point
from polyclinic.departments.reading.contracts import Background, ImagePlane, Report


class Objects(Protocol):
    """Durable bytes by key (an object store): outcomes of agents. Keys are paths with ``/``."""

    def put(self, key: str, data: bytes) -> None:
        """Durable when it returns. Of two puts on a key either may stand, but whole."""

    def get(self, key: str) -> bytes:
        """Raises `polyclinic.core.errors.NotFound` (``objects.no-object`` or ``blobs.no-object``)."""

    def exists(self, key: str) -> bool:
        """Whether `get` would find it."""


class Journeys(Protocol):
    """What a click in the reading room sets going; each is durable and harmless when repeated."""

    def deliver(self, study_instance_uid: str, revision: int) -> None:
        """Build and send the objects of a signed revision; once more where that failed before."""

    def read_again(self, study_instance_uid: str, revision: int) -> None:
        """Walk a study's path to its draft again, after it failed or a failed run was queued once more."""


class StudyFacts(Protocol):
    """What the reading room asks of the archive and the record."""

    def background(self, study_instance_uid: str, revision: int) -> Background:
        """Of a revision that was gathered; empty before."""

    def plane(self, study_instance_uid: str, image: ImageReference) -> ImagePlane:
        """Raises `polyclinic.core.errors.NotFound` or `Rejected` (``reading.no-plane``)."""

    def site_at(self, study_instance_uid: str, revision: int, point_mm: Point) -> Code | None:
        """The anatomy that an agent segmented at that place (LPS, mm), e.g. left lung; None where nobody did."""

    def pdf(self, report: Report) -> bytes:
        """The report as a PDF."""

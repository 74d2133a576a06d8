"""What routing needs from the machine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from polyclinic.departments.routing.contracts import Destination, Job, PatientIdentity, RemoteStudy, Standing


class Outlet(Protocol):
    """An open way to one destination."""

    def send(self, sop_instance_uid: str, alive: Callable[[], None]) -> str:
        """Send one kept instance, in pieces of bounded size.

        Parameters
        ----------
        alive
            Called again and again while the instance goes out, so that others see that somebody is at it.

        Returns
        -------
        str
            Empty when the destination has it, else why it will never take it.

        Raises
        ------
        Unavailable
            When trying later may help.
        NotFound
            When the archive has no such instance any more.
        """


class Outlets(Protocol):
    """Opens ways to destinations."""

    def open(self, destination: Destination, kinds: Collection[tuple[str, str]]) -> AbstractContextManager[Outlet]:
        """The way for instances of these SOP classes in these transfer syntaxes.

        Connecting may happen with the first `Outlet.send`, which then raises.
        """


class Responsibility(Protocol):
    """Asks destinations to take responsibility for what they were sent (DICOM PS3.4 J.3)."""

    def standing(self, destination: Destination, job: Job) -> Standing:
        """What came of the requests for a job; survives a restart."""

    def ask(self, destination: Destination, key: str, number: int, instances: Sequence[tuple[str, str]]) -> None:
        """Ask for the `number`-th time, for (SOP Class UID, SOP Instance UID) pairs; the answer comes later.

        Raises
        ------
        Unavailable
            When trying later may help.
        Rejected
            When the destination does not take part in storage commitment.
        """


class RemoteArchive(Protocol):
    """Another archive that can be asked for studies (DICOM PS3.4 C)."""

    def find(self, source: Destination, identity: PatientIdentity, *, limit_s: float) -> Sequence[RemoteStudy]:
        """Every study of the patient id that the archive tells of; body parts where it tells them.

        Raises
        ------
        Unavailable
            ``priors.no-answer``: it cannot be reached, refuses, or took longer than `limit_s`.
        """

    def fetch(
        self,
        source: Destination,
        study: RemoteStudy,
        keep: Callable[[Arriving], None],
        *,
        retrieve: str,
        limit_s: float,
    ) -> None:
        """Fetch every instance of the study.

        Parameters
        ----------
        keep
            Called for each instance that comes with C-GET; what it raises is told to the archive as a failure.
        retrieve
            ``c-get``, or ``c-move``: the instances then come to our own DICOM node.

        Raises
        ------
        Unavailable
            ``priors.no-answer`` or ``priors.not-all``: some instances could not be sent.
        """


class Arriving(Protocol):
    """One instance on its way in; bytes are valid while it is being kept."""

    @property
    def sop_class_uid(self) -> str: ...
    @property
    def sop_instance_uid(self) -> str: ...
    @property
    def transfer_syntax_uid(self) -> str: ...
    @property
    def dataset(self) -> bytes | memoryview:
        """Encoded, without file meta information."""

"""Nouns of the worklist: workitems, what may be asked of them, what is told about them (DICOM PS3.4 CC, PS3.3 B.26)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

Json = dict[str, Any]
"""A dataset as DICOM JSON (PS3.18 F)."""

PUSH_SOP_CLASS_UID = "1.2.840.10008.5.1.4.34.6.1"
EVENT_SOP_CLASS_UID = "1.2.840.10008.5.1.4.34.6.4"
GLOBAL_SUBSCRIPTION_UID = "1.2.840.10008.5.1.4.34.5"
"""Stands for every workitem, those to come included (PS3.4 CC.2.3.1)."""
FILTERED_SUBSCRIPTION_UID = "1.2.840.10008.5.1.4.34.5.1"
"""Stands for every workitem that matches a filter."""


class State(StrEnum):
    """Procedure Step State (0074,1000)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"

    @property
    def is_final(self) -> bool:
        """Whether no path leads on from here."""
        return self in (State.COMPLETED, State.CANCELED)


class Refusal(StrEnum):
    """Why a request was refused; the words are those that PS3.18 11 gives for the Warning header."""

    MISSING_UID = "The Transaction UID is missing."
    WRONG_UID = "The Transaction UID is incorrect."
    INCONSISTENT = "The submitted request is inconsistent with the state of the UPS Instance."
    ALREADY_COMPLETED = "The UPS is already COMPLETED."
    NOT_CANCELING = "Performer chooses not to cancel."


class EventType(IntEnum):
    """Event Type ID (PS3.4 table CC.2.4-1)."""

    STATE_REPORT = 1
    CANCEL_REQUESTED = 2
    PROGRESS_REPORT = 3
    ASSIGNED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Workitem:
    """One piece of work.

    `dataset` holds neither its state nor its Transaction UID, which is a lock that only its holder knows.
    """

    uid: str
    state: State
    dataset: Json
    transaction_uid: str = ""
    performer: str = ""
    """Empty, or ``platform`` where this platform does the work itself and nobody else may claim it."""
    version: int = 1
    created_at: float = 0.0
    changed_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What subscribers are told."""

    workitem_uid: str
    type: EventType
    information: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkitemQuery:
    """What is searched for.

    `matches` maps paths of tags, e.g. ``"00100020"`` or ``"00404018.00080100"``, to a value, list, range or pattern.
    """

    matches: Mapping[str, str] = field(default_factory=dict)
    limit: int = 100
    offset: int = 0


PLATFORM = "platform"

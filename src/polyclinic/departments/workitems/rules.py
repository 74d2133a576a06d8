"""The state machine of a workitem and what each of its attributes must be, as tables (PS3.4 CC.1.1, CC.2.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from polyclinic.core.errors import Rejected
from polyclinic.core.ids import is_uid_lenient
from polyclinic.departments.workitems.contracts import Json, Refusal, State

TRANSACTION_UID = "00081195"
STATE = "00741000"
PROGRESS = "00741002"
PERFORMED = "00741216"
CANCELLATION_AT = "00404052"
DISCONTINUATION_REASON = "0074100E"
REASON_FOR_CANCELLATION = "00741238"
MODIFIED_AT = "00404010"
SOP_CLASS_UID = "00080016"
SOP_INSTANCE_UID = "00080018"
WORKLIST_LABEL = "00741202"
INPUT_READINESS = "00404041"
PRIORITY = "00741200"
LABEL = "00741204"
START_AT = "00404005"
PATIENT_ID = "00100020"
STUDY_UID = "0020000D"

DEFAULT_WORKLIST = "Polyclinic"
UNSPECIFIED_REASON: Json = {
    "00080100": {"vr": "SH", "Value": ["110513"]},
    "00080102": {"vr": "SH", "Value": ["DCM"]},
    "00080104": {"vr": "LO", "Value": ["Discontinued for unspecified reason"]},
}


class Need(Enum):
    """How an attribute must come with a new workitem (PS3.4 table CC.2.5-3, column N-CREATE)."""

    VALUE = 1
    PRESENT = 2
    """Type 2: added empty where it is left out."""
    EMPTY = 3
    """Present without a value: the work has not begun."""


CREATION: Mapping[str, tuple[str, Need]] = {
    PRIORITY: ("CS", Need.VALUE),
    LABEL: ("LO", Need.VALUE),
    START_AT: ("DT", Need.VALUE),
    INPUT_READINESS: ("CS", Need.VALUE),
    STATE: ("CS", Need.VALUE),
    WORKLIST_LABEL: ("LO", Need.PRESENT),
    "00741210": ("SQ", Need.PRESENT),  # Scheduled Processing Parameters
    "00404025": ("SQ", Need.PRESENT),  # Scheduled Station Name Code
    "00404026": ("SQ", Need.PRESENT),  # Scheduled Station Class Code
    "00404027": ("SQ", Need.PRESENT),  # Scheduled Station Geographic Location Code
    "00404018": ("SQ", Need.PRESENT),  # Scheduled Workitem Code
    "00400400": ("LT", Need.PRESENT),  # Comments on the Scheduled Procedure Step
    "00404021": ("SQ", Need.PRESENT),  # Input Information
    "00100010": ("PN", Need.PRESENT),
    PATIENT_ID: ("LO", Need.PRESENT),
    "00100030": ("DA", Need.PRESENT),
    "00100040": ("CS", Need.PRESENT),
    "00380010": ("LO", Need.PRESENT),  # Admission ID
    "00380014": ("SQ", Need.PRESENT),  # Issuer of Admission ID
    "00081080": ("LO", Need.PRESENT),  # Admitting Diagnoses Description
    "00081084": ("SQ", Need.PRESENT),  # Admitting Diagnoses Code
    "0040A370": ("SQ", Need.PRESENT),  # Referenced Request
    PROGRESS: ("SQ", Need.EMPTY),
    PERFORMED: ("SQ", Need.EMPTY),
}
"""Attributes of the N-CREATE column that this server looks at; others are kept as they come."""

FIXED = frozenset(
    {SOP_CLASS_UID, SOP_INSTANCE_UID, STATE, PATIENT_ID, STUDY_UID, "00100010", "00100021", "00100030", "00100040"}
    | {"00380010", "00380014", "00081080", "00081084", "0040A370", "00741224", MODIFIED_AT}
)
"""Attributes that an update may not touch (column N-SET: not allowed)."""

_CHOICES = {PRIORITY: {"HIGH", "MEDIUM", "LOW"}, INPUT_READINESS: {"INCOMPLETE", "UNAVAILABLE", "READY"}}

COMPLETED_NEEDS = {
    "00404028": "Performed Station Name Code Sequence",
    "00404019": "Performed Workitem Code Sequence",
    "00404050": "Performed Procedure Step Start DateTime",
    "00404051": "Performed Procedure Step End DateTime",
}
"""Within the Performed Procedure Sequence, before a workitem is COMPLETED; Output Information may be empty."""
OUTPUT = "00404033"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a request: the next state, nothing because it is so already, or a refusal."""

    state: State
    refusal: Refusal | None = None
    already: bool = False


class _Change(Enum):
    MADE = 1
    MADE_BEFORE = 2
    REFUSED = 3


_NO, _YES, _SAME = _Change.REFUSED, _Change.MADE, _Change.MADE_BEFORE
_CHANGES: Mapping[State, Mapping[State, _Change]] = {
    wanted: dict(zip(State, row, strict=True))
    for wanted, row in {
        #                   SCHEDULED IN PROGRESS COMPLETED CANCELED
        State.SCHEDULED: (_NO, _NO, _NO, _NO),
        State.IN_PROGRESS: (_YES, _NO, _NO, _NO),
        State.COMPLETED: (_NO, _YES, _SAME, _NO),
        State.CANCELED: (_NO, _YES, _NO, _SAME),
    }.items()
}
"""What a request with the right Transaction UID does, by the state that is asked for and the state that is (PS3.4 table
CC.1.1-2)."""


def change_state(now: State, lock: str, given: str, wanted: State) -> Verdict:
    """Change UPS State (PS3.4 table CC.1.1-2).

    Parameters
    ----------
    now
        The state of the workitem.
    lock
        Its Transaction UID; empty while it is SCHEDULED.
    given
        The Transaction UID that came with the request; empty when none did.
    wanted
        The state that is asked for.
    """
    if not given:
        return Verdict(state=now, refusal=Refusal.MISSING_UID)
    if wanted.is_final and now is not State.SCHEDULED and given != lock:
        return Verdict(state=now, refusal=Refusal.WRONG_UID)
    match _CHANGES[wanted][now]:
        case _Change.MADE:
            return Verdict(state=wanted)
        case _Change.MADE_BEFORE:
            return Verdict(state=now, already=True)
        case _Change.REFUSED:
            return Verdict(state=now, refusal=Refusal.INCONSISTENT)


def request_cancel(now: State) -> Verdict:
    """Request UPS Cancel (PS3.4 CC.2.2.3) for a workitem that somebody else performs or nobody has claimed.

    Of work in progress the performer is told, and decides; its state stays.
    """
    if now is State.COMPLETED:
        return Verdict(state=now, refusal=Refusal.ALREADY_COMPLETED)
    if now is State.CANCELED:
        return Verdict(state=now, already=True)
    return Verdict(state=State.CANCELED if now is State.SCHEDULED else now)


def update_refusal(now: State, lock: str, given: str) -> Refusal | None:
    """Why a workitem may not be updated (PS3.4 CC.2.6.3), or None when it may."""
    if now.is_final:
        return Refusal.INCONSISTENT
    if now is State.IN_PROGRESS and not given:
        return Refusal.MISSING_UID
    if given != lock:
        return Refusal.WRONG_UID
    return None


def new_dataset(dataset: Json) -> tuple[Json, bool]:
    """The dataset of a new workitem, and whether anything had to be added (PS3.4 CC.2.5).

    Raises
    ------
    Rejected
        ``workitems.bad-dataset`` naming the attribute.
    """
    if dataset.get(TRANSACTION_UID, {}).get("Value"):
        raise bad(TRANSACTION_UID, "must be empty: the performer chooses it when it claims the work")
    made, added = {k: v for k, v in dataset.items() if k not in (TRANSACTION_UID, SOP_CLASS_UID)}, False
    for tag, (vr, need) in CREATION.items():
        has_value = bool(made.get(tag, {}).get("Value"))
        if need is Need.VALUE and not has_value:
            raise bad(tag, "is missing or empty")
        if need is Need.EMPTY and has_value:
            raise bad(tag, "must be empty: the work has not begun")
        if tag not in made:
            made[tag] = {"vr": vr}
            added = True
    if text(made, STATE) != State.SCHEDULED:
        raise bad(STATE, "must be SCHEDULED")
    check_values(made)
    if not text(made, WORKLIST_LABEL):
        made[WORKLIST_LABEL] = {"vr": "LO", "Value": [DEFAULT_WORKLIST]}
        added = True
    del made[STATE]
    return made, added


def updated_dataset(dataset: Json, changes: Json) -> Json:
    """The dataset with the changes of an update (PS3.4 CC.2.6).

    Raises
    ------
    Rejected
        ``workitems.bad-dataset`` naming the attribute.
    """
    for tag in changes:
        if tag in FIXED:
            raise bad(tag, "cannot be changed by an update")
    wanted = {k: v for k, v in changes.items() if k != TRANSACTION_UID}
    for tag, (_, need) in CREATION.items():
        if need is Need.VALUE and tag in wanted and not wanted[tag].get("Value"):
            raise bad(tag, "cannot be emptied")
    made = {**dataset, **wanted}
    check_values(made)
    return made


def check_values(dataset: Json) -> None:
    """Raise `Rejected` (``workitems.bad-dataset``) for a value that its attribute cannot have."""
    for tag, choices in _CHOICES.items():
        if tag in dataset and text(dataset, tag) not in choices:
            raise bad(tag, f"must be one of {', '.join(sorted(choices))}")
    for tag in (STUDY_UID, SOP_INSTANCE_UID):
        if (uid := text(dataset, tag)) and not is_uid_lenient(uid):
            raise bad(tag, "is no UID")


def lacks(dataset: Json, wanted: State) -> str | None:
    """What the final state still needs (PS3.4 table CC.2.5-3, column Final State), or None when nothing."""
    if wanted is State.COMPLETED:
        performed = first_item(dataset, PERFORMED)
        if performed is None:
            return "Unified Procedure Step Performed Procedure Sequence"
        missing = next((name for tag, name in COMPLETED_NEEDS.items() if not performed.get(tag, {}).get("Value")), None)
        return missing or (None if OUTPUT in performed else "Output Information Sequence")
    if wanted is State.CANCELED:
        progress = first_item(dataset, PROGRESS)
        if progress is None or not progress.get(DISCONTINUATION_REASON, {}).get("Value"):
            return "Procedure Step Discontinuation Reason Code Sequence"
    return None


def with_cancellation(dataset: Json, at: datetime, *, reason: str = "", code: Json | None = None) -> Json:
    """The dataset with the time of its cancellation, and with a reason where none was given."""
    progress = dict(first_item(dataset, PROGRESS) or {})
    if not progress.get(CANCELLATION_AT, {}).get("Value"):
        progress[CANCELLATION_AT] = {"vr": "DT", "Value": [dicom_moment(at)]}
    if not progress.get(DISCONTINUATION_REASON, {}).get("Value"):
        progress[DISCONTINUATION_REASON] = {"vr": "SQ", "Value": [code or UNSPECIFIED_REASON]}
    if reason and not text(progress, REASON_FOR_CANCELLATION):
        progress[REASON_FOR_CANCELLATION] = {"vr": "LT", "Value": [reason]}
    return {**dataset, PROGRESS: {"vr": "SQ", "Value": [progress]}}


def text(dataset: Json, tag: str) -> str:
    """First value of an attribute as text; empty where there is none."""
    values = dataset.get(tag, {}).get("Value") or [""]
    return values[0] if isinstance(values[0], str) else ""


def first_item(dataset: Json, tag: str) -> Json | None:
    """First item of a sequence."""
    values = dataset.get(tag, {}).get("Value") or []
    return values[0] if values and isinstance(values[0], dict) else None


def dicom_moment(at: datetime) -> str:
    """A DT value in UTC."""
    return at.strftime("%Y%m%d%H%M%S.%f+0000")


def bad(tag: str, why: str) -> Rejected:
    """The refusal of an attribute; names the tag, never its value."""
    return Rejected("workitems.bad-dataset", f"Attribute ({tag[:4]},{tag[4:]}) {why}")

"""Command sets: group 0000 in implicit VR little endian (PS3.7 6.3, E.1)."""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct, error, pack

from polyclinic.edges.dimse.statuses import Status

AFFECTED_SOP_CLASS_UID = 0x0002
REQUESTED_SOP_CLASS_UID = 0x0003
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_RESPONDED_TO = 0x0120
PRIORITY = 0x0700
DATA_SET_TYPE = 0x0800
STATUS = 0x0900
ERROR_COMMENT = 0x0902
ERROR_ID = 0x0903
MOVE_DESTINATION = 0x0600
AFFECTED_SOP_INSTANCE_UID = 0x1000
REQUESTED_SOP_INSTANCE_UID = 0x1001
EVENT_TYPE_ID = 0x1002
ACTION_TYPE_ID = 0x1008
REMAINING, COMPLETED, FAILED, WARNING = 0x1020, 0x1021, 0x1022, 0x1023
"""Numbers of sub-operations."""
MOVE_ORIGINATOR = 0x1030
MOVE_ORIGINATOR_MESSAGE_ID = 0x1031

C_STORE_RQ = 0x0001
C_GET_RQ = 0x0010
C_FIND_RQ = 0x0020
C_MOVE_RQ = 0x0021
C_ECHO_RQ = 0x0030
N_EVENT_REPORT_RQ = 0x0100
N_GET_RQ = 0x0110
N_SET_RQ = 0x0120
N_ACTION_RQ = 0x0130
N_CREATE_RQ = 0x0140
C_CANCEL_RQ = 0x0FFF
RESPONSE = 0x8000
NO_DATA_SET = 0x0101
HAS_DATA_SET = 0x0001

_ELEMENT = Struct("<HHL")
_NAMED_IN_RESPONSES = (
    (REQUESTED_SOP_CLASS_UID, AFFECTED_SOP_CLASS_UID),
    (REQUESTED_SOP_INSTANCE_UID, AFFECTED_SOP_INSTANCE_UID),
)
"""Normalised services name what they change as requested, and as affected in the response (PS3.7 10.1)."""
_TEXT = frozenset({ERROR_COMMENT, MOVE_DESTINATION, MOVE_ORIGINATOR})


class Command:
    """A received command set."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[int, bytes]) -> None:
        self._values = values

    def number(self, element: int) -> int | None:
        """A US value."""
        raw = self._values.get(element, b"")
        return int.from_bytes(raw, "little") if len(raw) == 2 else None

    def uid(self, element: int) -> str:
        """A UI value, or an AE title without its padding; empty when absent."""
        return self._values.get(element, b"").strip(b"\0 ").decode("ascii", "replace")

    @property
    def has_data_set(self) -> bool:
        return self.number(DATA_SET_TYPE) not in (NO_DATA_SET, None)


def decode(data: bytes | bytearray) -> Command:
    """Read a command set; raises ValueError when it is none."""
    values: dict[int, bytes] = {}
    position = 0
    while position < len(data):
        try:
            group, element, length = _ELEMENT.unpack_from(data, position)
        except error as problem:
            raise ValueError("The command set is cut") from problem
        position += 8
        if group != 0 or position + length > len(data):
            raise ValueError("The command set holds something else")
        values[element] = bytes(data[position : position + length])
        position += length
    return Command(values)


def encode(values: dict[int, int | str]) -> bytes:
    """A command set with its group length; integers are US, text is padded with a null (UIDs) or a space."""
    body = b""
    for element in sorted(values):
        value = values[element]
        if isinstance(value, int):
            raw = pack("<H", value)
        else:
            raw = value.encode("ascii", "replace")
            raw += (b" " if element in _TEXT else b"\0") * (len(raw) % 2)
        body += _ELEMENT.pack(0, element, len(raw)) + raw
    return _ELEMENT.pack(0, 0, 4) + pack("<L", len(body)) + body


def response(
    request: Command, status: Status, more: Mapping[int, int | str] | None = None, *, has_data_set: bool = False
) -> bytes:
    """An answer to a request; `more` holds elements of this response only, as numbers of sub-operations."""
    values: dict[int, int | str] = {
        COMMAND_FIELD: (request.number(COMMAND_FIELD) or 0) | RESPONSE,
        MESSAGE_ID_RESPONDED_TO: request.number(MESSAGE_ID) or 0,
        DATA_SET_TYPE: HAS_DATA_SET if has_data_set else NO_DATA_SET,
        STATUS: status.code,
    }
    for requested, affected in _NAMED_IN_RESPONSES:
        if uid := request.uid(affected) or request.uid(requested):
            values[affected] = uid
    for element in (EVENT_TYPE_ID, ACTION_TYPE_ID):
        if (kind := request.number(element)) is not None:
            values[element] = kind
    if status.comment:
        values[ERROR_COMMENT] = status.comment[:64]
    if status.error_id is not None:
        values[ERROR_ID] = status.error_id
    for element, value in (more or {}).items():
        values[element] = min(value, 0xFFFF) if isinstance(value, int) else value
    return encode(values)

"""Command sets: group 0000 in implicit VR little endian (PS3.7 6.3, E.1)."""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct, error, pack

from polyclinic.edges.dimse.statuses import Status

AFFECTED_SOP_CLASS_UID = 0x0002
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_RESPONDED_TO = 0x0120
PRIORITY = 0x0700
DATA_SET_TYPE = 0x0800
STATUS = 0x0900
ERROR_COMMENT = 0x0902
MOVE_DESTINATION = 0x0600
AFFECTED_SOP_INSTANCE_UID = 0x1000
REMAINING, COMPLETED, FAILED, WARNING = 0x1020, 0x1021, 0x1022, 0x1023
"""Numbers of sub-operations."""
MOVE_ORIGINATOR = 0x1030
MOVE_ORIGINATOR_MESSAGE_ID = 0x1031

C_STORE_RQ = 0x0001
C_GET_RQ = 0x0010
C_FIND_RQ = 0x0020
C_MOVE_RQ = 0x0021
C_ECHO_RQ = 0x0030
C_CANCEL_RQ = 0x0FFF
RESPONSE = 0x8000
NO_DATA_SET = 0x0101
HAS_DATA_SET = 0x0001

_ELEMENT = Struct("<HHL")
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
    request: Command, status: Status, counts: Mapping[int, int] | None = None, *, has_data_set: bool = False
) -> bytes:
    """An answer to a request; `counts` are numbers of sub-operations by element."""
    values: dict[int, int | str] = {
        COMMAND_FIELD: (request.number(COMMAND_FIELD) or 0) | RESPONSE,
        MESSAGE_ID_RESPONDED_TO: request.number(MESSAGE_ID) or 0,
        DATA_SET_TYPE: HAS_DATA_SET if has_data_set else NO_DATA_SET,
        STATUS: status.code,
        **{element: min(count, 0xFFFF) for element, count in (counts or {}).items()},
    }
    for element in (AFFECTED_SOP_CLASS_UID, AFFECTED_SOP_INSTANCE_UID):
        if uid := request.uid(element):
            values[element] = uid
    if status.comment:
        values[ERROR_COMMENT] = status.comment[:64]
    return encode(values)

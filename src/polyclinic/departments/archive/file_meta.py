"""File meta information for datasets that came without one (DICOM PS3.10 7.1)."""

from __future__ import annotations

from struct import pack

IMPLEMENTATION_CLASS_UID = "2.25.210376208284303226098398245092110532837"
IMPLEMENTATION_VERSION_NAME = "POLYCLINIC_1"


def file_meta(*, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, source_ae_title: str) -> bytes:
    """Preamble, prefix and group 0002, ready to be followed by the dataset bytes."""
    source = source_ae_title.encode("ascii", "replace")[:16]
    elements = b"".join(
        (
            pack("<HH2sHL2s", 2, 0x0001, b"OB", 0, 2, b"\0\1"),
            _short(0x0002, b"UI", _uid(sop_class_uid)),
            _short(0x0003, b"UI", _uid(sop_instance_uid)),
            _short(0x0010, b"UI", _uid(transfer_syntax_uid)),
            _short(0x0012, b"UI", _uid(IMPLEMENTATION_CLASS_UID)),
            _short(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode()),
            _short(0x0016, b"AE", source + b" " * (len(source) % 2)),
        )
    )
    return b"\0" * 128 + b"DICM" + _short(0x0000, b"UL", pack("<L", len(elements))) + elements


def _uid(value: str) -> bytes:
    encoded = value.encode("ascii")
    return encoded + b"\0" * (len(encoded) % 2)


def _short(element: int, vr: bytes, value: bytes) -> bytes:
    return pack("<HH2sH", 2, element, vr, len(value)) + value

"""What the node takes: transfer syntaxes and SOP classes, as data."""

from __future__ import annotations

from enum import StrEnum

from pynetdicom.sop_class import _STORAGE_CLASSES


class Service(StrEnum):
    """A service class that a peer may be allowed to use."""

    VERIFICATION = "verification"
    STORE = "store"
    QUERY = "query"
    RETRIEVE = "retrieve"
    WORKLIST = "worklist"
    PERFORMED = "mpps"
    COMMITMENT = "commitment"


VERIFICATION = "1.2.840.10008.1.1"
_MODELS = "1.2.840.10008.5.1.4.1.2"
PATIENT_ROOT_FIND, PATIENT_ROOT_MOVE, PATIENT_ROOT_GET = (f"{_MODELS}.1.{n}" for n in (1, 2, 3))
STUDY_ROOT_FIND, STUDY_ROOT_MOVE, STUDY_ROOT_GET = (f"{_MODELS}.2.{n}" for n in (1, 2, 3))
FIND = frozenset({PATIENT_ROOT_FIND, STUDY_ROOT_FIND})
MOVE = frozenset({PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE})
GET = frozenset({PATIENT_ROOT_GET, STUDY_ROOT_GET})
QUERY_RETRIEVE = FIND | MOVE | GET
"""SOP classes of query and retrieve (PS3.4 C.6)."""
WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
PERFORMED_STEP = "1.2.840.10008.3.1.2.3.3"
PERFORMED_STEP_RETRIEVE = "1.2.840.10008.3.1.2.3.4"
COMMITMENT_PUSH = "1.2.840.10008.1.20.1"
COMMITMENT_PUSH_INSTANCE = "1.2.840.10008.1.20.1.1"
"""The well-known instance that storage commitment is asked of (PS3.4 J.3.5)."""

NAMED_SOP_CLASSES: dict[str, tuple[str, Service]] = {
    VERIFICATION: ("Verification", Service.VERIFICATION),
    PATIENT_ROOT_FIND: ("Patient Root Query/Retrieve Information Model - FIND", Service.QUERY),
    STUDY_ROOT_FIND: ("Study Root Query/Retrieve Information Model - FIND", Service.QUERY),
    PATIENT_ROOT_MOVE: ("Patient Root Query/Retrieve Information Model - MOVE", Service.RETRIEVE),
    STUDY_ROOT_MOVE: ("Study Root Query/Retrieve Information Model - MOVE", Service.RETRIEVE),
    PATIENT_ROOT_GET: ("Patient Root Query/Retrieve Information Model - GET", Service.RETRIEVE),
    STUDY_ROOT_GET: ("Study Root Query/Retrieve Information Model - GET", Service.RETRIEVE),
    WORKLIST_FIND: ("Modality Worklist Information Model - FIND", Service.WORKLIST),
    PERFORMED_STEP: ("Modality Performed Procedure Step", Service.PERFORMED),
    PERFORMED_STEP_RETRIEVE: ("Modality Performed Procedure Step Retrieve", Service.PERFORMED),
    COMMITMENT_PUSH: ("Storage Commitment Push Model", Service.COMMITMENT),
}
"""What the node does beside storage, by SOP class."""
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
_NAMED_STORAGE = frozenset(map(str, _STORAGE_CLASSES.values()))

_ROOT = "1.2.840.10008.1.2"
TRANSFER_SYNTAXES: dict[str, str] = {
    f"{_ROOT}.1": "Explicit VR Little Endian",
    _ROOT: "Implicit VR Little Endian",
    f"{_ROOT}.2": "Explicit VR Big Endian",
    f"{_ROOT}.1.99": "Deflated Explicit VR Little Endian",
    f"{_ROOT}.1.98": "Encapsulated Uncompressed Explicit VR Little Endian",
    f"{_ROOT}.4.50": "JPEG Baseline",
    f"{_ROOT}.4.51": "JPEG Extended",
    f"{_ROOT}.4.57": "JPEG Lossless",
    f"{_ROOT}.4.70": "JPEG Lossless, First-Order Prediction",
    f"{_ROOT}.4.80": "JPEG-LS Lossless",
    f"{_ROOT}.4.81": "JPEG-LS Near-Lossless",
    f"{_ROOT}.4.90": "JPEG 2000 Lossless",
    f"{_ROOT}.4.91": "JPEG 2000",
    f"{_ROOT}.4.92": "JPEG 2000 Multi-component Lossless",
    f"{_ROOT}.4.93": "JPEG 2000 Multi-component",
    f"{_ROOT}.4.100": "MPEG2 Main Profile, Main Level",
    f"{_ROOT}.4.100.1": "Fragmentable MPEG2 Main Profile, Main Level",
    f"{_ROOT}.4.101": "MPEG2 Main Profile, High Level",
    f"{_ROOT}.4.101.1": "Fragmentable MPEG2 Main Profile, High Level",
    f"{_ROOT}.4.102": "MPEG-4 AVC/H.264 High Profile",
    f"{_ROOT}.4.102.1": "Fragmentable MPEG-4 AVC/H.264 High Profile",
    f"{_ROOT}.4.103": "MPEG-4 AVC/H.264 BD-compatible High Profile",
    f"{_ROOT}.4.103.1": "Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile",
    f"{_ROOT}.4.104": "MPEG-4 AVC/H.264 High Profile for 2D Video",
    f"{_ROOT}.4.104.1": "Fragmentable MPEG-4 AVC/H.264 High Profile for 2D Video",
    f"{_ROOT}.4.105": "MPEG-4 AVC/H.264 High Profile for 3D Video",
    f"{_ROOT}.4.105.1": "Fragmentable MPEG-4 AVC/H.264 High Profile for 3D Video",
    f"{_ROOT}.4.106": "MPEG-4 AVC/H.264 Stereo High Profile",
    f"{_ROOT}.4.106.1": "Fragmentable MPEG-4 AVC/H.264 Stereo High Profile",
    f"{_ROOT}.4.107": "HEVC/H.265 Main Profile",
    f"{_ROOT}.4.108": "HEVC/H.265 Main 10 Profile",
    f"{_ROOT}.4.110": "JPEG XL Lossless",
    f"{_ROOT}.4.111": "JPEG XL JPEG Recompression",
    f"{_ROOT}.4.112": "JPEG XL",
    f"{_ROOT}.4.201": "High-Throughput JPEG 2000 Lossless",
    f"{_ROOT}.4.202": "High-Throughput JPEG 2000 with RPCL Options Lossless",
    f"{_ROOT}.4.203": "High-Throughput JPEG 2000",
    f"{_ROOT}.5": "RLE Lossless",
    f"{_ROOT}.8.1": "Deflated Image Frame Compression",
}
"""Transfer syntaxes that C-STORE takes, by UID: all whose bytes are complete without a second server."""

UNCOMPRESSED = (f"{_ROOT}.1", _ROOT, f"{_ROOT}.2")


def is_storage(sop_class_uid: str) -> bool:
    """Whether a SOP class belongs to the storage service (PS3.4 B.5), known by name or by its place in the tree."""
    return sop_class_uid.startswith(_STORAGE_ROOT) or sop_class_uid in _NAMED_STORAGE


def service_of(abstract_syntax: str) -> Service | None:
    """The service of the node that an abstract syntax belongs to; None when it has none."""
    named = NAMED_SOP_CLASSES.get(abstract_syntax)
    if named is not None:
        return named[1]
    return Service.STORE if is_storage(abstract_syntax) else None


def accepted_syntax(abstract_syntax: str, proposed: list[str]) -> str | None:
    """The first proposed transfer syntax that the node takes: the sender's preference keeps its bytes as they are."""
    known = TRANSFER_SYNTAXES if is_storage(abstract_syntax) else UNCOMPRESSED
    return next((syntax for syntax in proposed if syntax in known), None)

"""What C-GET proposes to take: storage SOP classes, each in groups of transfer syntaxes (PS3.4 C.4.3)."""

from __future__ import annotations

from collections.abc import Sequence

from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_ROOT = "1.2.840.10008.1.2"
_GROUPS = (
    (f"{_ROOT}.1", _ROOT, f"{_ROOT}.2"),
    (f"{_ROOT}.4.70", f"{_ROOT}.4.57"),
    (f"{_ROOT}.4.90", f"{_ROOT}.4.91"),
    (f"{_ROOT}.4.80", f"{_ROOT}.4.81"),
    (f"{_ROOT}.4.50", f"{_ROOT}.4.51"),
    (f"{_ROOT}.5",),
)
"""An archive picks one syntax of a group; most convert among the uncompressed ones only."""
_MOST_CONTEXTS = 127
"""One is for C-GET itself."""

_BY_MODALITY: dict[str, tuple[str, ...]] = {
    "CT": ("2", "2.1", "2.2"),
    "MR": ("4", "4.1", "4.2", "4.4"),
    "CR": ("1",),
    "DX": ("1.1", "1.1.1"),
    "MG": ("1.2", "1.2.1", "13.1.3"),
    "IO": ("1.3",),
    "US": ("6.1", "3.1"),
    "PT": ("128", "130"),
    "NM": ("20",),
    "XA": ("12.1", "12.1.1"),
    "RF": ("12.2", "12.2.1"),
    "SEG": ("66.4", "66.7"),
    "SR": ("88.11", "88.22", "88.33", "88.34"),
    "KO": ("88.59",),
    "PR": ("11.1", "11.2"),
    "OP": ("77.1.5.1", "77.1.5.4"),
    "ES": ("77.1.1",),
    "SM": ("77.1.6",),
    "DOC": ("104.1",),
    "RTSTRUCT": ("481.3",),
    "RTDOSE": ("481.2",),
    "RTPLAN": ("481.5",),
}
_BESIDE = ("7", "7.2", "7.4", "88.22", "88.33", "88.59", "11.1", "104.1", "66.4")
"""Found in studies of every modality: secondary captures, reports, key objects, presentation states."""


def storage_contexts(
    sop_class_uids: Sequence[str], modalities: Sequence[str]
) -> tuple[tuple[str, ...], list[PresentationContext]]:
    """SOP classes and presentation contexts for a study.

    Parameters
    ----------
    sop_class_uids
        What the archive says is in it; where it says nothing the classes follow from the `modalities`, and those are
        the usual ones when they are unknown too.
    """
    wanted = list(dict.fromkeys(sop_class_uids))
    if not wanted:
        known = [m for m in modalities if m in _BY_MODALITY] or ["CT", "MR", "CR", "DX"]
        ends = dict.fromkeys([end for m in known for end in _BY_MODALITY[m]] + list(_BESIDE))
        wanted = [_STORAGE + end for end in ends]
    # Uncompressed for every class first, should there be no room for all
    pairs = [(uid, list(group)) for group in _GROUPS for uid in wanted]
    contexts = [build_context(uid, group) for uid, group in pairs[:_MOST_CONTEXTS]]
    classes = tuple(dict.fromkeys(str(context.abstract_syntax) for context in contexts))
    return classes, contexts

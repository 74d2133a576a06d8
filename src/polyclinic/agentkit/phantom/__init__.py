"""Synthetic chest CT with exact truth, for the demonstration, tests and benchmarks."""

from polyclinic.agentkit.phantom.generate import make_chest_phantom, phantom_geometry
from polyclinic.agentkit.phantom.spec import (
    LEFT_LUNG_LABEL,
    RIGHT_LUNG_LABEL,
    ChestPhantom,
    Kernel,
    NoduleKind,
    NoduleSpec,
    NoduleTruth,
    PhantomStudy,
)
from polyclinic.agentkit.phantom.writer import (
    series_instance_uid,
    sop_instance_uid,
    study_instance_uid,
    to_datasets,
    write_phantom,
)

__all__ = [
    "LEFT_LUNG_LABEL",
    "RIGHT_LUNG_LABEL",
    "ChestPhantom",
    "Kernel",
    "NoduleKind",
    "NoduleSpec",
    "NoduleTruth",
    "PhantomStudy",
    "make_chest_phantom",
    "phantom_geometry",
    "series_instance_uid",
    "sop_instance_uid",
    "study_instance_uid",
    "to_datasets",
    "write_phantom",
]

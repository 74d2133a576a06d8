"""Chests that several tests of chest_ct look at; each phantom is made once a session."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from polyclinic.agentkit.phantom import ChestPhantom, make_chest_phantom, to_datasets
from polyclinic.app.dicom_folder import read_folder
from polyclinic.core.findings import Source, SourceKind
from polyclinic.dicom.volume import read_volume
from polyclinic_agents.chest_ct.check import Chest
from polyclinic_agents.chest_ct.lungs import find_lungs
from polyclinic_agents.chest_ct.origin import Origin
from polyclinic_agents.chest_ct.scan import Scan, turn


def chest_of(scan: Scan) -> Chest:
    """What the checks are given, with the lungs found on this scan."""
    lungs = find_lungs(scan)
    assert lungs is not None
    source = Source(kind=SourceKind.AGENT, id="a", version="1")
    origin = Origin(study_instance_uid="1.2", series_instance_uid="1.2.3", source=source)
    return Chest(scan=scan, lungs=lungs, origin=origin, context={})


@cache
def phantom(seed: int = 3, *, contrast: bool = False) -> Chest:
    """A small synthetic chest."""
    spec = ChestPhantom.small(seed=seed, contrast=contrast)
    return chest_of(turn(read_volume(list(to_datasets(make_chest_phantom(spec))))))


@cache
def real(folder: Path) -> Chest:
    """The first series of a folder of DICOM files."""
    case = read_folder(folder).studies[0].case()
    return chest_of(turn(read_volume(case.series[0].datasets)))

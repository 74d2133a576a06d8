"""What an agent is asked: each probe is a study and what must come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from polyclinic.agentkit.bench import changes, synthetic
from polyclinic.agentkit.bench.changes import CHANGES, QUICK, NotApplicable
from polyclinic.agentkit.case import Case
from polyclinic.agentkit.manifest import Manifest

OWN = "synthetic"


class Kind(StrEnum):
    """What a probe is for."""

    FIRST = "as it is"
    AGAIN = "once more"
    OUTSIDE = "outside the population"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """`study` is `OWN` or the name of a given study; `name` a change or a way to be outside, empty for none."""

    study: str
    kind: Kind
    name: str = ""

    @property
    def title(self) -> str:
        """As a table shows it."""
        return f"{self.study}: {self.name or self.kind.value}"


OTHER_MODALITY = "another modality"
TOO_FEW = "too few images"
EMPTY_SERIES = "a series without images"
EMPTY_STUDY = "a study without series"
OTHER_BODY_PART = "another body part"
TRUNCATED = "a tenth of the volume"
OUTSIDE = (OTHER_MODALITY, TOO_FEW, EMPTY_SERIES, EMPTY_STUDY, OTHER_BODY_PART, TRUNCATED)


def probes(studies: tuple[str, ...], *, quick: bool) -> tuple[Probe, ...]:
    """Every probe in the order in which it is run; `quick` leaves most changes out."""
    wanted = QUICK if quick else tuple(CHANGES)
    asked = [Probe(study=study, kind=Kind.FIRST) for study in studies]
    asked += [Probe(study=OWN, kind=Kind.OUTSIDE, name=name) for name in OUTSIDE]
    asked += [Probe(study=study, kind=Kind.CHANGED, name=name) for study in studies for name in wanted]
    asked += [Probe(study=study, kind=Kind.AGAIN) for study in studies]
    return tuple(asked)


def case_for(probe: Probe, studies: Mapping[str, Case], manifest: Manifest) -> Case:
    """The study of a probe.

    Raises
    ------
    NotApplicable
        When the probe means nothing for this agent or study.
    """
    case = studies[probe.study]
    if probe.kind is Kind.CHANGED:
        return CHANGES[probe.name].apply(case)
    if probe.kind is Kind.OUTSIDE:
        return _outside(probe.name, case, manifest)
    return case


def _outside(name: str, case: Case, manifest: Manifest) -> Case:
    inputs = manifest.inputs
    if name == OTHER_MODALITY:
        return changes.relabelled(case, next(m for m in ("MR", "US", "CT", "OT") if m not in inputs.modality))
    if name == EMPTY_SERIES:
        return changes.first_images(case, 0)
    if name == EMPTY_STUDY:
        return replace(case, series=())
    if name == TOO_FEW:
        if inputs.minimum_instances == 1:
            raise NotApplicable("one image is enough for this agent")
        return changes.first_images(case, inputs.minimum_instances - 1)
    if name == OTHER_BODY_PART:
        if not inputs.body_part:
            raise NotApplicable("the manifest names no body part")
        return synthetic.other_body_part(manifest)
    if not changes.is_volume(case):
        raise NotApplicable("the study is no volume")
    return changes.first_images(case, max(sum(len(one.datasets) for one in case.series) // 10, 1))

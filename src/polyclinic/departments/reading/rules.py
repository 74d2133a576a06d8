"""Decisions of the reading room, all pure: what a decision does, who goes first, which agents look.

What may not reach a reader at all is in `checks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from polyclinic.agentkit.manifest import Manifest, Stage
from polyclinic.core import codes
from polyclinic.core.codes import Code
from polyclinic.core.errors import Conflict, Rejected
from polyclinic.core.findings import Attribute, Finding, FindingState, Measurement, SourceKind
from polyclinic.core.units import MILLIMETRE
from polyclinic.departments.reading.contracts import (
    Agreement,
    DecidedFinding,
    Decision,
    DecisionKind,
    FindingEdit,
    PlannedSeries,
    Scenario,
    Task,
    Urgency,
)

DIAMETER_LIMITS_MM = (1.0, 200.0)
"""A diameter outside is a mistake of the ruler, of an agent or of a person."""

PRIORITY_DIAMETER_MM = 15.0
"""Lung-RADS v2022: a solid nodule of 15 mm or more at baseline is category 4B."""

ATTENUATION: Mapping[str, Code] = {
    code.code: code for code in (codes.SOLID, codes.PART_SOLID, codes.GROUND_GLASS, codes.CALCIFIED)
}
"""The nodule types a physician may choose, by their short code."""

SIDE_OF_LUNG = ((codes.LEFT_LUNG, codes.LEFT), (codes.RIGHT_LUNG, codes.RIGHT))

READER_METHOD = "measured by the reader"


def apply_decision(proposed: Finding, before: DecidedFinding, decision: Decision) -> DecidedFinding:
    """The finding after one more decision.

    Accept lets the values stand as they are (a finding that was edited stays edited), reject keeps the finding
    but not in the report, edit changes values and accepts, reopen restores what was proposed.

    Raises
    ------
    Conflict
        ``reading.stale`` when the decision was made on an older version.
    Rejected
        ``reading.bad-edit`` when a value cannot be.
    """
    if decision.version != before.version + 1:
        raise Conflict("reading.stale", "Somebody decided on this finding first; read it again, then decide")
    match decision.kind:
        case DecisionKind.ACCEPT:
            touched = replace(before.finding, state=proposed.state) != proposed
            after = replace(before.finding, state=FindingState.EDITED if touched else FindingState.ACCEPTED)
        case DecisionKind.REJECT:
            after = replace(before.finding, state=FindingState.REJECTED)
        case DecisionKind.EDIT:
            after = replace(apply_edit(before.finding, decision.edit), state=FindingState.EDITED)
        case DecisionKind.REOPEN:
            after = proposed
    return DecidedFinding(
        finding=after,
        version=decision.version,
        decided_by=decision.person_name,
        decided_at=decision.at,
        reason=decision.reason,
    )


def fold(proposed: Finding, decisions: Iterable[Decision]) -> DecidedFinding:
    """The finding after all its decisions, in order of version."""
    state = DecidedFinding(finding=proposed)
    for decision in decisions:
        state = apply_decision(proposed, state, decision)
    return state


def apply_edit(finding: Finding, edit: FindingEdit | None) -> Finding:
    """The finding with the edit's values.

    A new diameter renews the mean diameter and drops the volume, which was measured on another outline, and what was
    said of its change; the draft compares the new size with the earlier one. Rules that classified the old values are
    dropped from the evidence; the draft classifies the new ones.
    """
    if edit is None or edit == FindingEdit():
        raise Rejected("reading.bad-edit", "The edit changes nothing; give at least one new value")
    measurements = list(finding.measurements)
    if edit.long_axis_mm is not None or edit.short_axis_mm is not None:
        measurements = _with_axes(finding, edit.long_axis_mm, edit.short_axis_mm)
    resized = measurements != list(finding.measurements)
    attributes = [a for a in finding.attributes if not (resized and _judges_growth(a))]
    if edit.attenuation is not None:
        if edit.attenuation.code not in ATTENUATION:
            raise Rejected("reading.bad-edit", f"Attenuation must be one of {', '.join(ATTENUATION)}")
        attributes = [a for a in attributes if not a.code.same_as(codes.NODULE_ATTENUATION)]
        attributes.append(Attribute(code=codes.NODULE_ATTENUATION, value=edit.attenuation))
    classified_anew = measurements != list(finding.measurements) or attributes != list(finding.attributes)
    return replace(
        finding,
        measurements=tuple(measurements),
        attributes=tuple(attributes),
        note=finding.note if edit.note is None else edit.note.strip(),
        evidence=replace(finding.evidence, rules=()) if classified_anew else finding.evidence,
    )


def _judges_growth(attribute: Attribute) -> bool:
    """Whether it says how the old size compares with an earlier one; that it is new stays true of any size."""
    return attribute.code.same_as(codes.NODULE_CHANGE) and not attribute.value.same_as(codes.NODULE_NEW)


def _with_axes(finding: Finding, long_mm: float | None, short_mm: float | None) -> list[Measurement]:
    old_long, old_short = finding.measurement(codes.LONG_AXIS), finding.measurement(codes.SHORT_AXIS)
    new_long = long_mm if long_mm is not None else (old_long.value if old_long else None)
    new_short = short_mm if short_mm is not None else (old_short.value if old_short else None)
    low, high = DIAMETER_LIMITS_MM
    for value in (new_long, new_short):
        if value is not None and not low <= value <= high:
            raise Rejected("reading.bad-edit", f"A diameter must be from {low:g} to {high:g} mm")
    if new_long is None:
        raise Rejected("reading.bad-edit", "Give the long axis too; a short axis alone measures nothing")
    if new_short is not None and new_short > new_long:
        raise Rejected("reading.bad-edit", "The short axis may not be longer than the long axis")
    by_volume = (codes.VOLUME, codes.VOLUME_CHANGE, codes.DOUBLING_TIME)
    replaced = (codes.LONG_AXIS, codes.SHORT_AXIS, codes.MEAN_DIAMETER, *by_volume)
    rest = [m for m in finding.measurements if not any(m.code.same_as(c) for c in replaced)]
    return [*axes(new_long, new_short), *rest]


def axes(long_mm: float, short_mm: float | None) -> list[Measurement]:
    """Long axis, short axis and their mean, as a reader measured them."""
    values = [(codes.LONG_AXIS, long_mm)]
    if short_mm is not None:
        values += [(codes.SHORT_AXIS, short_mm), (codes.MEAN_DIAMETER, (long_mm + short_mm) / 2)]
    return [Measurement(code=c, value=v, unit=MILLIMETRE, method=READER_METHOD) for c, v in values]


def undecided(findings: Iterable[DecidedFinding]) -> int:
    """How many findings still wait for a physician."""
    return sum(f.finding.state is FindingState.PROPOSED for f in findings)


def refuse_sign(findings: Iterable[DecidedFinding], expected_sha256: str, content_sha256: str) -> None:
    """Raise when the report may not be signed as the signer saw it.

    Raises
    ------
    Conflict
        ``reading.undecided`` or ``reading.content-changed``.
    """
    if count := undecided(findings):
        raise Conflict("reading.undecided", f"Decide on the {count} open findings first, then sign")
    if expected_sha256 != content_sha256:
        raise Conflict("reading.content-changed", "The report changed since it was shown; read it again")


def urgency(findings: Iterable[Finding]) -> tuple[Urgency, str]:
    """Which study a reader should open first, and why; rejected findings do not count."""
    large = [
        diameter.value
        for f in findings
        if f.code.same_as(codes.PULMONARY_NODULE) and f.state is not FindingState.REJECTED
        if (diameter := f.measurement(codes.MEAN_DIAMETER) or f.measurement(codes.LONG_AXIS))
        and diameter.value >= PRIORITY_DIAMETER_MM
    ]
    if not large:
        return Urgency.ROUTINE, ""
    return Urgency.PRIORITY, f"Lung nodule of {max(large):.0f} mm (15 mm or more: Lung-RADS v2022, 4B)"


def agreement(study_instance_uid: str, revision: int, findings: Iterable[DecidedFinding]) -> tuple[Agreement, ...]:
    """Per agent version, how many of its proposals were accepted, edited and rejected at signing."""
    counts: dict[tuple[str, str], dict[FindingState, int]] = {}
    for item in findings:
        source = item.finding.source
        if source.kind is SourceKind.AGENT:
            mine = counts.setdefault((source.id, source.version), {})
            mine[item.finding.state] = mine.get(item.finding.state, 0) + 1
    return tuple(
        Agreement(
            study_instance_uid=study_instance_uid,
            revision=revision,
            agent_id=agent_id,
            agent_version=version,
            accepted=mine.get(FindingState.ACCEPTED, 0),
            edited=mine.get(FindingState.EDITED, 0),
            rejected=mine.get(FindingState.REJECTED, 0),
        )
        for (agent_id, version), mine in sorted(counts.items())
    )


def plan(
    series: Sequence[PlannedSeries], manifests: Mapping[str, Manifest], scenarios: Sequence[Scenario]
) -> tuple[Task, ...]:
    """Which agents look at which series: those of every scenario that fits, each agent once.

    A scenario may name an agent that is not installed here; it is then left out, as a retired one is.
    """
    tasks: dict[str, Task] = {}
    for scenario in sorted(scenarios, key=lambda s: s.id):
        fitting = [s for s in series if _fits(s, scenario.modality, scenario.body_part, scenario.minimum_instances)]
        for agent_id in scenario.agents:
            manifest = manifests.get(agent_id)
            if manifest is None or manifest.stage is Stage.RETIRED or agent_id in tasks:
                continue
            wanted = manifest.inputs
            chosen = [
                s.series_instance_uid
                for s in fitting
                if _fits(s, wanted.modality, wanted.body_part, wanted.minimum_instances)
            ]
            if chosen:
                tasks[agent_id] = _task(manifest, chosen)
    return tuple(tasks[agent_id] for agent_id in sorted(tasks))


def _task(manifest: Manifest, series_instance_uids: Sequence[str]) -> Task:
    return Task(
        agent_id=manifest.id,
        agent_version=manifest.version,
        agent_title=manifest.title,
        queue=manifest.resources.queue,
        time_limit_s=manifest.resources.time_limit_s,
        memory_limit_mb=manifest.resources.memory_limit_mb,
        series_instance_uids=tuple(sorted(series_instance_uids)),
    )


def _fits(series: PlannedSeries, modality: Sequence[str], body_part: Sequence[str], minimum_instances: int) -> bool:
    part = series.body_part.upper()
    return (
        series.modality in modality
        and (not body_part or not part or part in {p.upper() for p in body_part})
        and series.instance_count >= minimum_instances
    )

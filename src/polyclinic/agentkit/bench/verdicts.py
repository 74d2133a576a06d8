"""From the records of all runs to a verdict on each rule, with the reason and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from polyclinic.agentkit.bench.changes import CHANGES, Demand
from polyclinic.agentkit.bench.probes import Kind, Probe
from polyclinic.agentkit.bench.record import End, RunRecord
from polyclinic.agentkit.manifest import Manifest


class State(StrEnum):
    """What came of a rule."""

    PASSED = "passed"
    FAILED = "failed"
    NOTED = "noted"
    """No fault; a reader of the bench should know it."""
    NOT_SHOWN = "not shown"
    """It could not be looked at, and the reason says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One line of the bench."""

    rule: str
    state: State
    about: str = ""
    reason: str = ""
    advice: str = ""


RULES: Mapping[str, str] = {
    "manifest": "the manifest is valid, says what the agent is for, and a card lies beside it",
    "weights": "each model file is there and has the hash of the manifest",
    "answers": "a study of the population is judged",
    "determinism": "the same study gives the same result",
    "abstains": "outside the population it abstains with a reason",
    "values": "every number is finite",
    "codes": "every finding carries a declared code, a known unit and the agent's own name",
    "geometry": "every region, mask and image reference lies in the images that were given",
    "resistance": "no change of the study breaks it, and what must not matter does not",
    "limits": "each run keeps the time and memory of the manifest",
    "quiet": "nothing is written, no socket opened, no process started",
}

Records = Mapping[Probe, RunRecord]


def judge(manifest: Manifest, records: Records) -> tuple[Verdict, ...]:
    """Verdicts on all rules that come from runs; a fault is counted under one rule only."""
    found = [
        *_answers(records),
        *_determinism(records),
        *_abstains(records),
        *_outcomes(records),
        *_resistance(records),
        *_limits(manifest, records),
        *_quiet(manifest, records),
    ]
    order = list(RULES)
    return tuple(sorted(found, key=lambda verdict: order.index(verdict.rule)))


def _sound(record: RunRecord) -> bool:
    """Whether it ended by itself and was not disturbed by the guard."""
    return record.end in (End.ASSESSED, End.ABSTAINED) and not record.trespasses


def _of(records: Records, kind: Kind) -> Iterator[tuple[Probe, RunRecord]]:
    return ((probe, record) for probe, record in records.items() if probe.kind is kind)


def _blocked(record: RunRecord) -> str:
    """Why a run says nothing about other rules than `limits` and `quiet`; empty when it does."""
    if record.trespasses:
        return "the run was disturbed by what it may not do, see quiet"
    return "the run was stopped, see limits" if record.end is End.STOPPED else ""


def _answers(records: Records) -> Iterator[Verdict]:
    for probe, record in _of(records, Kind.FIRST):
        if blocked := _blocked(record):
            yield Verdict(rule="answers", state=State.NOT_SHOWN, about=probe.title, reason=blocked)
        elif record.end is End.ASSESSED:
            said = f"{record.findings} findings in {record.elapsed_s:.2f} s"
            yield Verdict(rule="answers", state=State.PASSED, about=probe.title, reason=said)
        elif record.end is End.ABSTAINED:
            judged = any(other.end is End.ASSESSED for _, other in _of(records, Kind.FIRST))
            state = State.NOTED if judged else State.FAILED
            advice = "" if judged else "give a study of its population with --case, or correct inputs in manifest.toml"
            yield Verdict(
                rule="answers", state=state, about=probe.title, reason=f"it abstained: {record.reason}", advice=advice
            )
        else:
            advice = "return Abstained where the study cannot be judged; raise only when a model is missing"
            yield Verdict(rule="answers", state=State.FAILED, about=probe.title, reason=record.reason, advice=advice)


def _determinism(records: Records) -> Iterator[Verdict]:
    for probe, record in _of(records, Kind.AGAIN):
        first = _first(records, probe.study)
        if not _sound(first) or not _sound(record):
            yield Verdict(rule="determinism", state=State.NOT_SHOWN, about=probe.title, reason="no two runs to compare")
        elif first.exact == record.exact:
            yield Verdict(rule="determinism", state=State.PASSED, about=probe.title, reason="two runs are equal")
        else:
            moved = drift(first, record)
            yield Verdict(
                rule="determinism",
                state=State.FAILED,
                about=probe.title,
                reason=f"two runs differ: {moved}",
                advice="fix the seed of random numbers, sort sets, and keep clocks and new ids out of the outcome",
            )


def _first(records: Records, study: str) -> RunRecord:
    return records[Probe(study=study, kind=Kind.FIRST)]


def _abstains(records: Records) -> Iterator[Verdict]:
    for probe, record in _of(records, Kind.OUTSIDE):
        about = probe.name
        if record.end is End.NOT_RUN:
            yield Verdict(rule="abstains", state=State.NOT_SHOWN, about=about, reason=record.reason)
        elif blocked := _blocked(record):
            yield Verdict(rule="abstains", state=State.NOT_SHOWN, about=about, reason=blocked)
        elif record.end is End.ASSESSED:
            advice = "look at modality, body part, number of images and length first, and return Abstained"
            reason = f"it judged the study ({record.findings} findings)"
            yield Verdict(rule="abstains", state=State.FAILED, about=about, reason=reason, advice=advice)
        elif record.end is End.FAILED:
            advice = "return Abstained with a reason instead"
            yield Verdict(rule="abstains", state=State.FAILED, about=about, reason=record.reason, advice=advice)
        elif silent := next((fault.text for fault in record.faults if fault.rule == "abstains"), ""):
            advice = "fill reason_code and reason: a radiologist reads them"
            yield Verdict(rule="abstains", state=State.FAILED, about=about, reason=silent, advice=advice)
        else:
            said = f"{record.reason} [{record.reason_code}]"
            yield Verdict(rule="abstains", state=State.PASSED, about=about, reason=said)


_FAULT_ADVICE = {
    "values": "leave out what cannot be measured instead of writing NaN or infinity",
    "codes": "declare the code under [[outputs]], use the units of polyclinic.core.units and the manifest's source",
    "geometry": "compute places with VolumeGeometry.to_patient and name only images of the case",
}


def _outcomes(records: Records) -> Iterator[Verdict]:
    for rule, advice in _FAULT_ADVICE.items():
        bad: dict[str, list[str]] = {}
        for probe, record in records.items():
            for fault in record.faults:
                if fault.rule == rule:
                    bad.setdefault(fault.text, []).append(probe.title)
        looked = sum(record.end is End.ASSESSED for record in records.values())
        for text, titles in bad.items():
            more = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
            yield Verdict(rule=rule, state=State.FAILED, about=titles[0] + more, reason=text, advice=advice)
        if not bad:
            state = State.PASSED if looked else State.NOT_SHOWN
            yield Verdict(rule=rule, state=state, reason=f"{looked} judged studies looked at")


def _resistance(records: Records) -> Iterator[Verdict]:
    steady = {
        probe.study
        for probe, record in _of(records, Kind.AGAIN)
        if _sound(record) and record.exact == _first(records, probe.study).exact
    }
    for probe, record in _of(records, Kind.CHANGED):
        about, first = probe.title, _first(records, probe.study)
        if record.end is End.NOT_RUN:
            yield Verdict(rule="resistance", state=State.NOT_SHOWN, about=about, reason=record.reason)
        elif blocked := _blocked(record) or _blocked(first):
            yield Verdict(rule="resistance", state=State.NOT_SHOWN, about=about, reason=blocked)
        elif first.end is End.FAILED:
            reason = "it does not judge the study as it is"
            yield Verdict(rule="resistance", state=State.NOT_SHOWN, about=about, reason=reason)
        elif record.end is End.FAILED:
            advice = "catch what reading raises (Rejected) and return Abstained"
            yield Verdict(rule="resistance", state=State.FAILED, about=about, reason=record.reason, advice=advice)
        else:
            yield _changed(probe, record, first, known_steady=probe.study in steady)


def _changed(probe: Probe, record: RunRecord, first: RunRecord, *, known_steady: bool) -> Verdict:
    if record.free == first.free:
        return Verdict(rule="resistance", state=State.PASSED, about=probe.title, reason="the result is the same")
    moved = drift(first, record)
    if CHANGES[probe.name].demand is Demand.STEADY:
        return Verdict(rule="resistance", state=State.NOTED, about=probe.title, reason=moved)
    if not known_steady:
        reason = "two runs on the unchanged study differ as well, see determinism"
        return Verdict(rule="resistance", state=State.NOT_SHOWN, about=probe.title, reason=reason)
    return Verdict(
        rule="resistance",
        state=State.FAILED,
        about=probe.title,
        reason=f"this must not matter: {moved}",
        advice="sort images by position, and let no name, number or UID decide",
    )


def drift(first: RunRecord, other: RunRecord) -> str:
    """How far a result is from another one, in words."""
    if other.end is End.ABSTAINED:
        return f"it abstains: {other.reason}" if first.end is not End.ABSTAINED else f"another reason: {other.reason}"
    if first.end is End.ABSTAINED:
        return f"it judges the study ({other.findings} findings), and abstained before"
    if first.findings != other.findings:
        return f"{other.findings} findings instead of {first.findings}"
    if [(v.name, v.unit) for v in first.values] != [(v.name, v.unit) for v in other.values]:
        return "other measurements"
    pairs = zip(first.values, other.values, strict=True)
    largest = max(
        ((abs(b.value - a.value), a, b) for a, b in pairs), key=lambda x: x[0] / _scale(x[1].value), default=None
    )
    if largest is None or largest[0] == 0:
        return "same numbers, other places, images or words"
    _, before, after = largest
    return f"{before.name} {after.value:.4g} instead of {before.value:.4g}"


def _scale(value: float) -> float:
    return max(abs(value), 1e-9) if math.isfinite(value) else 1.0


def _limits(manifest: Manifest, records: Records) -> Iterator[Verdict]:
    limits = manifest.resources
    run = {probe: record for probe, record in records.items() if record.end is not End.NOT_RUN}
    slow = [p for p, r in run.items() if r.end is not End.STOPPED and r.elapsed_s > limits.time_limit_s]
    large = [p for p, r in run.items() if r.end is not End.STOPPED and r.peak_memory_mb > limits.memory_limit_mb]
    stopped = [p for p, r in run.items() if r.end is End.STOPPED]
    advice = "make it faster or smaller, or raise resources in manifest.toml; the worker ends such a run"
    for probe in stopped:
        yield Verdict(rule="limits", state=State.FAILED, about=probe.title, reason=run[probe].reason, advice=advice)
    for probe in slow:
        said = f"it took {run[probe].elapsed_s:.1f} s, its limit is {limits.time_limit_s:g} s"
        yield Verdict(rule="limits", state=State.FAILED, about=probe.title, reason=said, advice=advice)
    for probe in large:
        said = f"it took {run[probe].peak_memory_mb:.0f} MB, its limit is {limits.memory_limit_mb} MB"
        yield Verdict(rule="limits", state=State.FAILED, about=probe.title, reason=said, advice=advice)
    if not (slow or large or stopped):
        longest = max((record.elapsed_s for record in run.values()), default=0.0)
        peak = max((record.peak_memory_mb for record in run.values()), default=0.0)
        said = (
            f"longest run {longest:.2f} s of {limits.time_limit_s:g} s, "
            f"peak {peak:.0f} MB of {limits.memory_limit_mb} MB"
        )
        yield Verdict(rule="limits", state=State.PASSED, reason=said)


def _quiet(manifest: Manifest, records: Records) -> Iterator[Verdict]:
    if manifest.command:
        reason = "it is a program of its own, which the guard does not see into"
        yield Verdict(rule="quiet", state=State.NOT_SHOWN, reason=reason)
        return
    seen: dict[str, Probe] = {}
    for probe, record in records.items():
        for trespass in record.trespasses:
            seen.setdefault(trespass, probe)
    for trespass, probe in seen.items():
        advice = "an agent gets everything by Case and Tools and gives everything back in its Outcome"
        yield Verdict(rule="quiet", state=State.FAILED, about=probe.title, reason=trespass, advice=advice)
    if not seen:
        yield Verdict(rule="quiet", state=State.PASSED, reason="nothing was written, opened or started")

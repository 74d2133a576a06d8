"""Decisions on findings obey laws whatever the order of clicks; planning and urgency follow their tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyclinic.agentkit.manifest import Manifest
from polyclinic.core import codes
from polyclinic.core.errors import Conflict, Rejected
from polyclinic.core.findings import (
    Attribute,
    Evidence,
    Finding,
    FindingState,
    Measurement,
    Rule,
    Source,
    SourceKind,
)
from polyclinic.departments.reading import rules
from polyclinic.departments.reading.contracts import (
    DecidedFinding,
    Decision,
    DecisionKind,
    FindingEdit,
    PlannedSeries,
    Scenario,
    Urgency,
)

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def nodule(long_mm: float = 8.0, short_mm: float = 6.0) -> Finding:
    return Finding(
        id="f1",
        study_instance_uid="1.2",
        code=codes.PULMONARY_NODULE,
        source=Source(kind=SourceKind.AGENT, id="a", version="1.0.0"),
        measurements=(
            Measurement(code=codes.LONG_AXIS, value=long_mm, unit="mm", method="m"),
            Measurement(code=codes.SHORT_AXIS, value=short_mm, unit="mm", method="m"),
            Measurement(code=codes.MEAN_DIAMETER, value=(long_mm + short_mm) / 2, unit="mm", method="m"),
            Measurement(code=codes.VOLUME, value=200.0, unit="mm3", method="m"),
        ),
        attributes=(Attribute(code=codes.NODULE_ATTENUATION, value=codes.SOLID),),
        evidence=Evidence(rules=(Rule(id="x", citation="y", result="z"),)),
    )


edits = st.builds(
    FindingEdit,
    long_axis_mm=st.none() | st.floats(10, 200),
    short_axis_mm=st.none() | st.floats(1, 8),
    attenuation=st.none() | st.sampled_from(list(rules.ATTENUATION.values())),
    note=st.text(max_size=20),
)
words = st.lists(st.tuples(st.sampled_from(DecisionKind), edits), max_size=8)


def said(kinds: list[tuple[DecisionKind, FindingEdit]]) -> list[Decision]:
    return [
        Decision(
            kind=kind,
            version=number,
            person_id="p",
            person_name="P",
            at=AT,
            edit=edit if kind is DecisionKind.EDIT else None,
        )
        for number, (kind, edit) in enumerate(kinds, 1)
    ]


@given(words)
def test_versions_count_decisions(kinds: list[tuple[DecisionKind, FindingEdit]]) -> None:
    assert rules.fold(nodule(), said(kinds)).version == len(kinds)


@given(words)
def test_folding_is_applying_one_after_another(kinds: list[tuple[DecisionKind, FindingEdit]]) -> None:
    decisions = said(kinds)
    for cut in range(len(decisions) + 1):
        state = rules.fold(nodule(), decisions[:cut])
        for decision in decisions[cut:]:
            state = rules.apply_decision(nodule(), state, decision)
        assert state == rules.fold(nodule(), decisions)


@given(words)
def test_reopen_takes_everything_back(kinds: list[tuple[DecisionKind, FindingEdit]]) -> None:
    reopened = rules.fold(nodule(), said([*kinds, (DecisionKind.REOPEN, FindingEdit())]))
    assert reopened.finding == nodule()
    assert reopened.finding.state is FindingState.PROPOSED


@given(words)
def test_the_last_word_decides_the_state(kinds: list[tuple[DecisionKind, FindingEdit]]) -> None:
    state = rules.fold(nodule(), said(kinds)).finding.state
    last = kinds[-1][0] if kinds else DecisionKind.REOPEN
    assert (
        state
        in {
            DecisionKind.ACCEPT: {FindingState.ACCEPTED, FindingState.EDITED},
            DecisionKind.REJECT: {FindingState.REJECTED},
            DecisionKind.EDIT: {FindingState.EDITED},
            DecisionKind.REOPEN: {FindingState.PROPOSED},
        }[last]
    )


@given(words)
def test_who_and_where_never_change(kinds: list[tuple[DecisionKind, FindingEdit]]) -> None:
    after = rules.fold(nodule(), said(kinds)).finding
    for name in ("id", "study_instance_uid", "code", "source", "region", "confidence"):
        assert getattr(after, name) == getattr(nodule(), name)


@given(st.integers(-3, 9).filter(lambda v: v != 1))
def test_a_decision_on_another_version_is_refused(version: int) -> None:
    late = replace(said([(DecisionKind.ACCEPT, FindingEdit())])[0], version=version)
    with pytest.raises(Conflict, match="stale"):
        rules.apply_decision(nodule(), DecidedFinding(finding=nodule()), late)


def test_accepting_an_edited_finding_keeps_the_edit() -> None:
    edited = rules.fold(
        nodule(),
        said([(DecisionKind.EDIT, FindingEdit(long_axis_mm=12.0)), (DecisionKind.ACCEPT, FindingEdit())]),
    )
    assert edited.finding.state is FindingState.EDITED
    assert edited.finding.measurement(codes.LONG_AXIS) == Measurement(
        code=codes.LONG_AXIS, value=12.0, unit="mm", method=rules.READER_METHOD
    )


def test_a_new_diameter_renews_the_mean_and_drops_what_was_measured_on_the_old_outline() -> None:
    edited = rules.apply_edit(nodule(), FindingEdit(long_axis_mm=12.0))
    assert edited.measurement(codes.MEAN_DIAMETER).value == 9.0
    assert edited.measurement(codes.SHORT_AXIS).value == 6.0
    assert edited.measurement(codes.VOLUME) is None
    assert edited.evidence.rules == ()


def test_a_note_alone_leaves_the_measurements() -> None:
    noted = rules.apply_edit(nodule(), FindingEdit(note=" seen before "))
    assert (noted.note, noted.measurements, noted.evidence) == (
        "seen before",
        nodule().measurements,
        nodule().evidence,
    )


@pytest.mark.parametrize(
    "edit",
    [
        FindingEdit(),
        FindingEdit(long_axis_mm=0.9),
        FindingEdit(long_axis_mm=200.1),
        FindingEdit(long_axis_mm=float("nan")),
        FindingEdit(long_axis_mm=5.0),  # shorter than the short axis of 6 mm
        FindingEdit(short_axis_mm=9.0),  # longer than the long axis of 8 mm
        FindingEdit(attenuation=codes.LEFT),
    ],
)
def test_an_edit_that_cannot_be_is_refused(edit: FindingEdit) -> None:
    with pytest.raises(Rejected, match="bad-edit"):
        rules.apply_edit(nodule(), edit)


@pytest.mark.parametrize(
    ("mean_mm", "state", "expected"),
    [
        (14.9, FindingState.PROPOSED, Urgency.ROUTINE),
        (15.0, FindingState.PROPOSED, Urgency.PRIORITY),
        (30.0, FindingState.ACCEPTED, Urgency.PRIORITY),
        (30.0, FindingState.REJECTED, Urgency.ROUTINE),
    ],
)
def test_urgency(mean_mm: float, state: FindingState, expected: Urgency) -> None:
    urgency, reason = rules.urgency([replace(nodule(mean_mm, mean_mm), state=state)])
    assert urgency is expected
    assert bool(reason) == (expected is Urgency.PRIORITY)


def manifest(agent_id: str = "a", **changes: object) -> Manifest:
    values: dict[str, object] = {
        "id": agent_id,
        "version": "1.0.0",
        "title": "A",
        "intended_use": "u",
        "population": "p",
        "stage": "research",
        "inputs": {"modality": ["CT"], "minimum_instances": 10},
        "outputs": [{"system": "s", "code": "c", "display": "d"}],
    }
    return Manifest.model_validate(values | changes)


def scenario(**changes: object) -> Scenario:
    values: dict[str, object] = {
        "id": "s",
        "title": "S",
        "modality": ("CT",),
        "body_part": ("CHEST",),
        "minimum_instances": 1,
        "agents": ("aa",),
        "outputs": (),
    }
    return Scenario(**(values | changes))


def series(uid: str = "1", modality: str = "CT", part: str = "CHEST", count: int = 50) -> PlannedSeries:
    return PlannedSeries(series_instance_uid=uid, modality=modality, body_part=part, instance_count=count)


@pytest.mark.parametrize(
    ("found", "planned"),
    [
        (series(), ["1"]),
        (series(part=""), ["1"]),
        (series(part="chest"), ["1"]),
        (series(part="KNEE"), []),
        (series(modality="MR"), []),
        (series(count=9), []),
    ],
)
def test_planning_takes_the_series_that_fit(found: PlannedSeries, planned: list[str]) -> None:
    tasks = rules.plan([found], {"aa": manifest("aa")}, [scenario()])
    assert [uid for task in tasks for uid in task.series_instance_uids] == planned


def test_planning_runs_an_agent_once_and_leaves_out_who_is_missing_or_retired() -> None:
    manifests = {"aa": manifest("aa"), "bb": manifest("bb", stage="retired")}
    scenarios = [scenario(agents=("aa", "bb", "cc")), scenario(id="t")]
    assert [t.agent_id for t in rules.plan([series(), series("2")], manifests, scenarios)] == ["aa"]


def test_agreement_counts_what_readers_made_of_proposals() -> None:
    own = replace(nodule(), source=Source(kind=SourceKind.PERSON, id="p"), state=FindingState.ACCEPTED)
    found = [
        DecidedFinding(finding=replace(nodule(), state=state))
        for state in (FindingState.ACCEPTED, FindingState.ACCEPTED, FindingState.EDITED, FindingState.REJECTED)
    ]
    (counted,) = rules.agreement("1.2", 1, [*found, DecidedFinding(finding=own)])
    assert (counted.accepted, counted.edited, counted.rejected) == (2, 1, 1)

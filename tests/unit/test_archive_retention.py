"""Laws of retention, and that what the rules say is what happens."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive_mishaps import STUDY
from polyclinic.core.errors import Rejected
from polyclinic.core.ids import stable_uid
from polyclinic.core.people import Patient
from polyclinic.departments.archive import retention
from polyclinic.departments.archive.contracts import DERIVED_SOURCE, StudyRecord
from polyclinic.departments.archive.rules import (
    Holds,
    ReportState,
    RetentionPolicy,
    RetentionRule,
    SeriesFacts,
    deletions,
    policy_of,
    rule_for_deletion,
)
from polyclinic.departments.archive.store import SqlArchive

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
Make = Callable[..., bytes]

modalities, sources = st.sampled_from(["CT", "MR", "DX", "SEG"]), st.sampled_from(["CT1", "STOW-RS", DERIVED_SOURCE])
days = st.integers(0, 4000)
optional_days = st.none() | days.map(float)


def rules_of(keep: st.SearchStrategy[bool]) -> st.SearchStrategy[RetentionRule]:
    return st.builds(
        RetentionRule,
        name=st.text("abc", min_size=1, max_size=3),
        keep=keep,
        older_than_days=optional_days,
        study_older_than_days=optional_days,
        modalities=st.frozensets(modalities, max_size=2),
        sources=st.frozensets(sources, max_size=2),
        derived=st.none() | st.booleans(),
        reports=st.frozensets(st.sampled_from(ReportState), max_size=3),
    )


def series_of(age_days: int, study_age_days: int | None, **facts: Any) -> SeriesFacts:
    dated = "" if study_age_days is None else (NOW - timedelta(days=study_age_days)).strftime("%Y%m%d")
    at = NOW - timedelta(days=age_days)
    study = StudyRecord(
        study_instance_uid="1.2",
        patient=Patient(patient_id="P-1", name="", birth_date=None, sex="", issuer="SITE-A"),
        study_date=dated,
        study_time="",
        accession_number="ACC-1",
        description="",
        modalities=("CT",),
        series_count=1,
        instance_count=1,
        first_received_at=at,
        last_received_at=at,
    )
    return SeriesFacts(
        study=study, series_instance_uid="1.3", newest_received_at=at, instance_count=1, size_bytes=1, **facts
    )


series = st.builds(
    series_of,
    age_days=days,
    study_age_days=st.none() | days,
    modality=modalities,
    derived=st.booleans(),
    sources=st.frozensets(sources, min_size=1),
    report=st.sampled_from(ReportState),
)
policies = st.lists(rules_of(st.booleans()), max_size=5).map(lambda rules: RetentionPolicy(rules=tuple(rules)))
HOLDS = [
    Holds(studies=frozenset({"1.2"})),
    Holds(patients=frozenset({"P-1"})),
    Holds(patients=frozenset({"P-1^SITE-A"})),
    Holds(accessions=frozenset({"ACC-1"})),
]


@given(series, policies, st.sampled_from(HOLDS))
def test_what_is_on_hold_stays(one: SeriesFacts, policy: RetentionPolicy, holds: Holds) -> None:
    assert rule_for_deletion(one, RetentionPolicy(rules=policy.rules, holds=holds), NOW) is None


@given(series, policies)
def test_a_hold_of_somebody_else_changes_nothing(one: SeriesFacts, policy: RetentionPolicy) -> None:
    other = Holds(studies=frozenset({"9"}), patients=frozenset({"P-1^SITE-B", "P-2"}), accessions=frozenset({"ACC-2"}))
    held = RetentionPolicy(rules=policy.rules, holds=other)
    assert rule_for_deletion(one, held, NOW) == rule_for_deletion(one, policy, NOW)


@given(series, st.lists(rules_of(st.just(False)), max_size=5), st.integers(0, 5000))
def test_what_is_deleted_today_is_deleted_tomorrow(
    one: SeriesFacts, rules: list[RetentionRule], later_days: int
) -> None:
    policy = RetentionPolicy(rules=tuple(rules))
    if rule_for_deletion(one, policy, NOW) is not None:
        assert rule_for_deletion(one, policy, NOW + timedelta(days=later_days)) is not None


@given(series, policies, rules_of(st.just(True)))
def test_a_rule_that_keeps_never_adds_a_deletion(
    one: SeriesFacts, policy: RetentionPolicy, keeping: RetentionRule
) -> None:
    with_it = RetentionPolicy(rules=(keeping, *policy.rules))
    assert rule_for_deletion(one, with_it, NOW) in (None, rule_for_deletion(one, policy, NOW))


@given(series, policies)
def test_the_first_rule_that_fits_is_named(one: SeriesFacts, policy: RetentionPolicy) -> None:
    alone = [rule for rule in policy.rules if rule_for_deletion(one, RetentionPolicy(rules=(rule,)), NOW)]
    named = rule_for_deletion(one, policy, NOW)
    assert named is None or named == alone[0].name


@given(series, policies)
def test_nothing_younger_than_the_least_age_goes(one: SeriesFacts, policy: RetentionPolicy) -> None:
    if rule_for_deletion(one, policy, NOW) is not None:
        assert (NOW - one.newest_received_at).days >= policy.least_age_days


@given(series)
def test_open_reports_are_kept_unless_a_rule_names_them(one: SeriesFacts) -> None:
    policy = policy_of({"rule": [{"name": "old", "older_than_days": 0}]})
    gone = rule_for_deletion(one, policy, NOW) is not None
    assert gone == (one.report is not ReportState.OPEN and one.newest_received_at < NOW)


@given(st.lists(series, max_size=4), policies)
def test_deletions_are_what_each_rule_says(many: list[SeriesFacts], policy: RetentionPolicy) -> None:
    assert list(deletions(many, policy, NOW)) == [
        (one, rule) for one in many if (rule := rule_for_deletion(one, policy, NOW)) is not None
    ]


def test_a_document_says_all_of_it() -> None:
    policy = policy_of(
        tomllib.loads("""
        [hold]
        patients = ["P-1^SITE-A"]
        [[rule]]
        name = "teaching files"
        keep = true
        sources = ["TEACHING"]
        [[rule]]
        name = "agents' objects after 90 days"
        derived = true
        older_than_days = 90
        reports = ["signed"]
        """)
    )
    assert policy.holds == HOLDS[2]
    assert [(rule.name, rule.keep) for rule in policy.rules] == [
        ("teaching files", True),
        ("agents' objects after 90 days", False),
    ]
    assert policy.rules[1].reports == {ReportState.SIGNED}
    assert policy.least_age_days == 90


@pytest.mark.parametrize(
    "document",
    [
        "rules = []",
        "[[rule]]\nolder_than_days = 1",
        "[[rule]]\nname = 'a'",
        "[[rule]]\nname = 'a'\nolder_than = 1",
        "[[rule]]\nname = 'a'\nolder_than_days = -1",
        "[[rule]]\nname = 'a'\nolder_than_days = true",
        "[[rule]]\nname = 'a'\nmodalities = 'CT'",
        "[[rule]]\nname = 'a'\nderived = 1",
        "[[rule]]\nname = 'a'\nreports = ['unsigned']\nderived = true",
        "[[rule]]\nname = 'a'\nderived = true\n[[rule]]\nname = 'a'\nderived = false",
        "[rule]\nname = 'a'",
        "[hold]\nstudy = ['1.2']",
        "[hold]\nstudies = ['']",
        "hold = 1",
    ],
)
def test_a_mistake_is_refused_before_it_deletes(document: str) -> None:
    with pytest.raises(Rejected, match=r"archive\.bad-retention"):
        policy_of(tomllib.loads(document))


def test_what_is_due_is_deleted_and_nothing_else(
    tmp_path: Path, open_archive: Callable[..., SqlArchive], part10: Make
) -> None:
    policy = policy_of(
        {
            "rule": [
                {"name": "agents", "derived": True, "older_than_days": 1, "reports": ["signed"]},
                {"name": "radiographs", "modalities": ["DX"], "older_than_days": 30},
            ],
            "hold": {"accessions": ["ACC-4"]},
        }
    )
    archive = open_archive(tmp_path, held=policy.holds.hold)
    archive.store(part10(1), source="CT1")
    archive.store(part10(1, series="2", Modality="SEG"), source=DERIVED_SOURCE)
    for study in ("2", "3", "4"):
        archive.store(part10(1, study=study, Modality="DX"), source="DX1")
    signed = {STUDY: ReportState.SIGNED, stable_uid("study", "3"): ReportState.OPEN}

    def reports(uids: Sequence[str]) -> dict[str, ReportState]:
        return {uid: signed[uid] for uid in uids if uid in signed}

    for age_days, expected in ((0, []), (2, ["agents"]), (31, ["agents", "radiographs"])):
        at = datetime.now(UTC) + timedelta(days=age_days)
        assert sorted(one.rule for one in retention.due(archive.engine, policy, reports, at)) == expected
    told: list[retention.Due] = []
    removed = retention.apply(archive, policy, reports, datetime.now(UTC) + timedelta(days=31), told=told.append)
    assert removed.instances == 2
    assert {(one.rule, one.series_instance_uid is None) for one in told} == {("agents", False), ("radiographs", True)}
    assert sorted(s.accession_number for s in archive.studies()) == ["ACC-1", "ACC-3", "ACC-4"]
    assert [s.modality for s in archive.series(STUDY)] == ["CT"]
    with archive.engine.connect() as connection:
        why = connection.exec_driver_sql("SELECT DISTINCT reason, deleted_by FROM archive_deletion ORDER BY 1").all()
    assert [tuple(row) for row in why] == [("agents", "retention"), ("radiographs", "retention")]

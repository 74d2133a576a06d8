"""Laws and examples of routing: what goes where, when, and why."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic.departments.routing.contracts import (
    Content,
    Delivery,
    Destination,
    Facts,
    FindingFacts,
    Match,
    Rule,
    SeriesFacts,
    Trigger,
    Window,
)
from polyclinic.departments.routing.rules import is_open, judge, next_open, retry_after_s, route

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)  # a Monday
CT = SeriesFacts(
    series_instance_uid="1.1",
    modality="CT",
    station_name="CT-3",
    description="Thorax 1.0 Lung",
    body_part="CHEST",
    calling_ae_titles=frozenset({"SCANNER"}),
)
DOSE = SeriesFacts(series_instance_uid="1.2", modality="SR", description="Dose")
NODULE = FindingFacts(system="http://snomed.info/sct", code="427359005", decision="accepted", agent="chest_ct")


def facts(trigger: Trigger = Trigger.SETTLED, **more: object) -> Facts:
    values: dict[str, object] = {"study_description": "Chest CT", "series": (CT, DOSE), "patient_class": "E"}
    return Facts(study_instance_uid="1", revision=1, trigger=trigger, **(values | more))


def rule(name: str = "r", when: Trigger = Trigger.SETTLED, to: tuple[str, ...] = ("pacs",), **more: object) -> Rule:
    return Rule(name=name, when=when, to=to, **more)


@pytest.mark.parametrize(
    ("match", "matches"),
    [
        (Match(), True),
        (Match(modality=("MR", "CT")), True),
        (Match(modality=("MR",)), False),
        (Match(series_description=("*lung*",)), True),
        (Match(modality=("SR",), series_description=("*lung*",)), False),  # not of one and the same series
        (Match(calling_ae_title=("SCAN*",), station_name=("CT-?",), body_part=("chest",)), True),
        (Match(study_description=("head*",)), False),
        (Match(patient_class=("E", "I")), True),
        (Match(patient_class=("O",)), False),
    ],
)
def test_conditions(match: Match, matches: bool) -> None:
    assert judge(facts(), rule(match=match)).matches is matches


@pytest.mark.parametrize(
    ("match", "matches"),
    [
        (Match(finding=("427359005",), decision=("accepted", "edited")), True),
        (Match(finding=("http://snomed.info/sct|427359005",), agent=("chest_*",)), True),
        (Match(finding=("http://loinc.org|427359005",)), False),
        (Match(finding=("427359005",), decision=("rejected",)), False),
        (Match(urgency=("stat",)), True),
        (Match(urgency=("routine",)), False),
    ],
)
def test_conditions_on_the_result(match: Match, matches: bool) -> None:
    told = facts(Trigger.SIGNED, findings=(NODULE,), urgency="stat")
    assert judge(told, rule(when=Trigger.SIGNED, match=match)).matches is matches


def test_only_matching_series_go_where_that_is_asked() -> None:
    some = rule(match=Match(modality=("CT",)), matching_series_only=True)
    (delivery,) = route(facts(), [some], NOON)
    assert delivery.series_instance_uids == ("1.1",)


def test_two_rules_for_one_thing_send_it_once_for_both_reasons() -> None:
    (delivery,) = route(facts(), [rule("a"), rule("b", priority=5, match=Match(modality=("CT",)))], NOON)
    assert (delivery.rules, delivery.priority) == (("a", "b"), 5)
    assert delivery.because == ("a: arrival-settled, every study", "b: arrival-settled, modality CT")


def test_a_closed_window_delays() -> None:
    night = Window(start=time(20), end=time(6), timezone="Asia/Shanghai")
    (delivery,) = route(facts(), [rule(window=night)], datetime(2026, 11, 23, 2, 0, tzinfo=UTC))  # 10:00 there
    assert delivery.due_at == datetime(2026, 11, 23, 20, 0, tzinfo=ZoneInfo("Asia/Shanghai"))
    weekend = Destination(name="pacs", hours=Window(start=time(0), end=time(0), days=frozenset({5, 6})))
    (delivery,) = route(facts(), [rule(window=night)], NOON, [weekend])
    assert delivery.due_at == datetime(2026, 11, 28, 12, 0, tzinfo=UTC)  # Saturday, when it is evening there


def test_hours_past_midnight_belong_to_the_day_they_began() -> None:
    friday_night = Window(start=time(22), end=time(2), days=frozenset({4}))
    assert is_open(friday_night, datetime(2026, 11, 28, 1, 0, tzinfo=UTC))
    assert not is_open(friday_night, datetime(2026, 11, 27, 1, 0, tzinfo=UTC))
    assert not is_open(friday_night, datetime(2026, 11, 28, 2, 0, tzinfo=UTC))


def test_windows_that_never_meet() -> None:
    morning, evening = Window(start=time(8), end=time(9)), Window(start=time(20), end=time(21))
    assert next_open(NOON, [morning, evening]) is None


# Laws

_windows = st.builds(
    Window,
    start=st.times().map(lambda t: t.replace(second=0, microsecond=0)),
    end=st.times().map(lambda t: t.replace(second=0, microsecond=0)),
    days=st.frozensets(st.integers(0, 6), min_size=1),
    timezone=st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York", "Australia/Lord_Howe"]),
)
_moments = st.integers(1_767_225_600, 1_830_297_600).map(lambda s: datetime.fromtimestamp(s, UTC))
_rules = st.builds(
    Rule,
    name=st.text("abc", min_size=1, max_size=3),
    when=st.sampled_from(Trigger),
    to=st.lists(st.sampled_from(["x", "y"]), min_size=1, unique=True).map(tuple),
    match=st.builds(
        Match, modality=st.sampled_from([(), ("CT",), ("MR",)]), patient_class=st.sampled_from([(), ("E",)])
    ),
    send=st.lists(st.sampled_from(Content), min_size=1, unique=True).map(tuple),
    matching_series_only=st.booleans(),
    window=st.none() | _windows,
    priority=st.integers(-5, 5),
    enabled=st.booleans(),
)
_many = st.lists(_rules, max_size=5, unique_by=lambda r: r.name)
_facts = st.sampled_from(Trigger).map(facts)


def what(delivery: Delivery) -> tuple[object, ...]:
    return delivery.destination, delivery.content, delivery.series_instance_uids


@given(_facts, _many, _rules, _moments)
@settings(max_examples=150, deadline=None)
def test_another_rule_never_takes_a_delivery_away_nor_makes_it_later(
    told: Facts, rules: list[Rule], more: Rule, at: datetime
) -> None:
    before = {what(d): d for d in route(told, rules, at)}
    after = {what(d): d for d in route(told, [*rules, more], at)}
    assert before.keys() <= after.keys()
    for key, delivery in before.items():
        assert after[key].due_at <= delivery.due_at
        assert after[key].priority >= delivery.priority
        assert set(delivery.rules) <= set(after[key].rules)


@given(_facts, _many, st.randoms(use_true_random=False), _moments)
@settings(max_examples=100, deadline=None)
def test_the_order_of_rules_does_not_matter(told: Facts, rules: list[Rule], chance: object, at: datetime) -> None:
    shuffled = list(rules)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert route(told, rules, at) == route(told, shuffled, at)


@given(_facts, _many, _moments)
@settings(max_examples=100, deadline=None)
def test_a_window_delays_and_never_drops(told: Facts, rules: list[Rule], at: datetime) -> None:
    from dataclasses import replace

    open_always = [replace(r, window=None) for r in rules]
    assert {what(d) for d in route(told, rules, at)} == {what(d) for d in route(told, open_always, at)}
    assert all(d.due_at >= at for d in route(told, rules, at))
    assert all(d.because for d in route(told, rules, at))


@given(_windows, _moments)
@settings(max_examples=200, deadline=None)
def test_the_next_opening_is_open_and_nothing_before_it_is(window: Window, at: datetime) -> None:
    opens = next_open(at, [window])
    assert opens is not None
    assert is_open(window, opens)
    assert opens >= at
    if opens > at:
        assert not is_open(window, at)
        assert not is_open(window, max(at, opens - timedelta(minutes=1)))
    assert opens - at < timedelta(days=8)


@given(st.integers(1, 500), st.floats(0, 1, exclude_max=True))
def test_retries_wait_longer_up_to_a_limit(attempts: int, by_chance: float) -> None:
    assert 1.5 <= retry_after_s(attempts, lambda: by_chance) <= 750
    assert retry_after_s(attempts, lambda: by_chance) <= retry_after_s(attempts + 1, lambda: by_chance)

"""What is sent where and when, pure: the same facts, rules and time always give the same deliveries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

from polyclinic.departments.routing.contracts import (
    Delivery,
    Destination,
    Facts,
    FindingFacts,
    Match,
    Rule,
    SeriesFacts,
    Window,
)

_FIRST_RETRY_S = 2.0
_LONGEST_RETRY_S = 600.0
MAX_ATTEMPTS = 440
"""About three days: a destination that is silent for a long weekend still gets everything."""
_LOOKS = 32
"""Turns between two windows after which they are held to be never open together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a rule asks for something, and why or why not, in words about conditions only."""

    rule: Rule
    matches: bool
    reason: str
    series_instance_uids: tuple[str, ...] = ()
    """That fulfil the conditions on series, sorted."""


def route(
    facts: Facts, rules: Iterable[Rule], at: datetime, destinations: Iterable[Destination] = ()
) -> tuple[Delivery, ...]:
    """What is to be sent, by priority, destination and content.

    Two rules that ask for the same thing give one delivery: the earlier time, the higher priority, both reasons. So
    another rule never takes a delivery away, and the order of rules does not matter.

    Parameters
    ----------
    at
        Aware time of the decision. A closed window, of the rule or of the destination, makes the delivery later.
    destinations
        Those whose hours count.
    """
    hours = {d.name: d.hours for d in destinations}
    merged: dict[tuple[str, str, tuple[str, ...]], Delivery] = {}
    for verdict in sorted((judge(facts, rule) for rule in rules), key=lambda v: v.rule.name):
        for delivery in _asked(verdict, at, hours) if verdict.matches else ():
            key = delivery.destination, delivery.content.value, delivery.series_instance_uids
            merged[key] = _both(merged[key], delivery) if key in merged else delivery
    return tuple(merged[key] for key in sorted(merged, key=lambda k: (-merged[k].priority, k)))


def _asked(verdict: Verdict, at: datetime, hours: Mapping[str, Window | None]) -> Iterable[Delivery]:
    rule = verdict.rule
    for destination in rule.to:
        due_at = next_open(at, [w for w in (rule.window, hours.get(destination)) if w is not None])
        for content in rule.send:
            yield Delivery(
                destination=destination,
                content=content,
                series_instance_uids=verdict.series_instance_uids if rule.matching_series_only else (),
                due_at=due_at or at,
                priority=rule.priority,
                rules=(rule.name,),
                because=(f"{rule.name}: {verdict.reason}",),
            )


def _both(one: Delivery, other: Delivery) -> Delivery:
    return Delivery(
        destination=one.destination,
        content=one.content,
        series_instance_uids=one.series_instance_uids,
        due_at=min(one.due_at, other.due_at),
        priority=max(one.priority, other.priority),
        rules=tuple(sorted({*one.rules, *other.rules})),
        because=tuple(sorted({*one.because, *other.because})),
    )


def judge(facts: Facts, rule: Rule) -> Verdict:
    """Whether the rule asks for something of this study."""

    def no(reason: str) -> Verdict:
        return Verdict(rule=rule, matches=False, reason=reason)

    if not rule.enabled:
        return no("the rule is switched off")
    if rule.when is not facts.trigger:
        return no(f"it is for {rule.when}, not for {facts.trigger}")
    for name, patterns, value in (
        ("study_description", rule.match.study_description, facts.study_description),
        ("patient_class", rule.match.patient_class, facts.patient_class),
        ("urgency", rule.match.urgency, facts.urgency),
    ):
        if patterns and not _fits(patterns, value):
            return no(f"{name} is not {_any(patterns)}")
    series = tuple(sorted(s.series_instance_uid for s in facts.series if _series_fits(rule.match, s)))
    if not series and (_series_conditions(rule.match) or rule.matching_series_only):
        return no(f"no series has {_words(_series_conditions(rule.match)) or 'images'}")
    findings = _finding_conditions(rule.match)
    if findings and not any(_finding_fits(rule.match, finding) for finding in facts.findings):
        return no(f"no finding has {_words(findings)}")
    given = {
        "study_description": rule.match.study_description,
        "patient_class": rule.match.patient_class,
        "urgency": rule.match.urgency,
        **_series_conditions(rule.match),
        **findings,
    }
    said = _words({name: patterns for name, patterns in given.items() if patterns})
    return Verdict(
        rule=rule,
        matches=True,
        reason=f"{rule.when}" + (f", {said}" if said else ", every study"),
        series_instance_uids=series,
    )


def _series_conditions(match: Match) -> dict[str, tuple[str, ...]]:
    names = ("modality", "station_name", "series_description", "body_part", "calling_ae_title")
    return {name: getattr(match, name) for name in names if getattr(match, name)}


def _finding_conditions(match: Match) -> dict[str, tuple[str, ...]]:
    return {name: getattr(match, name) for name in ("finding", "decision", "agent") if getattr(match, name)}


def _series_fits(match: Match, series: SeriesFacts) -> bool:
    return all(
        not patterns or any(_fits(patterns, value) for value in values)
        for patterns, values in (
            (match.modality, (series.modality,)),
            (match.station_name, (series.station_name,)),
            (match.series_description, (series.description,)),
            (match.body_part, (series.body_part,)),
            (match.calling_ae_title, tuple(series.calling_ae_titles)),
        )
    )


def _finding_fits(match: Match, finding: FindingFacts) -> bool:
    codes = (finding.code, f"{finding.system}|{finding.code}")
    return (
        (not match.finding or any(code in match.finding for code in codes))
        and (not match.decision or finding.decision in match.decision)
        and (not match.agent or _fits(match.agent, finding.agent))
    )


def _fits(patterns: Sequence[str], value: str) -> bool:
    """Whether one of the globs fits; case does not count, as devices write ``Chest`` and ``CHEST``."""
    folded = value.strip().casefold()
    return any(fnmatchcase(folded, pattern.casefold()) for pattern in patterns)


def _any(patterns: Sequence[str]) -> str:
    return " or ".join(patterns)


def _words(conditions: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(f"{name} {_any(patterns)}" for name, patterns in conditions.items())


def is_open(window: Window, at: datetime) -> bool:
    """Whether the moment lies in the window."""
    local = at.astimezone(ZoneInfo(window.timezone))
    now, today = local.time().replace(tzinfo=None), local.weekday()
    yesterday = (today - 1) % 7
    if window.start == window.end:
        return today in window.days
    if window.start < window.end:
        return today in window.days and window.start <= now < window.end
    return (today in window.days and now >= window.start) or (yesterday in window.days and now < window.end)


def next_open(at: datetime, windows: Sequence[Window]) -> datetime | None:
    """The first moment from `at` on at which all windows are open; None when there is none for weeks."""
    moment = at
    for _ in range(_LOOKS):
        closed = [window for window in windows if not is_open(window, moment)]
        if not closed:
            return moment
        moment = max(_opens(window, moment) for window in closed)
    return None


def _opens(window: Window, at: datetime) -> datetime:
    """The next opening of a window that is closed."""
    zone = ZoneInfo(window.timezone)
    local = at.astimezone(zone)
    for days in range(9):
        day = (local + timedelta(days=days)).date()
        begins = window.start.replace(hour=0, minute=0) if window.start == window.end else window.start
        opening = datetime.combine(day, begins, zone).astimezone(UTC)
        if day.weekday() in window.days and opening > at:
            return opening
    raise AssertionError("a window without days is refused when it is read")


def retry_after_s(attempts: int, chance: Callable[[], float]) -> float:
    """Seconds until the next attempt: doubling from two seconds to ten minutes, a quarter more or less by chance.

    Parameters
    ----------
    chance
        A number in [0, 1), so that many jobs that failed together do not come back together.
    """
    wait_s = min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2.0 ** min(attempts - 1, 20))
    return wait_s * (0.75 + 0.5 * chance())

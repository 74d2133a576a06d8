"""Sentences about the comparison with earlier studies: with which, how each nodule changed, what is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from polyclinic.core.findings import Finding
from polyclinic.core.guidelines.nodule import round_half_up
from polyclinic.departments.reading.advice import mean_diameter_mm
from polyclinic.departments.reading.comparison_rules import Followed, Since, followed
from polyclinic.departments.reading.contracts import RunSummary, Sentence
from polyclinic.departments.reading.wording import Wording

_NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """An earlier study that an agent compared with, as its facts say."""

    day: str
    interval_days: str
    residual: str


def compared_with(runs: Sequence[RunSummary]) -> tuple[Compared, ...]:
    """The comparisons that were made."""
    made = []
    for run in runs:
        facts = {fact.name: fact.value for fact in run.facts}
        if "compared with" in facts:
            days = facts.get("comparison interval", "").removesuffix(" d")
            made.append(
                Compared(
                    day=facts["compared with"],
                    interval_days=days if days.isdigit() else "",
                    residual=facts.get("comparison residual", "-"),
                )
            )
    return tuple(made)


def comparison_sentences(
    words: Wording, phrase: Callable[[str], str], runs: Sequence[RunSummary], prior_dates: Sequence[date]
) -> list[Sentence]:
    """Which earlier studies there are, which were compared with and how well, which were not and why."""
    made = compared_with(runs)
    texts: list[str] = []
    dates = words.enumeration.join(day.isoformat() for day in sorted(set(prior_dates), reverse=True))
    if dates:
        texts.append(words.comparisons["on-file"].format(dates=dates) if made else words.comparison.format(dates=dates))
    texts += [_compared(words, one) for one in made]
    texts += [_not_compared(words, phrase, f.value) for run in runs for f in run.facts if f.name == "not compared"]
    return [Sentence(text=text, basis="comparison") for text in texts or [words.comparison_none]]


def _compared(words: Wording, one: Compared) -> str:
    said = words.comparisons
    interval = said["interval"].format(days=one.interval_days) if one.interval_days else ""
    template = said["compared-undated" if one.day == _NOT_STATED else "compared"]
    return template.format(date=one.day, interval=interval, quality=said["quality"].format(residual=one.residual))


def _not_compared(words: Wording, phrase: Callable[[str], str], value: str) -> str:
    day, _, reason = value.partition(": ")
    template = words.comparisons["not-compared-undated" if day == _NOT_STATED else "not-compared"]
    return template.format(date=day, reason=phrase(reason).rstrip(".。"))


def change_text(words: Wording, finding: Finding) -> str:
    """How the nodule changed; empty when it was not compared."""
    now_mm = mean_diameter_mm(finding)
    past = followed(finding, now_mm)
    if past is None:
        return ""
    template = words.comparisons[past.since.value]
    if past.since is Since.NEW or past.before_mm is None or now_mm is None:
        return template
    return template.format(sizes=words.parts.join(_sizes(words, past, now_mm)))


def _sizes(words: Wording, past: Followed, now_mm: float) -> list[str]:
    said = words.comparisons
    before_mm = round_half_up(past.before_mm or 0.0, "0.1")
    sizes = [said["diameters"].format(before=f"{before_mm:.1f}", now=f"{now_mm:.1f}")]
    if past.before_mm3 is not None and past.now_mm3 is not None and past.volume_percent is not None:
        before, now, percent = f"{past.before_mm3:.0f}", f"{past.now_mm3:.0f}", f"{past.volume_percent:+.0f}"
        sizes.append(said["volumes"].format(before=before, now=now, percent=percent))
    if past.doubling_days is not None:
        sizes.append(said["doubling"].format(days=f"{past.doubling_days:.0f}"))
    return sizes


def resolved_text(words: Wording, site: str, size: str) -> str:
    """A nodule of the earlier study that is gone."""
    return words.comparisons["resolved"].format(site=site, size=size)


def change_groups(numbered: Sequence[tuple[Finding, int]]) -> list[tuple[Since, list[tuple[Finding, int]]]]:
    """The nodules that were compared, by what they did, the most pressing first."""
    groups: dict[Since, list[tuple[Finding, int]]] = {since: [] for since in Since}
    for finding, number in numbered:
        past = followed(finding, mean_diameter_mm(finding))
        if past is not None:
            groups[past.since].append((finding, number))
    return [(since, members) for since, members in groups.items() if members]

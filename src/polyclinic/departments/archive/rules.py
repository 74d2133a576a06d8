"""What may be deleted when: retention as data, decided by one pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from polyclinic.core.errors import Rejected
from polyclinic.departments.archive.contracts import StudyRecord

_DAY_S = 86_400


class ReportState(StrEnum):
    """How far the reading of a study has come."""

    NONE = "none"
    """Nobody has begun, and nobody is expected to."""
    OPEN = "open"
    SIGNED = "signed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """What the rules look at."""

    study: StudyRecord
    series_instance_uid: str
    modality: str
    derived: bool
    sources: frozenset[str]
    newest_received_at: datetime
    instance_count: int
    size_bytes: int
    report: ReportState


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """One rule; every condition that is set must hold. Without any condition but its name it fits everything."""

    name: str
    keep: bool
    """Keep what fits, whatever later rules say; else delete it."""
    older_than_days: float | None = None
    """Since the newest instance of the series came."""
    study_older_than_days: float | None = None
    """Since the Study Date (0008,0020); a study without one never fits."""
    modalities: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    """Fits when all instances of the series came from these."""
    derived: bool | None = None
    reports: frozenset[ReportState] = frozenset({ReportState.NONE, ReportState.SIGNED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """What must not be deleted by anybody, until somebody takes it off the list."""

    studies: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()
    """Patient IDs, each alone (of any issuer) or as ``ID^ISSUER``."""
    accessions: frozenset[str] = frozenset()

    def hold(self, study: StudyRecord) -> bool:
        """Whether the study is on legal hold."""
        patient = study.patient
        return (
            study.study_instance_uid in self.studies
            or study.accession_number in self.accessions
            or patient.patient_id in self.patients
            or f"{patient.patient_id}^{patient.issuer}" in self.patients
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """Rules in their order, and holds."""

    rules: tuple[RetentionRule, ...] = ()
    holds: Holds = Holds()

    @property
    def least_age_days(self) -> float:
        """No series that is younger than this, counted from its newest instance, is ever deleted."""
        ages = [rule.older_than_days or 0.0 for rule in self.rules if not rule.keep]
        return min(ages, default=float("inf"))


def rule_for_deletion(series: SeriesFacts, policy: RetentionPolicy, now: datetime) -> str | None:
    """Name of the rule by which a series is deleted now, or None when it stays.

    Holds go before rules. The first rule that fits decides.
    """
    if policy.holds.hold(series.study):
        return None
    for rule in policy.rules:
        if fits(series, rule, now):
            return None if rule.keep else rule.name
    return None


def fits(series: SeriesFacts, rule: RetentionRule, now: datetime) -> bool:
    """Whether every condition of the rule holds."""
    age_days = (now - series.newest_received_at).total_seconds() / _DAY_S
    study_age_days = _days_since(series.study.study_date, now)
    return (
        (rule.older_than_days is None or age_days > rule.older_than_days)
        and (
            rule.study_older_than_days is None
            or (study_age_days is not None and study_age_days > rule.study_older_than_days)
        )
        and (not rule.modalities or series.modality in rule.modalities)
        and (not rule.sources or series.sources <= rule.sources)
        and (rule.derived is None or series.derived == rule.derived)
        and series.report in rule.reports
    )


def _days_since(study_date: str, now: datetime) -> float | None:
    try:
        day = datetime.strptime(study_date, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return (now - day).total_seconds() / _DAY_S


_RULE_KEYS = frozenset(
    {"name", "keep", "older_than_days", "study_older_than_days", "modalities", "sources", "derived", "reports"}
)
_HOLD_KEYS = frozenset({"studies", "patients", "accessions"})
_CONDITIONS = _RULE_KEYS - {"name", "keep", "reports"}


def policy_of(document: Mapping[str, Any]) -> RetentionPolicy:
    """The policy that a document (a parsed ``retention.toml``) describes.

    Raises
    ------
    Rejected
        ``archive.bad-retention``: an unknown key, a wrong type, two rules of one name, or a rule that would delete
        everything because it has no condition.
    """
    _check(set(document) <= {"rule", "hold"}, f"unknown part {_first(set(document) - {'rule', 'hold'})}")
    hold = document.get("hold", {})
    _check(isinstance(hold, Mapping) and set(hold) <= _HOLD_KEYS, "[hold] has studies, patients and accessions")
    listed = document.get("rule", [])
    _check(isinstance(listed, list) and all(isinstance(one, Mapping) for one in listed), "write rules as [[rule]]")
    rules = tuple(map(_rule, listed))
    _check(len({rule.name for rule in rules}) == len(rules), "two rules have the same name")
    return RetentionPolicy(rules=rules, holds=Holds(**{key: _names(hold[key], key) for key in hold}))


def _rule(table: Mapping[str, Any]) -> RetentionRule:
    name = table.get("name")
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 100:
        raise _bad("every rule needs a name of at most 100 letters")
    _check(set(table) <= _RULE_KEYS, f"rule {name!r}: unknown key {_first(set(table) - _RULE_KEYS)}")
    keep = table.get("keep", False)
    _check(isinstance(keep, bool), f"rule {name!r}: keep is true or false")
    _check(keep or bool(_CONDITIONS & set(table)), f"rule {name!r} would delete everything: give it a condition")
    values: dict[str, Any] = {}
    for key in ("older_than_days", "study_older_than_days"):
        if key in table:
            days = table[key]
            number = isinstance(days, int | float) and not isinstance(days, bool)
            _check(number and days >= 0, f"rule {name!r}: {key} is a number of days")
            values[key] = float(days)
    for key in ("modalities", "sources"):
        if key in table:
            values[key] = _names(table[key], key)
    if "derived" in table:
        _check(isinstance(table["derived"], bool), f"rule {name!r}: derived is true or false")
        values["derived"] = table["derived"]
    if "reports" in table:
        reports = _names(table["reports"], "reports")
        known = {state.value for state in ReportState}
        _check(reports <= known, f"rule {name!r}: reports are {', '.join(sorted(known))}")
        values["reports"] = frozenset(map(ReportState, reports))
    return RetentionRule(name=name, keep=keep, **values)


def _names(value: Any, key: str) -> frozenset[str]:
    good = isinstance(value, list) and all(isinstance(one, str) and one.strip() for one in value)
    _check(good, f"{key} is a list of texts")
    return frozenset(value)


def _first(keys: set[str]) -> str:
    return repr(min(keys, default=""))


def _check(good: bool, message: str) -> None:
    if not good:
        raise _bad(message)


def _bad(message: str) -> Rejected:
    return Rejected("archive.bad-retention", f"The retention rules cannot be used: {message}")


def deletions(
    facts: Sequence[SeriesFacts], policy: RetentionPolicy, now: datetime
) -> tuple[tuple[SeriesFacts, str], ...]:
    """Series that go now, each with the name of its rule, in the order given."""
    judged = ((series, rule_for_deletion(series, policy, now)) for series in facts)
    return tuple((series, rule) for series, rule in judged if rule is not None)

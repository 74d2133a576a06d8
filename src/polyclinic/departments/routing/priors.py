"""Which earlier studies of another archive are worth fetching, and whether an image is about the same person. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fnmatch import fnmatchcase

from polyclinic.departments.routing.contracts import (
    PatientIdentity,
    PriorQuestion,
    PriorRules,
    Relevance,
    RemoteStudy,
)

_DAYS_A_YEAR = 365.25
_KNOWN_SEX = frozenset({"M", "F"})
_NOT_IMAGES = frozenset({"SR", "KO", "PR", "SEG", "DOC", "REG", "RWV", "AU", "ECG", "RTSTRUCT", "RTPLAN", "RTRECORD"})
"""Two studies are not alike because both hold a dose report."""
_NO_PART_OF_A_QUERY = frozenset("*?\\")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A study that another archive has: to be fetched, or why not."""

    study: RemoteStudy
    fetch: bool
    reason: str


def can_be_asked_for(identity: PatientIdentity) -> bool:
    """Whether a query by this patient id finds this patient only; wildcards in it would find others."""
    return bool(identity.patient_id.strip()) and not set(identity.patient_id) & _NO_PART_OF_A_QUERY


def difference(here: PatientIdentity, there: PatientIdentity) -> str:
    """Why the two may not be the same person; empty when they are.

    The patient id alone is not enough, as other hospitals give the same ones: the issuer or the birth date must be
    known on both sides and agree, and nothing that is known on both sides may differ.
    """
    if here.patient_id.strip() != there.patient_id.strip():
        return "the patient id is another one"
    issuers = here.issuer.strip(), there.issuer.strip()
    births = here.birth_date.strip(), there.birth_date.strip()
    sexes = here.sex.strip().upper(), there.sex.strip().upper()
    if all(issuers) and issuers[0] != issuers[1]:
        return "the issuer of the patient id is another one"
    if all(births) and births[0] != births[1]:
        return "the birth date is another one"
    if set(sexes) <= _KNOWN_SEX and sexes[0] != sexes[1]:
        return "the sex is another one"
    if not all(issuers) and not all(births):
        return "neither issuer nor birth date say that it is the same person"
    return ""


def choose(question: PriorQuestion, found: Sequence[RemoteStudy], rules: PriorRules) -> tuple[Choice, ...]:
    """Every study that was found, newest first, each to be fetched or with the reason why not.

    Those whose `RemoteStudy.body_parts` are unknown are judged by what is known.
    """
    choices: list[Choice] = []
    chosen: set[str] = set()
    for study in sorted(found, key=lambda s: (s.study_date, s.study_instance_uid), reverse=True):
        reason = _against(question, study, rules)
        if not reason and study.study_instance_uid in chosen:
            reason = "it was found twice"
        if not reason and len(chosen) >= rules.most_recent:
            reason = f"there are {rules.most_recent} newer ones"
        if not reason:
            chosen.add(study.study_instance_uid)
        choices.append(Choice(study=study, fetch=not reason, reason=reason or "a relevant prior"))
    return tuple(choices)


def _against(question: PriorQuestion, study: RemoteStudy, rules: PriorRules) -> str:
    """Why the study is not fetched, whatever else was found; empty when it may be."""
    newer = study.study_date and question.study_date and study.study_date > question.study_date
    older = study.study_date and study.study_date < _oldest(question.today, rules.within_years)
    against = (
        (study.study_instance_uid == question.study_instance_uid, "it is the study itself"),
        (study.study_instance_uid in question.here, "it is here"),
        (other := difference(question.identity, study.identity), other),
        (newer, "it is newer than the study"),
        (older, f"it is older than {rules.within_years:g} years"),
        (not is_relevant(question, study, rules.relevant), "it shows something else"),
    )
    return next((reason for holds, reason in against if holds), "")


def _oldest(today: date, within_years: float) -> str:
    try:
        return f"{today - timedelta(days=within_years * _DAYS_A_YEAR):%Y%m%d}"
    except OverflowError:
        return ""


def is_relevant(question: PriorQuestion, study: RemoteStudy, relevant: Sequence[Relevance]) -> bool:
    """Whether one of the rules takes the prior; without rules, whether modality or body part is the same.

    What is not known of a prior (no body part in any series, no modality) never excludes it.
    """
    if not relevant:
        images = [modality for modality in study.modalities if modality not in _NOT_IMAGES]
        return (
            not study.modalities
            or _common(images, question.modalities)
            or (study.body_parts is not None and _common(study.body_parts, question.body_parts))
        )
    return any(
        (not rule.modality or _common(rule.modality, question.modalities))
        and (not rule.body_part or not any(question.body_parts) or _common(rule.body_part, question.body_parts))
        and (not rule.prior_modality or not study.modalities or _common(rule.prior_modality, study.modalities))
        and (
            not rule.prior_body_part
            or not any(study.body_parts or ())
            or _common(rule.prior_body_part, study.body_parts or ())
        )
        and (not rule.prior_description or _described(rule.prior_description, study.description))
        for rule in relevant
    )


def _common(one: Sequence[str], other: Sequence[str]) -> bool:
    return bool({v.strip().casefold() for v in one if v} & {v.strip().casefold() for v in other if v})


def _described(patterns: Sequence[str], description: str) -> bool:
    return any(fnmatchcase(description.strip().casefold(), pattern.casefold()) for pattern in patterns)

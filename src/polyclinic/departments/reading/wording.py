"""The words of a report as data: one `Wording` a language, filled by `draft` from the same codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from polyclinic.core.codes import LOCAL, SNOMED_CT, Code

CodeKey = tuple[str, str]
"""Code system and code."""

CHEST: CodeKey = (SNOMED_CT, "51185008")
RADIOGRAPH_OPACITY: CodeKey = (LOCAL, "chest-xray-pneumonia-type-opacity")
RADIOGRAPH_TUBERCULOSIS_PATTERN: CodeKey = (LOCAL, "chest-xray-tuberculosis-pattern")
"""What an agent of its own package proposes, named as its manifest names it; this department imports no agent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """Every text the draft can write. Placeholders in braces are the same in every language (a test holds it)."""

    titles: Mapping[str, str]
    """Section id -> title."""
    terms: Mapping[CodeKey, str]
    nodules: Mapping[CodeKey, str]
    """Nodule attenuation type -> the kind of nodule, e.g. "solid nodule"; key ``("", "")`` when it is unknown."""
    fact_names: Mapping[str, str]
    """Fact of an acquisition, lower case -> name a reader sees; other facts of an agent are no part of the report."""
    facts: Mapping[str, str]
    """The same facts with their value, in the order of the sentence."""
    phrases: Mapping[str, str]
    """What agents write, lower case, without full stop, ``#`` for a number -> what a reader sees."""

    enumeration: str
    """Between the items of a list."""
    last: str
    """Before the last item of a list."""
    parts: str
    """Between the measurements of one finding."""
    between_limits: str
    technique: str
    not_stated: str
    technique_unknown: str
    series_problem: str
    comparison: str
    comparison_none: str
    signed_before: str

    nodule: str
    numbered: str
    numbered_many: str
    number_run: str
    axes: str
    long_axis_only: str
    measured: str
    on_image: str
    at_height: str
    limits: str
    note: str
    all_nodules: str
    densitometry: str
    lung_volumes: str
    other: str
    other_unmeasured: str
    with_reason: str
    """What was not looked at, and why."""
    judged: str
    """How a measurement lies to a published limit."""
    within_limit: str
    other_scored: str
    """A finding for which an agent noted a score beside its threshold."""
    proposed: str
    proposed_with_confidence: str

    none_found: str
    none_found_scored: str
    none_confirmed: str
    no_findings: str
    nothing_excluded: str
    """After "no finding", when agents answered with scores."""
    awaiting: str
    not_assessed: str
    abstained: str
    failed: str

    impression_nodule: str
    impression_nodules: str
    impression_densitometry: str
    impression_other: str
    impression_scored: str

    lung_rads: str
    lung_rads_at_least: str
    lung_rads_nodules: str
    lung_rads_group: str
    first_examination_only: str
    fleischner: str
    fleischner_too_young: str
    adult: str
    patient: str
    advised: str
    """A result of a guideline and the advice that its table gives."""
    by_risk: str
    unclassified: Mapping[str, str]
    """Why a nodule has no category -> the sentence that says so."""
    comparisons: Mapping[str, str]
    """Sentences about change since an earlier study, see `comparison`."""


def key(code: Code) -> CodeKey:
    """What terms are looked up by; the display text does not count."""
    return (code.system, code.code)

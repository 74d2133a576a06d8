"""Brock (PanCan) model: probability that a nodule on a first screening CT is cancer, full model with spiculation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from polyclinic.core.findings import Rule
from polyclinic.core.guidelines.nodule import NoduleKind, invalid
from polyclinic.core.guidelines.source import Checked, Provenance, Source

ID = "brock-2b"
CITATION = "McWilliams A et al., N Engl J Med 2013;369:910-919, doi:10.1056/NEJMoa1214726"
SOURCE = Source(citation=CITATION, place="full model with spiculation (model 2b)")

MODEL_CONSTANT = -6.7892
CENTRE_AGE_YEARS = 62
CENTRE_NODULE_COUNT = 4
CENTRE_SIZE_TERM = 1.58113883
"""(4 mm / 10) to the power -0.5."""
COHORT_AGES_YEARS = (50, 75)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficient:
    """One term of the linear predictor, in natural log odds per unit of what it multiplies."""

    name: str
    value: float
    multiplies: str


AGE = Coefficient(name="age", value=0.0287, multiplies="age in years - 62")
FEMALE = Coefficient(name="female", value=0.6011, multiplies="1 if female")
FAMILY_HISTORY = Coefficient(name="family history", value=0.2961, multiplies="1 if a relative had lung cancer")
EMPHYSEMA = Coefficient(name="emphysema", value=0.2953, multiplies="1 if emphysema on CT")
SIZE = Coefficient(name="size", value=-5.3854, multiplies="(size in mm / 10)^-0.5 - 1.58113883")
GROUND_GLASS = Coefficient(name="ground-glass", value=-0.1276, multiplies="1 if non-solid")
PART_SOLID = Coefficient(name="part-solid", value=0.377, multiplies="1 if part-solid")
UPPER_LOBE = Coefficient(name="upper lobe", value=0.6581, multiplies="1 if in an upper lobe")
COUNT = Coefficient(name="nodule count", value=-0.0824, multiplies="number of nodules - 4")
SPICULATION = Coefficient(name="spiculation", value=0.7729, multiplies="1 if spiculated")
COEFFICIENTS = (
    AGE,
    FEMALE,
    FAMILY_HISTORY,
    EMPHYSEMA,
    SIZE,
    GROUND_GLASS,
    PART_SOLID,
    UPPER_LOBE,
    COUNT,
    SPICULATION,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodule:
    """What the model asks of patient and nodule.

    Raises
    ------
    Rejected
        ``guideline.input`` when a number is not finite or cannot be (age or size not above zero, no nodule).
    """

    age_years: float
    female: bool
    family_history_lung_cancer: bool
    emphysema: bool
    size_mm: float
    kind: NoduleKind
    upper_lobe: bool
    nodule_count: int
    spiculated: bool

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) and value > 0 for value in (self.age_years, self.size_mm)):
            raise invalid("Age and nodule size are finite numbers above zero.")
        if self.nodule_count < 1:
            raise invalid("The nodule counts among the nodules: at least one.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """What one coefficient contributes to the log odds of this nodule."""

    coefficient: Coefficient
    contribution: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CancerRisk:
    """`probability` in (0, 1); `within_cohort_ages` False where the model extrapolates beyond 50 to 75 years."""

    probability: float
    log_odds: float
    terms: tuple[Term, ...]
    within_cohort_ages: bool
    rule: Rule


def _terms(nodule: Nodule) -> tuple[Term, ...]:
    amounts: tuple[tuple[Coefficient, float], ...] = (
        (AGE, nodule.age_years - CENTRE_AGE_YEARS),
        (FEMALE, nodule.female),
        (FAMILY_HISTORY, nodule.family_history_lung_cancer),
        (EMPHYSEMA, nodule.emphysema),
        (SIZE, (nodule.size_mm / 10) ** -0.5 - CENTRE_SIZE_TERM),
        (GROUND_GLASS, nodule.kind is NoduleKind.GROUND_GLASS),
        (PART_SOLID, nodule.kind is NoduleKind.PART_SOLID),
        (UPPER_LOBE, nodule.upper_lobe),
        (COUNT, nodule.nodule_count - CENTRE_NODULE_COUNT),
        (SPICULATION, nodule.spiculated),
    )
    return tuple(Term(coefficient=one, contribution=one.value * amount) for one, amount in amounts)


def _logistic(log_odds: float) -> float:
    if log_odds >= 0:
        return 1 / (1 + math.exp(-log_odds))
    odds = math.exp(log_odds)  # written this way so that no power overflows
    return odds / (1 + odds)


def cancer_risk(nodule: Nodule) -> CancerRisk:
    """The model's probability of cancer within two to four years of the CT, with what each term contributed."""
    terms = _terms(nodule)
    log_odds = MODEL_CONSTANT + math.fsum(term.contribution for term in terms)
    probability = _logistic(log_odds)
    youngest, oldest = COHORT_AGES_YEARS
    return CancerRisk(
        probability=probability,
        log_odds=log_odds,
        terms=terms,
        within_cohort_ages=youngest <= nodule.age_years <= oldest,
        rule=SOURCE.rule(ID, f"{probability:.1%}"),
    )


PROVENANCE = Provenance(
    title="Brock (PanCan) model 2b",
    citation=f"{CITATION} (author manuscript PMC3951177).",
    checked=(
        Checked(
            what="all ten coefficients and the constant",
            against=(
                "PMC6717521, Table 2 (Eur Radiol 2019;29:5367-5377), column BU: same coefficients with the uncentred "
                "constant 0.2761, which is the centred -6.7892 worked out (tested)"
            ),
        ),
        Checked(
            what="centring at 62 years, 4 nodules and (4 mm / 10)^-0.5, and the constant -6.7892",
            against=(
                "three independent open-source implementations with one and the same formula; medicalalgorithms.com "
                "for the centring (of model 2a)"
            ),
        ),
        Checked(
            what="worked examples",
            against="two independent implementations’ published test values: 47.7 %, 14.588653 %, 0.092011 % and 0.3 "
            "% (tested)",
        ),
        Checked(what="the article in full, with its supplement", against="**not read** beyond the abstract"),
    ),
    readings=(
        "Ages outside 50 to 75 years, the cohort’s, are computed and marked, not refused.",
        "Size is what the article calls nodule size; the copies read do not say whether the longest or the mean "
        "diameter, so the finding must say which was given.",
    ),
    left_out=(
        "Models 1a, 1b (parsimonious) and 2a (without spiculation): 2a was found in one secondary source, which "
        "describes the size term wrongly; the others in none.",
        "Risk thresholds for action (such as 10 %): they belong to other guidelines.",
    ),
)

"""CAC-DRS: the class of coronary artery calcium on CT (SCCT 2018), by Agatston score or by eye."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from polyclinic.core.findings import Rule
from polyclinic.core.guidelines.nodule import invalid
from polyclinic.core.guidelines.source import Checked, Provenance, Source

ID = "cac-drs-2018"
CITATION = "Hecht HS et al., J Cardiovasc Comput Tomogr 2018;12:185-191, doi:10.1016/j.jcct.2018.03.008"
VESSELS = ("left main", "left anterior descending", "left circumflex", "right coronary artery")


class Visual(StrEnum):
    """Overall calcium estimated by eye, for CT without ECG gating."""

    NONE = "none"
    MILD = "mild"
    MODERATE = "moderate"
    SEVERE = "severe"


class Risk(StrEnum):
    VERY_LOW = "very low"
    MILDLY_INCREASED = "mildly increased"
    MODERATELY_INCREASED = "moderately increased"
    MODERATELY_TO_SEVERELY_INCREASED = "moderately to severely increased"

    @property
    def chinese(self) -> str:
        """The same in Chinese."""
        return _CHINESE[self]


_CHINESE = {
    Risk.VERY_LOW: "极低",
    Risk.MILDLY_INCREASED: "轻度升高",
    Risk.MODERATELY_INCREASED: "中度升高",
    Risk.MODERATELY_TO_SEVERELY_INCREASED: "中重度升高",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One class; zero has its own row, the Agatston scores above it are in half-open ranges."""

    grade: int
    at_least: float
    below: float
    visual: Visual
    risk: Risk
    source: Source

    def contains(self, agatston: float) -> bool:
        """Whether a score lies in this class; every score above zero is at least class 1."""
        if self.grade == 0:
            return agatston == 0
        return agatston > 0 and self.at_least <= agatston < self.below


_TABLE = Source(citation=CITATION, place="table of CAC-DRS categories")
ROWS: tuple[Row, ...] = (
    Row(grade=0, at_least=0, below=0, visual=Visual.NONE, risk=Risk.VERY_LOW, source=_TABLE),
    Row(grade=1, at_least=0, below=100, visual=Visual.MILD, risk=Risk.MILDLY_INCREASED, source=_TABLE),
    Row(grade=2, at_least=100, below=300, visual=Visual.MODERATE, risk=Risk.MODERATELY_INCREASED, source=_TABLE),
    Row(
        grade=3,
        at_least=300,
        below=math.inf,
        visual=Visual.SEVERE,
        risk=Risk.MODERATELY_TO_SEVERELY_INCREASED,
        source=_TABLE,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calcium:
    """Either an Agatston score or an estimate by eye, and how many of the four vessels hold calcium when known.

    Raises
    ------
    Rejected
        ``guideline.input`` when both or none are given, or score and vessels contradict each other.
    """

    agatston: float | None = None
    visual: Visual | None = None
    vessels: int | None = None
    gated: bool

    def __post_init__(self) -> None:
        if (self.agatston is None) == (self.visual is None):
            raise invalid("Give an Agatston score or an estimate by eye, not both and not neither.")
        if self.agatston is not None and not (math.isfinite(self.agatston) and self.agatston >= 0):
            raise invalid("An Agatston score is a finite number, not negative.")
        if self.visual is not None and self.gated:
            raise invalid("The estimate by eye is for CT without ECG gating.")
        if self.vessels is not None:
            if not 0 <= self.vessels <= len(VESSELS):
                raise invalid("Between none and four vessels hold calcium.")
            if (self.vessels == 0) != self.is_free:
                raise invalid("Calcium and the number of vessels that hold it contradict each other.")

    @property
    def is_free(self) -> bool:
        """Whether there is no calcium."""
        return self.agatston == 0 or self.visual is Visual.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class CalciumClass:
    """`code` is what is reported, e.g. ``"A2/N3"`` or ``"V1"``."""

    code: str
    grade: int
    risk: Risk
    agatston_equivalent: bool
    """True for an Agatston score from CT without gating: comparable in class, not the score of the method."""
    rule: Rule


def classify(calcium: Calcium) -> CalciumClass:
    """The CAC-DRS class of a patient."""
    if calcium.agatston is not None:
        letter, row = "A", next(row for row in ROWS if row.contains(calcium.agatston))
    else:
        letter, row = "V", next(row for row in ROWS if row.visual is calcium.visual)
    code = f"{letter}{row.grade}" + (f"/N{calcium.vessels}" if calcium.vessels else "")
    return CalciumClass(
        code=code,
        grade=row.grade,
        risk=row.risk,
        agatston_equivalent=calcium.agatston is not None and not calcium.gated,
        rule=row.source.rule(f"{ID}.{letter}{row.grade}", code),
    )


PROVENANCE = Provenance(
    title="CAC-DRS 2018",
    citation=f"{CITATION}.",
    checked=(
        Checked(
            what="four classes, A by score and V by eye, N the number of vessels up to four",
            against=(
                "“Validation of CAC-DRS” (Dzaye et al., J Cardiovasc Comput Tomogr 2019, abstract: A0 to A3/N4), "
                "“CAC-DRS: A Primer” (Kumar and Bhatia 2023, abstract) and a summary of the consensus document "
                "(BlueRipple)"
            ),
        ),
        Checked(
            what="borders 0, 1-99, 100-299, 300 and above",
            against="three independent open-source implementations that cite Hecht 2018 and agree",
        ),
        Checked(
            what="V0 to V3 as none, mild, moderate, severe, and the wording of risk",
            against="one of these implementations only",
        ),
        Checked(what="the consensus document in full", against="**not read**: no copy was at hand"),
    ),
    readings=(
        "300 is class 3: one implementation notes that the article prints “> 300” after “100-299”, which would leave "
        "300 without class.",
        "Scores between whole numbers: above 0 and below 100 is class 1, from 100 and below 300 class 2.",
    ),
    left_out=(
        "Treatment advice per class (statin, aspirin): found in one secondary source only, and not for an imaging "
        "report.",
        "Percentiles by age, sex and origin (MESA): another source.",
        "What counts as mild, moderate or severe by eye: the copies read give no criteria.",
    ),
)

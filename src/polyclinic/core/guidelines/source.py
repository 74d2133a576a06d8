"""Where a row of a guideline comes from, how it was checked, and what it advises."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from polyclinic.core.findings import Rule


class Language(StrEnum):
    ENGLISH = "en"
    CHINESE = "zh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The publication a number is taken from, and the table, note or section in it."""

    citation: str
    place: str

    def __str__(self) -> str:
        return f"{self.citation} {self.place}"

    def rule(self, row_id: str, result: str) -> Rule:
        """The evidence a Finding keeps when a row of this source classified it."""
        return Rule(id=row_id, citation=str(self), result=str(result))


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What a row recommends, in words of our own; `code` is stable and what other parts compare."""

    code: str
    english: str
    chinese: str

    def text(self, language: Language) -> str:
        """The advice in one language."""
        return self.chinese if language is Language.CHINESE else self.english


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What one part of a table was compared with before it was encoded."""

    what: str
    against: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """How far a guideline's table can be trusted: checks made, readings chosen, rows left out.

    `readings` are decisions where the published text leaves two possibilities; `left_out` says what was not encoded
    and why.
    """

    title: str
    citation: str
    checked: tuple[Checked, ...]
    readings: tuple[str, ...]
    left_out: tuple[str, ...]

"""Sentences about guideline results: conditional, citing the nodules and the rows of the tables they stand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polyclinic.core.findings import Finding, FindingState, Rule
from polyclinic.core.guidelines.fleischner_2017 import YOUNGEST_YEARS
from polyclinic.core.guidelines.source import Advice
from polyclinic.core.guidelines.source import Language as TableLanguage
from polyclinic.departments.reading.advice import IncidentalAdvice, NoduleAdvice, ScreeningAdvice, advise
from polyclinic.departments.reading.comparison import change_groups
from polyclinic.departments.reading.contracts import Sentence
from polyclinic.departments.reading.description import Describer, capital


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """What the guidelines say about the numbered nodules of one report."""

    say: Describer
    numbered: Sequence[tuple[Finding, int]]
    """The nodules that count, in order, with the numbers that the report gives them."""
    age_years: int | None
    has_priors: bool
    compared: bool
    """Whether an agent compared with an earlier study."""

    def changes(self) -> list[Sentence]:
        """What the nodules did since the earlier study, those that were compared."""
        groups = change_groups(self.numbered)
        if not groups:
            return []
        said = self.say.words.comparisons
        texts = [said[f"group-{since.value}"].format(subject=self.say.nodules(members)) for since, members in groups]
        text = said["changes"].format(groups=self.say.words.parts.join(texts))
        return [self._sentence(text, [f.id for _, members in groups for f, _n in members], ())]

    def by_nodule(self) -> list[Sentence]:
        """The Lung-RADS category of every nodule, where there are several; one nodule has that of the exam."""
        screening = self._advice().screening
        if screening is None or len(self.numbered) == 1:
            return []
        words = self.say.words
        groups = [
            words.lung_rads_group.format(category=group.category, subject=self._subject(group.finding_ids))
            for group in screening.groups
        ]
        template = words.comparisons["lung-rads-nodules"] if self.compared else words.lung_rads_nodules
        text = template.format(groups=words.parts.join(groups))
        rules = tuple(dict.fromkeys(rule for group in screening.groups for rule in group.rules))
        return [self._sentence(text, [i for group in screening.groups for i in group.finding_ids], rules)]

    def impression(self) -> list[Sentence]:
        """Category of the exam, follow-up of an incidental nodule, and what neither could be derived for."""
        advice = self._advice()
        sentences = [self._screening(advice.screening)] if advice.screening else []
        if advice.incidental:
            sentences.append(self._incidental(advice.incidental))
        if (
            self.has_priors
            and not self.compared
            and (advice.screening or (advice.incidental and advice.incidental.applies))
        ):
            cited = [i for sentence in sentences for i in sentence.finding_ids]
            rules = tuple(dict.fromkeys(rule for sentence in sentences for rule in sentence.rules))
            sentences.append(self._sentence(self.say.words.first_examination_only, cited, rules))
        for without in advice.unclassified:
            text = self.say.words.unclassified[without.gap].format(subject=self._subject(without.finding_ids))
            sentences.append(self._sentence(capital(text), without.finding_ids, without.rules))
        return sentences

    def _advice(self) -> NoduleAdvice:
        return advise([f for f, _ in self.numbered], age_years=self.age_years)

    def _screening(self, screening: ScreeningAdvice) -> Sentence:
        words, deciding = self.say.words, screening.groups[0].finding_ids
        if self.compared:
            template = words.comparisons["lung-rads-at-least" if screening.at_least else "lung-rads"]
        else:
            template = words.lung_rads_at_least if screening.at_least else words.lung_rads
        text = template.format(category=screening.category, subject=self._subject(deciding))
        if not screening.at_least:
            text = words.advised.format(text=text, advice=self._text(screening.advice))
        return self._sentence(text, deciding, screening.rules)

    def _incidental(self, incidental: IncidentalAdvice) -> Sentence:
        words = self.say.words
        low, high = self._text(incidental.low_risk), self._text(incidental.high_risk)
        if not incidental.applies:
            text = words.fleischner_too_young.format(advice=low, youngest=YOUNGEST_YEARS, age=self.age_years)
            return self._sentence(text, incidental.finding_ids, incidental.rules)
        adult = words.adult.format(youngest=YOUNGEST_YEARS) if self.age_years is None else words.patient
        text = words.fleischner.format(
            who=adult, subject=self._subject(incidental.finding_ids), size=f"{incidental.size_mm:.0f}"
        )
        advice = low if low == high else words.by_risk.format(low=low, high=high)
        return self._sentence(words.advised.format(text=text, advice=advice), incidental.finding_ids, incidental.rules)

    def _text(self, advice: Advice) -> str:
        return advice.text(TableLanguage(self.say.language))

    def _subject(self, finding_ids: Sequence[str]) -> str:
        return self.say.nodules([(f, n) for f, n in self.numbered if f.id in finding_ids])

    def _sentence(self, text: str, finding_ids: Sequence[str], rules: tuple[Rule, ...]) -> Sentence:
        cited = [f for f, _ in self.numbered if f.id in finding_ids]
        proposed = any(f.state is FindingState.PROPOSED for f in cited)
        return Sentence(
            text=self.say.words.proposed.format(text=text) if proposed else text,
            finding_ids=tuple(f.id for f in cited),
            rules=rules,
        )

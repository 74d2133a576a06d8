"""The report, drafted from findings: a pure function, the same sentences in every language.

A finding stands in the report when a physician accepted or edited it. What guidelines say about it is in `advice`,
in words in `guidance`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from polyclinic.core import codes
from polyclinic.core.codes import Code
from polyclinic.core.findings import Finding, FindingState, SourceKind
from polyclinic.core.plain import to_plain
from polyclinic.departments.reading.comparison import compared_with, comparison_sentences
from polyclinic.departments.reading.contracts import (
    DecidedFinding,
    Language,
    Report,
    RunSummary,
    Section,
    Sentence,
    Signature,
)
from polyclinic.departments.reading.description import WORDINGS, Describer, capital, diameter_mm, term
from polyclinic.departments.reading.guidance import Guidance
from polyclinic.departments.reading.wording import Wording, key

__all__ = ["content_sha256", "describing_sentences", "draft_report", "term"]

_PROBLEM = "problem"
"""Facts of this name, alone or before a colon, are faults of the series."""
_NOT_STATED = "not stated"
"""The value of a fact that the images do not hold."""
_SITES = (codes.LUNG, codes.RIGHT_LUNG, codes.LEFT_LUNG)
"""Both lungs, then right before left, as readers go."""


def draft_report(
    *,
    study_instance_uid: str,
    revision: int,
    language: Language,
    findings: Sequence[Finding],
    runs: Sequence[RunSummary],
    prior_dates: Sequence[date] = (),
    instance_numbers: Mapping[str, int] | None = None,
    include_proposed: bool = False,
    age_years: int | None = None,
    signed_before: Sequence[Signature] = (),
) -> Report:
    """Compose technique, comparison, findings and impression.

    Parameters
    ----------
    findings
        All findings of the study in any state; rejected ones only make "none confirmed" sayable.
    runs
        One summary for each agent run.
    prior_dates
        Study dates of earlier studies on file.
    instance_numbers
        Instance Number by SOP Instance UID; positions are given as image numbers where known, else as z in mm.
    include_proposed
        Write proposed findings too, each marked as unreviewed. For the command line, never for signing.
    age_years
        The patient's age at the study date; the recommendations for incidental nodules are for adults from 35 years.
    signed_before
        Signatures of earlier revisions of the study, whose reports went out with fewer images.
    """
    words = WORDINGS[language]
    drafter = _Drafter(
        words=words,
        say=Describer(words=words, language=language, instance_numbers=instance_numbers or {}),
        findings=tuple(findings),
        shown=tuple(f for f in findings if f.state.counts or (include_proposed and f.state is FindingState.PROPOSED)),
        runs=tuple(runs),
        include_proposed=include_proposed,
        age_years=age_years,
        has_priors=bool(prior_dates),
    )
    contents = {
        "technique": drafter.technique(),
        "comparison": [*drafter.comparison(prior_dates), *drafter.superseded(signed_before)],
        "findings": drafter.finding_sentences(),
        "impression": drafter.impression(),
    }
    return Report(
        study_instance_uid=study_instance_uid,
        revision=revision,
        language=language,
        sections=tuple(
            Section(id=name, title=words.titles[name], sentences=tuple(sentences))
            for name, sentences in contents.items()
        ),
        undecided=drafter.undecided,
    )


def content_sha256(report: Report, findings: Sequence[Finding | DecidedFinding]) -> str:
    """Hash of what a signature stands for: study, revision, language, sections and findings with their decisions.

    Canonical JSON: keys sorted, no spaces, UTF-8; findings in order of their id. The signature itself is left out,
    so that the hash of a signed report can be computed again and compared.
    """
    content = {
        "study_instance_uid": report.study_instance_uid,
        "revision": report.revision,
        "language": report.language.value,
        "sections": to_plain(report.sections),
        "findings": sorted(
            (to_plain(f) for f in findings),
            key=lambda plain: str(plain["finding"]["id"] if "finding" in plain else plain["id"]),
        ),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def describing_sentences(report: Report) -> dict[str, str]:
    """Finding id -> the sentence that describes it: the first of the findings that cites it. For captions."""
    described: dict[str, str] = {}
    for section in report.sections:
        if section.id == "findings":
            for sentence in section.sentences:
                for finding_id in sentence.finding_ids:
                    described.setdefault(finding_id, sentence.text)
    return described


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drafter:
    words: Wording
    say: Describer
    findings: tuple[Finding, ...]
    shown: tuple[Finding, ...]
    runs: tuple[RunSummary, ...]
    include_proposed: bool
    age_years: int | None
    has_priors: bool

    @property
    def undecided(self) -> int:
        return sum(f.state is FindingState.PROPOSED for f in self.findings)

    def technique(self) -> list[Sentence]:
        """What the agents noted about the acquisition; each fact once, however many agents noted it."""
        facts = dict.fromkeys((f.name.lower(), f.value) for run in self.runs for f in run.facts)
        known = [(name, value) for name, value in facts if name in self.words.facts]
        stated = [
            self.words.facts[name].format(value=self.say.phrase(value))
            for name, value in sorted(known, key=lambda fact: list(self.words.facts).index(fact[0]))
            if value.lower() != _NOT_STATED
        ]
        missing = dict.fromkeys(self.words.fact_names[name] for name, value in known if value.lower() == _NOT_STATED)
        texts = [capital(self.words.technique.format(facts=self.words.parts.join(stated)))] if stated else []
        if missing:
            texts.append(self.words.not_stated.format(names=self.say.listed(list(missing))))
        sentences = [Sentence(text=text, basis="acquisition") for text in texts or [self.words.technique_unknown]]
        sentences += [
            Sentence(text=self.words.series_problem.format(problem=self.say.phrase(value)), basis="acquisition")
            for name, value in facts
            if name.startswith(_PROBLEM)
        ]
        return sentences

    def superseded(self, signed_before: Sequence[Signature]) -> list[Sentence]:
        """Say that a report of this study is out already, made before its last images came."""
        if not signed_before:
            return []
        last = signed_before[-1]
        text = self.words.signed_before.format(name=last.person_name, at=last.at.strftime("%Y-%m-%d %H:%M UTC"))
        return [Sentence(text=text, basis="signed-before")]

    def comparison(self, prior_dates: Sequence[date]) -> list[Sentence]:
        return comparison_sentences(self.words, self.say.phrase, self.runs, prior_dates)

    def finding_sentences(self) -> list[Sentence]:
        """Nodules by size, densitometry, volumes, everything else; then what is absent and what was not looked at."""
        nodules = list(enumerate(self._nodules(), start=1))
        sentences = [self._cite(f, self.say.nodule(f, n)) for n, f in nodules]
        sentences += self._guidance().by_nodule()
        rest = [f for f in self.shown if not f.code.same_as(codes.PULMONARY_NODULE)]
        rest.sort(key=lambda f: (not f.code.same_as(codes.EMPHYSEMA), f.code.code, _site_rank(f), f.id))
        volumes = [f for f in rest if f.code.same_as(codes.LUNG_VOLUME_FINDING)]
        sentences += [self._cite(f, self._described(f)) for f in rest if f not in volumes]
        sentences += self._volumes(volumes)
        sentences += self._remarks([*((f, n) for n, f in nodules), *((f, 0) for f in rest)])
        sentences += self._absent()
        sentences += self._not_judged()
        return sentences

    def impression(self) -> list[Sentence]:
        """A line for the nodules together, what guidelines say if they apply, and a line for every other finding."""
        sentences: list[Sentence] = []
        nodules = self._nodules()
        if nodules:
            largest = nodules[0]
            many = len(nodules) > 1
            template = self.words.impression_nodules if many else self.words.impression_nodule
            text = template.format(
                count=len(nodules),
                kind=self.say.kind(largest),
                site=self.say.site(largest),
                size=self.say.size(largest),
            )
            proposed = any(f.state is FindingState.PROPOSED for f in nodules)
            sentences.append(
                Sentence(
                    text=self.words.proposed.format(text=text) if proposed else text,
                    finding_ids=tuple(f.id for f in nodules),
                )
            )
            sentences += self._guidance().changes()
            sentences += self._guidance().impression()
        for finding in self.shown:
            if finding.code.same_as(codes.EMPHYSEMA):
                index = finding.measurement(codes.LAA_950)
                parts = self.say.parts([index] if index else finding.measurements[:1], finding)
                text = self.words.impression_densitometry.format(parts=parts)
            elif _left_to_findings(finding):
                continue
            elif _interpreted(finding, codes.BEYOND_LIMITS) or finding.code.same_as(codes.RESOLVED_NODULE):
                text = self.say.described(finding)
            else:
                name = capital(term(finding.code, self.say.language))
                template = self.words.impression_scored if self._score(finding) else self.words.impression_other
                text = template.format(name=name, site=self.say.site(finding))
            sentences.append(self._cite(finding, text))
        if not self.shown:
            sentences.append(Sentence(text=self.words.no_findings, basis="normal"))
            if any(_scored(run, code) for run in self.runs for code in run.normal):
                sentences.append(Sentence(text=self.words.nothing_excluded, basis="normal"))
        if self.undecided and not self.include_proposed:
            sentences.append(Sentence(text=self.words.awaiting.format(count=self.undecided), basis="undecided"))
        return sentences

    def _described(self, finding: Finding) -> str:
        score = self._score(finding)
        if not score:
            return self.say.described(finding)
        name, site = term(finding.code, self.say.language), capital(self.say.site(finding))
        return self.words.other_scored.format(site=site, name=name, score=self.say.phrase(score))

    def _score(self, finding: Finding) -> str:
        """What the agent that proposed the finding noted as its score; empty where it measured, or a person found."""
        if finding.source.kind is not SourceKind.AGENT or finding.measurements or finding.attributes:
            return ""
        return next((s for r in self.runs if r.agent_id == finding.source.id and (s := _scored(r, finding.code))), "")

    def _guidance(self) -> Guidance:
        return Guidance(
            say=self.say,
            numbered=[(f, n) for n, f in enumerate(self._nodules(), start=1)],
            age_years=self.age_years,
            has_priors=self.has_priors,
            compared=bool(compared_with(self.runs)),
        )

    def _nodules(self) -> list[Finding]:
        found = [f for f in self.shown if f.code.same_as(codes.PULMONARY_NODULE)]
        return sorted(found, key=lambda f: (-diameter_mm(f), f.id))

    def _volumes(self, findings: Sequence[Finding]) -> list[Sentence]:
        """All lung volumes that count in one sentence, those still proposed in another."""
        sentences = []
        for proposed in (False, True):
            chosen = [f for f in findings if (f.state is FindingState.PROPOSED) is proposed]
            parts = [
                self.words.measured.format(name=self.say.site(f), value=self.say.value(m))
                for f in chosen
                for m in f.measurements
            ]
            if chosen:
                text = self.words.lung_volumes.format(parts=self.words.parts.join(parts) or "-")
                text = self.words.proposed.format(text=text) if proposed else text
                sentences.append(Sentence(text=text, finding_ids=tuple(f.id for f in chosen)))
        return sentences

    def _remarks(self, numbered: Sequence[tuple[Finding, int]]) -> list[Sentence]:
        """Limits, each said once for all that share it, and the readers' notes; what is no nodule has number 0."""
        having: dict[str, list[tuple[Finding, int]]] = {}
        for finding, number in numbered:
            for limit in finding.limits:
                having.setdefault(limit, []).append((finding, number))
        together: dict[tuple[str, ...], list[str]] = {}
        for limit, members in having.items():
            together.setdefault(tuple(f.id for f, _ in members), []).append(limit)
        sentences = [
            Sentence(
                text=self.words.limits.format(
                    subject=self._subjects(having[limits[0]]),
                    limits=self.words.between_limits.join(self.say.phrase(limit) for limit in limits),
                ),
                finding_ids=ids,
            )
            for ids, limits in together.items()
        ]
        sentences += [
            Sentence(
                text=self.words.note.format(subject=self._subjects([(f, number)]), note=f.note), finding_ids=(f.id,)
            )
            for f, number in numbered
            if f.note
        ]
        return sentences

    def _subjects(self, members: Sequence[tuple[Finding, int]]) -> str:
        nodules = [(f, number) for f, number in members if number]
        names = [term(f.code, self.say.language) for f, number in members if not number]
        if len(nodules) == len(self._nodules()) > 1:
            names.insert(0, self.words.all_nodules)
        elif nodules:
            names.insert(0, self.say.nodules(nodules))
        return self.say.listed(list(dict.fromkeys(names)))

    def _cite(self, finding: Finding, text: str) -> Sentence:
        if finding.state is FindingState.PROPOSED:
            if finding.confidence is None or self._score(finding):
                text = self.words.proposed.format(text=text)
            else:
                percent = f"{finding.confidence * 100:.0f}"
                text = self.words.proposed_with_confidence.format(confidence=percent, text=text)
        return Sentence(text=text, finding_ids=(finding.id,), rules=finding.evidence.rules)

    def _absent(self) -> list[Sentence]:
        """What agents looked for and did not find, unless a reader did; and proposals that were all rejected."""
        present = {key(f.code) for f in self.shown}
        sentences = [
            Sentence(text=self._none_found(run, code), basis="normal")
            for run in self.runs
            for code in run.normal
            if key(code) not in present
        ]
        said = {key(code) for run in self.runs for code in run.normal}
        undecided = {key(f.code) for f in self.findings if f.state is FindingState.PROPOSED}
        rejected = {key(f.code): f.code for f in self.findings if f.state is FindingState.REJECTED}
        sentences += [
            Sentence(text=self.words.none_confirmed.format(name=term(code, self.say.language)), basis="normal")
            for at, code in sorted(rejected.items())
            if at not in present | said | undecided
        ]
        return sentences

    def _none_found(self, run: RunSummary, code: Code) -> str:
        name, agent, score = term(code, self.say.language), self.say.phrase(run.agent_title), _scored(run, code)
        if score:
            return self.words.none_found_scored.format(name=name, agent=agent, score=self.say.phrase(score))
        return self.words.none_found.format(name=name, agent=agent)

    def _not_judged(self) -> list[Sentence]:
        sentences = []
        for run in self.runs:
            agent = self.say.phrase(run.agent_title)
            if run.not_assessed:
                items = self.words.enumeration.join(self.say.phrase(item) for item in run.not_assessed)
                text = self.words.not_assessed.format(agent=agent, items=items)
                sentences.append(Sentence(text=text, basis="not-assessed"))
            if run.abstained:
                text = self.words.abstained.format(agent=agent, reason=self.say.phrase(run.abstained))
                sentences.append(Sentence(text=text, basis="abstained"))
            if run.failed:
                text = self.words.failed.format(agent=agent, reason=self.say.phrase(run.failed))
                sentences.append(Sentence(text=text, basis="not-assessed"))
        return sentences


def _interpreted(finding: Finding, value: Code) -> bool:
    """Whether the agent judged the finding's measurements so."""
    judged = finding.attribute(codes.INTERPRETATION)
    return judged is not None and judged.same_as(value)


def _left_to_findings(finding: Finding) -> bool:
    """Whether the impression leaves the finding out: nodules have lines of their own, what is normal needs none."""
    if any(finding.code.same_as(code) for code in (codes.LUNG_VOLUME_FINDING, codes.PULMONARY_NODULE)):
        return True
    return _interpreted(finding, codes.WITHIN_LIMITS) or _interpreted(finding, codes.MEASURED_ONLY)


def _scored(run: RunSummary, code: Code) -> str:
    """The fact that an agent noted under the name of one of its own concepts."""
    return next((fact.value for fact in run.facts if fact.name == code.display), "")


def _site_rank(finding: Finding) -> int:
    site = finding.body_site
    return next((n for n, known in enumerate(_SITES) if site is not None and site.same_as(known)), len(_SITES))

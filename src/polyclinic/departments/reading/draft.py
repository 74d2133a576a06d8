"""The report, drafted from findings: a pure function, the same sentences in every language.

A finding stands in the report when a physician accepted or edited it. Guideline categories are not derived here:
no guideline table with its primary source is encoded yet, and the report says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from polyclinic.core import codes
from polyclinic.core.codes import Code
from polyclinic.core.findings import Finding, FindingState, Measurement
from polyclinic.core.plain import to_plain
from polyclinic.core.units import CUBIC_MILLIMETRE, HOUNSFIELD, MILLILITRE, MILLIMETRE, PERCENT, PRINTED
from polyclinic.departments.reading.contracts import (
    DecidedFinding,
    Language,
    Report,
    RunSummary,
    Section,
    Sentence,
)
from polyclinic.departments.reading.wording import Wording, key
from polyclinic.departments.reading.wording_en import ENGLISH
from polyclinic.departments.reading.wording_zh import CHINESE

WORDINGS: Mapping[Language, Wording] = {Language.ENGLISH: ENGLISH, Language.CHINESE: CHINESE}

_DECIMALS = {MILLIMETRE: 1, PERCENT: 1, HOUNSFIELD: 0, CUBIC_MILLIMETRE: 0, MILLILITRE: 0}
_NODULE_SIZES = (codes.LONG_AXIS, codes.SHORT_AXIS)


def term(code: Code, language: Language) -> str:
    """Name of a concept as a reader of `language` knows it; its display text where no name is at hand."""
    return WORDINGS[language].terms.get(key(code), code.display)


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
    """
    drafter = _Drafter(
        words=WORDINGS[language],
        language=language,
        instance_numbers=instance_numbers or {},
        findings=tuple(findings),
        shown=tuple(f for f in findings if f.state.counts or (include_proposed and f.state is FindingState.PROPOSED)),
        runs=tuple(runs),
        include_proposed=include_proposed,
    )
    contents = {
        "technique": drafter.technique(),
        "comparison": drafter.comparison(prior_dates),
        "findings": drafter.finding_sentences(),
        "impression": drafter.impression(),
    }
    return Report(
        study_instance_uid=study_instance_uid,
        revision=revision,
        language=language,
        sections=tuple(
            Section(id=name, title=drafter.words.titles[name], sentences=tuple(sentences))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drafter:
    words: Wording
    language: Language
    instance_numbers: Mapping[str, int]
    findings: tuple[Finding, ...]
    shown: tuple[Finding, ...]
    runs: tuple[RunSummary, ...]
    include_proposed: bool

    @property
    def undecided(self) -> int:
        return sum(f.state is FindingState.PROPOSED for f in self.findings)

    def technique(self) -> list[Sentence]:
        """What the agents noted about the acquisition; each fact once, however many agents noted it."""
        facts = dict.fromkeys((f.name, f.value) for run in self.runs for f in run.facts)
        if not facts:
            return [Sentence(text=self.words.technique_unknown, basis="acquisition")]
        listed = [
            self.words.fact.format(name=self.words.fact_names.get(n.lower(), n), value=self._phrase(v))
            for n, v in facts
        ]
        text = self.words.technique.format(facts=self.words.enumeration.join(listed))
        return [Sentence(text=text, basis="acquisition")]

    def comparison(self, prior_dates: Sequence[date]) -> list[Sentence]:
        if not prior_dates:
            return [Sentence(text=self.words.comparison_none, basis="comparison")]
        dates = self.words.enumeration.join(d.isoformat() for d in sorted(set(prior_dates), reverse=True))
        return [Sentence(text=self.words.comparison.format(dates=dates), basis="comparison")]

    def finding_sentences(self) -> list[Sentence]:
        """Nodules by size, densitometry, volumes, everything else; then what is absent and what was not looked at."""
        nodules = [(f, self._numbered(f, n)) for n, f in enumerate(self._nodules(), start=1)]
        sentences = [self._cite(f, self._nodule(f, n)) for n, (f, _) in enumerate(nodules, start=1)]
        sentences += self._remarks(nodules)
        rest = [f for f in self.shown if not f.code.same_as(codes.PULMONARY_NODULE)]
        rest.sort(key=lambda f: (not f.code.same_as(codes.EMPHYSEMA), f.code.code, _site_code(f), f.id))
        for finding in rest:
            sentences.append(self._cite(finding, self._described(finding)))
            sentences += self._remarks([(finding, term(finding.code, self.language))])
        sentences += self._absent()
        sentences += self._not_judged()
        return sentences

    def impression(self) -> list[Sentence]:
        """A line for the nodules together and a line for every other finding; never a recommendation."""
        sentences: list[Sentence] = []
        nodules = self._nodules()
        if nodules:
            largest = nodules[0]
            many = len(nodules) > 1
            template = self.words.impression_nodules if many else self.words.impression_nodule
            text = template.format(
                count=len(nodules), kind=self._kind(largest), site=self._site(largest), size=self._size(largest)
            )
            proposed = any(f.state is FindingState.PROPOSED for f in nodules)
            sentences.append(
                Sentence(
                    text=self.words.proposed.format(text=text) if proposed else text,
                    finding_ids=tuple(f.id for f in nodules),
                )
            )
        for finding in self.shown:
            if finding.code.same_as(codes.EMPHYSEMA):
                index = finding.measurement(codes.LAA_950)
                parts = self._parts([index] if index else finding.measurements[:1], finding)
                text = self.words.impression_densitometry.format(parts=parts)
            elif finding.code.same_as(codes.LUNG_VOLUME_FINDING) or finding.code.same_as(codes.PULMONARY_NODULE):
                continue
            else:
                name = _capital(term(finding.code, self.language))
                text = self.words.impression_other.format(name=name, site=self._site(finding))
            sentences.append(self._cite(finding, text))
        if not self.shown:
            sentences.append(Sentence(text=self.words.no_findings, basis="normal"))
        if self.undecided and not self.include_proposed:
            sentences.append(Sentence(text=self.words.awaiting.format(count=self.undecided), basis="undecided"))
        sentences.append(Sentence(text=self.words.no_category, basis="not-assessed"))
        return sentences

    def _nodules(self) -> list[Finding]:
        found = [f for f in self.shown if f.code.same_as(codes.PULMONARY_NODULE)]
        return sorted(found, key=lambda f: (-_diameter_mm(f), f.id))

    def _nodule(self, finding: Finding, number: int) -> str:
        others = [m for m in finding.measurements if not any(m.code.same_as(c) for c in _NODULE_SIZES)]
        parts = [p for p in (self._axes(finding), self._parts(others, finding)) if p]
        return self.words.nodule.format(
            site=_capital(self._site(finding)),
            nodule=self._numbered(finding, number),
            parts=self.words.parts.join(parts) or "-",
            position=self._position(finding),
        )

    def _described(self, finding: Finding) -> str:
        """Everything that is no nodule: what was measured where."""
        parts = self._parts(finding.measurements, finding)
        site = self._site(finding)
        if finding.code.same_as(codes.EMPHYSEMA):
            return self.words.densitometry.format(site=site, parts=parts)
        if finding.code.same_as(codes.LUNG_VOLUME_FINDING):
            values = [self._value(m) for m in finding.measurements]
            return self.words.lung_volume.format(site=site, parts=self.words.parts.join(values))
        if not parts:
            return self.words.other_unmeasured.format(site=_capital(site), name=term(finding.code, self.language))
        return self.words.other.format(site=_capital(site), name=term(finding.code, self.language), parts=parts)

    def _remarks(self, named: Sequence[tuple[Finding, str]]) -> list[Sentence]:
        """Limits, each said once for all findings that share it, and the readers' notes."""
        shared: dict[tuple[str, ...], list[tuple[Finding, str]]] = {}
        for finding, name in named:
            if finding.limits:
                shared.setdefault(finding.limits, []).append((finding, name))
        sentences = [
            Sentence(
                text=self.words.limits.format(
                    subject=self.words.enumeration.join(name for _, name in members),
                    limits=self.words.between_limits.join(self._phrase(limit) for limit in limits),
                ),
                finding_ids=tuple(f.id for f, _ in members),
            )
            for limits, members in shared.items()
        ]
        sentences += [
            Sentence(text=self.words.note.format(subject=name, note=f.note), finding_ids=(f.id,))
            for f, name in named
            if f.note
        ]
        return sentences

    def _cite(self, finding: Finding, text: str) -> Sentence:
        if finding.state is FindingState.PROPOSED:
            if finding.confidence is None:
                text = self.words.proposed.format(text=text)
            else:
                percent = f"{finding.confidence * 100:.0f}"
                text = self.words.proposed_with_confidence.format(confidence=percent, text=text)
        return Sentence(text=text, finding_ids=(finding.id,), rules=finding.evidence.rules)

    def _absent(self) -> list[Sentence]:
        """What agents looked for and did not find, unless a reader did; and proposals that were all rejected."""
        present = {key(f.code) for f in self.shown}
        sentences = [
            Sentence(
                text=self.words.none_found.format(name=term(code, self.language), agent=run.agent_title),
                basis="normal",
            )
            for run in self.runs
            for code in run.normal
            if key(code) not in present
        ]
        said = {key(code) for run in self.runs for code in run.normal}
        undecided = {key(f.code) for f in self.findings if f.state is FindingState.PROPOSED}
        rejected = {key(f.code): f.code for f in self.findings if f.state is FindingState.REJECTED}
        sentences += [
            Sentence(text=self.words.none_confirmed.format(name=term(code, self.language)), basis="normal")
            for at, code in sorted(rejected.items())
            if at not in present | said | undecided
        ]
        return sentences

    def _not_judged(self) -> list[Sentence]:
        sentences = []
        for run in self.runs:
            agent = run.agent_title
            if run.not_assessed:
                items = self.words.enumeration.join(self._phrase(item) for item in run.not_assessed)
                text = self.words.not_assessed.format(agent=agent, items=items)
                sentences.append(Sentence(text=text, basis="not-assessed"))
            if run.abstained:
                text = self.words.abstained.format(agent=agent, reason=self._phrase(run.abstained))
                sentences.append(Sentence(text=text, basis="abstained"))
            if run.failed:
                text = self.words.failed.format(agent=agent, reason=self._phrase(run.failed))
                sentences.append(Sentence(text=text, basis="not-assessed"))
        return sentences

    def _phrase(self, text: str) -> str:
        return self.words.phrases.get(text.lower().rstrip("."), text)

    def _kind(self, finding: Finding) -> str:
        attenuation = finding.attribute(codes.NODULE_ATTENUATION)
        known = self.words.nodules.get(key(attenuation)) if attenuation else None
        return known or self.words.nodules["", ""]

    def _site(self, finding: Finding) -> str:
        site, side = finding.body_site, finding.laterality
        if site is None:
            site = codes.LUNG if finding.code.same_as(codes.PULMONARY_NODULE) else None
        if site is not None and site.same_as(codes.LUNG) and side is not None:
            site = codes.RIGHT_LUNG if side.same_as(codes.RIGHT) else codes.LEFT_LUNG
        return term(site, self.language) if site else term(finding.code, self.language)

    def _axes(self, finding: Finding) -> str:
        long_axis, short_axis = finding.measurement(codes.LONG_AXIS), finding.measurement(codes.SHORT_AXIS)
        if long_axis is None:
            return ""
        if short_axis is None:
            return self.words.long_axis_only.format(long=f"{long_axis.value:.1f}")
        return self.words.axes.format(long=f"{long_axis.value:.1f}", short=f"{short_axis.value:.1f}")

    def _size(self, finding: Finding) -> str:
        mean = finding.measurement(codes.MEAN_DIAMETER)
        return self._measured(mean) if mean else self._axes(finding) or "-"

    def _parts(self, measurements: Sequence[Measurement], finding: Finding) -> str:
        attributes = [
            term(a.value, self.language) for a in finding.attributes if not a.code.same_as(codes.NODULE_ATTENUATION)
        ]
        return self.words.parts.join([*(self._measured(m) for m in measurements), *attributes])

    def _measured(self, measurement: Measurement) -> str:
        name = term(measurement.code, self.language)
        return self.words.measured.format(name=name, value=self._value(measurement))

    def _value(self, measurement: Measurement) -> str:
        number = f"{measurement.value:.{_DECIMALS.get(measurement.unit, 1)}f}"
        unit = PRINTED.get(measurement.unit, measurement.unit)
        return f"{number}%" if measurement.unit == PERCENT else f"{number} {unit}".strip()

    def _numbered(self, finding: Finding, number: int) -> str:
        return self.words.numbered.format(kind=self._kind(finding), number=number)

    def _position(self, finding: Finding) -> str:
        region = finding.region
        outlined = [c.image for c in region.contours] if region else []
        images = outlined[len(outlined) // 2 :]
        for image in (*finding.evidence.images, *images):
            number = self.instance_numbers.get(image.sop_instance_uid)
            if number is not None:
                return self.words.on_image.format(image=number)
        return self.words.at_height.format(z=f"{region.centre_mm[2]:.1f}") if region else ""


def _diameter_mm(finding: Finding) -> float:
    for code in (codes.MEAN_DIAMETER, codes.LONG_AXIS):
        if measurement := finding.measurement(code):
            return measurement.value
    return 0.0


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _site_code(finding: Finding) -> str:
    """Order that does not depend on the language; SNOMED CT happens to sort right before left, as readers do."""
    return finding.body_site.code if finding.body_site else ""

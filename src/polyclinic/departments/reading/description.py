"""One finding in words: where, what, how large. The same facts in every language."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from polyclinic.core import codes
from polyclinic.core.codes import Code
from polyclinic.core.findings import Finding, Measurement
from polyclinic.core.guidelines import reference_limits
from polyclinic.core.guidelines.nodule import round_half_up
from polyclinic.core.guidelines.source import Language as GuidelineLanguage
from polyclinic.core.units import CUBIC_MILLIMETRE, DAY, HOUNSFIELD, MILLILITRE, MILLIMETRE, NO_UNIT, PERCENT, PRINTED
from polyclinic.departments.reading.advice import mean_diameter_mm
from polyclinic.departments.reading.comparison import change_text, resolved_text
from polyclinic.departments.reading.comparison_rules import HISTORY
from polyclinic.departments.reading.contracts import Language
from polyclinic.departments.reading.wording import Wording, key
from polyclinic.departments.reading.wording_en import ENGLISH
from polyclinic.departments.reading.wording_zh import CHINESE

WORDINGS: Mapping[Language, Wording] = {Language.ENGLISH: ENGLISH, Language.CHINESE: CHINESE}

_DECIMALS = {MILLIMETRE: 1, PERCENT: 1, HOUNSFIELD: 0, CUBIC_MILLIMETRE: 0, MILLILITRE: 0, DAY: 0}
_NODULE_SIZES = (codes.LONG_AXIS, codes.SHORT_AXIS)
_WITH_REASON = re.compile(r"([^()]+) \(([^()]+)\)")
"""``aorta (contrast medium)``: what could not be judged, and why."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def term(code: Code, language: Language) -> str:
    """Name of a concept as a reader of `language` knows it; its display text where no name is at hand."""
    return WORDINGS[language].terms.get(key(code), code.display)


@dataclass(frozen=True, slots=True, kw_only=True)
class Describer:
    """Describes findings in one language.

    `instance_numbers` gives Instance Number by SOP Instance UID, for positions a reader can turn to.
    """

    words: Wording
    language: Language
    instance_numbers: Mapping[str, int]

    def nodule(self, finding: Finding, number: int) -> str:
        others = [
            self._as_reported(m, finding)
            for m in finding.measurements
            if not any(m.code.same_as(c) for c in (*_NODULE_SIZES, *HISTORY))
        ]
        parts = [p for p in (self.axes(finding), self.parts(others, finding)) if p]
        text = self.words.nodule.format(
            site=capital(self.site(finding)),
            nodule=self.numbered(finding, number),
            parts=self.words.parts.join(parts) or "-",
            position=self.position(finding),
        )
        return self.words.between_limits.join(part for part in (text, change_text(self.words, finding)) if part)

    def described(self, finding: Finding) -> str:
        """Everything that is no nodule: what was measured where."""
        parts = self.parts(finding.measurements, finding)
        site = self.site(finding)
        if finding.code.same_as(codes.RESOLVED_NODULE):
            before = finding.measurement(codes.PRIOR_MEAN_DIAMETER)
            return resolved_text(self.words, capital(site), self.measured(before) if before else "-")
        if finding.code.same_as(codes.EMPHYSEMA):
            return self.words.densitometry.format(site=site, parts=parts)
        if not parts:
            return self.words.other_unmeasured.format(site=capital(site), name=term(finding.code, self.language))
        text = self.words.other.format(site=capital(site), name=term(finding.code, self.language), parts=parts)
        return self.words.between_limits.join([text, *self.judged(finding)])

    def judged(self, finding: Finding) -> list[str]:
        """A sentence for each published limit that the finding's measurements were compared with."""
        limits = {f"{reference_limits.ID}:{row.id}": row for row in reference_limits.ROWS}
        sentences = []
        for rule in finding.evidence.rules:
            row = limits.get(rule.id)
            if row is None:
                continue
            beyond = rule.result == row.meaning.english
            meaning = row.meaning.text(GuidelineLanguage(self.language.value)) if beyond else self.words.within_limit
            unit = PRINTED[reference_limits.UNITS[row.quantity]]
            limit = f"{row.limit:g} {unit}".strip()
            sentences.append(
                self.words.judged.format(meaning=capital(meaning), limit=limit, citation=row.source.citation)
            )
        return sentences

    def phrase(self, text: str) -> str:
        """What an agent wrote, in the reader's words where they are known, else as it is."""
        numbers = _NUMBER.findall(text)
        known = self.words.phrases.get(text.lower().rstrip(".")) or self.words.phrases.get(
            _NUMBER.sub("#", text.lower()).rstrip(".")
        )
        if known is None:
            with_reason = _WITH_REASON.fullmatch(text)
            if with_reason is None or not self.words.phrases:
                return text
            return self.words.with_reason.format(text=self.phrase(with_reason[1]), reason=self.phrase(with_reason[2]))
        for number in numbers:
            known = known.replace("#", number, 1)
        return known

    def kind(self, finding: Finding) -> str:
        attenuation = finding.attribute(codes.NODULE_ATTENUATION)
        known = self.words.nodules.get(key(attenuation)) if attenuation else None
        return known or self.words.nodules["", ""]

    def site(self, finding: Finding) -> str:
        site, side = finding.body_site, finding.laterality
        if site is None:
            site = codes.LUNG if finding.code.same_as(codes.PULMONARY_NODULE) else None
        if site is not None and site.same_as(codes.LUNG) and side is not None:
            site = codes.RIGHT_LUNG if side.same_as(codes.RIGHT) else codes.LEFT_LUNG
        return term(site, self.language) if site else term(finding.code, self.language)

    def axes(self, finding: Finding) -> str:
        long_axis, short_axis = finding.measurement(codes.LONG_AXIS), finding.measurement(codes.SHORT_AXIS)
        if long_axis is None:
            return ""
        if short_axis is None:
            return self.words.long_axis_only.format(long=_tenth(long_axis.value))
        return self.words.axes.format(long=_tenth(long_axis.value), short=_tenth(short_axis.value))

    def size(self, finding: Finding) -> str:
        mean = finding.measurement(codes.MEAN_DIAMETER)
        return self.measured(self._as_reported(mean, finding)) if mean else self.axes(finding) or "-"

    def _as_reported(self, measurement: Measurement, finding: Finding) -> Measurement:
        """A mean diameter as the guidelines take it, so that the report shows the size that was classified."""
        mean = mean_diameter_mm(finding) if measurement.code.same_as(codes.MEAN_DIAMETER) else None
        return replace(measurement, value=mean) if mean is not None else measurement

    def parts(self, measurements: Sequence[Measurement], finding: Finding) -> str:
        attributes = [
            term(a.value, self.language)
            for a in finding.attributes
            if not any(a.code.same_as(c) for c in (codes.NODULE_ATTENUATION, codes.INTERPRETATION, codes.NODULE_CHANGE))
        ]
        return self.words.parts.join([*(self.measured(m) for m in measurements), *attributes])

    def measured(self, measurement: Measurement) -> str:
        name = term(measurement.code, self.language)
        return self.words.measured.format(name=name, value=self.value(measurement))

    def value(self, measurement: Measurement) -> str:
        whole = measurement.unit == NO_UNIT and measurement.value == round(measurement.value)
        number = f"{measurement.value:.{0 if whole else _DECIMALS.get(measurement.unit, 1)}f}"
        unit = PRINTED.get(measurement.unit, measurement.unit)
        return f"{number}%" if measurement.unit == PERCENT else f"{number} {unit}".strip()

    def numbered(self, finding: Finding, number: int) -> str:
        return self.words.numbered.format(kind=self.kind(finding), number=number)

    def nodules(self, members: Sequence[tuple[Finding, int]]) -> str:
        """Several numbered nodules in short: kind and number of one, ``solid nodules 1-3 and 5`` of many."""
        if len(members) == 1:
            return self.numbered(*members[0])
        kinds = {self.kind(f) for f, _ in members}
        kind = kinds.pop() if len(kinds) == 1 else self.words.nodules["", ""]
        return self.words.numbered_many.format(kind=kind, numbers=self.listed(self._runs([n for _, n in members])))

    def _runs(self, numbers: Sequence[int]) -> list[str]:
        """Ascending numbers with three or more in a row drawn together."""
        runs: list[list[int]] = []
        for number in sorted(numbers):
            if runs and number == runs[-1][-1] + 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        written: list[str] = []
        for run in runs:
            if len(run) > 2:
                written.append(self.words.number_run.format(first=run[0], last=run[-1]))
            else:
                written += [str(number) for number in run]
        return written

    def listed(self, items: Sequence[str]) -> str:
        """Items as a sentence lists them: ``a, b and c``."""
        head, last = items[:-1], items[-1:]
        return self.words.last.join(part for part in (self.words.enumeration.join(head), *last) if part)

    def position(self, finding: Finding) -> str:
        region = finding.region
        outlined = [c.image for c in region.contours] if region else []
        images = outlined[len(outlined) // 2 :]
        for image in (*finding.evidence.images, *images):
            number = self.instance_numbers.get(image.sop_instance_uid)
            if number is not None:
                return self.words.on_image.format(image=number)
        return self.words.at_height.format(z=f"{region.centre_mm[2]:.1f}") if region else ""


def diameter_mm(finding: Finding) -> float:
    for code in (codes.MEAN_DIAMETER, codes.LONG_AXIS):
        if measurement := finding.measurement(code):
            return measurement.value
    return 0.0


def _tenth(value_mm: float) -> str:
    return f"{round_half_up(value_mm, '0.1'):.1f}"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]

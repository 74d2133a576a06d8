"""What the draft says of earlier studies: which were compared with, how nodules changed, what guidelines make of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyclinic.agentkit.outcome import Fact
from polyclinic.core import codes
from polyclinic.core.codes import Code
from polyclinic.core.findings import Attribute, Evidence, Finding, FindingState, Measurement, Source, SourceKind
from polyclinic.core.guidelines import lung_rads_v2022 as lung_rads
from polyclinic.core.guidelines.nodule import NoduleKind
from polyclinic.core.units import CUBIC_MILLIMETRE, DAY, MILLIMETRE, PERCENT
from polyclinic.departments.reading.advice import Gap, advise
from polyclinic.departments.reading.comparison_rules import Followed, Since, followed, lung_rads_change
from polyclinic.departments.reading.contracts import FindingEdit, Language, Report, RunSummary, Sentence
from polyclinic.departments.reading.draft import draft_report
from polyclinic.departments.reading.rules import apply_edit

COMPARED = (
    Fact(name="compared with", value="2025-10-17"),
    Fact(name="comparison interval", value="90 d"),
    Fact(name="comparison residual", value="0.8 mm"),
    Fact(name="comparison agreement", value="0.97"),
)
REFUSED = Fact(name="not compared", value="2025-11-02: The lungs are cut off at the bottom of the images")


def run(*facts: Fact) -> RunSummary:
    return RunSummary(agent_id="chest_ct", agent_version="0.1.0", agent_title="Chest CT", facts=facts)


def measured(code: Code, value: float, unit: str) -> Measurement:
    return Measurement(code=code, value=value, unit=unit, method="m")


def nodule(
    finding_id: str, mm: float, before_mm: float | None = None, *, days: float | None = 90, kind: Code = codes.SOLID
) -> Finding:
    """A round nodule; without an earlier size it is new."""
    sizes = [measured(code, mm, MILLIMETRE) for code in (codes.LONG_AXIS, codes.SHORT_AXIS, codes.MEAN_DIAMETER)]
    sizes.append(measured(codes.VOLUME, mm**3 / 2, CUBIC_MILLIMETRE))
    change = codes.NODULE_NEW
    if before_mm is not None:
        change = codes.NODULE_STABLE
        sizes.append(measured(codes.PRIOR_MEAN_DIAMETER, before_mm, MILLIMETRE))
        sizes.append(measured(codes.PRIOR_VOLUME, before_mm**3 / 2, CUBIC_MILLIMETRE))
        sizes.append(measured(codes.VOLUME_CHANGE, 100 * ((mm / before_mm) ** 3 - 1), PERCENT))
        if days is not None:
            sizes += [measured(codes.PRIOR_INTERVAL, days, DAY), measured(codes.DOUBLING_TIME, 57.0, DAY)]
    return Finding(
        id=finding_id,
        study_instance_uid="2.25.9",
        code=codes.PULMONARY_NODULE,
        source=Source(kind=SourceKind.AGENT, id="chest_ct", version="0.1.0"),
        state=FindingState.ACCEPTED,
        body_site=codes.RIGHT_LUNG,
        measurements=tuple(sizes),
        attributes=(
            Attribute(code=codes.NODULE_ATTENUATION, value=kind),
            Attribute(code=codes.NODULE_CHANGE, value=change),
        ),
    )


GONE = Finding(
    id="gone",
    study_instance_uid="2.25.9",
    code=codes.RESOLVED_NODULE,
    source=Source(kind=SourceKind.AGENT, id="chest_ct", version="0.1.0"),
    state=FindingState.ACCEPTED,
    body_site=codes.LEFT_LUNG,
    measurements=(measured(codes.PRIOR_MEAN_DIAMETER, 9.0, MILLIMETRE), measured(codes.PRIOR_INTERVAL, 90, DAY)),
    evidence=Evidence(prior_finding_ids=("earlier",)),
)


def draft(
    *findings: Finding,
    runs: Sequence[RunSummary] = (run(*COMPARED),),
    dates: Sequence[date] = (date(2025, 10, 17),),
    language: Language = Language.ENGLISH,
) -> Report:
    return draft_report(
        study_instance_uid="2.25.9", revision=1, language=language, findings=findings, runs=runs, prior_dates=dates
    )


def section(report: Report, name: str) -> tuple[Sentence, ...]:
    return next(part.sentences for part in report.sections if part.id == name)


def texts(report: Report, name: str) -> list[str]:
    return [sentence.text for sentence in section(report, name)]


def test_the_comparison_says_with_what_and_how_well() -> None:
    assert texts(draft(), "comparison") == [
        "Earlier studies of 2025-10-17 are on file.",
        "Compared with the study of 2025-10-17, 90 days before: both lungs were registered, their surfaces lie 0.8 mm "
        "apart (median).",
    ]
    assert texts(draft(language=Language.CHINESE), "comparison") == [
        "存有2025-10-17的既往检查。",
        "与2025-10-17检查（间隔90天）对比：双肺已配准，肺表面中位距离0.8 mm。",
    ]


@pytest.mark.parametrize("compared", [True, False])
def test_sentences_that_deny_a_comparison_are_there_exactly_when_none_was_made(compared: bool) -> None:
    report = draft(nodule("a", 9.0, 9.0), runs=(run(*(COMPARED if compared else ())),))
    everything = " ".join(s.text for part in report.sections for s in part.sentences)
    assert ("no automatic comparison was made" in everything) is not compared
    assert ("first examination only" in everything) is not compared
    assert ("without an earlier one" in everything) is not compared


def test_why_a_study_was_not_compared_is_said_in_both_languages() -> None:
    english = texts(draft(runs=(run(REFUSED, *COMPARED),)), "comparison")
    assert english[2] == (
        "No automatic comparison with the study of 2025-11-02: The lungs are cut off at the bottom of the images."
    )
    chinese = texts(draft(runs=(run(REFUSED),), language=Language.CHINESE), "comparison")
    assert chinese[1] == "未与2025-11-02检查进行自动对比：图像下缘处肺被截断。"
    assert texts(draft(runs=(), dates=()), "comparison") == ["No earlier study is on file."]


def test_each_nodule_tells_its_change() -> None:
    told = texts(draft(nodule("a", 10.0, 7.0), nodule("b", 8.0), nodule("c", 6.0, 6.4), GONE), "findings")
    assert told[0] == (
        "Right lung: solid nodule 1, 10.0 × 10.0 mm, mean diameter 10.0 mm, volume 500 mm³. Grown: mean diameter 7.0 "
        "mm before, 10.0 mm now, volume 172 mm³ before, 500 mm³ now (+192%), volume doubling time 57 days."
    )
    assert told[1].endswith("New since the earlier study.")
    assert "Stable: mean diameter 6.4 mm before, 6.0 mm now" in told[2]
    assert "Left lung: a nodule of the earlier study (mean diameter before 9.0 mm) is no longer seen." in told


def test_the_impression_sums_up_what_changed() -> None:
    report = draft(nodule("a", 10.0, 7.0), nodule("b", 8.0), nodule("c", 6.0, 8.0), nodule("d", 5.0, 5.0), GONE)
    assert (
        "Since the earlier study: solid nodule 2 new, solid nodule 1 grown, solid nodule 3 decreased, solid nodule 4 "
        "stable."
    ) in texts(report, "impression")
    assert any("no longer seen" in text for text in texts(report, "impression"))


@pytest.mark.parametrize(
    ("finding", "category"),
    [
        (nodule("n", 7.0), "4A"),
        (nodule("n", 5.0), "3"),
        (nodule("n", 7.0, 5.0), "4A"),
        (nodule("n", 9.0, 7.0), "4B"),
        (nodule("n", 7.0, 7.0), "3"),
        (nodule("n", 7.0, 9.0), "3"),
        (nodule("n", 35.0, 35.0, kind=codes.GROUND_GLASS), "2"),
        (nodule("n", 30.5, 29.5, kind=codes.GROUND_GLASS), "3"),
    ],
)
def test_lung_rads_takes_the_row_of_the_change(finding: Finding, category: str) -> None:
    (said,) = (s for s in section(draft(finding), "impression") if "screening" in s.text)
    assert f"category {category} by size, type and change since the earlier study" in said.text
    assert said.rules[0].id.startswith("lung-rads-v2022.")


def test_growth_over_more_than_a_year_has_no_category() -> None:
    advice = advise([nodule("n", 9.0, 7.0, days=500)], age_years=60)
    assert [one.gap for one in advice.unclassified] == [Gap.INTERVAL]
    assert advice.screening is None
    assert advise([nodule("n", 9.0, 7.0, days=380)], age_years=60).screening is not None, "a yearly exam, 12 months"
    assert advise([nodule("n", 9.0, 7.0, days=None)], age_years=60).unclassified[0].gap is Gap.INTERVAL
    both = advise([nodule("n", 9.0, 7.0, days=500), nodule("m", 5.0, 5.0)], age_years=60)
    assert both.screening is not None
    assert both.screening.at_least, "the grown one may be 4B"


def test_a_part_solid_nodule_needs_its_component_compared() -> None:
    grown = nodule("n", 9.0, 7.0, kind=codes.PART_SOLID)
    component = measured(codes.SOLID_COMPONENT, 3.0, MILLIMETRE)
    found = advise([replace(grown, measurements=(*grown.measurements, component))], age_years=60)
    assert [one.gap for one in found.unclassified] == [Gap.COMPONENT_CHANGE]


def test_fleischner_is_for_what_was_not_there_before() -> None:
    assert advise([nodule("n", 9.0, 9.0)], age_years=60).incidental is None
    found = advise([nodule("n", 9.0, 9.0), nodule("m", 7.0)], age_years=60).incidental
    assert found is not None
    assert found.guiding_id == "m"


def test_a_corrected_diameter_is_compared_anew() -> None:
    edited = apply_edit(nodule("n", 10.0, 7.0), FindingEdit(long_axis_mm=7.2, short_axis_mm=7.0))
    assert edited.attribute(codes.NODULE_CHANGE) is None
    assert edited.measurement(codes.DOUBLING_TIME) is None
    past = followed(edited, 7.1)
    assert past is not None
    assert past.since is Since.STABLE
    told = texts(draft(replace(edited, state=FindingState.EDITED)), "findings")[0]
    assert told.endswith("Stable: mean diameter 7.0 mm before, 7.1 mm now.")
    new = apply_edit(nodule("n", 10.0), FindingEdit(long_axis_mm=7.2, short_axis_mm=7.0))
    assert new.attribute(codes.NODULE_CHANGE) == codes.NODULE_NEW


@given(
    now_mm=st.floats(1.0, 60.0),
    before_mm=st.floats(1.0, 60.0),
    days=st.one_of(st.none(), st.floats(0.0, 4000.0)),
    kind=st.sampled_from((NoduleKind.SOLID, NoduleKind.GROUND_GLASS)),
)
def test_every_change_has_a_row_or_is_undetermined(
    now_mm: float, before_mm: float, days: float | None, kind: NoduleKind
) -> None:
    since = Since.GROWN if now_mm - before_mm > 1.6 else Since.DECREASED if before_mm - now_mm > 1.6 else Since.STABLE
    past = Followed(since=since, before_mm=before_mm, interval_days=days)
    change = lung_rads_change(past, kind, now_mm)
    assert (change is None) <= (since is Since.GROWN)
    if change is not None:
        found = lung_rads.classify(lung_rads.Nodule(kind=kind, mean_diameter_mm=now_mm, change=change))
        assert found.category is not None


@pytest.mark.parametrize("facts", [(), COMPARED, (REFUSED,), (REFUSED, *COMPARED)])
def test_both_languages_say_the_same(facts: tuple[Fact, ...]) -> None:
    findings = (nodule("a", 10.0, 7.0), nodule("b", 8.0), nodule("c", 6.0, 8.0, days=500), GONE)
    english, chinese = (draft(*findings, runs=(run(*facts),), language=language) for language in Language)
    for one, two in zip(english.sections, chinese.sections, strict=True):
        assert [(s.finding_ids, s.basis, s.rules) for s in one.sentences] == [
            (s.finding_ids, s.basis, s.rules) for s in two.sentences
        ]
        for a, b in zip(one.sentences, two.sentences, strict=True):
            assert sorted(re.findall(r"\d+\.\d+", a.text)) == sorted(re.findall(r"\d+\.\d+", b.text))
            assert not re.search(r"[a-z]{6,}", b.text.replace("Fleischner", "")), b.text

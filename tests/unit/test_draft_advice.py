"""What the draft says of guidelines: conditional, from the tables, never beyond what was measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyclinic.agentkit.outcome import Fact
from polyclinic.core import codes
from polyclinic.core.codes import Code
from polyclinic.core.findings import Attribute, Finding, FindingState, Measurement, Source, SourceKind
from polyclinic.core.guidelines import fleischner_2017, lung_rads_v2022
from polyclinic.core.guidelines.lung_rads_v2022_rows import Category
from polyclinic.core.units import CUBIC_MILLIMETRE, MILLIMETRE
from polyclinic.departments.reading.advice import Gap, NoduleAdvice, advise, mean_diameter_mm
from polyclinic.departments.reading.contracts import Language, Report, RunSummary, Sentence
from polyclinic.departments.reading.draft import content_sha256, draft_report

TYPES = (codes.SOLID, codes.PART_SOLID, codes.GROUND_GLASS, codes.CALCIFIED, None)
LOW, HIGH = (
    "CT at 3 to 6 months, then consider CT at 18 to 24 months.",
    "CT at 3 to 6 months, then CT at 18 to 24 months.",
)


def nodule(
    finding_id: str,
    mm: float | None,
    kind: Code | None = codes.SOLID,
    *,
    component_mm: float | None = None,
    state: FindingState = FindingState.ACCEPTED,
    limits: tuple[str, ...] = (),
) -> Finding:
    """A round nodule: both axes are the mean diameter; without `mm` only its volume is known."""
    sizes = ((codes.LONG_AXIS, mm), (codes.SHORT_AXIS, mm), (codes.MEAN_DIAMETER, mm))
    values = [(code, value) for code, value in (*sizes, (codes.SOLID_COMPONENT, component_mm)) if value is not None]
    measurements = [Measurement(code=c, value=v, unit=MILLIMETRE, method="m") for c, v in values]
    volume = Measurement(code=codes.VOLUME, value=100.0, unit=CUBIC_MILLIMETRE, method="m")
    return Finding(
        id=finding_id,
        study_instance_uid="2.25.9",
        code=codes.PULMONARY_NODULE,
        source=Source(kind=SourceKind.AGENT, id="a", version="1"),
        state=state,
        body_site=codes.RIGHT_LUNG,
        measurements=(*measurements, volume),
        attributes=(Attribute(code=codes.NODULE_ATTENUATION, value=kind),) if kind else (),
        limits=limits,
    )


def draft(*findings: Finding, language: Language = Language.ENGLISH, **options: object) -> Report:
    settings = {"runs": (), **options}
    return draft_report(study_instance_uid="2.25.9", revision=1, language=language, findings=findings, **settings)


def sentences(report: Report, section: str) -> Sequence[Sentence]:
    return next(part.sentences for part in report.sections if part.id == section)


def saying(report: Report, words: str, section: str = "impression") -> Sentence:
    return next(s for s in sentences(report, section) if words in s.text)


def advice(*findings: Finding, age_years: int | None = None) -> NoduleAdvice:
    return advise(findings, age_years=age_years)


@pytest.mark.parametrize(
    ("mm", "category", "low", "high"),
    [
        (5.4, "2", "no-routine-follow-up", "optional-ct-12-months"),
        (5.9, "2", "ct-6-12-consider-18-24", "ct-6-12-then-18-24"),  # Fleischner rounds to whole millimetres
        (6.0, "3", "ct-6-12-consider-18-24", "ct-6-12-then-18-24"),
        (7.9, "3", "ct-6-12-consider-18-24", "ct-6-12-then-18-24"),
        (8.0, "4A", "ct-6-12-consider-18-24", "ct-6-12-then-18-24"),
        (8.5, "4A", "consider-3-month-ct-pet-tissue", "consider-3-month-ct-pet-tissue"),
        (15.0, "4B", "consider-3-month-ct-pet-tissue", "consider-3-month-ct-pet-tissue"),
    ],
)
def test_one_solid_nodule_at_the_borders(mm: float, category: str, low: str, high: str) -> None:
    found = advice(nodule("n", mm))
    assert found.screening is not None
    assert found.incidental is not None
    assert (found.screening.category, found.screening.at_least) == (category, False)
    assert (found.incidental.low_risk.code, found.incidental.high_risk.code) == (low, high)


def test_the_conditions_and_both_risks_are_said_with_the_rows_that_say_so() -> None:
    report = draft(nodule("a", 7.0), nodule("b", 5.0))
    by_nodule = saying(report, "by nodule", "findings")
    assert by_nodule.text.endswith(": 3 (solid nodule 1), 2 (solid nodule 2).")
    assert [r.id for r in by_nodule.rules] == [
        "lung-rads-v2022.solid-baseline-6to8",
        "lung-rads-v2022.solid-baseline-lt6",
    ]
    screening, incidental = sentences(report, "impression")[1:3]
    assert screening.text == (
        "If this is a lung cancer screening examination without an earlier one: Lung-RADS v2022 category 3 by size "
        "and type (solid nodule 1). Low-dose CT in 6 months."
    )
    assert screening.finding_ids == incidental.finding_ids == ("a",)
    assert [r.id for r in screening.rules] == [
        "lung-rads-v2022.solid-baseline-6to8",
        "lung-rads-v2022.most-suspicious",
    ]
    assert incidental.text == (
        "If found incidentally, in an adult of 35 years or more without known cancer or immunosuppression: "
        f"Fleischner 2017, guided by solid nodule 1 (7 mm). At low risk: {LOW} At high risk: {HIGH}"
    )
    assert [r.id for r in incidental.rules] == [
        "fleischner-2017.solid-multiple-6to8-low",
        "fleischner-2017.solid-multiple-6to8-high",
    ]
    assert all(r.citation and r.result for s in (by_nodule, screening, incidental) for r in s.rules)


def test_chinese_is_from_the_same_tables() -> None:
    report = draft(nodule("a", 7.0), nodule("b", 5.0), language=Language.CHINESE)
    screening, incidental = sentences(report, "impression")[1:3]
    advised = lung_rads_v2022.ADVICE[Category.PROBABLY_BENIGN].chinese
    assert screening.text == f"若本检查为首次肺癌筛查：按大小及密度类型为Lung-RADS v2022 3类（实性结节1）。{advised}"
    rows = {row.id: row.advice.chinese for row in fleischner_2017.ROWS}
    assert incidental.text == (
        "若为偶然发现，且患者年满35岁、无已知恶性肿瘤及免疫抑制：Fleischner 2017，依据实性结节1（7 mm）。"
        f"低危者：{rows['solid-multiple-6to8-low']}高危者：{rows['solid-multiple-6to8-high']}"
    )


def test_ground_glass_has_one_advice_for_every_risk() -> None:
    report = draft(nodule("g", 6.0, codes.GROUND_GLASS))
    assert "category 2 by size and type (ground-glass nodule 1)" in saying(report, "Lung-RADS").text
    text = saying(report, "Fleischner").text
    assert text.endswith(
        "(6 mm). CT at 6 to 12 months to see whether it persists, then every 2 years until 5 years."
    ), text


def test_the_earliest_follow_up_guides_not_the_largest_nodule() -> None:
    found = advice(nodule("solid", 5.0), nodule("glass", 4.0, codes.GROUND_GLASS)).incidental
    assert found is not None
    assert (found.guiding_id, found.size_mm) == ("glass", 4.0)


def test_part_solid_without_solid_component_is_not_classified() -> None:
    report = draft(nodule("p", 12.0, codes.PART_SOLID), nodule("s", 7.0))
    unclassified = saying(report, "not measured")
    assert (
        unclassified.text
        == "Part-solid nodule 1: no Lung-RADS v2022 category, because the solid component was not measured."
    )
    assert unclassified.finding_ids == ("p",)
    assert unclassified.rules[0].result == "not-classified"
    exam = saying(report, "category 3 or higher")
    assert "Low-dose CT" not in exam.text, "the unknown nodule may ask for more"
    assert "part-solid nodule 1 (12 mm)" in saying(report, "Fleischner").text, "which needs the total size only"
    alone = draft(nodule("p", 12.0, codes.PART_SOLID))
    assert not any("Lung-RADS v2022 category" in s.text and "If this" in s.text for s in sentences(alone, "impression"))


def test_part_solid_with_solid_component_is_classified_by_it() -> None:
    found = advice(nodule("p", 12.0, codes.PART_SOLID, component_mm=6.0))
    assert found.screening is not None
    assert (found.screening.category, found.unclassified) == ("4A", ())
    impossible = advice(nodule("p", 12.0, codes.PART_SOLID, component_mm=13.0))
    assert [u.gap for u in impossible.unclassified] == [Gap.SOLID_COMPONENT]


@pytest.mark.parametrize(
    ("other", "at_least"),
    [
        (nodule("x", 5.9, codes.PART_SOLID), False),  # under 6 mm it is category 2 whatever its component is
        (nodule("x", 6.0, codes.PART_SOLID), True),
        (nodule("x", 7.9, codes.CALCIFIED), False),  # at worst a solid nodule of that size, category 3 too
        (nodule("x", 8.0, codes.CALCIFIED), True),
        (nodule("x", 5.0, None), False),
        (nodule("x", None), True),
    ],
)
def test_the_category_is_a_lower_bound_only_where_an_unclassified_nodule_may_exceed_it(
    other: Finding, at_least: bool
) -> None:
    found = advice(nodule("n", 7.0), other)
    assert found.screening is not None
    assert (found.screening.category, found.screening.at_least) == ("3", at_least)
    assert [u.finding_ids for u in found.unclassified] == [("x",)]


def test_calcified_is_not_called_benign_and_is_no_second_nodule() -> None:
    report = draft(nodule("c", 9.0, codes.CALCIFIED), nodule("s", 9.0))
    sentence = saying(report, "whether calcification is benign")
    assert sentence.text.startswith("Calcified nodule")
    assert "the reader judges" in sentence.text
    assert [(r.id, r.result) for r in sentence.rules] == [("lung-rads-v2022.benign-feature", "not-classified")]
    assert [r.id for r in saying(report, "Fleischner").rules] == ["fleischner-2017.solid-single-gt8"]
    alone = advice(nodule("c", 9.0, codes.CALCIFIED))
    assert (alone.screening, alone.incidental) == (None, None)


@pytest.mark.parametrize("language", list(Language))
@pytest.mark.parametrize(("age", "applies"), [(34, False), (35, True), (None, True)])
def test_fleischner_is_for_adults_from_35_years(language: Language, age: int | None, applies: bool) -> None:
    report = draft(nodule("a", 9.0), nodule("b", 7.0), language=language, age_years=age)
    sentence = saying(report, "Fleischner")
    assert (sentence.rules[0].id == "fleischner-2017.not-applicable") is not applies
    assert ("35" in sentence.text) is (age != 35), "a known age of 35 or more is no condition any more"
    assert ("34" in sentence.text) is (age == 34)
    assert sentence.finding_ids == (("a",) if applies else ("a", "b"))


def test_with_earlier_studies_the_category_is_said_to_be_for_a_first_examination() -> None:
    report = draft(nodule("a", 9.0), prior_dates=(date(2025, 1, 1),))
    sentence = saying(report, "first examination only")
    assert sentence.finding_ids == ("a",)
    assert "no comparison" in sentence.text
    assert {r.id.split(".")[0] for r in sentence.rules} == {"lung-rads-v2022", "fleischner-2017"}
    assert not any("first examination only" in s.text for s in sentences(draft(nodule("a", 9.0)), "impression"))


def test_only_what_counts_is_classified_unless_proposals_may_be_shown() -> None:
    findings = (nodule("a", 5.0), nodule("b", 9.0, state=FindingState.PROPOSED), nodule("c", 20.0))
    findings = (*findings[:2], nodule("c", 20.0, state=FindingState.REJECTED))
    assert "category 2 by size and type (solid nodule 1)" in saying(draft(*findings), "Lung-RADS").text
    shown = saying(draft(*findings, include_proposed=True), "Lung-RADS")
    assert shown.text.startswith("[Proposed, unreviewed] If this")
    assert "category 4A by size and type (solid nodule 1)" in shown.text
    nothing = draft(nodule("b", 9.0, state=FindingState.PROPOSED))
    assert not any(s.rules for part in nothing.sections for s in part.sentences)


def test_the_size_that_is_printed_is_the_size_that_is_classified() -> None:
    axes = ((codes.LONG_AXIS, 6.2), (codes.SHORT_AXIS, 5.7), (codes.MEAN_DIAMETER, 5.9))
    measurements = tuple(Measurement(code=c, value=v, unit=MILLIMETRE, method="m") for c, v in axes)
    made = nodule("n", 1.0)
    finding = Finding(**{name: getattr(made, name) for name in made.__slots__} | {"measurements": measurements})
    assert mean_diameter_mm(finding) == 6.0, "note 4: the mean of both axes, to 0.1 mm"
    report = draft(finding)
    assert "6.2 × 5.7 mm, mean diameter 6.0 mm" in sentences(report, "findings")[0].text
    assert "category 3" in saying(report, "Lung-RADS").text


@given(
    drawn=st.lists(
        st.tuples(
            st.sampled_from(TYPES),
            st.one_of(st.none(), st.floats(0.01, 60)),
            st.one_of(st.none(), st.floats(0.01, 60)),
            st.sampled_from(list(FindingState)),
        ),
        max_size=6,
    ),
    include_proposed=st.booleans(),
    age=st.one_of(st.none(), st.integers(0, 110)),
    with_priors=st.booleans(),
)
def test_every_nodule_is_classified_or_said_not_to_be_in_both_languages(
    drawn: list[tuple[Code | None, float | None, float | None, FindingState]],
    include_proposed: bool,
    age: int | None,
    with_priors: bool,
) -> None:
    findings = tuple(
        nodule(f"n{i}", mm, kind, component_mm=part, state=state) for i, (kind, mm, part, state) in enumerate(drawn)
    )
    options = {
        "include_proposed": include_proposed,
        "age_years": age,
        "prior_dates": (date(2025, 1, 1),) if with_priors else (),
    }
    english, chinese = (draft(*findings, language=language, **options) for language in Language)
    for one, two in zip(english.sections, chinese.sections, strict=True):
        assert [(s.finding_ids, s.basis, s.rules) for s in one.sentences] == [
            (s.finding_ids, s.basis, s.rules) for s in two.sentences
        ]
        for a, b in zip(one.sentences, two.sentences, strict=True):
            assert sorted(re.findall(r"\d+\.\d+", a.text)) == sorted(re.findall(r"\d+\.\d+", b.text))
    shown = [f for f in findings if f.state.counts or (include_proposed and f.state is FindingState.PROPOSED)]
    found = advise(shown, age_years=age)
    classified = [i for group in (found.screening.groups if found.screening else ()) for i in group.finding_ids]
    without = [i for gap in found.unclassified for i in gap.finding_ids]
    assert sorted(classified + without) == sorted(f.id for f in shown), "each nodule once"
    assert content_sha256(english, findings) == content_sha256(draft(*findings, **options), findings)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        (Language.ENGLISH, "Limitations (solid nodules 1-4, 6 and 7): Thick."),
        (Language.CHINESE, "局限性（实性结节1-4、6和7）：Thick."),
    ],
)
def test_a_limit_of_many_nodules_names_them_in_short(language: Language, text: str) -> None:
    nodules = [nodule(f"n{i}", 20.0 - i, limits=() if i == 5 else ("Thick.",)) for i in range(1, 8)]
    assert saying(draft(*nodules, language=language), "Thick", "findings").text == text
    mixed = (*nodules, nodule("c", 5.0, codes.CALCIFIED, limits=("Thick.",)))
    assert "(nodules 1-4 and 6-8)" in saying(draft(*mixed), "Thick", "findings").text


def test_technique_reads_as_prose_and_says_what_is_missing() -> None:
    values = {"kernel": "STANDARD", "slices": "133", "slice thickness": "2.5 mm", "contrast agent": "not stated"}
    facts = tuple(Fact(name=name, value=value) for name, value in values.items())
    run = RunSummary(agent_id="a", agent_version="1.0.0", agent_title="Chest CT", facts=facts)
    english, chinese = (draft(language=language, runs=(run,)) for language in Language)
    assert [s.text for s in sentences(english, "technique")] == [
        "133 images, slice thickness 2.5 mm, reconstructed with kernel STANDARD.",
        "Not stated in the images: contrast medium.",
    ]
    assert [s.text for s in sentences(chinese, "technique")] == [
        "共133幅图像，层厚2.5 mm，重建核STANDARD。",
        "图像信息中未注明对比剂。",
    ]

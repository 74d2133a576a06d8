"""The draft says the same in every language, cites what it says, and says nothing that was not decided."""

from __future__ import annotations

import ast
import dataclasses
import re
import string
from dataclasses import replace
from datetime import UTC, date, datetime
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyclinic.agentkit.outcome import Fact
from polyclinic.core import codes
from polyclinic.core.codes import Code
from polyclinic.core.findings import (
    Attribute,
    Evidence,
    Finding,
    FindingState,
    ImageReference,
    Measurement,
    Region,
    Rule,
    Source,
    SourceKind,
)
from polyclinic.core.units import CUBIC_MILLIMETRE, HOUNSFIELD, MILLILITRE, MILLIMETRE, PERCENT
from polyclinic.departments.reading.contracts import DecidedFinding, Language, Report, RunSummary, Signature
from polyclinic.departments.reading.description import WORDINGS
from polyclinic.departments.reading.draft import content_sha256, describing_sentences, draft_report, term
from polyclinic.departments.reading.wording import Wording

ROOT = Path(__file__).resolve().parents[2]
AGENT = Source(kind=SourceKind.AGENT, id="chest_ct", version="0.1.0")
IMAGE = ImageReference(series_instance_uid="2.25.1", sop_class_uid="2.25.2", sop_instance_uid="2.25.3")
UNCODED = Code(system="http://snomed.info/sct", code="60046008", display="Pleural effusion")


def measured(code: Code, value: float, unit: str) -> Measurement:
    return Measurement(code=code, value=value, unit=unit, method="m")


def nodule(finding_id: str, long_mm: float, state: FindingState = FindingState.ACCEPTED, **changes: object) -> Finding:
    made = Finding(
        id=finding_id,
        study_instance_uid="2.25.9",
        code=codes.PULMONARY_NODULE,
        source=AGENT,
        state=state,
        body_site=codes.RIGHT_LUNG,
        laterality=codes.RIGHT,
        region=Region(frame_of_reference_uid="2.25.4", centre_mm=(1.0, 2.0, -133.0)),
        measurements=(
            measured(codes.LONG_AXIS, long_mm, MILLIMETRE),
            measured(codes.SHORT_AXIS, long_mm * 0.8, MILLIMETRE),
            measured(codes.MEAN_DIAMETER, long_mm * 0.9, MILLIMETRE),
            measured(codes.VOLUME, 214.6, CUBIC_MILLIMETRE),
        ),
        attributes=(Attribute(code=codes.NODULE_ATTENUATION, value=codes.PART_SOLID),),
        confidence=0.871,
    )
    return replace(made, **changes)


def other(finding_id: str, code: Code, *measurements: Measurement, **changes: object) -> Finding:
    made = Finding(
        id=finding_id,
        study_instance_uid="2.25.9",
        code=code,
        source=AGENT,
        state=FindingState.ACCEPTED,
        body_site=codes.LUNG,
        measurements=measurements,
    )
    return replace(made, **changes)


FINDINGS = (
    nodule("small", 5.04),
    nodule("large", 12.06, limits=("Thick slices.",), note="Spiculated."),
    nodule("open", 20.0, FindingState.PROPOSED),
    nodule("no", 30.0, FindingState.REJECTED),
    other(
        "emphysema",
        codes.EMPHYSEMA,
        measured(codes.PERC_15, -912.4, HOUNSFIELD),
        measured(codes.LAA_950, 3.26, PERCENT),
        limits=("Thick slices.", "Sharp kernel."),
    ),
    other("left", codes.LUNG_VOLUME_FINDING, measured(codes.VOLUME, 2890.4, MILLILITRE), body_site=codes.LEFT_LUNG),
    other("right", codes.LUNG_VOLUME_FINDING, measured(codes.VOLUME, 3010.0, MILLILITRE), body_site=codes.RIGHT_LUNG),
    other("effusion", UNCODED),
)
RUNS = (
    RunSummary(
        agent_id="chest_ct",
        agent_version="0.1.0",
        agent_title="Chest CT",
        facts=(
            Fact(name="slice thickness", value="2.5 mm"),
            Fact(name="Airway volume", value="50 mL"),
            Fact(name="problem: missing-slices", value="2 slices are missing"),
        ),
        normal=(codes.EMPHYSEMA, Code(system="x", code="y", display="pneumothorax")),
        not_assessed=("heart", "bones"),
    ),
    RunSummary(agent_id="b", agent_version="1.0.0", agent_title="Agent B", abstained="Not a chest CT."),
    RunSummary(agent_id="c", agent_version="1.0.0", agent_title="Agent C", failed="Out of memory."),
)


def draft(language: Language = Language.ENGLISH, findings: tuple[Finding, ...] = FINDINGS, **options: object) -> Report:
    settings = {"runs": RUNS, "prior_dates": (date(2025, 3, 1),), **options}
    return draft_report(study_instance_uid="2.25.9", revision=2, language=language, findings=findings, **settings)


def texts(report: Report, section: str) -> list[str]:
    return [s.text for part in report.sections if part.id == section for s in part.sentences]


def test_english_report_reads_as_a_radiologist_writes() -> None:
    report = draft()
    assert texts(report, "technique") == ["Slice thickness 2.5 mm.", "Series: 2 slices are missing."]
    assert texts(report, "comparison") == [
        "Earlier studies of 2025-03-01 are on file; no automatic comparison was made."
    ]
    assert texts(report, "findings") == [
        "Right lung: part-solid nodule 1, 12.1 × 9.6 mm, mean diameter 10.9 mm, volume 215 mm³ (z = -133.0 mm).",
        "Right lung: part-solid nodule 2, 5.0 × 4.0 mm, mean diameter 4.5 mm, volume 215 mm³ (z = -133.0 mm).",
        "Lung densitometry (both lungs): 15th percentile of lung attenuation (Perc15) -912 HU, "
        "lung volume below -950 HU (LAA-950) 3.3%.",
        "Both lungs: Pleural effusion.",
        "Lung volume on CT: right lung 3010 mL, left lung 2890 mL.",
        "Limitations (part-solid nodule 1 and emphysema densitometry): Thick slices.",
        "Limitations (emphysema densitometry): Sharp kernel.",
        "Reader's note on part-solid nodule 1: Spiculated.",
        "No pneumothorax was marked by the software (Chest CT).",
        "Not assessed by the software (Chest CT): heart, bones.",
        "The software (Agent B) gave no result: Not a chest CT.",
        "The software (Agent C) could not be run: Out of memory.",
    ]
    assert texts(report, "impression") == [
        "2 lung nodules, the largest a part-solid nodule, right lung, mean diameter 10.9 mm.",
        "If found incidentally, in an adult of 35 years or more without known cancer or immunosuppression: Fleischner "
        "2017, guided by part-solid nodule 1 (11 mm). "
        "CT at 3 to 6 months, then according to the most suspicious nodule.",
        "What the guidelines say here is for a first examination only: earlier studies are on file, but the software "
        "made no comparison; growth or stability may change category and follow-up.",
        "Part-solid nodules 1 and 2: no Lung-RADS v2022 category, because the solid component was not measured.",
        "Lung densitometry: lung volume below -950 HU (LAA-950) 3.3%.",
        "Pleural effusion, both lungs.",
        "Proposed findings that await review and are not part of this report: 1.",
    ]
    assert report.undecided == 1


def test_chinese_report_reads_as_a_radiologist_writes() -> None:
    report = draft(Language.CHINESE)
    assert texts(report, "findings")[0] == (
        "右肺：部分实性结节1，大小约12.1 × 9.6 mm，平均直径10.9 mm，体积215 mm³（z = -133.0 mm）。"
    )
    assert texts(report, "impression")[0] == "肺结节2个，最大者为部分实性结节，位于右肺，平均直径10.9 mm。"


STATES = st.sampled_from(list(FindingState))


@given(
    states=st.lists(STATES, min_size=len(FINDINGS), max_size=len(FINDINGS)),
    include_proposed=st.booleans(),
    with_priors=st.booleans(),
)
def test_both_languages_have_the_same_sentences_and_cite_only_what_counts(
    states: list[FindingState], include_proposed: bool, with_priors: bool
) -> None:
    findings = tuple(replace(f, state=s) for f, s in zip(FINDINGS, states, strict=True))
    options = {"include_proposed": include_proposed, "prior_dates": (date(2025, 3, 1),) if with_priors else ()}
    english = draft(Language.ENGLISH, findings, **options)
    chinese = draft(Language.CHINESE, findings, **options)
    for one, two in zip(english.sections, chinese.sections, strict=True):
        assert one.id == two.id
        assert [(s.finding_ids, s.basis, s.rules) for s in one.sentences] == [
            (s.finding_ids, s.basis, s.rules) for s in two.sentences
        ]
        for a, b in zip(one.sentences, two.sentences, strict=True):
            assert sorted(re.findall(r"\d+\.\d+", a.text)) == sorted(re.findall(r"\d+\.\d+", b.text))
    counting = {f.id for f in findings if f.state.counts}
    proposed = {f.id for f in findings if f.state is FindingState.PROPOSED}
    allowed = counting | (proposed if include_proposed else set())
    sentences = [s for part in english.sections for s in part.sentences]
    cited = {i for s in sentences for i in s.finding_ids}
    assert cited == allowed, "every finding that counts is in the report, and no other"
    assert all(bool(s.finding_ids) != bool(s.basis) for s in sentences), "findings or a basis, never neither"
    assert english.undecided == len(proposed)


def test_proposed_findings_are_marked_where_they_may_be_shown() -> None:
    report = draft(include_proposed=True)
    assert texts(report, "findings")[0].startswith("[Proposed, unreviewed, confidence 87%] Right lung:")
    assert texts(report, "impression")[0].startswith("[Proposed, unreviewed] 3 lung nodules")
    assert not any("await review" in t for t in texts(report, "impression"))
    chinese = draft(Language.CHINESE, include_proposed=True)
    assert texts(chinese, "findings")[0].startswith("【系统提示，未经审核，置信度87%】右肺：")


def test_positions_are_image_numbers_where_these_are_known() -> None:
    seen = nodule("n", 8.0, evidence=Evidence(images=(IMAGE,)))
    text = texts(draft(findings=(seen,), instance_numbers={"2.25.3": 41}), "findings")[0]
    assert text.endswith("(image 41).")


def test_rejecting_every_nodule_is_said_and_a_normal_sentence_never_contradicts_a_finding() -> None:
    rejected = draft(findings=(nodule("n", 8.0, FindingState.REJECTED),))
    assert "No lung nodule was confirmed." in texts(rejected, "findings")
    assert "No finding is reported." in texts(rejected, "impression")
    looked = (replace(RUNS[0], normal=(codes.PULMONARY_NODULE,)),)
    assert "No lung nodule was marked by the software (Chest CT)." in texts(draft(findings=(), runs=looked), "findings")
    own = draft(findings=(nodule("n", 8.0, source=Source(kind=SourceKind.PERSON, id="p")),), runs=looked)
    assert not any("was marked" in t for t in texts(own, "findings"))


def test_the_rule_that_classified_a_finding_is_cited() -> None:
    rule = Rule(id="r", citation="Somebody 2020", result="x")
    report = draft(findings=(nodule("n", 8.0, evidence=Evidence(rules=(rule,))),))
    assert report.sections[2].sentences[0].rules == (rule,)


def test_no_facts_no_runs_no_priors_is_said() -> None:
    report = draft(findings=(), runs=(), prior_dates=())
    assert texts(report, "technique") == ["The acquisition is not described in the images."]
    assert texts(report, "comparison") == ["No earlier study is on file."]


def test_captions_are_the_sentences_that_describe() -> None:
    captions = describing_sentences(draft())
    assert captions["large"].startswith("Right lung: part-solid nodule 1, 12.1")
    assert captions["left"] == captions["right"] == "Lung volume on CT: right lung 3010 mL, left lung 2890 mL."
    assert "no" not in captions


def _placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("language", [x for x in Language if x is not Language.ENGLISH])
def test_no_language_lacks_a_word(language: Language) -> None:
    english, translated = WORDINGS[Language.ENGLISH], WORDINGS[language]
    for field in dataclasses.fields(Wording):
        one, two = getattr(english, field.name), getattr(translated, field.name)
        if isinstance(one, str):
            assert _placeholders(one) == _placeholders(two), field.name
        elif field.name != "phrases":
            assert one.keys() == two.keys(), field.name


def test_every_house_code_has_a_name_in_every_language() -> None:
    house = [c for c in vars(codes).values() if isinstance(c, Code)]
    for language, wording in WORDINGS.items():
        for code in house:
            assert (code.system, code.code) in wording.terms, f"{code.display} in {language}"
    assert term(UNCODED, Language.CHINESE) == "Pleural effusion"


def test_content_hash_stands_for_sentences_findings_and_decisions() -> None:
    report = draft()
    base = content_sha256(report, FINDINGS)
    assert re.fullmatch(r"[0-9a-f]{64}", base)
    assert content_sha256(draft(), tuple(reversed(FINDINGS))) == base, "the order findings are read in does not count"
    signed = replace(
        report,
        signature=Signature(person_id="p", person_name="P", at=datetime(2026, 1, 2, tzinfo=UTC), sha256=base),
    )
    assert content_sha256(signed, FINDINGS) == base, "a signed report can be checked against its hash"
    assert content_sha256(draft(Language.CHINESE), FINDINGS) != base
    assert content_sha256(report, FINDINGS[1:]) != base
    decided = [DecidedFinding(finding=f, version=1, decided_by="P") for f in FINDINGS]
    later = [replace(d, version=2) for d in decided]
    assert content_sha256(report, decided) != content_sha256(report, later)


def _sentences_of_agents() -> list[str]:
    """Every sentence that an installed agent of this repository may write as limit, reason or gap; numbers as ``#``."""
    found: list[str] = []
    packages = [entry.value.rpartition(".")[2] for entry in entry_points(group="polyclinic.agents")]
    for path in sorted(p for name in packages for p in (ROOT / "src" / "polyclinic_agents" / name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and _writes_sentence(node):
                found += [text for argument in node.args[-1:] if (text := _literal(argument))]
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Check":
                found += [_literal(keyword.value) for keyword in node.keywords if keyword.arg == "organ"]
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "NOT_ASSESSED":
                found += ast.literal_eval(node.value)
    return found


def _writes_sentence(call: ast.Call) -> bool:
    name = call.func
    if isinstance(name, ast.Attribute):
        return name.attr == "append" and getattr(name.value, "id", "") in ("limits", "own", "said")
    return getattr(name, "id", "") in ("Unsuitable", "NotSeen", "NotCompared", "Unregistered")


def _literal(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "#" for part in node.values)
    return ""


def test_what_agents_write_is_known_in_chinese() -> None:
    sentences = _sentences_of_agents()
    assert len(sentences) > 20, "the search finds what agents write"
    known = WORDINGS[Language.CHINESE].phrases
    unknown = []
    for sentence in sentences:
        plain = re.sub(r"\d+(?:\.\d+)?", "#", sentence.lower()).rstrip(".")
        if "cut off at the #" in plain:
            plain = plain.replace("#", "top and bottom")
        plain = plain.replace("the view is #", "the view is lateral")
        if plain not in known:
            unknown.append(plain)
    assert unknown == [], "add them to departments/reading/phrases_zh.py"


def test_numbers_in_known_sentences_are_kept_in_order() -> None:
    run = RunSummary(
        agent_id="a",
        agent_version="1.0.0",
        agent_title="Chest CT",
        abstained="The series is incomplete: its 16 slices cover 37.5 mm, less than any lungs.",
    )
    sentences = texts(draft(Language.CHINESE, findings=(), runs=(run,)), "findings")
    assert "软件（胸部CT）未给出结果：序列不完整：16个层面仅覆盖37.5 mm，短于肺的长度。" in sentences

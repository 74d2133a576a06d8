"""The draft of a radiograph: scores beside their threshold, and no more claimed than the card of the agent does."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from polyclinic.agentkit.outcome import Fact
from polyclinic.core.findings import Finding, FindingState, ImageReference, Source, SourceKind
from polyclinic.departments.reading.contracts import Language, Report, RunSummary
from polyclinic.departments.reading.description import WORDINGS, Describer, term
from polyclinic.departments.reading.draft import draft_report
from polyclinic_agents.chest_xray.agent import (
    OPACITY_QUESTION,
    TUBERCULOSIS_QUESTION,
    Answer,
    Question,
    _facts,
    _place,
)
from polyclinic_agents.chest_xray.concepts import CHEST, OPACITY
from polyclinic_agents.chest_xray.fields import SIDE, WHOLE, Fields
from polyclinic_agents.chest_xray.heat import Peak
from polyclinic_agents.chest_xray.plate import Plate
from polyclinic_agents.chest_xray.quality import limits

PLATE = Plate(
    modality="DX",
    image=np.zeros((9, 9), dtype=np.float32),
    view="",
    reference=ImageReference(series_instance_uid="2.25.1", sop_class_uid="2.25.2", sop_instance_uid="2.25.3"),
    burned_in=True,
    right_is_left=True,
)
RUN = RunSummary(
    agent_id="chest_xray",
    agent_version="0.1.0",
    agent_title="Chest X-ray",
    facts=(
        Fact(name="radiograph", value="DX"),
        Fact(name="view", value="PA"),
        Fact(name=OPACITY.display, value="0.631 (marked from 0.509, research stage)"),
    ),
)


def draft(language: Language = Language.ENGLISH, *, findings: Sequence[Finding], runs: Sequence[RunSummary]) -> Report:
    return draft_report(study_instance_uid="2.25.9", revision=1, language=language, findings=findings, runs=runs)


def texts(report: Report, section: str) -> list[str]:
    return [s.text for part in report.sections if part.id == section for s in part.sentences]


def _opacity(kind: SourceKind) -> Finding:
    source = Source(kind=kind, id="chest_xray", version="0.1.0")
    return Finding(
        id="o",
        study_instance_uid="2.25.9",
        code=OPACITY,
        source=source,
        state=FindingState.ACCEPTED,
        body_site=CHEST,
        confidence=0.631,
    )


def test_a_scored_finding_shows_score_threshold_and_stage_unless_a_person_found_it() -> None:
    marked = draft(findings=(_opacity(SourceKind.AGENT),), runs=(RUN,))
    assert texts(marked, "technique")[0] == "Chest radiograph (DX), PA projection."
    assert texts(marked, "findings")[0] == (
        "Chest: pneumonia-type opacity; software probability 0.631 (marked from 0.509, research stage)."
    )
    assert "no diagnosis of cause" in texts(marked, "impression")[0]
    chinese = draft(Language.CHINESE, findings=(_opacity(SourceKind.AGENT),), runs=(RUN,))
    assert texts(chinese, "technique")[0] == "胸部X线平片（DX），后前位（PA）投照。"
    assert texts(chinese, "findings")[0] == "胸部：肺炎样阴影；软件概率0.631（标记阈值0.509，研究阶段）。"
    own = draft(findings=(_opacity(SourceKind.PERSON),), runs=(RUN,))
    assert texts(own, "findings")[0] == "Chest: pneumonia-type opacity."
    assert texts(own, "impression")[0] == "Pneumonia-type opacity, chest."


def test_a_score_below_its_threshold_is_said_to_exclude_nothing() -> None:
    run = replace(RUN, normal=(OPACITY,))
    report = draft(findings=(), runs=(run,))
    assert texts(report, "findings")[0].startswith("No pneumonia-type opacity was marked by the software (Chest X-ray)")
    assert texts(report, "findings")[0].endswith("This does not exclude it.")
    assert texts(report, "impression")[1].endswith("excludes nothing.")
    assert len(texts(draft(findings=(), runs=(replace(run, facts=()),)), "impression")) == 1


@pytest.mark.parametrize("question", [OPACITY_QUESTION, TUBERCULOSIS_QUESTION], ids=lambda q: q.weights)
def test_what_the_radiograph_agent_writes_is_known_in_chinese(question: Question) -> None:
    say = Describer(words=WORDINGS[Language.CHINESE], language=Language.CHINESE, instance_numbers={})
    written = list(question.limits)
    for zone, side in itertools.product(("upper", "middle", "lower"), ("left", "right")):
        written.append(_place(PLATE, Peak(row=0.5, column=0.5, zone=zone, image_side=side)))
    answer = Answer(question=question, probability=0.5, peak=Peak(row=0.5, column=0.5, zone="upper", image_side="left"))
    fields = Fields(exposed=WHOLE, labels=np.ones((SIDE, SIDE), dtype=np.uint8), agreement=(0.1, 0.1))
    for plate in (PLATE, replace(PLATE, view="AP"), replace(PLATE, view="PA")):
        written += limits(plate, fields)
        facts = _facts(plate, fields, [answer])
        written += [fact.name for fact in facts]
        written += [str(fact.value) for fact in facts if fact.value != plate.modality and " x " not in str(fact.value)]
    assert [text for text in written if say.phrase(text) == text] == []
    for language in Language:
        assert term(question.code, language) != question.code.display

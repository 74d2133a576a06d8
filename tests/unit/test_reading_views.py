"""What the page is told about a finding."""

from __future__ import annotations

import pytest

from polyclinic.core import codes
from polyclinic.core.findings import Attribute, Finding, Source, SourceKind
from polyclinic.departments.reading.contracts import DecidedFinding, Language
from polyclinic.departments.reading.views import finding_view

AGENT = Source(kind=SourceKind.AGENT, id="chest_ct", version="0.1.0")


@pytest.mark.parametrize(
    ("language", "title"),
    [(Language.ENGLISH, "Ascending aorta · axial calibre"), (Language.CHINESE, "升主动脉 · 横断面管径")],
)
def test_a_measure_that_is_made_at_several_places_is_named_with_its_place(language: Language, title: str) -> None:
    finding = Finding(
        id="f",
        study_instance_uid="1.2",
        code=codes.ASCENDING_AORTA_DIAMETER,
        source=AGENT,
        body_site=codes.ASCENDING_AORTA,
        attributes=(Attribute(code=codes.INTERPRETATION, value=codes.WITHIN_LIMITS),),
    )
    assert finding_view(DecidedFinding(finding=finding), language)["title"] == title


def test_a_nodule_keeps_its_plain_name() -> None:
    nodule = Finding(id="n", study_instance_uid="1.2", code=codes.PULMONARY_NODULE, source=AGENT)
    assert finding_view(DecidedFinding(finding=nodule), Language.ENGLISH)["title"].lower() == "lung nodule"

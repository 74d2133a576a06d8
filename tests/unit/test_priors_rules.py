"""Which priors are fetched, and that an image about somebody else is never kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread

from polyclinic.core.errors import Rejected
from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.contracts import PRIOR_SOURCE
from polyclinic.departments.routing.contracts import (
    Destination,
    PatientIdentity,
    PriorQuestion,
    PriorRules,
    Relevance,
    RemoteStudy,
)
from polyclinic.departments.routing.priors import can_be_asked_for, choose, difference
from polyclinic.dicom.header import read_file_meta
from polyclinic.edges.memory_archive import InMemoryArchive
from polyclinic.journeys.priors_intake import PriorIntake

WANG = PatientIdentity(patient_id="P-1", issuer="SITE-A", birth_date="19600102", sex="M")
QUESTION = PriorQuestion(
    study_instance_uid="1",
    identity=WANG,
    study_date="20260102",
    modalities=("CT", "SR"),
    body_parts=("CHEST",),
    here=frozenset({"1.9"}),
    today=date(2026, 1, 2),
)


def remote(uid: str = "1.2", **more: object) -> RemoteStudy:
    values: dict[str, object] = {
        "identity": WANG,
        "study_date": "20250102",
        "modalities": ("CT",),
        "body_parts": ("CHEST",),
        "description": "Chest CT",
    }
    return RemoteStudy(study_instance_uid=uid, **(values | more))


@pytest.mark.parametrize(
    ("study", "reason"),
    [
        (remote(), "a relevant prior"),
        (remote("1"), "it is the study itself"),
        (remote("1.9"), "it is here"),
        (remote(identity=replace(WANG, birth_date="19600103")), "the birth date is another one"),
        (remote(identity=replace(WANG, sex="F")), "the sex is another one"),
        (remote(identity=replace(WANG, issuer="SITE-B")), "the issuer of the patient id is another one"),
        (remote(identity=replace(WANG, patient_id="P-10")), "the patient id is another one"),
        (remote(study_date="20260103"), "it is newer than the study"),
        (remote(study_date="20200101"), "it is older than 5 years"),
        (remote(modalities=("MR",), body_parts=("ANKLE",)), "it shows something else"),
        (remote(modalities=("MG", "SR"), body_parts=("BREAST",)), "it shows something else"),
        (remote(modalities=("DX",), body_parts=("Chest",)), "a relevant prior"),
        (remote(modalities=(), body_parts=None), "a relevant prior"),
        (remote(study_date=""), "a relevant prior"),
    ],
)
def test_each_study_has_its_reason(study: RemoteStudy, reason: str) -> None:
    (choice,) = choose(QUESTION, [study], PriorRules())
    assert choice.reason == reason
    assert choice.fetch is (reason == "a relevant prior")


def test_rules_say_what_is_relevant() -> None:
    rules = PriorRules(relevant=(Relevance(modality=("CT",), prior_modality=("PT",), prior_description=("*pet*",)),))
    found = [remote(), remote("1.3", modalities=("PT",), description="PET-CT"), remote("1.4", modalities=("PT",))]
    assert [c.study.study_instance_uid for c in choose(QUESTION, found, rules) if c.fetch] == ["1.3"]


@given(
    st.lists(
        st.builds(
            remote,
            uid=st.text("123", min_size=2).map("1.".__add__),
            study_date=st.dates().map(lambda day: day.strftime("%Y%m%d")),
        ),
        max_size=12,
    ),
    st.integers(0, 4),
)
def test_the_newest_come_and_never_more_than_asked(found: list[RemoteStudy], most_recent: int) -> None:
    choices = choose(QUESTION, found, PriorRules(most_recent=most_recent))
    fetched = [c.study for c in choices if c.fetch]
    assert len(choices) == len(found)
    assert len(fetched) == len({s.study_instance_uid for s in fetched}) <= most_recent
    passed_over = [c.study for c in choices if not c.fetch and c.reason.endswith("newer ones")]
    assert all(a.study_date >= b.study_date for a in fetched for b in passed_over)


_identities = st.builds(
    PatientIdentity,
    patient_id=st.sampled_from(["1", "2"]),
    issuer=st.sampled_from(["", "A", "B"]),
    birth_date=st.sampled_from(["", "19600102", "19700102"]),
    sex=st.sampled_from(["", "M", "F", "O"]),
)


@given(_identities, _identities)
def test_nothing_that_is_known_may_differ(one: PatientIdentity, other: PatientIdentity) -> None:
    assert bool(difference(one, other)) == bool(difference(other, one))
    if not difference(one, other):
        assert one.patient_id == other.patient_id
        assert "" in (one.issuer, other.issuer) or one.issuer == other.issuer
        assert "" in (one.birth_date, other.birth_date) or one.birth_date == other.birth_date
        assert {one.sex, other.sex} != {"M", "F"}
        assert (one.issuer and other.issuer) or (one.birth_date and other.birth_date)


@pytest.mark.parametrize("patient_id", ["", " ", "*", "P?", "A\\B"])
def test_an_id_that_would_find_others_is_not_asked_for(patient_id: str) -> None:
    assert not can_be_asked_for(replace(WANG, patient_id=patient_id))


# The door


@dataclass(frozen=True)
class Came:
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset: bytes


def came(part10: bytes) -> Came:
    meta = read_file_meta(part10)
    return Came(meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid, part10[meta.dataset_offset :])


PACS = Destination(name="pacs", ae_title="PACS")
STUDY = stable_uid("study", "1")


def test_what_was_asked_for_is_kept_quietly(part10: Callable[..., bytes]) -> None:
    archive = InMemoryArchive()
    intake = PriorIntake(archive, ae_title="POLYCLINIC")
    with intake.expecting(STUDY, WANG, PACS) as expected:
        intake.keep(came(part10(1)))
    assert archive.instances(STUDY)[0].source == PRIOR_SOURCE
    assert archive.unsettled() == ()
    assert len(expected.taken) == 1
    kept = dcmread(BytesIO(archive.read(stable_uid("instance", "1", "1", 1))))
    assert kept.file_meta.SourceApplicationEntityTitle == "PACS"
    assert kept.PixelData == dcmread(BytesIO(part10(1))).PixelData


@pytest.mark.parametrize(
    "wrong", [{"PatientBirthDate": "19700101"}, {"PatientSex": "F"}, {"PatientID": "P-2"}, {"IssuerOfPatientID": "B"}]
)
def test_an_image_about_somebody_else_is_refused(part10: Callable[..., bytes], wrong: dict[str, str]) -> None:
    archive = InMemoryArchive()
    intake = PriorIntake(archive, ae_title="POLYCLINIC")
    other = came(part10(1, **wrong))
    with intake.expecting(STUDY, WANG, PACS) as expected:
        with pytest.raises(Rejected, match=r"priors\.other-patient"):
            intake.keep(other)
        with pytest.raises(Rejected, match=r"priors\.other-patient"):
            intake.source_of("PACS", "", other.dataset, other.transfer_syntax_uid)
    assert expected.refused == 2
    assert archive.studies() == ()


def test_what_nobody_asked_for_is_refused_or_comes_by_itself(part10: Callable[..., bytes]) -> None:
    archive = InMemoryArchive()
    intake = PriorIntake(archive, ae_title="POLYCLINIC")
    one = came(part10(1))
    with pytest.raises(Rejected, match=r"priors\.not-asked-for"):
        intake.keep(one)
    assert intake.source_of("PACS", "POLYCLINIC", one.dataset, one.transfer_syntax_uid) == "PACS"
    with intake.expecting(STUDY, WANG, PACS):
        # A scanner that sends images of the same study at this moment starts its journey as ever
        assert intake.source_of("SCANNER", "", one.dataset, one.transfer_syntax_uid) == "SCANNER"
        assert intake.source_of("PACS", "", one.dataset, one.transfer_syntax_uid) == PRIOR_SOURCE
        assert intake.source_of("STORE-7", "POLYCLINIC", one.dataset, one.transfer_syntax_uid) == PRIOR_SOURCE
        elsewhere = came(part10(1, study="2"))
        assert intake.source_of("PACS", "", elsewhere.dataset, elsewhere.transfer_syntax_uid) == "PACS"

"""Which earlier studies an agent is given, and what its result then depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from polyclinic.agentkit.phantom import ChestPhantom, make_chest_phantom, to_datasets
from polyclinic.app.dicom_folder import read_folder
from polyclinic.core import codes
from polyclinic.core.findings import Finding, FindingState, Source, SourceKind
from polyclinic.departments.reading.contracts import DecidedFinding, Language, Report, Signature, Task
from polyclinic.departments.records.contracts import ClinicalContext
from polyclinic.edges.memory_archive import InMemoryArchive
from polyclinic.journeys.case_files import inputs_sha256
from polyclinic.journeys.case_priors import overlaps, prior_inputs, priors_of, relevant_priors

AT = datetime(2026, 1, 20, tzinfo=UTC)


class Archive(InMemoryArchive):
    """Remembers what was read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def read(self, sop_instance_uid: str) -> bytes:
        self.reads.append(sop_instance_uid)
        return super().read(sop_instance_uid)

    def add(self, day: str, *, modality: str = "CT", body_part: str = "CHEST", slices: int = 8) -> str:
        """A study of that day; its UID."""
        taken = datetime.strptime(day, "%Y%m%d")  # noqa: DTZ007 - DICOM dates carry no zone
        spec = ChestPhantom.tiny(seed=2, slices=slices, rows=32, columns=32, nodules=(), acquired_at=taken)
        spec = replace(spec, study_description=f"{modality} {body_part}")
        for ds in to_datasets(make_chest_phantom(spec)):
            ds.Modality, ds.BodyPartExamined = modality, body_part
            self.store(encoded(ds), source="TEST")
        return str(ds.StudyInstanceUID)


def encoded(ds: Dataset) -> bytes:
    out = BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


class Reports:
    """Signed reports by study."""

    def __init__(self, **signed: Sequence[Finding]) -> None:
        self._signed = {uid: tuple(DecidedFinding(finding=f) for f in found) for uid, found in signed.items()}

    def signatures(self, study_instance_uid: str) -> dict[int, Signature]:
        made = Signature(person_id="p", person_name="P", at=AT, sha256=f"of {study_instance_uid}")
        return {1: made, 2: made} if study_instance_uid in self._signed else {}

    def signed_report(self, study_instance_uid: str, revision: int) -> tuple[Report, tuple[DecidedFinding, ...]] | None:
        assert revision == 2, "the newest counts"
        report = Report(
            study_instance_uid=study_instance_uid, revision=2, language=Language.ENGLISH, sections=(), undecided=0
        )
        return report, self._signed[study_instance_uid]


def finding(finding_id: str, state: FindingState) -> Finding:
    return Finding(
        id=finding_id,
        study_instance_uid="2.25.1",
        code=codes.PULMONARY_NODULE,
        source=Source(kind=SourceKind.AGENT, id="a", version="1"),
        state=state,
    )


def task(archive: Archive, study: str) -> Task:
    return Task(
        agent_id="a",
        agent_version="1",
        agent_title="A",
        queue="cpu",
        time_limit_s=1.0,
        memory_limit_mb=1,
        series_instance_uids=tuple(s.series_instance_uid for s in archive.series(study)),
    )


def context(archive: Archive, study: str) -> ClinicalContext:
    """As the step gather freezes it."""
    return ClinicalContext(prior_study_instance_uids=tuple(p.study_instance_uid for p in archive.priors(study)))


def test_the_two_newest_that_show_the_same_are_given() -> None:
    archive = Archive()
    now = archive.add("20260115")
    archive.add("20260115", body_part="THORAX")  # of the same day: nobody knows which is earlier
    archive.add("20260110", modality="MR")
    archive.add("20260109", body_part="HEAD")
    newest, older = archive.add("20251017", body_part="LUNG"), archive.add("20250101", body_part="")
    archive.add("20240101")
    given = priors_of(archive, Reports(), now, task(archive, now), context(archive, now))
    assert [one.study_instance_uid for one in given] == [newest, older]
    assert [one.study_date for one in given] == [date(2025, 10, 17), date(2025, 1, 1)]
    assert [len(one.series[0].datasets) for one in given] == [8, 8]
    assert archive.reads == [], "nothing is read before the agent asks"
    assert given[0].series[0].datasets[3].BodyPartExamined == "LUNG"
    assert len(archive.reads) == 1


def test_only_findings_that_stand_in_a_signed_report_are_told() -> None:
    archive = Archive()
    now, earlier = archive.add("20260115"), archive.add("20251017")
    kept, dropped = finding("kept", FindingState.ACCEPTED), finding("dropped", FindingState.REJECTED)
    told = context(archive, now)
    (given,) = priors_of(archive, Reports(**{earlier: (kept, dropped)}), now, task(archive, now), told)
    assert (given.signed, given.findings) == (True, (kept,))
    (unsigned,) = priors_of(archive, Reports(), now, task(archive, now), told)
    assert (unsigned.signed, unsigned.findings) == (False, ())


def test_a_prior_that_is_gone_is_left_out() -> None:
    archive = Archive()
    now = archive.add("20260115")
    told = ClinicalContext(prior_study_instance_uids=("2.25.404",))
    assert priors_of(archive, Reports(), now, task(archive, now), told) == ()


def test_equal_inputs_are_one_run_and_a_prior_makes_another() -> None:
    archive = Archive()
    now, earlier = archive.add("20260115"), archive.add("20251017")
    instances, what, told = archive.instances(now), task(archive, now), ClinicalContext()

    def hashed(seen: ClinicalContext, reports: Reports) -> str:
        found = relevant_priors(archive, now, what, seen)
        return inputs_sha256(instances, what, seen, prior_inputs(archive, reports, found))

    alone = hashed(told, Reports())
    assert alone == inputs_sha256(instances, what, told), "without priors nothing changes"
    compared = hashed(context(archive, now), Reports())
    assert compared == hashed(context(archive, now), Reports())
    signed = hashed(context(archive, now), Reports(**{earlier: ()}))
    assert len({alone, compared, signed}) == 3


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("CHEST", "chest", True),
        ("THORAX", "LUNG", True),
        ("CHEST", "CHESTABDOMEN", True),
        ("CHEST_ABDOMEN", "ABDOMEN", True),
        ("CHEST", "", True),
        ("", "", True),
        ("CHEST", "HEAD", False),
        ("ABDOMEN", "PELVIS", False),
    ],
)
def test_body_parts_that_overlap(one: str, other: str, same: bool) -> None:
    assert overlaps(one, other) is same
    assert overlaps(other, one) is same


def test_a_folder_is_a_prior_too(tmp_path: Path) -> None:
    spec = ChestPhantom.tiny(slices=8, rows=16, columns=16, nodules=(), acquired_at=datetime(2025, 10, 17))  # noqa: DTZ001
    for number, ds in enumerate(to_datasets(make_chest_phantom(spec))):
        (tmp_path / f"{number}.dcm").write_bytes(encoded(ds))
    (study,) = read_folder(tmp_path).studies
    given = study.prior()
    assert (given.study_date, given.signed, len(given.series[0].datasets)) == (date(2025, 10, 17), False, 8)
    assert study.case(priors=(given,)).priors == (given,)

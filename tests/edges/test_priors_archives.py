"""Priors are fetched from a real Orthanc and a real dcmqrscp, by C-GET and C-MOVE, and only those of this patient."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from other_archives import (
    House,
    dcmqrscp,
    destination,
    free_port,
    house,
    needs_dcmqrscp,
    needs_orthanc,
    orthanc,
    wait_for,
)

from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.contracts import PRIOR_SOURCE
from polyclinic.departments.reading.contracts import StudyState
from polyclinic.departments.routing.contracts import JobState, PriorState
from polyclinic.edges.dimse.sender import Peer, send

Make = Callable[..., bytes]
PRIORS = '[priors]\nmost_recent = 3\nwithin_years = 5\nwait_s = 20\nretrieve = "{retrieve}"\n'


def uid(study: str) -> str:
    return stable_uid("study", study)


def fill(pacs: Peer, other: Peer, part10: Make) -> None:
    """Three studies that are wanted, one too old, one of another part, one of somebody with the same patient id."""
    in_pacs = [part10(n, study="last-year", StudyDate="20250102", StudyID="1") for n in range(12)]
    in_pacs += [part10(1, study="three-years", StudyDate="20230102", StudyID="3")]
    in_pacs += [part10(1, study="ankle", StudyDate="20251102", Modality="MR", BodyPartExamined="ANKLE", StudyID="6")]
    somebody = {"StudyDate": "20251102", "PatientBirthDate": "19991231", "IssuerOfPatientID": "", "StudyID": "5"}
    elsewhere = [part10(n, study="two-years", StudyDate="20240102", StudyID="2") for n in range(3)]
    elsewhere += [part10(1, study="long-ago", StudyDate="20010102", StudyID="4")]
    elsewhere += [part10(1, study="somebody", **somebody)]
    assert all(answer.kept for answer in send(in_pacs, pacs, ae_title="FILLER"))
    assert all(answer.kept for answer in send(elsewhere, other, ae_title="FILLER"))


def ready(here: House, study: str) -> bool:
    return any(status.state is StudyState.READY for status in here.reading.statuses([uid(study)]))


@needs_orthanc
@needs_dcmqrscp
@pytest.mark.timeout(120)
@pytest.mark.parametrize("retrieve", ["c-get", "c-move"])
def test_relevant_priors_of_this_patient_come(tmp_path: Path, part10: Make, retrieve: str) -> None:
    port = free_port()
    knows = {"POLYCLINIC": port}
    with orthanc(tmp_path / "orthanc", knows=knows) as pacs, dcmqrscp(tmp_path / "qrscp", knows=knows) as other:
        fill(pacs.peer, other, part10)
        routing = destination("pacs", pacs.peer) + destination("other", other) + PRIORS.format(retrieve=retrieve)
        with house(tmp_path / "house", routing, dicom_port=port, POLYCLINIC_PRIORS_FROM="pacs,other") as here:
            here.receive([part10(n, study="new") for n in range(3)])
            wait_for(lambda: ready(here, "new"))
            wanted = [uid("last-year"), uid("two-years"), uid("three-years")]
            assert here.records.load(uid("new"), 1).prior_study_instance_uids == tuple(wanted)
            fetched = {one.study_instance_uid: one for one in here.prior_searches.fetched(wanted)}
            assert {one.state for one in fetched.values()} == {PriorState.KEPT}
            assert [fetched[one].destination for one in wanted] == ["pacs", "other", "pacs"]
            kept = here.archive.instances(uid("last-year"))
            assert len(kept) == 12
            assert {one.source for one in kept} == {PRIOR_SOURCE}
            # They are here to be compared with, and do nothing else
            assert [row["study_instance_uid"] for row in here.worklist.page().rows] == [uid("new")]
            assert here.reading.statuses(wanted) == ()
            assert here.archive.unsettled() == ()
            assert here.worklist.row(uid("new"))["priors"] == 3
            states = {here.worklist.row(one)["state"] for one in wanted}
            assert states == {"prior"}, "their own pages do not say that they wait to be read"


@pytest.mark.timeout(60)
def test_a_silent_archive_holds_a_study_up_no_longer_than_is_set(tmp_path: Path, part10: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = Peer(ae_title="SILENT", host="127.0.0.1", port=silent.getsockname()[1])
        routing = destination("pacs", peer) + "[priors]\nwait_s = 1.0\n"
        with house(tmp_path / "house", routing, dicom_port=free_port(), POLYCLINIC_PRIORS_FROM="pacs") as here:
            here.receive([part10(1)])
            began = time.monotonic()
            wait_for(lambda: ready(here, "1"), limit_s=25)
            assert time.monotonic() - began > 1.0
            (search,) = here.prior_searches.searches(uid("1"))
            assert search.state is JobState.QUEUED
            began = time.monotonic()
            here.stop()
            assert time.monotonic() - began < 20, "the server waits for the silent archive"

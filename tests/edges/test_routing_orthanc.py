"""Studies that settle here are sent on to a real Orthanc, by C-STORE and STOW-RS, and to dcmtk's dcmqrscp."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread

sys.path.insert(0, str(Path(__file__).parent))

from other_archives import (
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
from polyclinic.departments.routing.contracts import JobState
from polyclinic.edges.dimse.sender import Peer

Make = Callable[..., bytes]


def uids(count: int, study: str) -> set[str]:
    return {stable_uid("instance", study, "1", number) for number in range(count)}


@needs_orthanc
@needs_dcmqrscp
@pytest.mark.timeout(120)
def test_each_destination_gets_what_the_rules_say(tmp_path: Path, part10: Make) -> None:
    dead = Peer(ae_title="DEAD", host="127.0.0.1", port=free_port())
    with orthanc(tmp_path / "orthanc") as pacs, dcmqrscp(tmp_path / "qrscp") as other:
        routing = (
            destination("pacs", pacs.peer, "connections = 2")
            + destination("other", other)
            + destination("dead", dead)
            + f'[[destination]]\nname = "web"\nkind = "dicomweb"\nurl = "http://127.0.0.1:{pacs.http_port}/dicom-web"\n'
            + '[[rule]]\nname = "dead"\nwhen = "arrival-settled"\nto = "dead"\npriority = 9\n'
            + '[[rule]]\nname = "ct"\nwhen = "arrival-settled"\nto = ["pacs", "other"]\nmatch.modality = "CT"\n'
            + 'match.calling_ae_title = "SCANNER*"\n'
            + '[[rule]]\nname = "mr"\nwhen = "arrival-settled"\nto = "web"\nmatch.modality = "MR"\n'
        )
        with house(tmp_path / "house", routing, dicom_port=free_port()) as here:
            here.receive([part10(n, study="1") for n in range(20)], calling="SCANNER-1")
            here.receive([part10(n, study="2") for n in range(3)], calling="ELSEWHERE")
            here.receive([part10(n, study="3", Modality="MR") for n in range(5)], calling="SCANNER-2")
            wanted = uids(20, "1") | uids(5, "3")
            wait_for(lambda: pacs.sop_instance_uids() >= wanted)
            jobs = wait_for(lambda: _when_done(here.jobs.jobs(), 3))
            by_name = {(job.destination, job.study_instance_uid): job for job in jobs}
            assert pacs.sop_instance_uids() == wanted
            stored = [dcmread(path) for path in (tmp_path / "qrscp" / "storage").glob("*.dcm")]
            assert {str(one.SOPInstanceUID) for one in stored} == uids(20, "1")
            assert by_name["pacs", stable_uid("study", "1")].sent == 20
            assert by_name["pacs", stable_uid("study", "1")].because == (
                "ct: arrival-settled, modality CT, calling_ae_title SCANNER*",
            )
            waiting = [job for job in jobs if job.destination == "dead"]
            assert len(waiting) == 3
            assert {job.state for job in waiting} == {JobState.QUEUED}
            assert any("does not accept connections" in job.reason for job in waiting)


def _when_done(jobs: tuple, count: int) -> tuple | None:
    return jobs if sum(job.state is JobState.SENT for job in jobs) >= count else None


@needs_orthanc
@pytest.mark.timeout(120)
def test_late_images_follow_alone(tmp_path: Path, part10: Make) -> None:
    with orthanc(tmp_path / "orthanc") as pacs:
        rule = '[[rule]]\nname = "all"\nwhen = "arrival-settled"\nto = "pacs"\n'
        with house(tmp_path / "house", destination("pacs", pacs.peer) + rule, dicom_port=free_port()) as here:
            here.receive([part10(n) for n in range(4)])
            wait_for(lambda: _when_done(here.jobs.jobs(), 1))
            here.receive([part10(n) for n in range(6)])
            jobs = wait_for(lambda: _when_done(here.jobs.jobs(), 2))
            assert pacs.sop_instance_uids() == uids(6, "1")
            assert {job.revision: (job.since_revision, job.sent) for job in jobs} == {1: (0, 4), 2: (1, 2)}

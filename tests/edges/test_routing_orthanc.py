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

from polyclinic.app.routing import explained
from polyclinic.app.settings import Settings
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

            settings = Settings(data=here.folder / "data", routing=here.folder / "routing.toml")
            told = explained(settings, stable_uid("study", "2"))
            assert {v.rule.name: v.matches for v in told.verdicts} == {"dead": True, "ct": False, "mr": False}
            (ct,) = [v for v in told.verdicts if v.rule.name == "ct"]
            assert ct.reason == "no series has modality CT, calling_ae_title SCANNER*"
            assert [job.destination for job in told.jobs] == ["dead"]
            # Late images go alone
            here.receive([part10(n, study="1") for n in range(22)], calling="SCANNER-1")
            wait_for(lambda: pacs.sop_instance_uids() >= uids(22, "1"))
            jobs = wait_for(lambda: _when_done(here.jobs.jobs(study_instance_uid=stable_uid("study", "1")), 4))
            late = [job for job in jobs if job.destination == "pacs" and job.revision == 2]
            assert [(job.since_revision, job.sent) for job in late] == [(1, 2)]


def _when_done(jobs: tuple, count: int) -> tuple | None:
    return jobs if sum(job.state is JobState.SENT for job in jobs) >= count else None

"""A forward with ``commitment = true`` is done only when the destination has committed, whatever happens meanwhile."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, build_role, evt

sys.path.insert(0, str(Path(__file__).parent))

from other_archives import House, destination, free_port, house, needs_orthanc, orthanc, wait_for

from polyclinic.core.ids import stable_uid
from polyclinic.departments.routing.contracts import Job, JobState
from polyclinic.edges.dimse.sender import Peer

Make = Callable[..., bytes]
PUSH, PUSH_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
RULE = '[[rule]]\nname = "all"\nwhen = "arrival-settled"\nto = "pacs"\n'


def the_job(here: House) -> Job | None:
    return next(iter(here.jobs.jobs()), None)


def job_in(here: House, state: JobState, reason: str = "") -> Job:
    """The only job, once it is in a state with a reason."""

    def there() -> Job | None:
        job = the_job(here)
        return job if job is not None and job.state is state and reason in job.reason else None

    return wait_for(there, limit_s=60)


@needs_orthanc
@pytest.mark.timeout(120)
def test_orthanc_commits(tmp_path: Path, part10: Make) -> None:
    port = free_port()
    with orthanc(tmp_path / "orthanc", knows={"POLYCLINIC": port}) as pacs:
        routing = destination("pacs", pacs.peer, "commitment = true") + RULE
        with house(tmp_path / "house", routing, dicom_port=port) as here:
            here.receive([part10(number) for number in range(5)])
            job = job_in(here, JobState.SENT)
            assert (job.sent, job.refused, job.reason) == (5, 0, "")
            with here._engine.connect() as connection:
                asked = connection.exec_driver_sql("SELECT peer, state FROM dimse_commitment").all()
            assert [tuple(row) for row in asked] == [("ORTHANC", "answered")]
            assert pacs.sop_instance_uids() == {stable_uid("instance", "1", "1", number) for number in range(5)}


class Archive:
    """Keeps what it is sent, and reports on requests for commitment when it is told to."""

    def __init__(self, *, commits: bool = True) -> None:
        self.stored: list[str] = []
        self.asked: list[Dataset] = []
        entity = AE(ae_title="PACS")
        entity.add_supported_context(CTImageStorage)
        if commits:
            entity.add_supported_context(PUSH)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._ask)]
        self.server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.peer = Peer(ae_title="PACS", host="127.0.0.1", port=self.server.socket.getsockname()[1])

    def _store(self, event: evt.Event) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    def _ask(self, event: evt.Event) -> tuple[int, None]:
        self.asked.append(event.action_information)
        return 0, None

    def report(self, here: House, number: int, failed: tuple[str, ...] = ()) -> None:
        """Answer a request on an association of its own."""
        asked, report = self.asked[number], Dataset()
        report.TransactionUID = asked.TransactionUID
        committed = [one for one in asked.ReferencedSOPSequence if one.ReferencedSOPInstanceUID not in failed]
        refused = [one for one in asked.ReferencedSOPSequence if one.ReferencedSOPInstanceUID in failed]
        for one in refused:
            one.FailureReason = 0x0112
        if committed:
            report.ReferencedSOPSequence = committed
        if refused:
            report.FailedSOPSequence = refused
        entity = AE(ae_title="PACS")
        entity.add_requested_context(PUSH)
        role = build_role(PUSH, scp_role=True)
        association = entity.associate("127.0.0.1", here.dicom_port, ae_title="POLYCLINIC", ext_neg=[role])
        status, _ = association.send_n_event_report(report, 2 if refused else 1, PUSH, PUSH_INSTANCE)
        association.release()
        assert status.Status == 0


@pytest.mark.timeout(180)
def test_it_waits_across_a_kill_and_what_is_not_committed_is_sent_once_more(tmp_path: Path, part10: Make) -> None:
    archive = Archive()
    routing = destination("pacs", archive.peer, "commitment = true") + RULE
    lost = stable_uid("instance", "1", "1", 1)
    try:
        with house(tmp_path / "house", routing, dicom_port=free_port()) as here:
            here.receive([part10(number) for number in range(3)])
            waiting = job_in(here, JobState.QUEUED, "waiting until the destination commits 3 instances")
            assert waiting.sent == 3
            here.kill()
            here.start()
            wait_for(lambda: len(archive.asked) == 1)
            archive.report(here, 0, failed=(lost,))
            job_in(here, JobState.QUEUED, "commits 1 instances")
            assert len(archive.asked) == 2, "neither the kill nor the wait asked anew"
            assert archive.stored.count(lost) == 2
            assert len(archive.stored) == 4, "what was committed is not sent again"
            archive.report(here, 1, failed=(lost,))
            failed = job_in(here, JobState.FAILED)
            assert failed.reason.startswith("1 of 3 were refused. The destination does not commit it (reason 0112H)")
            assert len(archive.asked) == 2
            # Somebody has mended the destination
            here.jobs.retry(failed.key, now=time.time())
            wait_for(lambda: len(archive.asked) == 3)
            archive.report(here, 2)
            assert job_in(here, JobState.SENT).sent == 3
    finally:
        archive.server.shutdown()


@pytest.mark.timeout(120)
def test_a_silent_destination_is_asked_again_and_one_that_cannot_commit_says_so(tmp_path: Path, part10: Make) -> None:
    silent, unable = Archive(), Archive(commits=False)
    routing = (
        destination("pacs", silent.peer, "commitment = true\ncommitment_wait_s = 1")
        + destination("other", unable.peer, "commitment = true")
        + RULE
        + '[[rule]]\nname = "too"\nwhen = "arrival-settled"\nto = "other"\n'
    )
    try:
        with house(tmp_path / "house", routing, dicom_port=free_port()) as here:
            here.receive([part10(1)])
            wait_for(lambda: len(silent.asked) >= 2)
            assert silent.asked[0].TransactionUID != silent.asked[1].TransactionUID
            wait_for(lambda: _reasons(here)["pacs"].startswith("The destination did not commit within 1 s"))
            wait_for(lambda: "does not take part in storage commitment" in _reasons(here)["other"])
            silent.report(here, len(silent.asked) - 1)
            wait_for(lambda: _states(here)["pacs"] is JobState.SENT)
            assert _states(here)["other"] is JobState.QUEUED
            assert (len(silent.stored), len(unable.stored)) == (1, 1), "nothing is sent twice for want of an answer"
    finally:
        silent.server.shutdown()
        unable.server.shutdown()


def _reasons(here: House) -> dict[str, str]:
    return {job.destination: job.reason for job in here.jobs.jobs()}


def _states(here: House) -> dict[str, JobState]:
    return {job.destination: job.state for job in here.jobs.jobs()}

"""SIGKILL in the middle of a forward: after the restart the destination gets the rest, and nothing is missing."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pynetdicom import AE, evt

sys.path.insert(0, str(Path(__file__).parents[1] / "edges"))

from other_archives import destination, free_port, house, wait_for

from polyclinic.core.ids import stable_uid
from polyclinic.departments.routing.contracts import JobState
from polyclinic.edges.dimse.sender import Peer

INSTANCES = 40
KILL_AFTER = 30
SLOW_S = 0.03
NOTED_TOGETHER = 25
"""Instances whose arrival is written down in one go, see `routing_forward`."""


@contextmanager
def slow_receiver(received: Counter[str], enough: threading.Event) -> Iterator[Peer]:
    """A storage SCP that takes its time."""

    def store(event: evt.Event) -> int:
        time.sleep(SLOW_S)
        received[str(event.request.AffectedSOPInstanceUID)] += 1
        if received.total() >= KILL_AFTER:
            enough.set()
        return 0

    entity = AE(ae_title="SLOW")
    entity.add_supported_context("1.2.840.10008.5.1.4.1.1.2", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield Peer(ae_title="SLOW", host="127.0.0.1", port=server.server_address[1])
    finally:
        server.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_forward_goes_on_after_a_kill(tmp_path: Path, part10: Callable[..., bytes]) -> None:
    received: Counter[str] = Counter()
    enough = threading.Event()
    with slow_receiver(received, enough) as peer:
        rule = '[[rule]]\nname = "all"\nwhen = "arrival-settled"\nto = "slow"\n'
        with house(tmp_path / "house", destination("slow", peer) + rule, dicom_port=free_port()) as here:
            here.receive([part10(n) for n in range(INSTANCES)])
            assert enough.wait(30), "the forward did not begin"
            here.kill()
            at_kill = len(received)
            assert at_kill < INSTANCES, "it was killed too late to show anything"
            here.start()
            (job,) = wait_for(lambda: [j for j in here.jobs.jobs() if j.state is JobState.SENT] or None, limit_s=30)
    assert set(received) == {stable_uid("instance", "1", "1", n) for n in range(INSTANCES)}
    assert (job.sent, job.total, job.refused) == (INSTANCES, INSTANCES, 0)
    # What was noted before the kill is not sent again
    assert received.total() <= INSTANCES + NOTED_TOGETHER
    assert max(received.values()) <= 2
    assert sum(count == 1 for count in received.values()) >= NOTED_TOGETHER

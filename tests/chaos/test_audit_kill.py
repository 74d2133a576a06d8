"""SIGKILL in the middle of writing: what was answered is in the ledger, and the chain is whole."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from polyclinic.departments.access.audit_store import Ledger, metadata
from polyclinic.edges.sql.engine import open_engine, writing

WRITER = """
import os, sys, threading
from datetime import UTC, datetime
from polyclinic.core.audit import AgentKind, AuditEntry, AuditOutcome
from polyclinic.departments.access.audit_store import Ledger
from polyclinic.edges.sql.engine import open_engine, writing
ledger = Ledger(open_engine(sys.argv[1]), writing)
def write(name):
    for number in range(10**9):
        entry = AuditEntry(at=datetime.now(UTC), action="report.sign", outcome=AuditOutcome.ALLOWED,
                           agent_kind=AgentKind.PERSON, agent_id=f"{name}-{number}")
        ledger.append([entry])
        os.write(1, f"{name}-{number}\\n".encode())  # one write: threads do not mix within it
for name in "abc":
    threading.Thread(target=write, args=(sys.argv[2] + name,), daemon=True).start()
threading.Event().wait()
"""


def test_what_was_answered_is_there_and_the_chain_is_whole(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'house.sqlite'}"
    engine = open_engine(url)
    metadata.create_all(engine)
    ledger, chance = Ledger(engine, writing), random.Random(7)
    answered: set[str] = set()
    for life in range(2):
        # Two processes write at once; one is killed while the other goes on.
        said = [tmp_path / f"{life}-{n}.txt" for n in range(2)]
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, url, f"{life}{n}"], stdout=said[n].open("wb"))
            for n in range(2)
        ]
        deadline = time.monotonic() + 30
        while min(file.stat().st_size for file in said) == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        for writer in writers:
            time.sleep(chance.uniform(0.05, 0.3))
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        for file in said:
            complete = file.read_text().rpartition("\n")[0]
            answered |= set(complete.splitlines())
        verification = ledger.verify()
        assert verification.intact, verification.problems
    kept = [one.entry.agent_id for one in ledger.entries()]
    assert len(answered) > 20
    assert answered <= set(kept)
    assert len(kept) == len(set(kept))

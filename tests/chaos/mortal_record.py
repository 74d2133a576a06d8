"""A listener, a record and an archive in a process that kills itself at one moment; run by test_hl7_kill.

usage: mortal_record.py FOLDER MOMENT
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.records.inbox import SqlInbox
from polyclinic.departments.records.store import SqlRecord
from polyclinic.edges.hl7v2.inbound import Inbound
from polyclinic.edges.hl7v2.listener import MllpListener
from polyclinic.edges.sql.engine import open_engine
from polyclinic.journeys.identity import followed


def deadly(wanted: bool, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, after which the process is gone at once if that is wanted."""

    def then_die(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)
        if wanted:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return then_die


def main(folder: Path, moment: str) -> None:
    engine = open_engine(f"sqlite:///{folder / 'index.sqlite'}")
    archive, record, inbox = SqlArchive(engine, folder / "segments"), SqlRecord(engine), SqlInbox(engine)
    record.put_patient = deadly(moment == "record", record.put_patient)  # type: ignore[method-assign]
    record.merge_patients = deadly(moment == "merge", record.merge_patients)  # type: ignore[method-assign]
    archive.follow_identity = deadly(moment == "archive", archive.follow_identity)  # type: ignore[method-assign]
    inbound = Inbound(record=record, inbox=inbox)
    listener = MllpListener(_Deadly(inbound) if moment == "ack" else inbound, host="127.0.0.1", port=0)  # type: ignore[arg-type]
    listener.start()
    (folder / "port.new").write_text(str(listener.port))
    (folder / "port.new").rename(folder / "port")
    while True:
        followed(record, archive, site_issuer="", tell=lambda change, uids: None)
        time.sleep(0.1)


class _Deadly:
    """Does everything, and dies before the answer leaves."""

    def __init__(self, inbound: Inbound) -> None:
        self.answer = deadly(True, inbound.answer)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

"""Platform processes that end themselves by SIGKILL around one step of a journey, for the kill test.

``python mortal_house.py FOLDER STUDY [WHEN:STEP ...]``: one life of the platform after another, each a process of its
own, forked so that only the first one pays for the imports. Each runs the journeys with one worker and reads and signs
the study as a reader would. It dies at WHEN:STEP without a goodbye; the last one lives until the study is delivered.
The exit code of each life is printed, negative for a signal.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "journey"))

from house import House, settings_in, study_uid
from test_study_path import accept_all, sign

from polyclinic.app.server import running
from polyclinic.app.wiring import build
from polyclinic.app.worker import start_worker
from polyclinic.departments.reading.contracts import StudyState


def live(folder: Path, study: str, death: tuple[str, ...]) -> None:
    """One life."""
    settings = settings_in(folder)

    def observe(*moment: str) -> None:
        if moment == death:
            os.kill(os.getpid(), signal.SIGKILL)

    services = build(settings, observe=observe)
    runs = services.rooms.runs.of_revision(study_uid(study), 1)
    # Starting a worker costs more than all the rest; where every run has ended there is nothing for it to do.
    worker = None if runs and all(run.ended for run in runs) else start_worker(settings)
    with running(services) as node:
        house = House(folder=folder, settings=settings, services=services, node=node)
        if not services.archive.studies():
            from house import images

            house.store(images(study))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = services.rooms.reading.statuses([study_uid(study)])
            state = found[0].state if found else None
            if state is StudyState.READY:
                accept_all(house, study)
                sign(house, study)
            if state is StudyState.DELIVERED:
                break
            time.sleep(0.02)
        else:
            raise SystemExit(f"not delivered, but {state}")
    if worker is not None:
        worker.terminate()
        worker.wait(20)
    services.close()


def main(folder: Path, study: str, *deaths: str) -> None:
    for death in [*deaths, ""]:
        process = os.fork()
        if process == 0:
            try:
                live(folder, study, tuple(death.split(":")))
            except BaseException:  # noqa: BLE001 - whatever ended this life, the parent must hear of it
                traceback.print_exc()
                os._exit(1)
            # Threads of the database library would otherwise be waited for.
            os._exit(0)
        _, status = os.waitpid(process, 0)
        # On a line of its own: a killed life may leave half a line of its log behind.
        print(f"\nlife ended: {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])

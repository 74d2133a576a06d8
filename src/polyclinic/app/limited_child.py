"""A child process that runs other people's code: its channel, its memory, and an end that does not ask it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class LimitedChild:
    """Whoever starts it enforces the limits; `started_at` is by the clock of that one."""

    process: multiprocessing.process.BaseProcess
    channel: Connection
    started_at: float
    ready: bool = False

    def end(self) -> None:
        """Kill it and wait until it is gone."""
        self.process.kill()
        self.process.join()
        self.channel.close()

    @property
    def memory_mb(self) -> float:
        """Resident memory in MB; 0 where the system does not tell."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()[1])
            return pages * _PAGE_BYTES / 1e6
        return 0.0

    def exit_text(self) -> str:
        """How it ended, for a reason that people read."""
        self.process.join(1.0)
        code = self.process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"

"""Waiting for a moment in which a shared machine does little else."""

from __future__ import annotations

import time

import psutil

BUSY_PERCENT = 35.0


def wait_until_quiet(most_s: float, sample_s: float = 0.5) -> bool:
    """Return once the processors were mostly idle for a moment; False when they never were."""
    end = time.monotonic() + most_s
    while time.monotonic() < end:
        if psutil.cpu_percent(interval=sample_s) < BUSY_PERCENT:
            return True
    return False

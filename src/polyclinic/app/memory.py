"""How the C library deals with freed memory: kept and used again, within a bound."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h of glibc
_KEPT_BYTES = 64 * 1024 * 1024
_PAD_BYTES = 4 * 1024 * 1024
_LARGE_BYTES = 4 * 1024 * 1024


def keep_freed_memory() -> None:
    """Let blocks of an image's size be used again instead of going back to the system each time.

    A page that comes from the system costs more to fetch and to clear than what is then read into it. Blocks above
    4 MB still go back at once, and what is free at the end of a heap does above 64 MB. Without glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_TOP_PAD, _PAD_BYTES)

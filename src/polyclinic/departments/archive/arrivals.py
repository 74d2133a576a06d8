"""Which associations are open and what they have sent to; in memory, because a restart ends them all."""

from __future__ import annotations

import threading
from itertools import count


class Arrivals:
    """Bookkeeping of open associations, so that a study is not held complete while its sender is connected."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._open: dict[int, set[str]] = {}

    def opened(self) -> int:
        """Number of a new association."""
        with self._lock:
            number = next(self._numbers)
            self._open[number] = set()
            return number

    def sent(self, association: int, study_instance_uid: str) -> None:
        """The association is sending to that study."""
        studies = self._open.get(association)
        if studies is not None and study_instance_uid not in studies:
            with self._lock:
                studies.add(study_instance_uid)

    def closed(self, association: int) -> frozenset[str]:
        """The association has ended, in whatever way; the studies that it has sent to."""
        with self._lock:
            return frozenset(self._open.pop(association, ()))

    def counts(self) -> dict[str, int]:
        """Open associations by study."""
        found: dict[str, int] = {}
        with self._lock:
            for studies in self._open.values():
                for study in studies:
                    found[study] = found.get(study, 0) + 1
        return found

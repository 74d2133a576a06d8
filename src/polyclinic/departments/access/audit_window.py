"""What decides when an audit entry is written: changes at once, repeated reads counted and written in batches.

A change, a sign-in and the first refusal of its kind are in the ledger before the answer goes out: where the ledger
cannot be written, they do not happen. The first read of a study by a session is written within `FLUSH_EVERY_S`; further
reads of the same study by the same session are counted, and the count is written when the minute is over. So a process
that is killed loses the first reads of the last second and the counts that still run, never a change.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError

from polyclinic.core.audit import AuditEntry
from polyclinic.core.errors import PolyclinicError, Unavailable
from polyclinic.core.ids import is_uid_lenient
from polyclinic.departments.access.audit import bounded

log = logging.getLogger(__name__)

FLUSH_EVERY_S = 1.0
READ_WINDOW_S = 60.0
LIST_WINDOW_S = 600.0
MOST_WAITING = 10_000
"""Reads that wait to be written; beyond it reads are refused rather than left unrecorded."""
_STOP_LIMIT_S = 10.0

Append = Callable[[Sequence[AuditEntry]], object]
PatientOf = Callable[[str], tuple[str, str] | None]


@dataclass(slots=True)
class _Repeated:
    """One kind of read by one session."""

    first: AuditEntry
    ends_at_s: float
    count: int = 1
    last_at: datetime | None = None


class Recorder:
    """Every method may be called from any thread; `close` writes what still waits.

    Parameters
    ----------
    append
        Adds entries to the ledger; durable when it returns.
    patient_of
        Patient id and issuer of a study, or None; asked when an entry is written, not on the way of a read.
    after_flush
        Called by the flushing thread after each turn, e.g. to anchor the ledger.
    """

    def __init__(
        self,
        append: Append,
        *,
        patient_of: PatientOf = lambda _: None,
        after_flush: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._append = append
        self._patient_of = patient_of
        self._after_flush = after_flush
        self._clock = clock
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._waiting: list[AuditEntry] = []
        self._repeated: dict[Hashable, _Repeated] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def record(self, entry: AuditEntry) -> None:
        """Write at once; whoever calls before it acts cannot act unrecorded.

        Raises
        ------
        Rejected
            ``audit.too-large``.
        """
        self._append([self._about_patient(bounded(entry))])

    def observe(self, entry: AuditEntry, *, key: Hashable, window_s: float = READ_WINDOW_S) -> None:
        """Note a read: the first with this key soon, repeats within the window as one count.

        Raises
        ------
        Unavailable
            ``audit.full`` when the ledger could not be written for so long that no more reads can be noted.
        """
        with self._lock:
            known = self._repeated.get(key)
            if known is not None and self._clock() < known.ends_at_s:
                known.count += 1
                known.last_at = entry.at
                return
            self._note(entry, key, window_s)

    def refuse(self, entry: AuditEntry, *, key: Hashable) -> None:
        """Note a refusal: the first with this key at once, repeats within a minute as one count."""
        with self._lock:
            known = self._repeated.get(key)
            if known is not None and self._clock() < known.ends_at_s:
                known.count += 1
                known.last_at = entry.at
                return
            self._note(entry, key, READ_WINDOW_S, waits=False)
        self.record(entry)

    def later(self, entry: AuditEntry) -> None:
        """Write within `FLUSH_EVERY_S`; for summaries of what has happened already, as at the end of an association."""
        bounded(entry)
        with self._lock:
            self._wait(entry)

    def flush(self, *, everything: bool = False) -> None:
        """Write what waits, and the counts whose time is over; `everything` also the counts still running."""
        with self._writing:
            with self._lock:
                counts = self._counts(everything=everything)
                batch = [*self._waiting, *counts]
                self._waiting = []
            if not batch:
                return
            try:
                self._append([self._about_patient(entry) for entry in batch])
            except BaseException:
                with self._lock:
                    self._waiting = [*batch, *self._waiting]
                raise

    def close(self) -> None:
        """Write all that waits and stop."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_LIMIT_S)
        self.flush(everything=True)
        self._after_flush()

    def _note(self, entry: AuditEntry, key: Hashable, window_s: float, *, waits: bool = True) -> None:
        ended = self._repeated.pop(key, None)
        if ended is not None and ended.count > 1:
            self._wait(_summary(ended))
        if waits:
            self._wait(bounded(entry))
        if len(self._repeated) >= 2 * MOST_WAITING:
            raise _full()
        self._repeated[key] = _Repeated(first=entry, ends_at_s=self._clock() + window_s)
        self._start()

    def _wait(self, entry: AuditEntry) -> None:
        if len(self._waiting) >= MOST_WAITING:
            raise _full()
        self._waiting.append(entry)
        self._start()

    def _start(self) -> None:
        if self._thread is None and not self._stopping.is_set():
            self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
            self._thread.start()

    def _counts(self, *, everything: bool) -> list[AuditEntry]:
        now = self._clock()
        over = [key for key, known in self._repeated.items() if everything or known.ends_at_s <= now]
        ended = [self._repeated.pop(key) for key in over]
        return [_summary(known) for known in ended if known.count > 1]

    def _about_patient(self, entry: AuditEntry) -> AuditEntry:
        # What was asked for need not be a UID at all, and then no database need be asked about it.
        if entry.patient_id or not is_uid_lenient(entry.study_instance_uid):
            return entry
        patient = self._patient_of(entry.study_instance_uid)
        return entry if patient is None else replace(entry, patient_id=patient[0], issuer=patient[1])

    def _run(self) -> None:
        while not self._stopping.wait(FLUSH_EVERY_S):
            try:
                self.flush()
                self._after_flush()
            except (SQLAlchemyError, OSError, PolyclinicError) as error:
                # What was not written waits; the bound in `_wait` keeps it from growing.
                log.error("the audit ledger cannot be written: %s", type(error).__name__)


def _full() -> Unavailable:
    return Unavailable("audit.full", "Reads cannot be recorded now; check the database, then try again")


def _summary(known: _Repeated) -> AuditEntry:
    detail = {
        **known.first.detail,
        "repeats": str(known.count - 1),
        "since": known.first.at.astimezone(UTC).isoformat(),
    }
    return replace(known.first, at=known.last_at or known.first.at, detail=detail)

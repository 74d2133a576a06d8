"""The archive on a disk and a database: bytes in segments, an index row for each instance, both before success."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine, bindparam, select
from sqlalchemy.exc import OperationalError

from polyclinic.core.errors import PolyclinicError, Rejected
from polyclinic.departments.archive import schema
from polyclinic.departments.archive.arrivals import Arrivals
from polyclinic.departments.archive.arriving_priors import is_sent_at_last, let_arrive
from polyclinic.departments.archive.commit import (
    AlreadyIndexed,
    Committer,
    InstanceGone,
    arrival_of,
    begin_writing,
    index_failure,
    note_sealed,
)
from polyclinic.departments.archive.contracts import IdentityCorrection, Receipt, Removed, StudyRecord
from polyclinic.departments.archive.corrections import follow
from polyclinic.departments.archive.deletion import delete_instances, finish_deletions
from polyclinic.departments.archive.entries import MAX_ENTRY_BYTES, Entry, aside_name, entry_name
from polyclinic.departments.archive.file_meta import file_meta
from polyclinic.departments.archive.incoming import Incoming
from polyclinic.departments.archive.intake import Facts, examine_dataset, examine_file
from polyclinic.departments.archive.locks import OPEN, shared
from polyclinic.departments.archive.prepared import Pinned, Prepared
from polyclinic.departments.archive.reads import ArchiveReads
from polyclinic.departments.archive.recovery import Recovered, recover
from polyclinic.departments.archive.segments import SEGMENT_BYTES, Place, Segments, sha256_of
from polyclinic.departments.archive.taking_back import take_back_row
from polyclinic.dicom.header import FileMeta

log = structlog.get_logger(__name__)


class SqlArchive(ArchiveReads):
    """`polyclinic.departments.archive.ports.Archive` on segments and SQL tables.

    Opening it repairs what a crash left: whole files without a row are indexed, torn ones are cut. It raises
    `Conflict` (``archive.in-use``) while the index is made anew.

    Parameters
    ----------
    engine
        Shared database; the tables of `polyclinic.departments.archive.schema.metadata` must exist.
    segments_folder
        Where segments are kept.
    segment_bytes, lanes, free_bytes_min
        See `polyclinic.departments.archive.segments.Segments`.
    held
        Whether a study is on legal hold, which keeps it from being deleted.
    """

    def __init__(
        self,
        engine: Engine,
        segments_folder: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        lanes: int = 4,
        free_bytes_min: int = 0,
        held: Callable[[StudyRecord], bool] = lambda _: False,
    ) -> None:
        segments = Segments(segments_folder, segment_bytes=segment_bytes, lanes=lanes, free_bytes_min=free_bytes_min)
        super().__init__(engine, segments, Arrivals())
        self._committer = Committer(engine, self.segments)
        self._reader = Pinned(engine)
        known = select(schema.instance.c.size_bytes).where(schema.instance.c.sop_instance_uid == bindparam("uid"))
        self._is_known = Prepared(engine, known)
        self._claims: dict[str, threading.Event] = {}
        self._claiming = threading.Lock()
        self._held = held
        self._lock: int | None = shared(segments_folder, OPEN)
        finish_deletions(engine, self.segments)
        recovered = recover(engine, self.segments, self._committer)
        if recovered != Recovered():
            log.info("archive.recovered", **asdict(recovered))

    def close(self) -> None:
        """Finish the segments that are being written."""
        self.segments.close()
        self._committer.close()
        self._reader.close()
        with self.engine.connect() as connection:
            note_sealed(connection, self.segments)
            connection.commit()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def delete(
        self,
        study_instance_uid: str,
        *,
        series_instance_uid: str | None = None,
        sop_instance_uid: str | None = None,
        reason: str,
        by: str,
    ) -> Removed:
        """See `Archive.delete`."""
        return delete_instances(
            self.engine,
            self.segments,
            study_instance_uid,
            series_instance_uid,
            sop_instance_uid,
            reason=reason,
            by=by,
            at=datetime.now(UTC),
            held=self._held,
        )

    def store(self, part10: bytes | memoryview, *, source: str) -> Receipt:
        """See `Archive.store`."""
        return self.store_examined(part10, *examine_file(part10), source=source)

    def store_examined(self, part10: bytes | memoryview, meta: FileMeta, facts: Facts, *, source: str) -> Receipt:
        """As `store`, for a caller that has looked at what `examine_file` says of these bytes."""
        return self._keep(facts, [part10], meta.dataset_offset, source)

    def store_dataset(
        self,
        dataset: bytes | memoryview,
        *,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        source: str,
        association: int | None = None,
        incoming: Incoming | None = None,
    ) -> Receipt:
        """Keep a dataset as it came over the network, behind file meta information of ours.

        Parameters
        ----------
        dataset
            Encoded dataset without file meta information; free for reuse when this returns.
        sop_class_uid, sop_instance_uid
            As the C-STORE command names them.
        source
            Calling AE title; goes to (0002,0016) too.
        association
            Number from `Arrivals.opened`.
        incoming
            What `incoming` gave for the same command, when it has taken the whole dataset.

        Raises
        ------
        Rejected
            As `store`, and ``archive.other-uid`` when dataset and command do not name the same instance.
        Unavailable
            As `store`.
        """
        facts = examine_dataset(dataset, transfer_syntax_uid)
        if (facts.sop_class_uid, facts.sop_instance_uid) != (sop_class_uid, sop_instance_uid):
            raise Rejected("archive.other-uid", "Dataset and command name different instances: check the sender")
        if association is not None:
            self.arrivals.sent(association, facts.study_instance_uid)
        if incoming is None:
            incoming = self.incoming(
                sop_class_uid=sop_class_uid,
                sop_instance_uid=sop_instance_uid,
                transfer_syntax_uid=transfer_syntax_uid,
                source=source,
            )
            incoming.take(memoryview(dataset), last=True)
        return self._keep(facts, [incoming.meta, dataset], len(incoming.meta), source, incoming)

    def incoming(self, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, source: str) -> Incoming:
        """To be given the bytes of a dataset while they arrive, then to be kept by `store_dataset` or abandoned."""
        meta = file_meta(
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            source_ae_title=source,
        )
        return Incoming(self.segments, meta)

    def follow_identity(self, change: IdentityCorrection) -> tuple[str, ...]:
        """Give the studies of an identity what is known of it now; the UIDs of those that say something new."""
        return follow(self.engine, change)

    def _keep(
        self,
        facts: Facts,
        buffers: Sequence[bytes | memoryview],
        dataset_offset: int,
        source: str,
        incoming: Incoming | None = None,
    ) -> Receipt:
        size_bytes = sum(map(len, buffers))
        if size_bytes > MAX_ENTRY_BYTES:
            raise Rejected("archive.too-large", "An instance of more than 8 GB cannot be kept: split it at the source")
        with self._claim(facts.sop_instance_uid):
            while True:
                with suppress(AlreadyIndexed, InstanceGone):  # another process has just stored or deleted it
                    return self._keep_once(facts, buffers, dataset_offset, source, incoming)

    def _keep_once(
        self,
        facts: Facts,
        buffers: Sequence[bytes | memoryview],
        dataset_offset: int,
        source: str,
        incoming: Incoming | None,
    ) -> Receipt:
        here = self._row(facts.sop_instance_uid) if self._knows(facts.sop_instance_uid) else None
        if here is None:
            self._append(facts, buffers, dataset_offset, source, beside=None, incoming=incoming)
            return Receipt.NEW
        if is_sent_at_last(here.source, source):
            let_arrive(self.engine, here, source, datetime.now(UTC))
        dataset = [memoryview(buffers[0])[dataset_offset:], *buffers[1:]]
        if here.transfer_syntax_uid == facts.transfer_syntax_uid and self._holds(here, dataset):
            self.segments.make_durable(_place(here))  # another process may have written it just now
            return Receipt.SAME
        return self._keep_aside(here, facts, buffers, dataset_offset, source)

    def _knows(self, sop_instance_uid: str) -> bool:
        driver: Any = self.engine.dialect.loaded_dbapi
        try:
            with self._reader.reading() as cursor:
                self._is_known.run(cursor, {"uid": sop_instance_uid})
                return cursor.fetchone() is not None
        except (driver.OperationalError, OperationalError) as error:
            raise index_failure(error) from error

    @contextmanager
    def _claim(self, sop_instance_uid: str) -> Iterator[None]:
        """Let one thread at a time decide about a SOP Instance UID."""
        mine = threading.Event()
        while True:
            with self._claiming:
                other = self._claims.setdefault(sop_instance_uid, mine)
            if other is mine:
                break
            other.wait()
        try:
            yield
        finally:
            with self._claiming:
                del self._claims[sop_instance_uid]
            mine.set()

    def _holds(self, here: Any, dataset: Sequence[bytes | memoryview]) -> bool:
        """Whether the kept instance has these dataset bytes; file meta information does not count."""
        if here.size_bytes - here.dataset_offset != sum(map(len, dataset)):
            return False
        position = here.dataset_offset
        for part in dataset:
            offset = 0
            for chunk in self.segments.chunks(_place(here), position, position + len(part)):
                if chunk != part[offset : offset + len(chunk)]:
                    return False
                offset += len(chunk)
            position += len(part)
        return True

    def _keep_aside(
        self, here: Any, facts: Facts, buffers: Sequence[bytes | memoryview], dataset_offset: int, source: str
    ) -> Receipt:
        table = schema.aside.c
        digest = sha256_of(buffers)
        with self.engine.connect() as connection:
            known = connection.execute(
                select(table.sha256).where(table.sop_instance_uid == facts.sop_instance_uid, table.sha256 == digest)
            ).first()
        if known is None:
            self._append(facts, buffers, dataset_offset, source, beside=here)
            log.warning("archive.kept-aside", sop_class_uid=facts.sop_class_uid, size_bytes=sum(map(len, buffers)))
        return Receipt.KEPT_ASIDE

    def _append(
        self,
        facts: Facts,
        buffers: Sequence[bytes | memoryview],
        dataset_offset: int,
        source: str,
        *,
        beside: Any,
        incoming: Incoming | None = None,
    ) -> None:
        """Bytes to the disk, which takes its time, and the row meanwhile; both are durable on return, or neither is."""
        now = datetime.now(UTC)
        digest = sha256_of(buffers) if incoming is None else incoming.sha256()
        name = entry_name(facts.study_instance_uid, facts.series_instance_uid, facts.sop_instance_uid)
        entry = Entry(
            name=name if beside is None else aside_name(name, digest),
            size_bytes=sum(map(len, buffers)),
            sha256=digest,
            source=source,
            received_at_us=schema.to_microseconds(now),
        )
        written = (self.segments if incoming is None else incoming).write(entry, buffers)
        try:
            self._committer.commit(
                arrival_of(facts, entry, written.place, dataset_offset=dataset_offset, received_at=now, beside=beside)
            )
        except (PolyclinicError, AlreadyIndexed, InstanceGone):
            written.withdraw()
            raise
        except BaseException:  # whether there is a row is not known: the next start makes one of whole bytes
            with suppress(PolyclinicError):
                written.sync()
            raise
        try:
            written.sync()
        except PolyclinicError:
            self._take_back(written.place)
            raise

    def _take_back(self, place: Place) -> None:
        with self.engine.connect() as connection:
            begin_writing(connection)
            take_back_row(connection, self.segments, place.segment, place.offset_bytes)
            connection.commit()


def _place(row: Any) -> Place:
    return Place(segment=row.segment, offset_bytes=row.offset_bytes, size_bytes=row.size_bytes)

"""The archive on a disk and a database: bytes in segments, an index row for each instance, both before success."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine, bindparam, select
from sqlalchemy.exc import OperationalError

from polyclinic.core.errors import PolyclinicError, Rejected
from polyclinic.departments.archive import schema
from polyclinic.departments.archive.arrivals import Arrivals
from polyclinic.departments.archive.commit import AlreadyIndexed, Committer, arrival_of, index_failure, note_sealed
from polyclinic.departments.archive.contracts import Receipt
from polyclinic.departments.archive.entries import MAX_ENTRY_BYTES, Entry, aside_name, entry_name
from polyclinic.departments.archive.file_meta import file_meta
from polyclinic.departments.archive.intake import Facts, examine_dataset, examine_file
from polyclinic.departments.archive.prepared import Pinned, Prepared
from polyclinic.departments.archive.reads import ArchiveReads
from polyclinic.departments.archive.recovery import recover
from polyclinic.departments.archive.segments import SEGMENT_BYTES, Place, Segments

log = structlog.get_logger(__name__)


class SqlArchive(ArchiveReads):
    """`polyclinic.departments.archive.ports.Archive` on segments and SQL tables.

    Opening it repairs what a crash left: whole files without a row are indexed, torn ones are cut.

    Parameters
    ----------
    engine
        Shared database; the tables of `polyclinic.departments.archive.schema.metadata` must exist.
    segments_folder
        Where segments are kept.
    segment_bytes, lanes
        See `polyclinic.departments.archive.segments.Segments`.
    """

    def __init__(
        self, engine: Engine, segments_folder: Path, *, segment_bytes: int = SEGMENT_BYTES, lanes: int = 4
    ) -> None:
        super().__init__(engine, Segments(segments_folder, segment_bytes=segment_bytes, lanes=lanes), Arrivals())
        self._committer = Committer(engine, self.segments)
        self._reader = Pinned(engine)
        known = select(schema.instance.c.size_bytes).where(schema.instance.c.sop_instance_uid == bindparam("uid"))
        self._is_known = Prepared(engine, known)
        self._claims: dict[str, threading.Event] = {}
        self._claiming = threading.Lock()
        recovered = recover(engine, self.segments, self._committer)
        if recovered.indexed or recovered.cut:
            log.info("archive.recovered", indexed=recovered.indexed, cut=recovered.cut)

    def close(self) -> None:
        """Finish the segments that are being written."""
        self.segments.close()
        self._committer.close()
        self._reader.close()
        with self.engine.connect() as connection:
            note_sealed(connection, self.segments)
            connection.commit()

    def store(self, part10: bytes | memoryview, *, source: str) -> Receipt:
        """See `Archive.store`."""
        meta, facts = examine_file(part10)
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
        meta = file_meta(
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            source_ae_title=source,
        )
        return self._keep(facts, [meta, dataset], len(meta), source)

    def _keep(self, facts: Facts, buffers: Sequence[bytes | memoryview], dataset_offset: int, source: str) -> Receipt:
        size_bytes = sum(map(len, buffers))
        if size_bytes > MAX_ENTRY_BYTES:
            raise Rejected("archive.too-large", "An instance of more than 8 GB cannot be kept: split it at the source")
        with self._claim(facts.sop_instance_uid):
            here = self._row(facts.sop_instance_uid) if self._knows(facts.sop_instance_uid) else None
            if here is None:
                try:
                    self._append(facts, buffers, dataset_offset, source, beside=None)
                    return Receipt.NEW
                except AlreadyIndexed:
                    here = self._row(facts.sop_instance_uid)
            dataset = [memoryview(buffers[0])[dataset_offset:], *buffers[1:]]
            if here.transfer_syntax_uid == facts.transfer_syntax_uid and self._holds(here, dataset):
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
        digest = _sha256(buffers)
        with self.engine.connect() as connection:
            known = connection.execute(
                select(table.sha256).where(table.sop_instance_uid == facts.sop_instance_uid, table.sha256 == digest)
            ).first()
        if known is None:
            with suppress(AlreadyIndexed):  # another process has just kept the same bytes aside
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
    ) -> None:
        """Bytes first, then the row; when the row fails the bytes are marked as not counting."""
        now = datetime.now(UTC)
        digest = _sha256(buffers)
        name = entry_name(facts.study_instance_uid, facts.series_instance_uid, facts.sop_instance_uid)
        entry = Entry(
            name=name if beside is None else aside_name(name, digest),
            size_bytes=sum(map(len, buffers)),
            sha256=digest,
            source=source,
            received_at_s=int(now.timestamp()),
        )
        place = self.segments.append(entry, buffers)
        try:
            self._committer.commit(
                arrival_of(facts, entry, place, dataset_offset=dataset_offset, received_at=now, beside=beside)
            )
        except (PolyclinicError, AlreadyIndexed):
            self.segments.void(place)
            raise


def _place(row: Any) -> Place:
    return Place(segment=row.segment, offset_bytes=row.offset_bytes, size_bytes=row.size_bytes)


def _sha256(buffers: Sequence[bytes | memoryview]) -> str:
    sha256 = hashlib.sha256()
    for buffer in buffers:
        sha256.update(buffer)
    return sha256.hexdigest()

"""What the archive can be asked: studies, series, instances, bytes, arrivals and snapshots."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, RowMapping, bindparam, insert, select, update

from polyclinic.core.errors import NotFound
from polyclinic.core.people import Patient
from polyclinic.departments.archive import schema
from polyclinic.departments.archive.arrivals import Arrivals
from polyclinic.departments.archive.commit import begin_writing
from polyclinic.departments.archive.contracts import (
    IdentityStep,
    InstanceRecord,
    SeriesRecord,
    StudyRecord,
    StudySnapshot,
)
from polyclinic.departments.archive.corrections import number_of, steps
from polyclinic.departments.archive.intake import date_of
from polyclinic.departments.archive.notes import snapshot_note
from polyclinic.departments.archive.ports import KeptFile, UnsettledStudy
from polyclinic.departments.archive.segments import Place, Segments, lost
from polyclinic.dicom.header import read_file_meta
from polyclinic.dicom.identity import with_identity

_CORRECTED = number_of(schema.instance.c.study_instance_uid)
_ONE_INSTANCE = select(schema.instance, _CORRECTED).where(schema.instance.c.sop_instance_uid == bindparam("uid"))
"""Made once: every frame that a viewer asks for needs it."""
_PIECE_BYTES = 1024 * 1024
_AT_ONCE = 500


class ArchiveReads:
    """The reading half of `polyclinic.departments.archive.store.SqlArchive`."""

    def __init__(self, engine: Engine, segments: Segments, arrivals: Arrivals) -> None:
        self.engine = engine
        self.segments = segments
        self.arrivals = arrivals

    def study(self, study_instance_uid: str) -> StudyRecord:
        """See `Archive.study`."""
        query = select(schema.study).where(schema.study.c.study_instance_uid == study_instance_uid)
        row = self._first(query)
        if row is None:
            raise NotFound("archive.no-study", "There is no such study: check its Study Instance UID")
        return study_record(row)

    def studies(self, *, limit: int = 100, offset: int = 0) -> tuple[StudyRecord, ...]:
        """See `Archive.studies`."""
        study = schema.study.c
        query = select(schema.study).order_by(study.last_received_at_us.desc(), study.study_instance_uid.desc())
        return tuple(map(study_record, self._all(query.limit(limit).offset(offset))))

    def series(self, study_instance_uid: str) -> tuple[SeriesRecord, ...]:
        """See `Archive.series`."""
        series = schema.series.c
        query = (
            select(schema.series)
            .where(series.study_instance_uid == study_instance_uid)
            .order_by(series.series_number, series.series_instance_uid)
        )
        return tuple(map(series_record, self._all(query)))

    def instances(self, study_instance_uid: str, series_instance_uid: str | None = None) -> tuple[InstanceRecord, ...]:
        """See `Archive.instances`."""
        return tuple(kept.record for kept in self.kept_files(study_instance_uid, series_instance_uid))

    def kept_files(
        self, study_instance_uid: str, series_instance_uid: str | None = None, *, limit: int | None = None
    ) -> tuple[KeptFile, ...]:
        """Instances, at most `limit`, with where their parts lie; order as `instances`."""
        instance = schema.instance.c
        query = select(schema.instance, _CORRECTED).where(instance.study_instance_uid == study_instance_uid)
        if series_instance_uid is not None:
            query = query.where(instance.series_instance_uid == series_instance_uid)
        order = (instance.series_instance_uid, instance.instance_number, instance.sop_instance_uid)
        return tuple(map(kept_file, self._all(query.order_by(*order).limit(limit))))

    def kept_file(self, sop_instance_uid: str) -> KeptFile:
        """One instance with where its parts lie. Raises `NotFound` (``archive.no-instance``)."""
        row = self._row(sop_instance_uid)
        if row is None:
            raise NotFound("archive.no-instance", "There is no such instance: check its SOP Instance UID")
        return kept_file(row._mapping)

    def kept_of(self, sop_instance_uids: Sequence[str]) -> dict[str, KeptFile]:
        """Those of these instances that are here, by UID, with where their parts lie."""
        instance, found = schema.instance.c, {}
        for start in range(0, len(sop_instance_uids), _AT_ONCE):
            some = sop_instance_uids[start : start + _AT_ONCE]
            query = select(schema.instance, _CORRECTED).where(instance.sop_instance_uid.in_(some))
            found.update({row["sop_instance_uid"]: kept_file(row) for row in self._all(query)})
        return found

    def read(self, sop_instance_uid: str) -> bytes:
        """See `Archive.read`."""
        kept = self.kept_file(sop_instance_uid)
        return self._corrected_head(kept)[0] + b"".join(self._rest(kept)) if kept.corrected else self.read_part(kept)

    def read_part(self, kept: KeptFile, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes ``[start, stop)`` of a kept DICOM file as it lies there, whether its patient was corrected or not."""
        try:
            return self.segments.read(_place(kept), start, stop)
        except NotFound:
            return self.segments.read(self._place_now(kept), start, stop)

    def stream(self, kept: KeptFile) -> Iterator[bytes]:
        """A kept DICOM file in pieces of bounded size, with its patient's identity as it is now."""
        if kept.corrected:
            yield self._corrected_head(kept)[0]
            yield from self._rest(kept)
            return
        begun = False
        try:
            for chunk in self.segments.chunks(_place(kept)):
                begun = True
                yield chunk
        except NotFound:
            if begun:
                raise
            yield from self.segments.chunks(self._place_now(kept))

    @contextmanager
    def parts(self, kept: KeptFile) -> Iterator[Callable[[int, int], bytes]]:
        """Reader of stretches ``(start, stop)`` of a kept DICOM file as it lies there, for many small reads."""
        with ExitStack() as stack:
            try:
                read = stack.enter_context(self.segments.parts(_place(kept)))
            except NotFound:
                read = stack.enter_context(self.segments.parts(self._place_now(kept)))
            yield read

    def given_out(self, kept: KeptFile) -> tuple[int, int]:
        """Bytes of the file as `stream` gives it, and where its data set begins in them."""
        if not kept.corrected:
            return kept.record.size_bytes, kept.dataset_offset
        head, rest_bytes = self._corrected_head(kept)
        return len(head) + rest_bytes, read_file_meta(head).dataset_offset

    def identity_history(self, study_instance_uid: str) -> tuple[IdentityStep, ...]:
        """How the patient data of a study were corrected since it came, oldest first."""
        with self.engine.connect() as connection:
            return steps(connection, study_instance_uid)

    def _corrected_head(self, kept: KeptFile) -> tuple[bytes, int]:
        """The file up to its pixel data with the identity of now, and how many bytes follow."""
        stop = kept.pixel_offset
        latest = self.identity_history(kept.record.study_instance_uid)[-1]
        patient = self.study(kept.record.study_instance_uid).patient
        head = with_identity(self.read_part(kept, 0, stop), patient, at=latest.at, source=latest.source)
        return head, 0 if stop is None else kept.record.size_bytes - stop

    def _rest(self, kept: KeptFile) -> Iterator[bytes]:
        """The pixel data, as they lie there."""
        if kept.pixel_offset is None:
            return
        with self.parts(kept) as read:
            for start in range(kept.pixel_offset, kept.record.size_bytes, _PIECE_BYTES):
                yield read(start, min(start + _PIECE_BYTES, kept.record.size_bytes))

    @contextmanager
    def opened(self, kept: KeptFile) -> Iterator[tuple[int, int]]:
        """Descriptor of the open segment that holds a kept DICOM file, and the offset of the file in it."""
        place = _place(kept)
        try:
            descriptor = self.segments.open(place)
        except NotFound:
            place = self._place_now(kept)
            descriptor = self.segments.open(place)
        try:
            yield descriptor, place.offset_bytes
        finally:
            os.close(descriptor)

    def _place_now(self, kept: KeptFile) -> Place:
        """Where compaction has moved a file whose segment is gone; raises `NotFound` (``archive.lost-bytes``)."""
        row = self._row(kept.record.sop_instance_uid)
        if row is None or row.sha256 != kept.record.sha256 or row.segment == kept.segment:
            raise lost()
        return Place(segment=row.segment, offset_bytes=row.offset_bytes, size_bytes=row.size_bytes)

    def unsettled(self) -> tuple[UnsettledStudy, ...]:
        """See `Archive.unsettled`."""
        study = schema.study.c
        query = select(
            study.study_instance_uid, study.primary_count, study.first_received_at_us, study.last_received_at_us
        ).where(study.primary_count > study.settled_count)
        rows = self._all(query)
        sending = self.arrivals.counts() if rows else {}
        return tuple(
            UnsettledStudy(
                study_instance_uid=row["study_instance_uid"],
                instance_count=row["primary_count"],
                first_received_at=schema.from_microseconds(row["first_received_at_us"]),
                last_received_at=schema.from_microseconds(row["last_received_at_us"]),
                open_associations=sending.get(row["study_instance_uid"], 0),
            )
            for row in rows
        )

    def snapshot(self, study_instance_uid: str, *, evidence: str, at: datetime) -> StudySnapshot:
        """See `Archive.snapshot`."""
        with self.engine.connect() as connection:
            begin_writing(connection)
            instance, table = schema.instance.c, schema.snapshot.c
            uids = tuple(
                connection.execute(
                    select(instance.sop_instance_uid)
                    .where(instance.study_instance_uid == study_instance_uid, instance.derived.is_(False))
                    .order_by(instance.sop_instance_uid)
                ).scalars()
            )
            if not uids:
                raise NotFound("archive.no-study", "There is no such study: check its Study Instance UID")
            latest = connection.execute(
                select(schema.snapshot)
                .where(table.study_instance_uid == study_instance_uid)
                .order_by(table.revision.desc())
                .limit(1)
            ).first()
            settled = (
                update(schema.study)
                .where(schema.study.c.study_instance_uid == study_instance_uid)
                .values(settled_count=len(uids))
            )
            if latest is not None and latest.sop_instance_uids == "\n".join(uids):
                connection.execute(settled)  # an instance of it may have been deleted and sent again
                connection.commit()
                return snapshot_of(latest._mapping)
            made = StudySnapshot(
                study_instance_uid=study_instance_uid,
                revision=1 if latest is None else latest.revision + 1,
                sop_instance_uids=uids,
                made_at=at,
                evidence=evidence,
            )
            row = {
                "study_instance_uid": study_instance_uid,
                "revision": made.revision,
                "made_at_us": schema.to_microseconds(at),
                "evidence": evidence,
                "sop_instance_uids": "\n".join(uids),
            }
            self.segments.append(*snapshot_note(row))  # so that an index made anew goes on with the next revision
            connection.execute(insert(schema.snapshot), row)
            connection.execute(settled)
            connection.commit()
            return made

    def load_snapshot(self, study_instance_uid: str, revision: int) -> StudySnapshot:
        """See `Archive.load_snapshot`."""
        table = schema.snapshot.c
        query = select(schema.snapshot).where(
            table.study_instance_uid == study_instance_uid, table.revision == revision
        )
        row = self._first(query)
        if row is None:
            raise NotFound("archive.no-snapshot", "The study has no such revision")
        return snapshot_of(row)

    def priors(self, study_instance_uid: str) -> tuple[StudyRecord, ...]:
        """See `Archive.priors`. A study without a patient id has none."""
        this = self.study(study_instance_uid)
        study = schema.study.c
        if not this.patient.patient_id:
            return ()
        query = (
            select(schema.study)
            .where(
                study.patient_id == this.patient.patient_id,
                study.issuer == this.patient.issuer,
                study.study_instance_uid != study_instance_uid,
            )
            .order_by(study.study_date.desc(), study.study_time.desc(), study.study_instance_uid)
        )
        return tuple(map(study_record, self._all(query)))

    def _row(self, sop_instance_uid: str) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(_ONE_INSTANCE, {"uid": sop_instance_uid}).first()

    def _first(self, query: Any) -> RowMapping | None:
        with self.engine.connect() as connection:
            return connection.execute(query).mappings().first()

    def _all(self, query: Any) -> list[RowMapping]:
        with self.engine.connect() as connection:
            return list(connection.execute(query).mappings())


def study_record(row: RowMapping) -> StudyRecord:
    """Noun of a study row."""
    return StudyRecord(
        study_instance_uid=row["study_instance_uid"],
        patient=Patient(
            patient_id=row["patient_id"],
            name=row["patient_name"],
            birth_date=date_of(row["birth_date"]),
            sex=row["sex"],
            issuer=row["issuer"],
        ),
        study_date=row["study_date"],
        study_time=row["study_time"],
        accession_number=row["accession_number"],
        description=row["description"],
        modalities=tuple(filter(None, row["modalities"].split("\\"))),
        series_count=row["series_count"],
        instance_count=row["instance_count"],
        first_received_at=schema.from_microseconds(row["first_received_at_us"]),
        last_received_at=schema.from_microseconds(row["last_received_at_us"]),
        kept_aside_count=row["kept_aside_count"],
    )


def series_record(row: RowMapping) -> SeriesRecord:
    """Noun of a series row."""
    return SeriesRecord(
        series_instance_uid=row["series_instance_uid"],
        study_instance_uid=row["study_instance_uid"],
        modality=row["modality"],
        series_number=row["series_number"],
        description=row["description"],
        body_part=row["body_part"],
        instance_count=row["instance_count"],
        derived=row["derived"],
        station_name=row["station_name"],
    )


def kept_file(row: RowMapping) -> KeptFile:
    """Noun of an instance row, with where its parts lie."""
    record = InstanceRecord(
        sop_instance_uid=row["sop_instance_uid"],
        sop_class_uid=row["sop_class_uid"],
        series_instance_uid=row["series_instance_uid"],
        study_instance_uid=row["study_instance_uid"],
        transfer_syntax_uid=row["transfer_syntax_uid"],
        instance_number=row["instance_number"],
        rows=row["rows"],
        columns=row["columns"],
        number_of_frames=row["number_of_frames"],
        sha256=row["sha256"],
        size_bytes=row["size_bytes"],
        received_at=schema.from_microseconds(row["received_at_us"]),
        source=row["source"],
    )
    return KeptFile(
        record=record,
        dataset_offset=row["dataset_offset"],
        pixel_offset=row["pixel_offset"],
        segment=row["segment"],
        offset_bytes=row["offset_bytes"],
        corrected=row.get("corrected", 0),
    )


def snapshot_of(row: RowMapping) -> StudySnapshot:
    """Noun of a snapshot row."""
    return StudySnapshot(
        study_instance_uid=row["study_instance_uid"],
        revision=row["revision"],
        sop_instance_uids=tuple(row["sop_instance_uids"].split("\n")),
        made_at=schema.from_microseconds(row["made_at_us"]),
        evidence=row["evidence"],
    )


def _place(kept: KeptFile) -> Place:
    return Place(segment=kept.segment, offset_bytes=kept.offset_bytes, size_bytes=kept.record.size_bytes)

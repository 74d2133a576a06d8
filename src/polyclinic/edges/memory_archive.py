"""The archive's fake: the same promises without disk or database, for tests of other rooms."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby

from polyclinic.core.errors import Conflict, NotFound
from polyclinic.core.people import Patient
from polyclinic.departments.archive.arriving_priors import is_sent_at_last
from polyclinic.departments.archive.contracts import (
    DERIVED_SOURCE,
    QUIET_SOURCES,
    IdentityStep,
    InstanceRecord,
    Receipt,
    Removed,
    SeriesRecord,
    StudyRecord,
    StudySnapshot,
)
from polyclinic.departments.archive.deletion import check_words
from polyclinic.departments.archive.intake import Facts, date_of, examine_file, series_values, study_values
from polyclinic.departments.archive.ports import UnsettledStudy


@dataclass(slots=True)
class _Kept:
    record: InstanceRecord
    part10: bytes
    facts: Facts
    dataset_offset: int

    @property
    def derived(self) -> bool:
        return self.record.source in QUIET_SOURCES


@dataclass(slots=True)
class _Study:
    kept: list[_Kept] = field(default_factory=list)
    aside: list[tuple[str, bytes]] = field(default_factory=list)
    """SOP Instance UID and bytes."""
    snapshots: list[StudySnapshot] = field(default_factory=list)
    settled: set[str] = field(default_factory=set)
    """Instances of the latest snapshot that have stayed."""


class InMemoryArchive:
    """`polyclinic.departments.archive.ports.Archive` in dictionaries; `clock` gives the time of receipt."""

    def __init__(
        self,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        held: Callable[[StudyRecord], bool] = lambda _: False,
    ) -> None:
        self._clock = clock
        self._held = held
        self._lock = threading.RLock()
        self._instances: dict[str, _Kept] = {}
        self._studies: dict[str, _Study] = {}

    def store(self, part10: bytes | memoryview, *, source: str) -> Receipt:
        """See `Archive.store`."""
        data = bytes(part10)
        meta, facts = examine_file(data)
        with self._lock:
            here = self._instances.get(facts.sop_instance_uid)
            if here is not None:
                if is_sent_at_last(here.record.source, source):
                    here.record = replace(here.record, source=source, received_at=self._clock())
                same_syntax = here.record.transfer_syntax_uid == facts.transfer_syntax_uid
                if same_syntax and here.part10[here.dataset_offset :] == data[meta.dataset_offset :]:
                    return Receipt.SAME
                aside = self._studies[here.record.study_instance_uid].aside
                if (facts.sop_instance_uid, data) not in aside:
                    aside.append((facts.sop_instance_uid, data))
                return Receipt.KEPT_ASIDE
            record = InstanceRecord(
                sop_instance_uid=facts.sop_instance_uid,
                sop_class_uid=facts.sop_class_uid,
                series_instance_uid=facts.series_instance_uid,
                study_instance_uid=facts.study_instance_uid,
                transfer_syntax_uid=facts.transfer_syntax_uid,
                instance_number=facts.instance_number,
                rows=facts.rows,
                columns=facts.columns,
                number_of_frames=facts.number_of_frames,
                sha256=hashlib.sha256(data).hexdigest(),
                size_bytes=len(data),
                received_at=self._clock(),
                source=source,
            )
            kept = _Kept(record, data, facts, meta.dataset_offset)
            self._instances[facts.sop_instance_uid] = kept
            self._studies.setdefault(facts.study_instance_uid, _Study()).kept.append(kept)
            return Receipt.NEW

    def delete(
        self,
        study_instance_uid: str,
        *,
        series_instance_uid: str | None = None,
        sop_instance_uid: str | None = None,
        reason: str,
        by: str,
    ) -> Removed:
        """See `Archive.delete`; nothing but the snapshots stays on record here."""
        check_words(reason, by)
        with self._lock:
            study = self._study(study_instance_uid)
            if self._held(_study_record(study_instance_uid, study)):
                raise Conflict("archive.on-hold", "The study is on legal hold: take it off the list of holds first")
            gone = {
                k.record.sop_instance_uid: k.record.size_bytes
                for k in study.kept
                if series_instance_uid in (None, k.record.series_instance_uid)
                and sop_instance_uid in (None, k.record.sop_instance_uid)
            }
            if not gone:
                kind = "series" if sop_instance_uid is None else "instance"
                raise NotFound(f"archive.no-{kind}", f"There is no such {kind}: check its UID")
            beside = sum(len(data) for uid, data in study.aside if uid in gone)
            study.kept = [k for k in study.kept if k.record.sop_instance_uid not in gone]
            study.aside = [pair for pair in study.aside if pair[0] not in gone]
            study.settled -= set(gone)
            for uid in gone:
                del self._instances[uid]
            return Removed(instances=len(gone), size_bytes=sum(gone.values()) + beside)

    def study(self, study_instance_uid: str) -> StudyRecord:
        """See `Archive.study`."""
        with self._lock:
            return _study_record(study_instance_uid, self._study(study_instance_uid))

    def studies(self, *, limit: int = 100, offset: int = 0) -> tuple[StudyRecord, ...]:
        """See `Archive.studies`."""
        with self._lock:
            records = [_study_record(uid, study) for uid, study in self._studies.items() if study.kept]
        records.sort(key=lambda r: (r.last_received_at, r.study_instance_uid), reverse=True)
        return tuple(records[offset : offset + limit])

    def series(self, study_instance_uid: str) -> tuple[SeriesRecord, ...]:
        """See `Archive.series`."""
        with self._lock:
            kept = list(self._studies.get(study_instance_uid, _Study()).kept)
        found = []
        for uid in {k.record.series_instance_uid for k in kept}:
            of_series = [k for k in kept if k.record.series_instance_uid == uid]
            values = series_values(of_series[0].facts.header)
            found.append(
                SeriesRecord(
                    series_instance_uid=uid,
                    study_instance_uid=study_instance_uid,
                    modality=values["modality"],
                    series_number=values["series_number"],
                    description=values["description"],
                    body_part=values["body_part"],
                    instance_count=len(of_series),
                    derived=of_series[0].record.source == DERIVED_SOURCE,
                    station_name=values["station_name"],
                )
            )
        return tuple(sorted(found, key=lambda s: (*_nulls_first(s.series_number), s.series_instance_uid)))

    def instances(self, study_instance_uid: str, series_instance_uid: str | None = None) -> tuple[InstanceRecord, ...]:
        """See `Archive.instances`."""
        with self._lock:
            records = [k.record for k in self._studies.get(study_instance_uid, _Study()).kept]
        wanted = [r for r in records if series_instance_uid in (None, r.series_instance_uid)]
        wanted.sort(key=lambda r: (r.series_instance_uid, *_nulls_first(r.instance_number), r.sop_instance_uid))
        return tuple(wanted)

    def read(self, sop_instance_uid: str) -> bytes:
        """See `Archive.read`."""
        with self._lock:
            kept = self._instances.get(sop_instance_uid)
        if kept is None:
            raise NotFound("archive.no-instance", "There is no such instance: check its SOP Instance UID")
        return kept.part10

    def unsettled(self) -> tuple[UnsettledStudy, ...]:
        """See `Archive.unsettled`; no association is ever open here."""
        found = []
        with self._lock:
            for uid, study in self._studies.items():
                times = [k.record.received_at for k in study.kept if not k.derived]
                if len(times) > len(study.settled):
                    found.append(
                        UnsettledStudy(
                            study_instance_uid=uid,
                            instance_count=len(times),
                            first_received_at=min(times),
                            last_received_at=max(times),
                            open_associations=0,
                        )
                    )
        return tuple(found)

    def snapshot(self, study_instance_uid: str, *, evidence: str, at: datetime) -> StudySnapshot:
        """See `Archive.snapshot`."""
        with self._lock:
            study = self._study(study_instance_uid)
            uids = tuple(sorted(k.record.sop_instance_uid for k in study.kept if not k.derived))
            if not uids:
                raise NotFound("archive.no-study", "There is no such study: check its Study Instance UID")
            study.settled = set(uids)
            if study.snapshots and study.snapshots[-1].sop_instance_uids == uids:
                return study.snapshots[-1]
            made = StudySnapshot(
                study_instance_uid=study_instance_uid,
                revision=len(study.snapshots) + 1,
                sop_instance_uids=uids,
                made_at=at,
                evidence=evidence,
            )
            study.snapshots.append(made)
            return made

    def load_snapshot(self, study_instance_uid: str, revision: int) -> StudySnapshot:
        """See `Archive.load_snapshot`."""
        with self._lock:
            snapshots = self._studies.get(study_instance_uid, _Study()).snapshots
            if 1 <= revision <= len(snapshots):
                return snapshots[revision - 1]
        raise NotFound("archive.no-snapshot", "The study has no such revision")

    def priors(self, study_instance_uid: str) -> tuple[StudyRecord, ...]:
        """See `Archive.priors`."""
        this = self.study(study_instance_uid)
        if not this.patient.patient_id:
            return ()
        identity = (this.patient.patient_id, this.patient.issuer)
        found = [
            other
            for other in self.studies(limit=len(self._studies))
            if (other.patient.patient_id, other.patient.issuer) == identity
            and other.study_instance_uid != study_instance_uid
        ]
        return tuple(sorted(found, key=lambda r: (r.study_date, r.study_time), reverse=True))

    def identity_history(self, study_instance_uid: str) -> tuple[IdentityStep, ...]:
        """See `Archive.identity_history`; nobody corrects the fake."""
        return ()

    def _study(self, study_instance_uid: str) -> _Study:
        study = self._studies.get(study_instance_uid)
        if study is None or not study.kept:
            raise NotFound("archive.no-study", "There is no such study: check its Study Instance UID")
        return study


def _nulls_first(number: int | None) -> tuple[bool, int]:
    return number is not None, number or 0


def _study_record(study_instance_uid: str, study: _Study) -> StudyRecord:
    values = study_values(study.kept[0].facts.header)
    by_series = groupby(sorted(study.kept, key=_series_of), key=_series_of)
    modalities = {series_values(next(iter(kept)).facts.header)["modality"] for _, kept in by_series}
    times = [k.record.received_at for k in study.kept if not k.derived] or [study.kept[0].record.received_at]
    return StudyRecord(
        study_instance_uid=study_instance_uid,
        patient=Patient(
            patient_id=values["patient_id"],
            name=values["patient_name"],
            birth_date=date_of(values["birth_date"]),
            sex=values["sex"],
            issuer=values["issuer"],
        ),
        study_date=values["study_date"],
        study_time=values["study_time"],
        accession_number=values["accession_number"],
        description=values["description"],
        modalities=tuple(sorted(filter(None, modalities))),
        series_count=len({_series_of(k) for k in study.kept}),
        instance_count=len(study.kept),
        first_received_at=study.kept[0].record.received_at,
        last_received_at=max(times),
        kept_aside_count=len(study.aside),
    )


def _series_of(kept: _Kept) -> str:
    return kept.record.series_instance_uid

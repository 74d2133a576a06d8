"""Tables of the archive. Times are microseconds since 1970 (UTC), so that they sort and compare in any database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, Text, text

from polyclinic.departments.archive import name_groups
from polyclinic.departments.archive.tally import tally_table

metadata = MetaData()

_UID = String(64)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


ONLY_FETCHED = "primary_count = 0"
"""Studies of which the platform itself made or fetched every instance; spelt as its index has it."""


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970 of an aware time."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(value: int) -> datetime:
    """Aware UTC time."""
    return _EPOCH + timedelta(microseconds=value)


study = Table(
    "archive_study",
    metadata,
    Column("study_instance_uid", _UID, primary_key=True),
    Column("patient_id", String(128), nullable=False),
    Column("issuer", String(128), nullable=False),
    Column("patient_name", Text, nullable=False),
    Column("patient_name_folded", Text, nullable=False),
    Column("birth_date", String(16), nullable=False),
    Column("sex", String(16), nullable=False),
    Column("study_date", String(16), nullable=False),
    Column("study_time", String(16), nullable=False),
    Column("accession_number", String(64), nullable=False),
    Column("study_id", String(64), nullable=False),
    Column("referring_physician_name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("modalities", Text, nullable=False),  # sorted, each followed by a backslash: "CT\SEG\"
    Column("series_count", Integer, nullable=False, default=0),
    Column("instance_count", Integer, nullable=False, default=0),
    Column("primary_count", Integer, nullable=False, default=0),  # instances that the platform did not make
    Column("settled_count", Integer, nullable=False, default=0),  # primary instances in the latest snapshot
    Column("kept_aside_count", Integer, nullable=False, default=0),
    Column("first_received_at_us", BigInteger, nullable=False),
    Column("last_received_at_us", BigInteger, nullable=False),
    Index("ix_archive_study_newest", "last_received_at_us", "study_instance_uid"),
    Index("ix_archive_study_patient", "patient_id", "issuer"),
    Index("ix_archive_study_day", "study_date", "study_instance_uid"),
    Index("ix_archive_study_modalities", "modalities", "study_date", "study_instance_uid"),
    Index("ix_archive_study_accession", "accession_number"),
    Index(
        "ix_archive_study_unsettled",
        "study_instance_uid",
        sqlite_where=text("primary_count > settled_count"),
        postgresql_where=text("primary_count > settled_count"),
    ),
    Index(
        "ix_archive_study_only_fetched",
        "study_instance_uid",
        sqlite_where=text(ONLY_FETCHED),
        postgresql_where=text(ONLY_FETCHED),
    ),
)

Index("ix_archive_study_name_1", name_groups.group(study.c.patient_name_folded, 1), study.c.study_instance_uid)
for _number in (2, 3):
    Index(
        f"ix_archive_study_name_{_number}",
        name_groups.group(study.c.patient_name_folded, _number),
        study.c.study_instance_uid,
        sqlite_where=name_groups.has_groups(study.c.patient_name_folded),
        postgresql_where=name_groups.has_groups(study.c.patient_name_folded),
    )
tally = tally_table(metadata)

series = Table(
    "archive_series",
    metadata,
    Column("study_instance_uid", _UID, primary_key=True),
    Column("series_instance_uid", _UID, primary_key=True),
    Column("modality", String(32), nullable=False),
    Column("series_number", BigInteger),
    Column("description", Text, nullable=False),
    Column("body_part", String(64), nullable=False),
    Column("station_name", String(64), nullable=False),
    Column("series_date", String(16), nullable=False),
    Column("series_time", String(16), nullable=False),
    Column("instance_count", Integer, nullable=False, default=0),
    Column("derived", Boolean, nullable=False),
    Index("ix_archive_series_uid", "series_instance_uid"),
)

instance = Table(
    "archive_instance",
    metadata,
    Column("sop_instance_uid", _UID, primary_key=True),
    Column("sop_class_uid", _UID, nullable=False),
    Column("series_instance_uid", _UID, nullable=False),
    Column("study_instance_uid", _UID, nullable=False),
    Column("transfer_syntax_uid", _UID, nullable=False),
    Column("instance_number", BigInteger),
    Column("rows", Integer),
    Column("columns", Integer),
    Column("number_of_frames", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("source", String(32), nullable=False),
    Column("derived", Boolean, nullable=False),
    Column("received_at_us", BigInteger, nullable=False),
    Column("segment", String(64), nullable=False),
    Column("offset_bytes", BigInteger, nullable=False),  # of the file within the segment
    Column("size_bytes", BigInteger, nullable=False),
    Column("dataset_offset", Integer, nullable=False),  # of the dataset within the file
    Column("pixel_offset", Integer),  # of the pixel element within the file, when it is the last one
    Index("ix_archive_instance_series", "study_instance_uid", "series_instance_uid", "instance_number"),
    Index("ix_archive_instance_segment", "segment", "offset_bytes"),
)

aside = Table(
    "archive_kept_aside",
    metadata,
    Column("sop_instance_uid", _UID, primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("study_instance_uid", _UID, nullable=False),  # of the instance that was here first
    Column("source", String(32), nullable=False),
    Column("received_at_us", BigInteger, nullable=False),
    Column("segment", String(64), nullable=False),
    Column("offset_bytes", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("dataset_offset", Integer, nullable=False),
    Index("ix_archive_kept_aside_study", "study_instance_uid"),
    Index("ix_archive_kept_aside_segment", "segment", "offset_bytes"),
)

deletion = Table(
    "archive_deletion",  # one row for each deleted entry; no names
    metadata,
    Column("segment", String(64), primary_key=True),
    Column("offset_bytes", BigInteger, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sop_instance_uid", _UID, nullable=False),
    Column("series_instance_uid", _UID, nullable=False),
    Column("study_instance_uid", _UID, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("kept_aside", Boolean, nullable=False),
    Column("received_at_us", BigInteger, nullable=False),
    Column("reason", String(200), nullable=False),
    Column("deleted_by", String(80), nullable=False),
    Column("deleted_at_us", BigInteger, nullable=False),
    Column("voided", Boolean, nullable=False),  # whether the entry's header says so too, durably
    Index("ix_archive_deletion_study", "study_instance_uid", "deleted_at_us"),
    Index("ix_archive_deletion_instance", "sop_instance_uid"),
    Index("ix_archive_deletion_open", "segment", sqlite_where=text("NOT voided"), postgresql_where=text("NOT voided")),
)

segment = Table(
    "archive_segment",  # only segments that will not grow have a row
    metadata,
    Column("name", String(64), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
)

snapshot = Table(
    "archive_snapshot",
    metadata,
    Column("study_instance_uid", _UID, primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("made_at_us", BigInteger, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("sop_instance_uids", Text, nullable=False),  # sorted, one a line
)

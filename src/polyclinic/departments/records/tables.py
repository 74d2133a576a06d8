"""Tables of the record. Times are microseconds since 1970 (UTC); nouns are kept as JSON beside what is searched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import postgresql

from polyclinic.departments.records.rules import KEY_CHARACTERS

metadata = MetaData()

_KEY = String(KEY_CHARACTERS).with_variant(postgresql.VARCHAR(KEY_CHARACTERS, collation="C"), "postgresql")
"""Sorts by code point in every database, so that pages and beginnings mean the same everywhere."""
_UID = String(64)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970 of an aware time."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


context = Table(
    "records_context",
    metadata,
    Column("study_instance_uid", String(64), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("context", Text, nullable=False),
)

patient = Table(
    "records_patient",
    metadata,
    Column("patient_id", _KEY, primary_key=True),
    Column("issuer", _KEY, primary_key=True),
    Column("birth_date", String(10), nullable=False),  # ISO 8601 or empty
    Column("sex", String(1), nullable=False),
    Column("into_patient_id", _KEY, nullable=False),  # of the identity that has taken this one over, or empty
    Column("into_issuer", _KEY, nullable=False),
    Column("version", Integer, nullable=False),
    Column("record", Text, nullable=False),
    Index("ix_records_patient_into", "into_patient_id", "into_issuer"),
    Index("ix_records_patient_birth_date", "birth_date"),
)

patient_word = Table(
    "records_patient_word",  # of `polyclinic.core.names.name_words`
    metadata,
    Column("word", _KEY, primary_key=True),
    Column("patient_id", _KEY, primary_key=True),
    Column("issuer", _KEY, primary_key=True),
    Index("ix_records_patient_word_patient", "patient_id", "issuer"),
)

patient_change = Table(
    "records_patient_change",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("patient_id", _KEY, nullable=False),
    Column("issuer", _KEY, nullable=False),
    Column("version", Integer, nullable=False),
    Column("change", Text, nullable=False),
    Column("applied", Boolean, nullable=False),
    UniqueConstraint("patient_id", "issuer", "version"),
    Index(
        "ix_records_patient_change_pending",
        "number",
        sqlite_where=text("applied = 0"),
        postgresql_where=text("applied = false"),
    ),
    comment="appended; only `applied` changes, once the archive follows",
)

order = Table(
    "records_order",
    metadata,
    Column("order_id", _KEY, primary_key=True),
    Column("patient_id", _KEY, nullable=False),
    Column("issuer", _KEY, nullable=False),
    Column("accession_number", _KEY, nullable=False),
    Column("placer_number", _KEY, nullable=False),
    Column("filler_number", _KEY, nullable=False),
    Column("study_instance_uid", _UID, nullable=False),
    Column("status", String(16), nullable=False),
    Column("priority", String(16), nullable=False),
    Column("first_start_us", BigInteger, nullable=False),  # 0 without steps
    Column("version", Integer, nullable=False),
    Column("record", Text, nullable=False),
    Index("ix_records_order_patient", "patient_id", "issuer"),
    Index("ix_records_order_accession", "accession_number"),
    Index("ix_records_order_placer", "placer_number"),
    Index("ix_records_order_filler", "filler_number"),
    Index("ix_records_order_study", "study_instance_uid"),
    Index("ix_records_order_start", "first_start_us", "order_id"),
)

order_version = Table(
    "records_order_version",
    metadata,
    Column("order_id", _KEY, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("source", String(64), nullable=False),
    Column("record", Text, nullable=False),
    comment="appended, never changed",
)

scheduled_step = Table(
    "records_scheduled_step",
    metadata,
    Column("order_id", _KEY, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("modality", String(16), nullable=False),
    Column("station_ae_title", String(16), nullable=False),
    Column("starts_at_us", BigInteger, nullable=False),
    Index("ix_records_scheduled_step_start", "starts_at_us"),
)

performed_step = Table(
    "records_performed_step",
    metadata,
    Column("sop_instance_uid", _UID, primary_key=True),
    Column("study_instance_uid", _UID, nullable=False),
    Column("started_at_us", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("record", Text, nullable=False),
    Index("ix_records_performed_step_study", "study_instance_uid", "started_at_us"),
)

message = Table(
    "records_message",
    metadata,
    Column("sender_sha256", String(64), primary_key=True),
    Column("control_id_sha256", String(64), primary_key=True),
    Column("body_sha256", String(64), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("received_at_us", BigInteger, nullable=False),
    Index("ix_records_message_received", "received_at_us"),
    comment="accepted HL7 messages, as hashes",
)

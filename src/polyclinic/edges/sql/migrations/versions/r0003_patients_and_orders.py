"""Patients, orders and procedure steps of the record."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_KEY = sa.String(128).with_variant(postgresql.VARCHAR(128, collation="C"), "postgresql")


def upgrade() -> None:
    """Patients, orders and procedure steps of the record."""
    _patients()
    _orders()
    _messages()
    _corrections()


def _patients() -> None:
    op.create_table(
        "records_patient",
        sa.Column("patient_id", _KEY, nullable=False),
        sa.Column("issuer", _KEY, nullable=False),
        sa.Column("birth_date", sa.String(10), nullable=False),
        sa.Column("sex", sa.String(1), nullable=False),
        sa.Column("into_patient_id", _KEY, nullable=False),
        sa.Column("into_issuer", _KEY, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("patient_id", "issuer"),
    )
    op.create_index("ix_records_patient_into", "records_patient", ["into_patient_id", "into_issuer"])
    op.create_index("ix_records_patient_birth_date", "records_patient", ["birth_date"])
    op.create_table(
        "records_patient_word",
        sa.Column("word", _KEY, nullable=False),
        sa.Column("patient_id", _KEY, nullable=False),
        sa.Column("issuer", _KEY, nullable=False),
        sa.PrimaryKeyConstraint("word", "patient_id", "issuer"),
    )
    op.create_index("ix_records_patient_word_patient", "records_patient_word", ["patient_id", "issuer"])
    op.create_table(
        "records_patient_change",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("patient_id", _KEY, nullable=False),
        sa.Column("issuer", _KEY, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("applied", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("patient_id", "issuer", "version"),
        comment="appended; only `applied` changes, once the archive follows",
    )
    op.create_index(
        "ix_records_patient_change_pending",
        "records_patient_change",
        ["number"],
        sqlite_where=sa.text("applied = 0"),
        postgresql_where=sa.text("applied = false"),
    )


def _orders() -> None:
    op.create_table(
        "records_order",
        sa.Column("order_id", _KEY, nullable=False),
        sa.Column("patient_id", _KEY, nullable=False),
        sa.Column("issuer", _KEY, nullable=False),
        sa.Column("accession_number", _KEY, nullable=False),
        sa.Column("placer_number", _KEY, nullable=False),
        sa.Column("filler_number", _KEY, nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("first_start_us", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("order_id"),
    )
    op.create_index("ix_records_order_patient", "records_order", ["patient_id", "issuer"])
    op.create_index("ix_records_order_accession", "records_order", ["accession_number"])
    op.create_index("ix_records_order_placer", "records_order", ["placer_number"])
    op.create_index("ix_records_order_filler", "records_order", ["filler_number"])
    op.create_index("ix_records_order_study", "records_order", ["study_instance_uid"])
    op.create_index("ix_records_order_start", "records_order", ["first_start_us", "order_id"])
    op.create_table(
        "records_order_version",
        sa.Column("order_id", _KEY, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("order_id", "version"),
        comment="appended, never changed",
    )
    op.create_table(
        "records_scheduled_step",
        sa.Column("order_id", _KEY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("modality", sa.String(16), nullable=False),
        sa.Column("station_ae_title", sa.String(16), nullable=False),
        sa.Column("starts_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("order_id", "position"),
    )
    op.create_index("ix_records_scheduled_step_start", "records_scheduled_step", ["starts_at_us"])
    op.create_table(
        "records_performed_step",
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("started_at_us", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sop_instance_uid"),
    )
    op.create_index(
        "ix_records_performed_step_study", "records_performed_step", ["study_instance_uid", "started_at_us"]
    )


def _messages() -> None:
    op.create_table(
        "records_message",
        sa.Column("sender_sha256", sa.String(64), nullable=False),
        sa.Column("control_id_sha256", sa.String(64), nullable=False),
        sa.Column("body_sha256", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("received_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sender_sha256", "control_id_sha256", "body_sha256"),
        comment="accepted HL7 messages, as hashes",
    )
    op.create_index("ix_records_message_received", "records_message", ["received_at_us"])


def _corrections() -> None:
    op.create_table(
        "archive_known_identity",
        sa.Column("patient_id", sa.String(128), nullable=False),
        sa.Column("issuer", sa.String(128), nullable=False),
        sa.Column("merged", sa.Boolean(), nullable=False),
        sa.Column("patient", sa.Text(), nullable=False),
        sa.Column("superseded", sa.Text(), nullable=False),
        sa.Column("into_patient_id", sa.String(128), nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("patient_id", "issuer"),
    )
    op.create_index("ix_archive_known_identity_into", "archive_known_identity", ["into_patient_id"])
    op.create_table(
        "archive_correction",
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("patient", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid"),
    )
    op.create_table(
        "archive_identity_step",
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", "number"),
        comment="appended, never changed",
    )
